package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// writer plays acts on its connection, one transaction each.
type writer struct {
	conn *pgx.Conn
	rng  *rand.Rand
}

// act is one kind of transaction. It runs within tx and fills in an Act, but
// for the time. pgx.ErrNoRows says that the shop has nothing to play it on.
type act func(w *writer, ctx context.Context, tx pgx.Tx) (Act, error)

// repertoire is every act and how many of a hundred are this one.
func repertoire() []weighted {
	return []weighted{
		{26, (*writer).order},
		{15, (*writer).reprice},
		{14, (*writer).review},
		{6, (*writer).deliver},
		{5, (*writer).rename},
		{5, (*writer).recolour},
		{4, (*writer).retag},
		{4, (*writer).move},
		{3, (*writer).introduce},
		{3, (*writer).discontinue},
		{3, (*writer).abandonCart},
		{3, (*writer).halfOrder},
		{2, (*writer).withdrawReview},
		{2, (*writer).sale},
		{2, (*writer).renameCategory},
		{2, (*writer).renameBrand},
		{1, (*writer).reorderMenu},
	}
}

type weighted struct {
	percent int
	act     act
}

// play draws an act and plays it. An Act without a Sentence did not happen: the
// shop has nothing left to play it on.
func (w *writer) play(ctx context.Context) (Act, error) {
	n := w.rng.IntN(100)
	for _, c := range repertoire() {
		if n -= c.percent; n < 0 {
			return w.transact(ctx, c.act)
		}
	}
	panic("demo: the repertoire does not add up to 100")
}

func (w *writer) transact(ctx context.Context, do act) (Act, error) {
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return Act{}, fmt.Errorf("begin shop's transaction: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	a, err := do(w, ctx, tx)
	if errors.Is(err, pgx.ErrNoRows) {
		return Act{}, nil
	}
	if err != nil {
		return Act{}, fmt.Errorf("write to the shop: %w", err)
	}
	end := tx.Commit
	if a.RolledBack {
		end, a.Rows = tx.Rollback, 0
	}
	if err := end(ctx); err != nil {
		return Act{}, fmt.Errorf("end shop's transaction: %w", err)
	}
	a.At = time.Now()
	return a, nil
}

func (w *writer) order(ctx context.Context, tx pgx.Tx) (Act, error) {
	p, err := w.pick(ctx, tx)
	if err != nil {
		return Act{}, err
	}
	n := 1 + w.rng.IntN(3)
	if p.stock < n {
		return w.restock(ctx, tx, p)
	}
	a := p.act("%d × %s sold, %d left.", n, p.name, p.stock-n)
	return a, a.exec(ctx, tx, "UPDATE products SET stock = stock - $2, sold = sold + $2 WHERE id = $1", p.id, n)
}

func (w *writer) deliver(ctx context.Context, tx pgx.Tx) (Act, error) {
	p, err := product(ctx, tx, "ORDER BY p.stock, p.id LIMIT 1")
	if err != nil {
		return Act{}, err
	}
	return w.restock(ctx, tx, p)
}

func (w *writer) restock(ctx context.Context, tx pgx.Tx, p shelved) (Act, error) {
	n := 4 + w.rng.IntN(20)
	a := p.act("Delivery: %d × %s.", n, p.name)
	return a, a.exec(ctx, tx, "UPDATE products SET stock = stock + $2 WHERE id = $1", p.id, n)
}

func (w *writer) reprice(ctx context.Context, tx pgx.Tx) (Act, error) {
	p, err := w.pick(ctx, tx)
	if err != nil {
		return Act{}, err
	}
	var price string
	err = tx.QueryRow(ctx, `
		UPDATE products SET updated_at = now(),
		  price = least(greatest(round(price * $2) - 0.05, 1.95), 4999.95)
		WHERE id = $1 RETURNING price::text`,
		p.id, one(w, "0.8", "0.88", "0.94", "1.07", "1.15", "1.25")).Scan(&price)
	a := p.act("%s now costs €\u00a0%s instead of €\u00a0%s.", p.name, price, p.price)
	a.Rows = 1
	return a, err
}

func (w *writer) review(ctx context.Context, tx pgx.Tx) (Act, error) {
	p, err := w.pick(ctx, tx)
	if err != nil {
		return Act{}, err
	}
	rating := one(w, 5, 5, 5, 4, 4, 3, 2, 1)
	author := one(w, "Agnes", "Bilal", "Cleo", "Dorota", "Emeka", "Freja", "Gil", "Hiro", "Inés", "Jonas") + " " + string(rune('A'+w.rng.IntN(26))) + "."
	body := one(w, "As good as new ones get.", "My cat approves & so do I.", "I expected more, and got less.",
		"It says <b>bold</b> on the box, and it is.", "Arrived on a Sunday!", "We use it every day.", "Three words: buy it. 👍")
	a := p.act("%s gave %s %d of 5 stars.", author, p.name, rating)
	return a, a.exec(ctx, tx, "INSERT INTO reviews (product_id, author, rating, body) VALUES ($1, $2, $3, $4)", p.id, author, rating, body)
}

func (w *writer) withdrawReview(ctx context.Context, tx pgx.Tx) (Act, error) {
	var review, of int64
	var author string
	err := tx.QueryRow(ctx, "SELECT id, product_id, author FROM reviews ORDER BY id DESC OFFSET $1 LIMIT 1", w.rng.IntN(20)).Scan(&review, &of, &author)
	if err != nil {
		return Act{}, err
	}
	p, err := product(ctx, tx, "WHERE p.id = $1", of)
	if err != nil {
		return Act{}, err
	}
	a := p.act("%s withdrew a review of %s.", author, p.name)
	return a, a.exec(ctx, tx, "DELETE FROM reviews WHERE id = $1", review)
}

func (w *writer) rename(ctx context.Context, tx pgx.Tx) (Act, error) {
	p, err := w.pick(ctx, tx)
	if err != nil {
		return Act{}, err
	}
	name := w.freshName(p.name)
	a := p.act("%s is called %s from now on.", p.name, name)
	return a, a.exec(ctx, tx, "UPDATE products SET name = $2, updated_at = now() WHERE id = $1", p.id, name)
}

func (w *writer) recolour(ctx context.Context, tx pgx.Tx) (Act, error) {
	p, err := w.pick(ctx, tx)
	if err != nil {
		return Act{}, err
	}
	colour := one(w, "natural", "charcoal", "moss", "sand", "rust", "ink")
	a := p.act("%s comes in %s now.", p.name, colour)
	return a, a.exec(ctx, tx, `
		UPDATE products SET attributes = jsonb_set(attributes, '{colour}', to_jsonb($2::text)), updated_at = now()
		WHERE id = $1`, p.id, colour)
}

func (w *writer) retag(ctx context.Context, tx pgx.Tx) (Act, error) {
	p, err := w.pick(ctx, tx)
	if err != nil {
		return Act{}, err
	}
	tag := one(w, "gift", "handmade", "repairable", "staff's choice")
	var on bool
	err = tx.QueryRow(ctx, `
		UPDATE products SET updated_at = now(),
		  tags = CASE WHEN $2 = ANY (tags) THEN array_remove(tags, $2) ELSE array_append(tags, $2) END
		WHERE id = $1 RETURNING $2 = ANY (tags)`, p.id, tag).Scan(&on)
	a := p.act("%s is tagged “%s”.", p.name, tag)
	if !on {
		a = p.act("%s is no longer tagged “%s”.", p.name, tag)
	}
	a.Rows = 1
	return a, err
}

func (w *writer) move(ctx context.Context, tx pgx.Tx) (Act, error) {
	p, err := w.pick(ctx, tx)
	if err != nil {
		return Act{}, err
	}
	to, err := w.neighbour(ctx, tx, p.category)
	if err != nil {
		return Act{}, err
	}
	a := p.act("%s moved from %s to %s.", p.name, p.categoryName, to.name)
	a.Categories = append(a.Categories, to.ids()...)
	return a, a.exec(ctx, tx, "UPDATE products SET category_id = $2, updated_at = now() WHERE id = $1", p.id, to.id)
}

// introduce brings a product that is much like one that is there already.
func (w *writer) introduce(ctx context.Context, tx pgx.Tx) (Act, error) {
	p, err := w.pick(ctx, tx)
	if err != nil {
		return Act{}, err
	}
	model := p.id
	p.name = w.freshName(p.name)
	err = tx.QueryRow(ctx, `
		WITH fresh AS (SELECT nextval(pg_get_serial_sequence('products', 'id')) AS id)
		INSERT INTO products (id, name, slug, price, stock, category_id, brand_id, attributes, tags)
		SELECT fresh.id, $2, trim(BOTH '-' FROM lower(regexp_replace($2, '[^A-Za-z]+', '-', 'g'))) || '-' || fresh.id,
		       price, $3, category_id, brand_id, attributes, ARRAY['new']
		FROM products, fresh WHERE products.id = $1
		RETURNING id`, model, p.name, 5+w.rng.IntN(40)).Scan(&p.id)
	a := p.act("New in %s: %s.", p.categoryName, p.name)
	a.Rows = 1
	return a, err
}

func (w *writer) discontinue(ctx context.Context, tx pgx.Tx) (Act, error) {
	p, err := w.pickAny(ctx, tx)
	if err != nil {
		return Act{}, err
	}
	a := p.act("%s is no longer sold.", p.name)
	return a, a.exec(ctx, tx, "DELETE FROM products WHERE id = $1", p.id)
}

// abandonCart writes, and then thinks better of it.
func (w *writer) abandonCart(ctx context.Context, tx pgx.Tx) (Act, error) {
	p, err := w.pick(ctx, tx)
	if err != nil {
		return Act{}, err
	}
	a := p.act("A cart with %s was abandoned: rolled back, so nothing may change.", p.name)
	a.RolledBack = true
	return a, a.exec(ctx, tx, "UPDATE products SET stock = 0, price = price + 1, name = name || ' (reserved)' WHERE id = $1", p.id)
}

// halfOrder sells one product and, behind a savepoint, not another.
func (w *writer) halfOrder(ctx context.Context, tx pgx.Tx) (Act, error) {
	kept, err := w.pick(ctx, tx)
	if err != nil {
		return Act{}, err
	}
	dropped, err := w.pickAny(ctx, tx)
	if err != nil {
		return Act{}, err
	}
	a := kept.act("%s sold; %s was in the same order, and rolled back to its savepoint.", kept.name, dropped.name)
	if err := a.exec(ctx, tx, "UPDATE products SET sold = sold + 1, stock = greatest(stock - 1, 0) WHERE id = $1", kept.id); err != nil {
		return a, err
	}
	savepoint, err := tx.Begin(ctx)
	if err != nil {
		return a, err
	}
	if _, err := savepoint.Exec(ctx, "UPDATE products SET sold = sold + 1, stock = 0 WHERE id = $1", dropped.id); err != nil {
		return a, err
	}
	return a, savepoint.Rollback(ctx)
}

// sale changes every price of a category in one UPDATE.
func (w *writer) sale(ctx context.Context, tx pgx.Tx) (Act, error) {
	c, err := w.category(ctx, tx)
	if err != nil {
		return Act{}, err
	}
	factor, sentence := "0.9", "Sale: 10 %% off everything in %s."
	if w.rng.IntN(2) == 0 {
		factor, sentence = "1.1", "The sale of %s is over: 10 %% more."
	}
	a := Act{Sentence: fmt.Sprintf(sentence, c.name), Categories: c.ids()}
	a.Products, err = ids(ctx, tx, `
		UPDATE products SET updated_at = now(),
		  price = least(greatest(round(price * $2) - 0.05, 1.95), 4999.95)
		WHERE category_id = $1 RETURNING id`, c.id, factor)
	a.Rows = len(a.Products)
	return a, err
}

// renameCategory changes one row that every product of the category shows. The
// next time it is called as it was.
func (w *writer) renameCategory(ctx context.Context, tx pgx.Tx) (Act, error) {
	const suffix = " & More"
	c, err := categoryWhere(ctx, tx, "WHERE name LIKE '%' || $1 ORDER BY id LIMIT 1", suffix)
	if errors.Is(err, pgx.ErrNoRows) {
		c, err = w.category(ctx, tx)
	}
	if err != nil {
		return Act{}, err
	}
	name := toggle(c.name, suffix)
	a := Act{Sentence: fmt.Sprintf("The category %s is called %s from now on.", c.name, name), Categories: c.ids()}
	if a.Products, err = ids(ctx, tx, "SELECT id FROM products WHERE category_id = $1", c.id); err != nil {
		return a, err
	}
	return a, a.exec(ctx, tx, "UPDATE categories SET name = $2 WHERE id = $1", c.id, name)
}

func (w *writer) renameBrand(ctx context.Context, tx pgx.Tx) (Act, error) {
	const suffix = " & Co."
	var brand int64
	var old string
	err := tx.QueryRow(ctx, "SELECT id, name FROM brands ORDER BY name LIKE '%' || $2 DESC, id = $1 DESC, id LIMIT 1",
		1+w.rng.Int64N(24), suffix).Scan(&brand, &old)
	if err != nil {
		return Act{}, err
	}
	name := toggle(old, suffix)
	a := Act{Sentence: fmt.Sprintf("The brand %s is called %s from now on.", old, name), Brands: []int64{brand}}
	if a.Products, err = ids(ctx, tx, "SELECT id FROM products WHERE brand_id = $1", brand); err != nil {
		return a, err
	}
	return a, a.exec(ctx, tx, "UPDATE brands SET name = $2 WHERE id = $1", brand, name)
}

func (w *writer) reorderMenu(ctx context.Context, tx pgx.Tx) (Act, error) {
	c, err := w.category(ctx, tx)
	if err != nil {
		return Act{}, err
	}
	a := Act{Sentence: fmt.Sprintf("%s moved in the menu.", c.name), Categories: c.ids()}
	return a, a.exec(ctx, tx, "UPDATE categories SET position = 1 + position % 5 WHERE id = $1", c.id)
}

// freshName gives a product's name another first word.
func (w *writer) freshName(name string) string {
	line, rest, _ := strings.Cut(name, " ")
	for {
		if l := one(w, "Amber", "Brae", "Cove", "Drift", "Ember", "Flint", "Gale", "Hazel", "Iris", "Jade", "Kelp", "Loam"); l != line {
			return strings.TrimSpace(l + " " + rest)
		}
	}
}

func one[T any](w *writer, of ...T) T { return of[w.rng.IntN(len(of))] }

// toggle puts a suffix on a name, or takes it off.
func toggle(name, suffix string) string {
	if cut, had := strings.CutSuffix(name, suffix); had {
		return cut
	}
	return name + suffix
}
