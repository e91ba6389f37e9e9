package render

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cdc-viewlet/cdc-viewlet/derive"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Analysed is a query as Postgres understands it.
type Analysed struct {
	Tree string // what derive reads; empty when there is an Err
	Err  error  // a *QueryError: what is wrong with this one
}

// ErrNoTemp is for a role that may not create what Analyse needs, and drops
// again. Its message has the remedy.
var ErrNoTemp = errors.New("the role may not create temporary objects, which reading what a query depends on needs for a moment")

// Analyse lets Postgres analyse the queries, and reads what its catalog says of
// all that they refer to. It makes a temporary function of each query in a
// transaction that it rolls back, on a connection of its own. The n-th of a
// query's params is $n in its tree.
//
// An error says that none could be analysed: ErrNoTemp, or the world's fault.
//
// https://www.postgresql.org/docs/current/sql-createfunction.html
func (db *Database) Analyse(ctx context.Context, queries ...*rules.Query) ([]Analysed, *derive.Catalog, error) {
	conn, err := pgx.ConnectConfig(ctx, db.pool.Config().ConnConfig.Copy())
	if err != nil {
		return nil, nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadWrite})
	if err != nil {
		return nil, nil, analyseError(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // closing the connection does the same
	a := &analyst{db: db, tx: tx}
	all := make([]Analysed, len(queries))
	var trees []string
	for i, q := range queries {
		all[i].Tree, err = a.tree(ctx, q)
		var wrong *QueryError
		if errors.As(err, &wrong) {
			all[i].Err = wrong
		} else if err != nil {
			return nil, nil, analyseError(err)
		} else {
			trees = append(trees, all[i].Tree)
		}
	}
	catalog, err := a.read(ctx, trees)
	if err != nil {
		return nil, nil, fmt.Errorf("read the catalog: %w", err)
	}
	return all, catalog, nil
}

func analyseError(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "42501" || pg.Code == "25006") {
		return fmt.Errorf("analyse queries: %w; run on the primary GRANT TEMPORARY ON DATABASE ... TO the role: %w", ErrNoTemp, err)
	}
	return fmt.Errorf("analyse queries: %w", err)
}

type analyst struct {
	db *Database
	tx pgx.Tx
}

// tree makes a function of the query, reads its tree and forgets it.
func (a *analyst) tree(ctx context.Context, q *rules.Query) (tree string, err error) {
	d, err := a.db.describe(ctx, q)
	if err != nil {
		return "", err
	}
	types := make([]string, len(d.params))
	for i, p := range d.params {
		if types[i] = p.typ; !q.Uses(i) {
			types[i] = "text"
		}
	}
	point, err := a.tx.Begin(ctx)
	if err != nil {
		return "", err
	}
	defer func() {
		if back := point.Rollback(ctx); err == nil {
			err = back
		}
	}()
	body, origin := q.Bind(func(i int) string { return "$" + strconv.Itoa(i+1) })
	before := "CREATE FUNCTION pg_temp.viewlet_query(" + strings.Join(types, ", ") + ") RETURNS SETOF record BEGIN ATOMIC "
	if _, err := a.tx.Exec(ctx, before+body+"; END"); err != nil {
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code == "42501" || faultOf(err) == faultOfWorld {
			return "", err
		}
		offset := -1
		if at := rules.Offset(before+body, int(pg.Position)); at >= len(before) {
			offset = origin(at - len(before))
		}
		return "", &QueryError{Err: err, Offset: offset}
	}
	err = a.tx.QueryRow(ctx, `SELECT prosqlbody::text FROM pg_catalog.pg_proc
		WHERE pronamespace = pg_catalog.pg_my_temp_schema() AND proname = 'viewlet_query'`).Scan(&tree)
	return tree, err
}

// read reads what the catalog says of everything in the trees, and in those of
// the views that they read.
func (a *analyst) read(ctx context.Context, trees []string) (*derive.Catalog, error) {
	c := &derive.Catalog{
		Relations: map[uint32]*derive.Relation{}, Functions: map[uint32]*derive.Function{}, Operators: map[uint32]*derive.Operator{},
		Bases: map[uint32]uint32{}, Enums: map[uint32]bool{}, Loose: map[uint32]bool{},
	}
	var all derive.OIDs
	for len(trees) > 0 {
		oids, err := derive.References(trees...)
		if err != nil {
			return nil, err
		}
		all.Functions = append(all.Functions, oids.Functions...)
		all.Operators = append(all.Operators, oids.Operators...)
		all.Types = append(all.Types, oids.Types...)
		fresh := slices.DeleteFunc(oids.Relations, func(oid uint32) bool { return c.Relations[oid] != nil })
		if trees, err = a.relations(ctx, c, fresh); err != nil {
			return nil, err
		}
	}
	if err := a.functions(ctx, c, all.Functions); err != nil {
		return nil, err
	}
	if err := a.operators(ctx, c, all.Operators); err != nil {
		return nil, err
	}
	for _, op := range c.Operators {
		all.Types = append(all.Types, op.Left, op.Right)
	}
	if err := a.types(ctx, c, all.Types); err != nil {
		return nil, err
	}
	return c, a.collations(ctx, c)
}

const relationsSQL = `SELECT c.oid, n.nspname, c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname),
		c.relkind, c.relpersistence, n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast'), c.relrowsecurity,
		coalesce((SELECT ev_action::text FROM pg_catalog.pg_rewrite WHERE ev_class = c.oid AND rulename = '_RETURN' AND c.relkind = 'v'), ''),
		coalesce(rn.nspname, ''), coalesce(r.relname, ''),
		ARRAY(WITH RECURSIVE heirs(oid) AS (
				SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = c.oid AND c.relkind = 'r'
				UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN heirs h ON i.inhparent = h.oid)
			SELECT unnest(ARRAY[hn.nspname, h.relname]::text[])
			FROM heirs JOIN pg_catalog.pg_class h USING (oid) JOIN pg_catalog.pg_namespace hn ON hn.oid = h.relnamespace)
	FROM pg_catalog.pg_class c
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	LEFT JOIN pg_catalog.pg_class r ON c.relispartition AND r.oid = pg_catalog.pg_partition_root(c.oid)
	LEFT JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
	WHERE c.oid = ANY($1)`

// relations reads tables and views, and gives the trees of the views.
func (a *analyst) relations(ctx context.Context, c *derive.Catalog, oids []uint32) (trees []string, err error) {
	rows, err := a.tx.Query(ctx, relationsSQL, oids)
	if err != nil {
		return nil, err
	}
	var (
		oid   uint32
		kind  [2]string
		heirs []string
	)
	r := &derive.Relation{}
	_, err = pgx.ForEachRow(rows, []any{
		&oid, &r.Schema, &r.Name, &r.SQL, &kind[0], &kind[1], &r.System, &r.RowSecurity,
		&r.View, &r.Root.Schema, &r.Root.Name, &heirs,
	}, func() error {
		one := *r
		one.Kind, one.Persistence = kind[0][0], kind[1][0]
		for pair := range slices.Chunk(heirs, 2) {
			one.Heirs = append(one.Heirs, viewlet.TableName{Schema: pair[0], Name: pair[1]})
		}
		if c.Relations[oid] = &one; one.View != "" && !one.System {
			trees = append(trees, one.View)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return trees, a.columns(ctx, c, oids)
}

// columnsSQL writes types so that a cast to them cuts nothing off: character
// alone is character(1).
const columnsSQL = `SELECT attrelid, CASE WHEN attisdropped THEN '' ELSE attname END, quote_ident(attname),
		CASE WHEN atttypid IN ('pg_catalog.bpchar'::regtype, 'pg_catalog.bit'::regtype)
			THEN 'pg_catalog.' || (SELECT quote_ident(typname) FROM pg_catalog.pg_type WHERE oid = atttypid)
			ELSE pg_catalog.format_type(atttypid, NULL) END,
		attnotnull, attgenerated <> ''
	FROM pg_catalog.pg_attribute WHERE attrelid = ANY($1) AND attnum > 0 ORDER BY attrelid, attnum`

func (a *analyst) columns(ctx context.Context, c *derive.Catalog, oids []uint32) error {
	rows, err := a.tx.Query(ctx, columnsSQL, oids)
	if err != nil {
		return err
	}
	var oid uint32
	var col derive.Column
	_, err = pgx.ForEachRow(rows, []any{&oid, &col.Name, &col.SQL, &col.Type, &col.NotNull, &col.Generated}, func() error {
		c.Relations[oid].Columns = append(c.Relations[oid].Columns, col)
		return nil
	})
	return err
}

func (a *analyst) functions(ctx context.Context, c *derive.Catalog, oids []uint32) error {
	rows, err := a.tx.Query(ctx, `SELECT p.oid, n.nspname, p.proname, p.provolatile,
			CASE WHEN n.nspname = 'pg_catalog' THEN '' ELSE pg_catalog.md5(p.prosrc || coalesce(p.prosqlbody::text, '')) END
		FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = ANY($1)`, oids)
	if err != nil {
		return err
	}
	var oid uint32
	var f derive.Function
	var volatility string
	_, err = pgx.ForEachRow(rows, []any{&oid, &f.Schema, &f.Name, &volatility, &f.Definition}, func() error {
		one := f
		one.Volatility = volatility[0]
		c.Functions[oid] = &one
		return nil
	})
	return err
}

// operatorsSQL asks for btree's and hash's equality by their strategy numbers.
//
// https://www.postgresql.org/docs/current/xindex.html#XINDEX-STRATEGIES
const operatorsSQL = `SELECT o.oid, n.nspname, o.oprname, o.oprleft, o.oprright, EXISTS (
		SELECT FROM pg_catalog.pg_amop a JOIN pg_catalog.pg_am m ON m.oid = a.amopmethod
		WHERE a.amopopr = o.oid AND (m.amname, a.amopstrategy) IN (('btree', 3), ('hash', 1)))
	FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid = ANY($1)`

func (a *analyst) operators(ctx context.Context, c *derive.Catalog, oids []uint32) error {
	rows, err := a.tx.Query(ctx, operatorsSQL, oids)
	if err != nil {
		return err
	}
	var oid uint32
	var op derive.Operator
	_, err = pgx.ForEachRow(rows, []any{&oid, &op.Schema, &op.Name, &op.Left, &op.Right, &op.Equality}, func() error {
		one := op
		c.Operators[oid] = &one
		return nil
	})
	return err
}

const basesSQL = `WITH RECURSIVE made(oid, base) AS (
		SELECT oid, oid FROM pg_catalog.pg_type WHERE oid = ANY($1)
		UNION SELECT made.oid, t.typbasetype FROM made JOIN pg_catalog.pg_type t ON t.oid = made.base WHERE t.typtype = 'd')
	SELECT made.oid, made.base, t.typtype = 'e' FROM made JOIN pg_catalog.pg_type t ON t.oid = made.base AND t.typtype <> 'd'`

func (a *analyst) types(ctx context.Context, c *derive.Catalog, oids []uint32) error {
	rows, err := a.tx.Query(ctx, basesSQL, oids)
	if err != nil {
		return err
	}
	var oid, base uint32
	var enum bool
	_, err = pgx.ForEachRow(rows, []any{&oid, &base, &enum}, func() error {
		c.Bases[oid] = base
		if enum {
			c.Enums[base] = true
		}
		return nil
	})
	return err
}

func (a *analyst) collations(ctx context.Context, c *derive.Catalog) error {
	rows, err := a.tx.Query(ctx, "SELECT oid FROM pg_catalog.pg_collation WHERE NOT collisdeterministic")
	if err != nil {
		return err
	}
	var oid uint32
	_, err = pgx.ForEachRow(rows, []any{&oid}, func() error {
		c.Loose[oid] = true
		return nil
	})
	return err
}
