package demo

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// shelved is a product and where it stands.
type shelved struct {
	id           int64
	name, price  string
	stock        int
	category     int64
	categoryName string
	department   *int64
	brand        *int64
}

// act is an Act on the product, which shows wherever the product does.
func (p shelved) act(sentence string, args ...any) Act {
	a := Act{
		Sentence:   fmt.Sprintf(sentence, args...),
		Products:   []int64{p.id},
		Categories: shelf{id: p.category, parent: p.department}.ids(),
	}
	if p.brand != nil {
		a.Brands = []int64{*p.brand}
	}
	return a
}

// exec runs a statement and counts its rows as the act's.
func (a *Act) exec(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	tag, err := tx.Exec(ctx, sql, args...)
	a.Rows += int(tag.RowsAffected())
	return err
}

// pick draws a product, more often than not one of the best sellers: there is
// always something to see on the home page.
func (w *writer) pick(ctx context.Context, tx pgx.Tx) (shelved, error) {
	if w.rng.IntN(10) < 4 {
		return w.pickAny(ctx, tx)
	}
	return product(ctx, tx, "ORDER BY p.sold DESC, p.id LIMIT 1 OFFSET least($1::bigint, (SELECT greatest(count(*), 1) FROM products) - 1)", w.rng.IntN(12))
}

func (w *writer) pickAny(ctx context.Context, tx pgx.Tx) (shelved, error) {
	return product(ctx, tx, "ORDER BY p.id LIMIT 1 OFFSET "+drawn("products"), w.rng.Float64())
}

// drawn is an OFFSET into all rows of a table by $1, which is of [0, 1).
func drawn(table string) string {
	return "(SELECT floor($1::float8 * count(*))::bigint FROM " + table + ")"
}

func product(ctx context.Context, tx pgx.Tx, which string, args ...any) (shelved, error) {
	var p shelved
	err := tx.QueryRow(ctx, `
		SELECT p.id, p.name, p.price::text, p.stock, c.id, c.name, c.parent_id, p.brand_id
		FROM products p JOIN categories c ON c.id = p.category_id `+which, args...).
		Scan(&p.id, &p.name, &p.price, &p.stock, &p.category, &p.categoryName, &p.department, &p.brand)
	return p, err
}

// shelf is a category and its department.
type shelf struct {
	id     int64
	name   string
	parent *int64
}

func (s shelf) ids() []int64 {
	if s.parent == nil {
		return []int64{s.id}
	}
	return []int64{s.id, *s.parent}
}

// category draws a category that stands in a department.
func (w *writer) category(ctx context.Context, tx pgx.Tx) (shelf, error) {
	return categoryWhere(ctx, tx, `
		WHERE parent_id IS NOT NULL ORDER BY id LIMIT 1
		OFFSET (SELECT floor($1::float8 * count(*))::bigint FROM categories WHERE parent_id IS NOT NULL)`, w.rng.Float64())
}

// neighbour draws another category, of the same department if that has one.
func (w *writer) neighbour(ctx context.Context, tx pgx.Tx, of int64) (shelf, error) {
	return categoryWhere(ctx, tx, `
		WHERE parent_id IS NOT NULL AND id <> $1
		ORDER BY parent_id = (SELECT parent_id FROM categories WHERE id = $1) DESC, (id + $2) % 7, id LIMIT 1`, of, w.rng.IntN(7))
}

func categoryWhere(ctx context.Context, tx pgx.Tx, which string, args ...any) (shelf, error) {
	var s shelf
	err := tx.QueryRow(ctx, "SELECT id, name, parent_id FROM categories "+which, args...).Scan(&s.id, &s.name, &s.parent)
	return s, err
}

func ids(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]int64, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}
