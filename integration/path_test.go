package integration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	cdcviewlet "github.com/cdc-viewlet/cdc-viewlet"
)

// The whole path, by hand: one table, one rule, one template.
func TestOneRow(t *testing.T) {
	s := newSite(t, startPostgres(t), `
		CREATE TABLE products (id int PRIMARY KEY, name text, price numeric(10,2));
		INSERT INTO products VALUES (42, 'Oak <chair>', 99.50)`, map[string]string{
		"rules/rules.hcl": `
			viewlet "product_teaser" {
			  params   = ["id"]
			  query    = "SELECT name, price FROM products WHERE id = @id"
			  template = "teaser.html"
			  all      = "SELECT id FROM products"
			}
			table "products" {
			  refresh = product_teaser(id)
			}`,
		"rules/teaser.html": `<b>{{.name}}</b> {{.price}}`,
	})
	p := s.run(t)
	read := func(want string) {
		t.Helper()
		quiet(t, s.db)
		if got, _ := redisGet(t, s.redis, "viewlet:product_teaser:42"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	read("<b>Oak &lt;chair&gt;</b> 99.50")
	psql(t, s.db, "UPDATE products SET price = 89 WHERE id = 42")
	read("<b>Oak &lt;chair&gt;</b> 89.00")
	psql(t, s.db, "DELETE FROM products")
	read("")
	psql(t, s.db, "INSERT INTO products VALUES (42, 'Ash', 1)")
	read("<b>Ash</b> 1.00")
	p.stop(t)
}

// shopFiles are the sample shop's rules and templates, as the demo has them.
func shopFiles(t testing.TB) (files map[string]string, sql string) {
	t.Helper()
	files = map[string]string{}
	err := fs.WalkDir(cdcviewlet.Shop, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(cdcviewlet.Shop, path)
		if path == "shop.sql" {
			sql = string(content)
		} else {
			files["rules/"+path] = string(content)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, sql
}

// writer changes rows at random until it has made so many transactions.
type writer struct {
	db         *database
	rnd        *rand.Rand
	statements []func(*rand.Rand) string
	rollbacks  bool
}

func (w *writer) run(ctx context.Context, transactions int) error {
	conn, err := pgx.Connect(ctx, w.db.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for range transactions {
		var sql []string
		for range 1 + w.rnd.IntN(4) {
			sql = append(sql, w.statements[w.rnd.IntN(len(w.statements))](w.rnd))
		}
		end := "COMMIT"
		if w.rollbacks && w.rnd.IntN(10) == 0 {
			end = "ROLLBACK"
		}
		script := "BEGIN; " + strings.Join(sql, "; ") + "; " + end
		_, err := conn.PgConn().Exec(ctx, script).ReadAll()
		var pg *pgconn.PgError
		if errors.As(err, &pg) && (pg.Code[:2] == "40" || pg.Code[:2] == "23") { // a deadlock or another lost race, a broken constraint
			if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", script, err)
		}
	}
	return nil
}

// write lets so many writers work at once, each with a seed of its own.
func write(t testing.TB, ctx context.Context, db *database, seed uint64, writers, transactions int, statements []func(*rand.Rand) string) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range writers {
		w := &writer{db: db, rnd: rand.New(rand.NewPCG(seed, uint64(i))), statements: statements, rollbacks: true}
		wg.Go(func() {
			if err := w.run(ctx, transactions); err != nil && ctx.Err() == nil {
				t.Errorf("writer %d of seed %d: %v", i, seed, err)
			}
		})
	}
	wg.Wait()
}

var shopStatements = []func(*rand.Rand) string{
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE products SET price = price + %d WHERE id = %d", r.IntN(9), r.IntN(2500))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE products SET stock = %d WHERE id %% 97 = %d", r.IntN(9), r.IntN(97))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE products SET category_id = (SELECT id FROM categories ORDER BY md5(id::text || '%d') LIMIT 1) WHERE id = %d", r.Int(), r.IntN(2500))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE categories SET name = left(name, 60) || '%d' WHERE id = %d", r.IntN(9), r.IntN(40))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE brands SET name = left(name, 60) || '%d' WHERE id = %d", r.IntN(9), r.IntN(24))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("INSERT INTO reviews (product_id, author, rating, body) SELECT id, 'A%d', %d, 'fine <b>' FROM products ORDER BY md5(id::text || '%d') LIMIT 3", r.IntN(99), 1+r.IntN(5), r.Int())
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("DELETE FROM reviews WHERE product_id = %d", r.IntN(2500))
	},
	func(r *rand.Rand) string { return fmt.Sprintf("DELETE FROM products WHERE id = %d", r.IntN(2500)) },
	func(r *rand.Rand) string {
		return fmt.Sprintf("SAVEPOINT a; UPDATE products SET name = 'never' WHERE id = %d; ROLLBACK TO a", r.IntN(2500))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE products SET id = id + 100000 WHERE id = %d AND NOT EXISTS (SELECT FROM reviews WHERE product_id = products.id)", r.IntN(2500))
	},
}

// The sample shop under several writers, while the daemon is ended now in
// order, now by kill -9, and started again.
func TestShopUnderFire(t *testing.T) {
	t.Parallel()
	files, sql := shopFiles(t)
	s := newSite(t, startPostgres(t), sql, files)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1<<32))
	p := s.run(t)
	o := newOracle(t, s.db, s.rules())
	o.agree(t, s.redis)

	writing, done := context.WithCancel(t.Context())
	go func() {
		defer done()
		write(t, t.Context(), s.db, seed, 3, 400, shopStatements)
	}()
	for kills := 0; writing.Err() == nil; kills++ {
		select {
		case <-writing.Done():
		case <-time.After(time.Duration(50+rnd.IntN(800)) * time.Millisecond):
		}
		if rnd.IntN(2) == 0 {
			p.kill()
		} else {
			p.stop(t)
		}
		p = s.start(t)
		t.Logf("restart %d", kills+1)
	}
	quiet(t, s.db)
	p.says(t, "ready: every fragment is in Redis")
	quiet(t, s.db)
	o.agree(t, s.redis)
	p.stop(t)
}
