package replication

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func TestTables(t *testing.T) {
	db := shared.database(t)
	db.sql.exec(`
		CREATE SCHEMA shop; CREATE SCHEMA "Odd ""one"; CREATE SCHEMA closed;
		CREATE TABLE products (id int, "Name" varchar(20), price numeric(8,2), gross numeric GENERATED ALWAYS AS (price * 2) STORED, gone int, PRIMARY KEY (id));
		ALTER TABLE products DROP gone;
		CREATE TABLE shop.products (a text, b int, c int, d int, PRIMARY KEY (c, a) INCLUDE (d));
		CREATE TABLE "Odd ""one"."It's \ %s" (id bigint);
		CREATE TABLE full_one (id int PRIMARY KEY, n int, g int GENERATED ALWAYS AS (n) STORED); ALTER TABLE full_one REPLICA IDENTITY FULL;
		CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
		CREATE TABLE by_index (id int PRIMARY KEY, code text NOT NULL UNIQUE); ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code_key;
		CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
		CREATE TABLE empty ();
		CREATE UNLOGGED TABLE fast (id int);
		CREATE VIEW cheap AS SELECT id FROM products;
		CREATE MATERIALIZED VIEW dear AS SELECT id FROM products;
		CREATE SEQUENCE numbers;
		CREATE TABLE closed.secret (id int PRIMARY KEY);
		CREATE TABLE sales (id int, day int, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
		CREATE TABLE sales_1 PARTITION OF sales FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
		CREATE TABLE sales_1a PARTITION OF sales_1 FOR VALUES FROM (0) TO (10);
		CREATE TABLE sales_2 PARTITION OF sales FOR VALUES FROM (10) TO (20);
		ALTER TABLE sales REPLICA IDENTITY FULL; ALTER TABLE sales_2 REPLICA IDENTITY FULL;
		CREATE TABLE logs (id int, day int) PARTITION BY RANGE (day);
		ALTER TABLE logs REPLICA IDENTITY FULL;
		CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM (0) TO (10);
		CREATE TABLE logs_2 PARTITION OF logs FOR VALUES FROM (10) TO (20); ALTER TABLE logs_2 REPLICA IDENTITY FULL;
		SET search_path = shop, public`)
	names := []viewlet.TableName{
		{Name: "products"},
		{Schema: "public", Name: "products"},
		{Schema: `Odd "one`, Name: `It's \ %s`},
		{Name: "full_one"},
		{Name: "nothing"},
		{Name: "by_index"},
		{Name: "deferred"},
		{Name: "empty"},
		{Name: "fast"},
		{Name: "cheap"},
		{Name: "dear"},
		{Name: "numbers"},
		{Schema: "closed", Name: "secret"},
		{Name: "sales"},
		{Name: "sales_1a"},
		{Name: "logs"},
		{Name: "logs_2"},
		{Schema: "pg_catalog", Name: "pg_class"},
		{Name: "Products"},
		{Name: "secret"},
		{Name: "public.products"},
		{Name: ""},
		{Name: "a\x00b"},
		{Schema: "nowhere", Name: "products"},
		{Name: "products_pkey"},
		{Name: strings.Repeat("x", 64)},
	}
	tables, err := Tables(t.Context(), db.sql.conn, names)
	if err != nil {
		t.Fatal(err)
	}
	gross, g := "GT", "G"
	if serverVersion(db.sql.conn) >= 18 { // a publication can have them
		gross, g = "ST", "IS"
	}
	for _, c := range []struct{ name, want string }{
		{"products", "shop.products rpd key c,a: a text IT; b integer; c integer I; d integer"},
		{"public.products", "public.products rpd key id: id integer I; Name character varying(20) T; price numeric(8,2) T; gross numeric " + gross},
		{`Odd "one.It's \ %s`, `Odd "one.It's \ %s rpd key : id bigint`},
		{"full_one", "public.full_one rpf key id: id integer I; n integer I; g integer " + g},
		{"nothing", "public.nothing rpn key id: id integer"},
		{"by_index", "public.by_index rpi key id: id integer; code text IT"},
		{"deferred", "public.deferred rpd key id: id integer"},
		{"empty", "public.empty rpd key : "},
		{"fast", "public.fast rud key : id integer"},
		{"cheap", "public.cheap vpn key : id integer"},
		{"dear", "public.dear mpd key : id integer"},
		{"numbers", "public.numbers Spn key : last_value bigint; log_cnt bigint; is_called boolean"},
		{"closed.secret", "closed.secret rpd key id: id integer I"},
		{"sales", "public.sales ppd key id,day: id integer I; day integer I; note text T"},
		{"sales_1a", "public.sales_1a rpd key id,day in public.sales: id integer I; day integer I; note text T"},
		{"logs", "public.logs ppd key : id integer; day integer"},
		{"logs_2", "public.logs_2 rpf key  in public.logs: id integer I; day integer I"},
		{"pg_catalog.pg_class", ""},
		{"Products", "absent"},
		{"secret", "absent"},
		{"", "absent"},
		{"a\x00b", "absent"},
		{"nowhere.products", "absent"},
		{"products_pkey", "absent"},
		{strings.Repeat("x", 64), "absent"},
	} {
		i := 0
		for names[i].String() != c.name {
			i++
		}
		table, found := tables[names[i]]
		switch got := describe(table); {
		case !found:
			if c.want != "absent" {
				t.Errorf("%s is absent, want %s", c.name, c.want)
			}
		case got != c.want && c.want != "":
			t.Errorf("%s\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
	if _, found := tables[viewlet.TableName{Name: "public.products"}]; found {
		t.Error("a dot in a name is taken for the end of a schema")
	}
}

// describe shows a table: name, kind, persistence and identity, its key, its
// columns with I for identity, G for generated and T for toastable.
func describe(t viewlet.Table) string {
	head := fmt.Sprintf("%s.%s %c%c%c key %s", t.Schema, t.Name, t.Kind, t.Persistence, t.Identity, strings.Join(t.PrimaryKey, ","))
	if t.Root != "" {
		head += " in " + t.Root
	}
	var columns []string
	for _, c := range t.Columns {
		flags := ""
		for _, f := range []struct {
			set  bool
			name string
		}{{c.Identity, "I"}, {c.Generated, "G"}, {c.Stored, "S"}, {c.Virtual, "V"}, {c.Toastable, "T"}} {
			if f.set {
				flags += f.name
			}
		}
		columns = append(columns, strings.TrimRight(c.Name+" "+c.Type+" "+flags, " "))
	}
	return head + ": " + strings.Join(columns, "; ")
}

// TestTablesTellWhatTheStreamSends compares the catalog's word on which old
// columns come with what does come.
func TestTablesTellWhatTheStreamSends(t *testing.T) {
	db := shared.database(t)
	db.sql.exec(`
		CREATE TABLE plain (id int PRIMARY KEY, n int);
		CREATE TABLE whole (id int PRIMARY KEY, n int); ALTER TABLE whole REPLICA IDENTITY FULL;
		CREATE TABLE by_index (id int PRIMARY KEY, n int NOT NULL UNIQUE); ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_n_key;
		CREATE TABLE mixed (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
		CREATE TABLE mixed_1 PARTITION OF mixed FOR VALUES FROM (0) TO (10);
		CREATE TABLE mixed_2 PARTITION OF mixed FOR VALUES FROM (10) TO (20); ALTER TABLE mixed_2 REPLICA IDENTITY FULL;
		ALTER TABLE mixed REPLICA IDENTITY FULL`)
	names := []string{"plain", "whole", "by_index", "mixed"}
	cfg := db.cfg()
	db.publish(t, cfg, names...)
	s := open(t, cfg, newRecorder())
	for _, table := range db.tables(t, names...) {
		db.sql.exec(fmt.Sprintf("INSERT INTO %s VALUES (1, 2); DELETE FROM %[1]s", table.Name))
		line := "delete public." + table.Name + " old"
		for i, c := range table.Columns {
			if c.Identity {
				line += fmt.Sprintf(" %s=%d", c.Name, i+1)
			}
		}
		s.want(t, "begin", fmt.Sprintf("insert public.%s new id=1 n=2", table.Name), line, "commit")
	}
}

func TestTablesOfNoNames(t *testing.T) {
	db := shared.database(t)
	tables, err := Tables(t.Context(), db.sql.conn, nil)
	if err != nil || !reflect.DeepEqual(tables, map[viewlet.TableName]viewlet.Table{}) {
		t.Errorf("Tables = %v, %v", tables, err)
	}
}

// TestTablesWithoutRights: a schema that the role may not use is no error.
func TestTablesWithoutRights(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE SCHEMA closed; CREATE TABLE closed.v (id int PRIMARY KEY); CREATE ROLE tables_nobody")
	defer db.sql.exec("RESET ROLE; DROP ROLE tables_nobody")
	db.sql.exec("SET ROLE tables_nobody")
	name := viewlet.TableName{Schema: "closed", Name: "v"}
	tables, err := Tables(t.Context(), db.sql.conn, []viewlet.TableName{name})
	if err != nil || tables[name].OID == 0 {
		t.Errorf("Tables = %v, %v", tables, err)
	}
}
