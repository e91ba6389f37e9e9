package main

import (
	"context"
	"fmt"
	"time"
)

// shop is products in categories, a fragment for each, and a daemon that keeps
// them fresh.
type shop struct {
	*database
	products, perCategory int
	daemon                *daemon
	rendered              float64 // since the daemon began
}

const teaserSQL = `SELECT p.id, p.name, p.price, c.name AS category FROM products p JOIN categories c ON c.id = p.category_id WHERE p.id = `

const teaserTemplate = `<article class="teaser"><a href="/products/{{.id}}">{{.name}}</a> <b>{{.price}}</b> <i>{{.category}}</i></article>`

const shopRules = `
viewlet "teaser" {
  params   = ["id"]
  query    = "` + teaserSQL + `@id"
  template = "teaser.html"
  all      = "SELECT id FROM products"
}
table "products" {
  refresh = teaser(id)
}
table "categories" {
  refresh = teaser(products_in(id))
}
lookup "products_in" {
  params = ["category_id"]
  query  = "SELECT id FROM products WHERE category_id = @category_id"
}
`

// fill makes the tables. There is one product more, in a category of its own.
func (db *database) fill(ctx context.Context, products, perCategory int) error {
	return db.exec(ctx,
		"CREATE TABLE categories (id int PRIMARY KEY, name text NOT NULL)",
		"CREATE TABLE products (id int PRIMARY KEY, name text NOT NULL, price numeric(10,2) NOT NULL, category_id int NOT NULL) WITH (fillfactor = 50)",
		fmt.Sprintf("INSERT INTO categories SELECT i, 'Category ' || i FROM generate_series(0, %d) i", products/perCategory),
		fmt.Sprintf("INSERT INTO products SELECT i, 'Product & thing ' || i, i %% 100 + 0.99, (i - 1) / %d FROM generate_series(1, %d + 1) i", perCategory, products),
		"CREATE INDEX ON products (category_id)",
		"VACUUM ANALYZE")
}

// withShop runs do on a shop whose fragments are all in Redis.
func (h *house) withShop(ctx context.Context, name string, products, perCategory int, do func(*shop) error) error {
	return h.in(ctx, name, func(db *database) error {
		s := &shop{database: db, products: products, perCategory: perCategory}
		if err := db.fill(ctx, products, perCategory); err != nil {
			return err
		}
		if err := s.serve(ctx, name); err != nil {
			return err
		}
		defer s.daemon.stop()
		var err error
		if s.rendered, err = s.daemon.metric(ctx, "renders_total"); err != nil {
			return err
		}
		return do(s)
	})
}

// serve starts a daemon over the slot, and waits until every fragment is there.
func (s *shop) serve(ctx context.Context, slot string) (err error) {
	if s.daemon, err = s.database.daemon(ctx, slot, shopRules); err != nil {
		return err
	}
	if _, err = s.daemon.ready(ctx); err != nil {
		s.daemon.stop()
	}
	return err
}

// follows changes rows, and gives how many fragments a second were written from
// the commit on.
func (s *shop) follows(ctx context.Context, change string, fragments int) (float64, error) {
	if err := s.exec(ctx, change); err != nil {
		return 0, err
	}
	began := time.Now()
	s.rendered += float64(fragments)
	if err := s.daemon.rendered(ctx, s.rendered); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return float64(fragments) / took.Seconds() / 1000, s.agrees(ctx)
}

// agrees looks whether some of the fragments are what they should be: a
// benchmark of what is not done says nothing.
func (s *shop) agrees(ctx context.Context) error {
	r, err := s.refresher(ctx)
	if err != nil {
		return err
	}
	defer r.close()
	for id := 1; id <= s.products; id += max(1, s.products/50) {
		want, err := r.render(ctx, id)
		if err != nil {
			return err
		}
		if got, err := s.rdb.Get(ctx, fmt.Sprintf("viewlet:teaser:%d", id)).Result(); err != nil || got != want {
			return fmt.Errorf("compare teaser:%d: got %q, %v; want %q", id, got, err, want)
		}
	}
	return nil
}
