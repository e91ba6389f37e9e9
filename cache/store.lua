-- Writes or deletes fragments that are not older than what is there.
--
-- KEYS: for each fragment its key and its guard; the state, if a session follows;
--       the watch of their viewlet, unless guards are to be left anyway.
-- ARGV: the guards' life in ms, the fragments' TTL in ms (0: for ever), the
--       rule, the channel, the session that must have taken the state, or
--       nothing; whether guards are left: "always", "asked" for only if there is
--       a watch, or the token that the watch must have; then for each fragment its
--       LSN, "set" or "del", its body, and the announcement.
-- The reply has one letter for each fragment: see Outcome. Or it is the error
-- TAKEN when another session has the state, GONE when there is none, or UNWATCHED
-- when the watch has another token.
--
-- LSNs are 16 hex digits: they compare as strings, where Lua's numbers would
-- lose the last bits.

local life, ttl, rule, channel, session, guards = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local n = (#ARGV - 6) / 4

if session ~= '' then
  local holder = redis.call('HGET', KEYS[2 * n + 1], 'session')
  if not holder then
    return redis.error_reply('GONE the state')
  elseif holder ~= session then
    return redis.error_reply('TAKEN the state')
  end
end

local leave = true
if guards ~= 'always' then
  local token = redis.call('GET', KEYS[#KEYS])
  if guards == 'asked' then
    leave = token
  elseif token == guards then
    redis.call('PEXPIRE', KEYS[#KEYS], 2 * life) -- who has begun may go on
  else
    return redis.error_reply('UNWATCHED the fragments')
  end
end

-- With a full memory, or on a replica, the first write is what fails. Nothing that
-- is not written may have been announced by then.
local may = leave
local function announce(news)
  if not may then
    redis.call('HSET', KEYS[2 * n + 1], 'session', session) -- what it is
    may = true
  end
  redis.call('PUBLISH', channel, news)
end

local bodies = {} -- keys and what they are to hold for ever

-- old is false too where the key holds no string: then it is not ours, and replaced.
-- It is of no meaning for a "del".
local function visit(key, guard, lsn, verb, body, news, old, seen)
  if seen and (lsn < seen or (lsn == seen and rule == 'newer')) then
    return 'r'
  end
  if leave then -- even when nothing changes: who comes later with less must lose
    redis.call('SET', guard, lsn, 'PX', life)
  end

  if verb == 'set' and old == body then
    if ttl == '0' then
      redis.call('PERSIST', key)
    else
      redis.call('PEXPIRE', key, ttl)
    end
    return 'e'
  end
  if (verb == 'del' or not old and rule == 'requested') and redis.call('EXISTS', key) == 0 then
    return verb == 'del' and 'a' or 's'
  end

  -- First, so that a try that fails is announced by the next. Nobody can read
  -- the fragment before the script ends.
  announce(news)
  if verb == 'del' then
    redis.call('DEL', key)
    return 'd'
  end
  if ttl == '0' then
    bodies[#bodies + 1], bodies[#bodies + 2] = key, body
  else
    redis.call('SET', key, body, 'PX', ttl)
  end
  return 'w'
end

-- One MGET for many costs half of a GET for each, and so it is with MSET. Each key
-- comes once; unpack takes no more than some. The body of what is deleted is not
-- read, it may be long.
local outcomes, some = {}, 1000
for first = 1, n, some do
  local last, wanted = math.min(n, first + some - 1), {}
  for i = first, last do
    wanted[2 * (i - first) + 1] = KEYS[ARGV[4 * i + 4] == 'del' and 2 * i or 2 * i - 1]
    wanted[2 * (i - first) + 2] = KEYS[2 * i]
  end
  local found = redis.call('MGET', unpack(wanted))
  for i = first, last do
    local a, f = 4 * i + 2, 2 * (i - first) + 1
    outcomes[i] = visit(KEYS[2 * i - 1], KEYS[2 * i], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], found[f], found[f + 1])
  end
  if #bodies > 0 then
    redis.call('MSET', unpack(bodies))
    bodies = {}
  end
end
return table.concat(outcomes)
