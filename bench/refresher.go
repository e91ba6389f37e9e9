package main

import (
	"bytes"
	"context"
	"html/template"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// refresher is what rows 3 to 5 are compared with: fragments refreshed by hand,
// as a good engineer writes it in an afternoon. One query, one template and one
// SET for each, over a pool of connections with prepared statements, which is
// what pgx does by itself.
type refresher struct {
	pool     *pgxpool.Pool
	rdb      *redis.Client
	template *template.Template
	from     string // the table of products
}

func newRefresher(ctx context.Context, url string, rdb *redis.Client, from string) (*refresher, error) {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return nil, err
	}
	return &refresher{pool: pool, rdb: rdb, template: template.Must(template.New("teaser").Parse(teaserTemplate)), from: from}, nil
}

// refresher is one of the shop's own products.
func (db *database) refresher(ctx context.Context) (*refresher, error) {
	return newRefresher(ctx, db.url(), db.rdb, "products")
}

func (r *refresher) close() { r.pool.Close() }

// render gives the fragment of one product.
func (r *refresher) render(ctx context.Context, id int) (string, error) {
	var row struct {
		id                    int
		name, price, category string
	}
	err := r.pool.QueryRow(ctx, strings.Replace(teaserSQL, "products", r.from, 1)+"$1", id).Scan(&row.id, &row.name, &row.price, &row.category)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	err = r.template.Execute(&b, map[string]any{"id": row.id, "name": row.name, "price": row.price, "category": row.category})
	return b.String(), err
}

func (r *refresher) refresh(ctx context.Context, id int) error {
	body, err := r.render(ctx, id)
	if err != nil {
		return err
	}
	return r.rdb.Set(ctx, "theirs:teaser:"+strconv.Itoa(id), body, 0).Err()
}

const workers = 4

// refreshAll refreshes what it is handed, with four workers.
func (r *refresher) refreshAll(ctx context.Context, ids []int, refresh func(context.Context, int) error) error {
	work := make(chan int)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		for _, id := range ids {
			select {
			case work <- id:
			case <-ctx.Done():
				return nil
			}
		}
		return nil
	})
	for range workers {
		g.Go(func() error {
			for id := range work {
				if err := refresh(ctx, id); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// refreshCategory refreshes all products of a category, found by one query.
func (r *refresher) refreshCategory(ctx context.Context, category int) error {
	rows, err := r.pool.Query(ctx, "SELECT id FROM products WHERE category_id = $1", category)
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := r.refresh(ctx, id); err != nil {
			return err
		}
	}
	return nil
}
