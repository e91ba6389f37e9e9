package integration

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A schema of nobody's taste: every kind of key and table in one.
const kindsSchema = `
	CREATE SCHEMA "My.Shop";
	CREATE TYPE mood AS ENUM ('sad', 'so "so"', 'glad');
	CREATE DOMAIN code AS varchar(40) CHECK (value <> 'forbidden');
	CREATE TABLE pages (slug text PRIMARY KEY, title text, body text, mood mood, parent text);
	ALTER TABLE pages REPLICA IDENTITY FULL;
	CREATE INDEX ON pages (parent);
	CREATE TABLE "My.Shop"."Order Items" ("Order" bigint, "Line No" smallint, "SKU" code, qty int, PRIMARY KEY ("Order", "Line No"));
	CREATE TABLE events (id int, day date, what text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
	CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
	CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
	CREATE TABLE blobs (id uuid PRIMARY KEY, big text, n int GENERATED ALWAYS AS IDENTITY, twice int GENERATED ALWAYS AS (3 * 2) STORED);
	ALTER TABLE blobs ALTER big SET STORAGE EXTERNAL;
	CREATE TABLE tags (page text, tag text, PRIMARY KEY (page, tag));
	INSERT INTO pages SELECT 'page ' || i, 'Title ' || i, 'x', 'glad', 'page ' || i % 7 FROM generate_series(1, 60) i;
	INSERT INTO pages VALUES ('', 'the empty slug', NULL, NULL, NULL), ('a:b%/{}"''\n🌳', 'odd', NULL, 'so "so"', '');
	INSERT INTO "My.Shop"."Order Items" SELECT i % 9, i, 'sku ' || i, i FROM generate_series(1, 90) i;
	INSERT INTO events SELECT i, '2025-12-01'::date + i, 'event ' || i FROM generate_series(1, 60) i;
	INSERT INTO blobs SELECT md5(i::text)::uuid, repeat(md5(i::text), 200) FROM generate_series(1, 30) i;
	INSERT INTO tags SELECT 'page ' || i % 50, 'tag ' || i % 5 FROM generate_series(1, 400) i ON CONFLICT DO NOTHING`

const kindsRules = `
viewlet "page" {
  params = ["slug"]
  query  = "SELECT p.title, p.body, p.mood, (SELECT array_agg(tag ORDER BY tag) FROM tags WHERE page = p.slug) AS tags FROM pages p WHERE p.slug = @slug"
  all    = "SELECT slug FROM pages"
  body   = "<h1 title=\"{{.title}}\">{{.title}}</h1>{{.body}}{{.mood}} {{join \",\" .tags}}"
}
viewlet "children" {
  params   = ["slug"]
  query    = "SELECT slug, title FROM pages WHERE parent = @slug ORDER BY title, slug"
  all      = "SELECT DISTINCT parent FROM pages"
  template = "children.txt"
}
viewlet "mood" {
  params = ["mood"]
  query  = "SELECT count(*) FROM pages WHERE mood = @mood"
  all    = "SELECT unnest(enum_range(NULL::mood))"
}
viewlet "line" {
  params = ["ord", "line"]
  query  = "SELECT * FROM \"My.Shop\".\"Order Items\" WHERE \"Order\" = @ord AND \"Line No\" = @line"
  all    = "SELECT \"Order\", \"Line No\" FROM \"My.Shop\".\"Order Items\""
}
viewlet "sku" {
  params = ["sku"]
  query  = "SELECT \"Order\", qty FROM \"My.Shop\".\"Order Items\" WHERE \"SKU\" = @sku ORDER BY 1, 2"
  rows   = true
  all    = "SELECT DISTINCT \"SKU\" FROM \"My.Shop\".\"Order Items\""
}
viewlet "day" {
  params = ["day"]
  query  = "SELECT id, what FROM events WHERE day = @day ORDER BY id"
  rows   = true
  empty  = "render"
  all    = "SELECT d::date FROM generate_series('2025-12-01'::timestamp, '2026-03-01', '1 day') d"
}
viewlet "blob" {
  params = ["id"]
  query  = "SELECT length(big) AS len, md5(big) AS sum, n, twice FROM blobs WHERE id = @id"
  all    = "SELECT id FROM blobs"
}
viewlet "by_content" {
  params = ["big"]
  query  = "SELECT count(*), max(n) FROM blobs WHERE big = @big HAVING count(*) > 0"
  all    = "SELECT DISTINCT big FROM blobs"
}
viewlet "totals" {
  query = "SELECT (SELECT count(*) FROM pages) AS pages, (SELECT sum(qty) FROM \"My.Shop\".\"Order Items\") AS qty"
}

lookup "parent_of" {
  params = ["slug"]
  query  = "SELECT parent FROM pages WHERE slug = @slug"
}

table "pages" {
  refresh = [page(slug), children(parent), mood(mood), totals()]
}
table "tags" {
  refresh = page(page)
}
table "\"My.Shop\".\"Order Items\"" {
  refresh = [line(Order, all_lines(Order)), totals()]
}
`

// The rules above, with what HCL cannot name by a bare word.
var kindsTables = strings.Replace(kindsRules, `
table "\"My.Shop\".\"Order Items\"" {
  refresh = [line(Order, all_lines(Order)), totals()]
}
`, `
lookup "all_lines" {
  params = ["ord"]
  query  = "SELECT \"Line No\" FROM \"My.Shop\".\"Order Items\" WHERE \"Order\" = @ord"
}
table "\"My.Shop\".\"Order Items\"" {
  refresh = [line(new["Order"], new["Line No"]), line(old["Order"], old["Line No"]), sku(new["SKU"]), sku(old["SKU"]), totals()]
}
table "events" {
  refresh = day(day)
}
table "blobs" {
  refresh = [blob(id), by_content(big)]
}
table "tags" {
  on      = ["insert", "delete"]
  refresh = children(parent_of(page))
}
`, 1)

func kindsStatements() []func(*rand.Rand) string {
	odd := []string{"''", "'a:b%/{}\"''\\n🌳'", "'NULL'", "'{x,\"y\"}'", "E'line\\nbreak'", "'page 3'", "'x\\\\'"}
	word := func(r *rand.Rand) string {
		if r.IntN(2) == 0 {
			return odd[r.IntN(len(odd))]
		}
		return fmt.Sprintf("'page %d'", r.IntN(70))
	}
	order := func(r *rand.Rand) string {
		return fmt.Sprintf(`"Order" = %d AND "Line No" = %d`, r.IntN(9), r.IntN(95))
	}
	return []func(*rand.Rand) string{
		func(r *rand.Rand) string {
			return fmt.Sprintf("INSERT INTO pages VALUES (%s, 'T%d', NULL, 'sad', %s) ON CONFLICT (slug) DO UPDATE SET title = excluded.title, parent = excluded.parent", word(r), r.IntN(99), word(r))
		},
		func(r *rand.Rand) string {
			return fmt.Sprintf("UPDATE pages SET slug = slug || %s WHERE slug = %s AND length(slug) < 40", word(r), word(r))
		},
		func(r *rand.Rand) string {
			return fmt.Sprintf("UPDATE pages SET mood = NULL, parent = %s WHERE slug = %s", word(r), word(r))
		},
		func(r *rand.Rand) string { return fmt.Sprintf("DELETE FROM pages WHERE slug = %s", word(r)) },
		func(r *rand.Rand) string {
			return fmt.Sprintf("INSERT INTO tags VALUES (%s, 'tag %d') ON CONFLICT DO NOTHING", word(r), r.IntN(9))
		},
		func(r *rand.Rand) string { return fmt.Sprintf("DELETE FROM tags WHERE page = %s", word(r)) },
		func(r *rand.Rand) string {
			return fmt.Sprintf(`UPDATE "My.Shop"."Order Items" SET qty = qty + 1, "SKU" = 'sku %d' WHERE %s`, r.IntN(50), order(r))
		},
		func(r *rand.Rand) string {
			return fmt.Sprintf(`UPDATE "My.Shop"."Order Items" SET "Line No" = "Line No" + 100 WHERE %s AND "Line No" < 1000`, order(r))
		},
		func(r *rand.Rand) string {
			return fmt.Sprintf(`DELETE FROM "My.Shop"."Order Items" WHERE %s`, order(r))
		},
		func(r *rand.Rand) string {
			// within the days that the viewlet's all names
			return fmt.Sprintf("UPDATE events SET day = day + %d, what = what || '!' WHERE id = %d AND day BETWEEN '2025-12-06' AND '2026-02-01'", r.IntN(30)-5, r.IntN(60))
		},
		func(r *rand.Rand) string {
			return fmt.Sprintf("UPDATE blobs SET id = gen_random_uuid() WHERE id = (SELECT id FROM blobs ORDER BY md5(id::text || '%d') LIMIT 1)", r.Int())
		},
		func(r *rand.Rand) string {
			return fmt.Sprintf("UPDATE blobs SET big = repeat(md5('%d'), 200) WHERE n = %d", r.Int(), r.IntN(30))
		},
		func(r *rand.Rand) string {
			if r.IntN(10) > 0 {
				return "SELECT 1"
			}
			return "TRUNCATE tags"
		},
		func(r *rand.Rand) string {
			if r.IntN(20) > 0 {
				return "SELECT 1"
			}
			return `TRUNCATE "My.Shop"."Order Items", events`
		},
	}
}

// Keys of every type and spelling, partitions, identifiers that need quotes,
// TOAST, TRUNCATE, primary keys that change, under several writers.
func TestKinds(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), kindsSchema+`;
		ALTER TABLE "My.Shop"."Order Items" REPLICA IDENTITY FULL;
		ALTER TABLE blobs REPLICA IDENTITY FULL`,
		map[string]string{"rules/kinds.hcl": kindsTables, "rules/children.txt": "{{range .rows}}{{.slug}}: {{.title}}\n{{end}}"})
	p := s.run(t)
	o := newOracle(t, s.db, s.rules())
	o.agree(t, s.redis)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for round := range uint64(5) {
		write(t, t.Context(), s.db, seed+round, 3, 100, kindsStatements())
		quiet(t, s.db)
		o.agree(t, s.redis)
	}
	p.stop(t)
}

// COPY, a transaction of many rows, and a huge fan-out come whole.
func TestManyRows(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), kindsSchema, map[string]string{
		"rules/kinds.hcl": `
			viewlet "blob" {
			  params = ["id"]
			  query  = "SELECT length(big) AS len, n FROM blobs WHERE id = @id"
			  all    = "SELECT id FROM blobs"
			}
			table "blobs" {
			  refresh = blob(id)
			}
			viewlet "event" {
			  params = ["id", "day"]
			  query  = "SELECT what FROM events WHERE id = @id AND day = @day"
			  all    = "SELECT id, day FROM events"
			}
			lookup "events_of" {
			  params = ["title"]
			  query  = "SELECT id, day FROM events WHERE @title = 'Title 1'"
			}
			table "events" {
			  refresh = event(id, day)
			}
			table "pages" {
			  when    = changed("mood")
			  refresh = event(events_of(title))
			}`,
	})
	p := s.run(t)
	o := newOracle(t, s.db, s.rules())
	conn, err := pgx.Connect(t.Context(), s.db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows := pgx.CopyFromSlice(30_000, func(i int) ([]any, error) {
		return []any{fmt.Sprintf("%032x", i), "copied"}, nil
	})
	if n, err := conn.CopyFrom(t.Context(), pgx.Identifier{"blobs"}, []string{"id", "big"}, rows); err != nil || n != 30_000 {
		t.Fatal(n, err)
	}
	psql(t, s.db, `INSERT INTO events SELECT i, '2026-05-01', 'many' FROM generate_series(1, 105000) i;
		UPDATE events SET what = 'more' WHERE what = 'many'`)
	psql(t, s.db, "UPDATE pages SET mood = 'sad' WHERE slug = 'page 1'") // 105,060 by a lookup
	quiet(t, s.db)
	o.agree(t, s.redis)
	psql(t, s.db, "DELETE FROM events WHERE id % 10 = 0; DELETE FROM blobs WHERE n % 9 = 0")
	quiet(t, s.db)
	o.agree(t, s.redis)
	p.stop(t)
}

// An app asks for a refresh inside its own transaction: it comes when, and
// only if, that commits.
func TestMessage(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1), (2, 1)", map[string]string{
		"rules/rules.hcl": `
			viewlet "v" {
			  params = ["id"]
			  query  = "SELECT n FROM t WHERE id = @id"
			  all    = "SELECT id FROM t"
			  ignore = ["t"]
			}`,
	})
	p := s.run(t)
	get := func(id, want string) {
		t.Helper()
		quiet(t, s.db)
		if got, _ := redisGet(t, s.redis, "viewlet:v:"+id); got != want {
			t.Errorf("v:%s is %s, want %s", id, got, want)
		}
	}
	psql(t, s.db, "UPDATE t SET n = 2")
	get("1", `{"n":1}`) // its changes are ignored
	psql(t, s.db, "BEGIN; SELECT pg_logical_emit_message(true, 'cdc-viewlet', 'v:1'); ROLLBACK")
	get("1", `{"n":1}`)
	psql(t, s.db, "SELECT pg_logical_emit_message(true, 'cdc-viewlet', 'v:1')")
	get("1", `{"n":2}`)
	get("2", `{"n":1}`)
	psql(t, s.db, "SELECT pg_logical_emit_message(true, 'cdc-viewlet', 'v:*'); SELECT pg_logical_emit_message(true, 'cdc-viewlet', 'w:9')")
	get("2", `{"n":2}`)
	p.says(t, "a message asks for what there is not")
	p.stop(t)
}
