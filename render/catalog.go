package render

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cdc-viewlet/cdc-viewlet/derive"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// cataloguer reads what Postgres's catalog says of all that trees refer to.
type cataloguer struct {
	tx      pgx.Tx
	catalog *derive.Catalog
}

// readCatalog reads what the catalog says of everything in the trees, and in
// those of the views that they read.
func readCatalog(ctx context.Context, tx pgx.Tx, trees []derive.Tree) (*derive.Catalog, error) {
	c := cataloguer{tx: tx, catalog: &derive.Catalog{
		Relations: map[uint32]*derive.Relation{}, Functions: map[uint32]*derive.Function{}, Operators: map[uint32]*derive.Operator{},
		Bases: map[uint32]uint32{}, Types: map[uint32]string{}, Elements: map[uint32]uint32{},
		Enums: map[uint32]bool{}, Loose: map[uint32]bool{},
	}}
	var all derive.OIDs
	for len(trees) > 0 {
		oids := derive.References(trees...)
		all.Functions = append(all.Functions, oids.Functions...)
		all.Operators = append(all.Operators, oids.Operators...)
		all.Types = append(all.Types, oids.Types...)
		fresh := slices.DeleteFunc(oids.Relations, func(oid uint32) bool { return c.catalog.Relations[oid] != nil })
		var err error
		if trees, err = c.relations(ctx, fresh); err != nil {
			return nil, err
		}
	}
	if err := c.functions(ctx, all.Functions); err != nil {
		return nil, err
	}
	if err := c.operators(ctx, all.Operators); err != nil {
		return nil, err
	}
	for _, op := range c.catalog.Operators {
		all.Types = append(all.Types, op.Left, op.Right)
	}
	if err := c.types(ctx, all.Types); err != nil {
		return nil, err
	}
	return c.catalog, c.collations(ctx)
}

const relationsSQL = `WITH RECURSIVE heirs(root, oid) AS (
		SELECT inhparent, inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = ANY($1)
		UNION SELECT h.root, i.inhrelid FROM pg_catalog.pg_inherits i JOIN heirs h ON i.inhparent = h.oid),
	below AS (
		SELECT h.root, n.nspname AS schema, b.relname AS name, b.relkind AS kind, b.relpersistence AS persistence, b.relispartition AS part
		FROM heirs h JOIN pg_catalog.pg_class b USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = b.relnamespace)
	SELECT c.oid, n.nspname, c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname),
		c.relkind, c.relpersistence, n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast'), c.relrowsecurity,
		coalesce((SELECT ev_action::text FROM pg_catalog.pg_rewrite WHERE ev_class = c.oid AND rulename = '_RETURN' AND c.relkind = 'v'), ''),
		coalesce(rn.nspname, ''), coalesce(r.relname, ''),
		ARRAY(SELECT unnest(ARRAY[schema, name]::text[]) FROM below WHERE root = c.oid AND NOT part AND kind = 'r' AND persistence = 'p'),
		ARRAY(SELECT unnest(ARRAY[schema, name, kind, persistence]::text[]) FROM below WHERE root = c.oid AND (kind = 'f' OR persistence = 'u'))
	FROM pg_catalog.pg_class c
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	LEFT JOIN pg_catalog.pg_class r ON c.relispartition AND r.oid = pg_catalog.pg_partition_root(c.oid)
	LEFT JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
	WHERE c.oid = ANY($1)`

// relations reads tables and views, and gives the trees of the views.
func (c *cataloguer) relations(ctx context.Context, oids []uint32) (trees []derive.Tree, err error) {
	rows, err := c.tx.Query(ctx, relationsSQL, oids)
	if err != nil {
		return nil, err
	}
	var (
		oid           uint32
		kind          [2]string
		view          string
		heirs, unseen []string
	)
	r := &derive.Relation{}
	_, err = pgx.ForEachRow(rows, []any{
		&oid, &r.Schema, &r.Name, &r.SQL, &kind[0], &kind[1], &r.System, &r.RowSecurity,
		&view, &r.Root.Schema, &r.Root.Name, &heirs, &unseen,
	}, func() error {
		one := *r
		one.Kind, one.Persistence = kind[0][0], kind[1][0]
		if view != "" && !one.System {
			if one.View, err = derive.ParseTree(view); err != nil {
				return fmt.Errorf("view %s: %w", one.SQL, err)
			}
			trees = append(trees, one.View)
		}
		for pair := range slices.Chunk(heirs, 2) {
			one.Heirs = append(one.Heirs, viewlet.TableName{Schema: pair[0], Name: pair[1]})
		}
		for part := range slices.Chunk(unseen, 4) {
			one.Unseen = append(one.Unseen, &derive.Relation{
				TableName: viewlet.TableName{Schema: part[0], Name: part[1]}, Kind: part[2][0], Persistence: part[3][0],
			})
		}
		c.catalog.Relations[oid] = &one
		return nil
	})
	if err != nil {
		return nil, err
	}
	return trees, c.columns(ctx, oids)
}

// typeSQL writes a type so that a cast to it cuts nothing off: without the -1,
// bpchar would be character, which holds one, and an array of it one in each.
func typeSQL(oid string) string { return "pg_catalog.format_type(" + oid + ", -1)" }

// columnsSQL takes a NOT NULL for one only where rows without it cannot be: a
// table that inherits may be without, and one that is NOT VALID was put on rows
// that may be there already.
var columnsSQL = `SELECT attrelid, CASE WHEN attisdropped THEN '' ELSE attname END, quote_ident(attname), ` + typeSQL("atttypid") + `,
		coalesce((SELECT quote_ident(n.nspname) || '.' || quote_ident(l.collname) FROM pg_catalog.pg_collation l
			JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace WHERE l.oid = attcollation AND l.oid <> 'pg_catalog.default'::regcollation), ''),
		EXISTS (SELECT FROM pg_catalog.pg_type WHERE oid = atttypid AND typarray = 0),
		attnotnull AND attrelid NOT IN (SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhparent AND c.relkind = 'r')
			AND attrelid NOT IN (SELECT unnest(conrelid || ARRAY(SELECT pg_catalog.pg_partition_ancestors(conrelid)::oid))
				FROM pg_catalog.pg_constraint WHERE contype = 'n' AND NOT convalidated),
		attgenerated <> ''
	FROM pg_catalog.pg_attribute WHERE attrelid = ANY($1) AND attnum > 0 ORDER BY attrelid, attnum`

func (c *cataloguer) columns(ctx context.Context, oids []uint32) error {
	rows, err := c.tx.Query(ctx, columnsSQL, oids)
	if err != nil {
		return err
	}
	var oid uint32
	var col derive.Column
	_, err = pgx.ForEachRow(rows, []any{&oid, &col.Name, &col.SQL, &col.Type, &col.Collation, &col.Single, &col.NotNull, &col.Generated}, func() error {
		c.catalog.Relations[oid].Columns = append(c.catalog.Relations[oid].Columns, col)
		return nil
	})
	return err
}

func (c *cataloguer) functions(ctx context.Context, oids []uint32) error {
	rows, err := c.tx.Query(ctx, `SELECT p.oid, n.nspname, p.proname,
			CASE WHEN n.nspname = 'pg_catalog' THEN '' ELSE quote_ident(n.nspname) || '.' END || quote_ident(p.proname),
			p.provolatile, p.proisstrict,
			CASE WHEN n.nspname = 'pg_catalog' THEN ''
				ELSE pg_catalog.md5(pg_catalog.concat_ws(' ', p.prolang, p.proisstrict, p.provolatile, p.proconfig, p.probin, p.prosrc, p.prosqlbody)) END
		FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = ANY($1)`, oids)
	if err != nil {
		return err
	}
	var oid uint32
	var f derive.Function
	var volatility string
	_, err = pgx.ForEachRow(rows, []any{&oid, &f.Schema, &f.Name, &f.SQL, &volatility, &f.Strict, &f.Definition}, func() error {
		one := f
		one.Volatility = volatility[0]
		c.catalog.Functions[oid] = &one
		return nil
	})
	return err
}

// operatorsSQL asks for btree's and hash's equality by their strategy numbers.
//
// https://www.postgresql.org/docs/current/xindex.html#XINDEX-STRATEGIES
var operatorsSQL = `SELECT o.oid, n.nspname, o.oprname, o.oprleft, o.oprright,
	CASE WHEN l.typtype = 'p' THEN '' ELSE ` + typeSQL("o.oprleft") + ` END, CASE WHEN r.typtype = 'p' THEN '' ELSE ` + typeSQL("o.oprright") + ` END, EXISTS (
		SELECT FROM pg_catalog.pg_amop a JOIN pg_catalog.pg_am m ON m.oid = a.amopmethod
		WHERE a.amopopr = o.oid AND (m.amname, a.amopstrategy) IN (('btree', 3), ('hash', 1)))
	FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
	LEFT JOIN pg_catalog.pg_type l ON l.oid = o.oprleft LEFT JOIN pg_catalog.pg_type r ON r.oid = o.oprright WHERE o.oid = ANY($1)`

func (c *cataloguer) operators(ctx context.Context, oids []uint32) error {
	rows, err := c.tx.Query(ctx, operatorsSQL, oids)
	if err != nil {
		return err
	}
	var oid uint32
	var op derive.Operator
	_, err = pgx.ForEachRow(rows, []any{&oid, &op.Schema, &op.Name, &op.Left, &op.Right, &op.LeftType, &op.RightType, &op.Equality}, func() error {
		one := op
		c.catalog.Operators[oid] = &one
		return nil
	})
	return err
}

// namedTypesSQL reads types, what domains are made from, and what arrays are of.
var namedTypesSQL = `WITH RECURSIVE asked(oid) AS (
		SELECT oid FROM pg_catalog.pg_type WHERE oid = ANY($1)
		UNION SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END
		FROM asked JOIN pg_catalog.pg_type t USING (oid) WHERE t.typtype = 'd' OR t.typcategory = 'A' AND t.typelem <> 0),
	made(oid, base) AS (
		SELECT oid, oid FROM asked
		UNION SELECT made.oid, t.typbasetype FROM made JOIN pg_catalog.pg_type t ON t.oid = made.base WHERE t.typtype = 'd')
	SELECT made.oid, made.base, ` + typeSQL("made.oid") + `, CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END, t.typtype = 'e'
	FROM made JOIN pg_catalog.pg_type t ON t.oid = made.base AND t.typtype <> 'd'`

func (c *cataloguer) types(ctx context.Context, oids []uint32) error {
	rows, err := c.tx.Query(ctx, namedTypesSQL, oids)
	if err != nil {
		return err
	}
	var oid, base, element uint32
	var name string
	var enum bool
	_, err = pgx.ForEachRow(rows, []any{&oid, &base, &name, &element, &enum}, func() error {
		c.catalog.Bases[oid], c.catalog.Types[oid] = base, name
		if element != 0 {
			c.catalog.Elements[base] = element
		}
		if enum {
			c.catalog.Enums[base] = true
		}
		return nil
	})
	return err
}

func (c *cataloguer) collations(ctx context.Context) error {
	rows, err := c.tx.Query(ctx, "SELECT oid FROM pg_catalog.pg_collation WHERE NOT collisdeterministic")
	if err != nil {
		return err
	}
	var oid uint32
	_, err = pgx.ForEachRow(rows, []any{&oid}, func() error {
		c.catalog.Loose[oid] = true
		return nil
	})
	return err
}
