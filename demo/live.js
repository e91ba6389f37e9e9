// Swaps fragments as they are rewritten, and tells the story of it. Without
// this script the pages are the same, and a reload shows what is new.
"use strict";

const story = document.getElementById("told");
const live = document.getElementById("live");
const actsShown = 30, creditsShown = 6;

function slots(key) {
  return document.querySelectorAll(`[data-fragment="${CSS.escape(key)}"]`);
}

function flash(element) {
  element.classList.remove("fresh");
  void element.offsetWidth; // so that the animation starts again
  element.classList.add("fresh");
}

// One fetch a fragment at a time: what changes meanwhile is fetched once more.
const fetching = new Map();

async function swap(key) {
  if (slots(key).length === 0) return;
  if (fetching.has(key)) return void fetching.set(key, true);
  fetching.set(key, false);
  try {
    const answer = await fetch("/fragment/" + key);
    const html = await answer.text();
    for (const slot of slots(key)) {
      slot.innerHTML = html;
      flash(slot);
    }
  } catch {
    // The stream breaks with the server: resync mends it.
  }
  const again = fetching.get(key);
  fetching.delete(key);
  if (again) swap(key);
}

// What changed while nobody listened: the page as it is now.
async function resync() {
  const answer = await fetch(location.href, { headers: { "X-Resync": "1" } });
  const now = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const fresh of now.querySelectorAll("nav > .slot, main > .slot")) {
    for (const slot of slots(fresh.dataset.fragment)) {
      if (slot.innerHTML !== fresh.innerHTML) slot.innerHTML = fresh.innerHTML;
    }
  }
  story.replaceChildren(...now.getElementById("told").children);
}

function element(tag, text, className) {
  const e = document.createElement(tag);
  if (text) e.textContent = text;
  if (className) e.className = className;
  return e;
}

function tell(act) {
  if (story.querySelector(`[data-act="${act.id}"]`)) return;
  const li = element("li", "", act.rolledBack ? "rolled-back" : "");
  li.dataset.act = act.id;
  li.append(element("p", act.sentence), element("ul"), element("p", "", "more"));
  story.prepend(li);
  while (story.children.length > actsShown) story.lastElementChild.remove();
  flash(li);
}

function credit(c) {
  const li = story.querySelector(`[data-act="${c.act}"]`);
  if (!li) return;
  const list = li.querySelector("ul"), more = li.querySelector(".more");
  if (list.children.length >= creditsShown) {
    more.dataset.count = 1 + Number(more.dataset.count || more.textContent.replace(/\D/g, ""));
    more.textContent = `and ${more.dataset.count} more`;
    return;
  }
  const item = element("li", "", c.deleted ? "deleted" : "");
  item.append(element("code", c.key), c.deleted ? " deleted " : " ");
  if (c.ms !== null) item.append(element("small", `${c.ms} ms`));
  list.append(item);
}

function count(sums) {
  for (const [name, n] of Object.entries(sums)) {
    document.querySelector(`[data-count="${name}"]`).textContent = n.toLocaleString("en");
  }
}

const stream = new EventSource("/events");
const on = (name, does) => stream.addEventListener(name, (e) => does(JSON.parse(e.data)));
on("act", tell);
on("credit", credit);
on("counts", count);
on("fragment", (f) => swap(f.key));
stream.onopen = () => {
  live.textContent = "live";
  live.className = "on";
  resync().catch(() => {});
};
stream.onerror = () => {
  live.textContent = "connecting again";
  live.className = "";
};
addEventListener("pagehide", () => stream.close());
