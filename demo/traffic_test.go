package demo

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// sentences plays n acts and gives what was told of them.
func sentences(t *testing.T, conn *pgx.Conn, seed uint64, n int) []string {
	t.Helper()
	w := &writer{conn: conn, rng: rand.New(rand.NewPCG(seed, 0))}
	told := make([]string, n)
	for i := range told {
		a, err := w.play(t.Context())
		if err != nil {
			t.Fatalf("act %d: %v", i, err)
		}
		told[i] = a.Sentence
	}
	return told
}

// The tests that leave the server alone share one.
func TestTraffic(t *testing.T) {
	s := newShop(t)
	for name, test := range map[string]func(*testing.T, *shop){
		"the same seed tells the same story": testSeed,
		"acts tell what they do":             testActs,
		"a savepoint keeps half an order":    testSavepoint,
		"an emptied shop has no story":       testEmptied,
		"its own mistake ends it":            testMistake,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

func testSeed(t *testing.T, s *shop) {
	const acts = 300
	first := sentences(t, connect(t, s.another(t, "first")), 7, acts)
	again := sentences(t, connect(t, s.another(t, "again")), 7, acts)
	for i := range first {
		if first[i] != again[i] {
			t.Fatalf("act %d was %q, and then %q", i, first[i], again[i])
		}
	}
	if other := sentences(t, connect(t, s.another(t, "other")), 8, acts); slices.Equal(first, other) {
		t.Error("another seed told the same story")
	}
	if order, sale := count(first, " left."), count(first, "verything in"); order < 40 || sale == 0 || order < sale {
		t.Errorf("%d orders and %d sales in %d acts", order, sale, acts)
	}
}

func count(told []string, of string) (n int) {
	for _, sentence := range told {
		if strings.Contains(sentence, of) {
			n++
		}
	}
	return n
}

// rows gives each row of a table by its id, as text.
func rows(t *testing.T, conn *pgx.Conn, table string) map[int64]string {
	t.Helper()
	got, err := conn.Query(t.Context(), "SELECT id, t::text FROM "+table+" t")
	if err != nil {
		t.Fatal(err)
	}
	all := map[int64]string{}
	var id int64
	var text string
	if _, err := pgx.ForEachRow(got, []any{&id, &text}, func() error { all[id] = text; return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func changed(before, after map[int64]string) []int64 {
	var ids []int64
	for id := range before {
		if after[id] != before[id] {
			ids = append(ids, id)
		}
	}
	for id := range after {
		if _, was := before[id]; !was {
			ids = append(ids, id)
		}
	}
	return ids
}

// Each act of the repertoire is played a few times, and what it says of itself
// compared with what it did.
func testActs(t *testing.T, s *shop) {
	conn := connect(t, s.another(t, "acts"))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := &writer{conn: conn, rng: rand.New(rand.NewPCG(seed, 0))}
	total := 0
	for i, c := range repertoire() {
		total += c.percent
		for range 3 {
			was := map[string]map[int64]string{}
			for _, table := range []string{"products", "categories", "brands", "reviews"} {
				was[table] = rows(t, conn, table)
			}
			a, err := w.transact(t.Context(), c.act)
			if err != nil {
				t.Fatalf("act %d: %v", i, err)
			}
			said := map[string][]int64{"products": a.Products, "categories": a.Categories, "brands": a.Brands}
			wrote := 0
			for table, before := range was {
				ids := changed(before, rows(t, conn, table))
				wrote += len(ids)
				if table == "reviews" {
					continue
				}
				for _, id := range ids {
					if !slices.Contains(said[table], id) {
						t.Errorf("%q changed no. %d of %s, and does not say so", a.Sentence, id, table)
					}
				}
			}
			switch {
			case a.Sentence == "" || a.At.IsZero():
				t.Errorf("act %d tells nothing: %+v", i, a)
			case a.RolledBack && (wrote > 0 || a.Rows > 0):
				t.Errorf("%q wrote %d rows, and says %d; it was rolled back", a.Sentence, wrote, a.Rows)
			case !a.RolledBack && (wrote == 0 || a.Rows == 0):
				t.Errorf("%q wrote %d rows, and says %d", a.Sentence, wrote, a.Rows)
			}
		}
	}
	if total != 100 {
		t.Errorf("the repertoire adds up to %d of a hundred", total)
	}
}

func testSavepoint(t *testing.T, s *shop) {
	conn := connect(t, s.another(t, "savepoint"))
	w := &writer{conn: conn, rng: rand.New(rand.NewPCG(1, 0))}
	before := rows(t, conn, "products")
	a, err := w.transact(t.Context(), (*writer).halfOrder)
	if err != nil {
		t.Fatal(err)
	}
	if ids := changed(before, rows(t, conn, "products")); !slices.Equal(ids, a.Products) {
		t.Errorf("%q changed products %v, want %v", a.Sentence, ids, a.Products)
	}
}

func testEmptied(t *testing.T, s *shop) {
	conn := connect(t, s.another(t, "emptied"))
	exec(t, conn, "TRUNCATE brands, categories, products, reviews")
	for _, told := range sentences(t, conn, 3, 100) {
		if told != "" {
			t.Errorf("told %q of an empty shop", told)
		}
	}
}

// A Postgres that restarts is waited for: the writer writes on.
func TestTrafficOutlivesPostgres(t *testing.T) {
	s := newShop(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	acts, done := make(chan Act, 1000), make(chan error, 1)
	traffic := &Traffic{URL: s.url, Rate: 200, Seed: 1, Tell: func(a Act) { acts <- a }}
	go func() { done <- traffic.Run(ctx) }()
	hear := func(n int) {
		t.Helper()
		for range n {
			select {
			case <-acts:
			case err := <-done:
				t.Fatalf("the writer stopped: %v", err)
			}
		}
	}
	hear(5)
	if err := s.pg.Kill(); err != nil {
		t.Fatal(err)
	}
	for len(acts) > 0 {
		<-acts
	}
	if err := s.pg.Start(ctx); err != nil {
		t.Fatal(err)
	}
	hear(5)
	cancel()
	for {
		select {
		case <-acts:
			continue
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Run gave %v, want context.Canceled", err)
			}
		}
		return
	}
}

func testMistake(t *testing.T, s *shop) {
	for name, url := range map[string]string{
		"no such database": strings.Replace(s.pg.URL(), "/postgres?", "/nowhere?", 1),
		"no shop in it":    strings.Replace(s.pg.URL(), "/postgres?", "/template1?", 1),
	} {
		err := (&Traffic{URL: url}).Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), ": ") {
			t.Fatalf("%s: Run gave %v", name, err)
		}
		cfg, parsed := pgx.ParseConfig(url)
		if parsed != nil || cfg.Password == "" || strings.Contains(err.Error(), cfg.Password) {
			t.Errorf("%s: the error shows the password: %v", name, err)
		}
	}
}
