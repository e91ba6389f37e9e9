package replication

import (
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// A shape is another one after whatever changes rows without a change in the
// stream, and stays as it is otherwise.
func TestShapes(t *testing.T) {
	db := shared.database(t)
	db.sql.exec(`
		CREATE TYPE mood AS ENUM ('good', 'bad');
		CREATE TABLE v (id int PRIMARY KEY, n int, s varchar(10), m mood);
		INSERT INTO v SELECT i, i, 's', 'good' FROM generate_series(1, 100) i;
		CREATE TABLE sales (id int, day int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
		CREATE TABLE sales_1 PARTITION OF sales FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
		CREATE TABLE sales_1a PARTITION OF sales_1 FOR VALUES FROM (0) TO (10);
		CREATE TABLE sales_2 (id int NOT NULL, day int NOT NULL, PRIMARY KEY (id, day));
		CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent); CREATE TABLE orphan (id int);
		CREATE TABLE empty ()`)
	names := []viewlet.TableName{{Name: "v"}, {Name: "sales"}, {Name: "parent"}, {Name: "empty"}}
	read := func() map[viewlet.TableName]string {
		t.Helper()
		tables, err := Tables(t.Context(), db.sql.conn, names)
		if err != nil {
			t.Fatal(err)
		}
		var list []viewlet.Table
		for _, table := range tables {
			list = append(list, table)
		}
		shapes, err := Shapes(t.Context(), db.sql.conn, list)
		if err != nil {
			t.Fatal(err)
		}
		found := map[viewlet.TableName]string{}
		for name, table := range tables {
			if found[name] = shapes[table.OID]; found[name] == "" {
				t.Errorf("%s has no shape", name)
			}
		}
		return found
	}
	was := read()
	for _, c := range []struct{ sql, changed string }{
		{"ALTER TABLE v ADD c int", "v"},
		{"ALTER TABLE v RENAME c TO d", "v"},
		{"ALTER TABLE v ADD r float DEFAULT random()", "v"},
		{"ALTER TABLE v DROP d", "v"},
		{"ALTER TABLE v ALTER n TYPE bigint", "v"},
		{"ALTER TABLE v ALTER n TYPE bigint USING -n", "v"},
		{"ALTER TABLE v ALTER s TYPE varchar(20)", "v"},
		{"DROP TABLE v; CREATE TABLE v (id int PRIMARY KEY, n int)", "v"},
		{"ALTER TABLE sales ATTACH PARTITION sales_2 FOR VALUES FROM (10) TO (20)", "sales"},
		{"TRUNCATE sales_1a", "sales"},
		{"TRUNCATE sales_2", "sales"},
		{"CREATE TABLE sales_1b PARTITION OF sales_1 FOR VALUES FROM (10) TO (20)", "sales"},
		{"ALTER TABLE sales_1 DETACH PARTITION sales_1b", "sales"},
		{"ALTER TABLE sales DETACH PARTITION sales_1", "sales"},
		{"DROP TABLE sales_2", "sales"},
		{"ALTER TABLE orphan INHERIT parent", "parent"},
		{"ALTER TABLE child NO INHERIT parent", "parent"},
		{"ALTER TABLE v ALTER n SET DEFAULT 1, ALTER n SET STATISTICS 10, ALTER n SET NOT NULL", ""},
		{"CREATE INDEX ON v (n)", ""},
		{"INSERT INTO v VALUES (1, 1); ANALYZE v", ""},
		{"GRANT SELECT ON v TO public", ""},
		{"ALTER TABLE v REPLICA IDENTITY FULL", ""},
	} {
		db.sql.exec(c.sql)
		is := read()
		for _, n := range names {
			if changed := is[n] != was[n]; changed != (n.Name == c.changed) {
				t.Errorf("%s: the shape of %s has changed: %t", c.sql, n, changed)
			}
		}
		was = is
	}
}
