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
)

// Analysed is a query as Postgres understands it.
type Analysed struct {
	Tree derive.Tree // none when there is an Err
	Err  error       // a *QueryError: what is wrong with this one
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
	a := &analyst{db: db, conn: conn.PgConn(), queries: queries, all: make([]Analysed, len(queries)), types: make([][]string, len(queries))}
	if err := a.describe(ctx); err != nil {
		return nil, nil, analyseError(err)
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadWrite})
	if err != nil {
		return nil, nil, analyseError(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // closing the connection does the same
	if err := a.trees(ctx); err != nil {
		return nil, nil, analyseError(err)
	}
	var trees []derive.Tree
	for _, one := range a.all {
		trees = append(trees, one.Tree)
	}
	catalog, err := readCatalog(ctx, tx, trees)
	if err != nil {
		return nil, nil, fmt.Errorf("read the catalog: %w", err)
	}
	return a.all, catalog, nil
}

func analyseError(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "42501" || pg.Code == "25006") {
		return fmt.Errorf("analyse queries: %w; run on the primary GRANT TEMPORARY ON DATABASE ... TO the role: %w", ErrNoTemp, err)
	}
	return fmt.Errorf("analyse queries: %w", err)
}

// analyst sends what it asks of many queries at once: a round trip for each
// would take longer than the answers.
type analyst struct {
	db      *Database
	conn    *pgconn.PgConn
	queries []*rules.Query
	all     []Analysed // by query
	types   [][]string // of its params
}

// atOnce is how many queries are sent before an answer is read.
const atOnce = 100

// each sends something for each query that is right so far, and reads the
// answer, in which an error is about that one. What was sent for one query is
// not the worse for another's error.
//
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING
func (a *analyst) each(ctx context.Context, send func(*pgconn.Pipeline, int), receive func(*pgconn.Pipeline, int) error) error {
	var right []int
	for i := range a.queries {
		if a.all[i].Err == nil {
			right = append(right, i)
		}
	}
	for some := range slices.Chunk(right, atOnce) {
		if err := a.some(ctx, some, send, receive); err != nil {
			return err
		}
	}
	return nil
}

func (a *analyst) some(ctx context.Context, some []int, send func(*pgconn.Pipeline, int), receive func(*pgconn.Pipeline, int) error) (err error) {
	pipe := a.conn.StartPipeline(ctx)
	defer func() {
		if closing := pipe.Close(); err == nil {
			err = closing
		}
	}()
	for _, i := range some {
		send(pipe, i)
		pipe.SendPipelineSync()
	}
	if err := pipe.Flush(); err != nil {
		return err
	}
	for _, i := range some {
		err := receive(pipe, i)
		if wrong := (*QueryError)(nil); errors.As(err, &wrong) {
			a.all[i].Err = wrong
		} else if err != nil {
			return err
		}
		if _, err := pipe.GetResults(); err != nil {
			return err
		}
	}
	return nil
}

// describe finds the types of all queries' params.
func (a *analyst) describe(ctx context.Context) error {
	described := make([]*pgconn.StatementDescription, len(a.queries))
	var types []uint32
	err := a.each(ctx, func(pipe *pgconn.Pipeline, i int) {
		sql, _ := a.queries[i].Bind(usedArg(a.queries[i]))
		pipe.SendPrepare("", sql, nil)
	}, func(pipe *pgconn.Pipeline, i int) error {
		result, err := pipe.GetResults()
		if err != nil {
			sql, origin := a.queries[i].Bind(usedArg(a.queries[i]))
			return asQueryError(err, sql, 0, origin)
		}
		described[i] = result.(*pgconn.StatementDescription)
		types = append(types, typesIn(described[i])...)
		return nil
	})
	if err != nil {
		return err
	}
	if err := a.db.lookUpTypes(ctx, types); err != nil {
		return err
	}
	for i, sd := range described {
		if sd != nil {
			a.paramTypes(i, sd)
		}
	}
	return nil
}

func (a *analyst) paramTypes(i int, sd *pgconn.StatementDescription) {
	q, err := a.db.described(a.queries[i], sd)
	if err != nil {
		a.all[i].Err = err
		return
	}
	for n, p := range q.params {
		if !a.queries[i].Uses(n) {
			p.typ = "text"
		}
		a.types[i] = append(a.types[i], p.typ)
	}
}

const treeSQL = `SELECT prosqlbody::text FROM pg_catalog.pg_proc
	WHERE pronamespace = pg_catalog.pg_my_temp_schema() AND proname = 'viewlet_query'`

// trees makes a function of each query, reads its tree and forgets it.
func (a *analyst) trees(ctx context.Context) error {
	return a.each(ctx, func(pipe *pgconn.Pipeline, i int) {
		sql, _, _ := a.function(i)
		ask(pipe, "SAVEPOINT before")
		ask(pipe, sql)
		ask(pipe, treeSQL)
		pipe.SendPipelineSync()
		ask(pipe, "ROLLBACK TO before")
	}, func(pipe *pgconn.Pipeline, i int) error {
		err := a.tree(pipe, i)
		for range 2 { // the sync, and the rollback
			if _, failed := pipe.GetResults(); failed != nil {
				return failed
			}
		}
		return err
	})
}

func ask(pipe *pgconn.Pipeline, sql string) { pipe.SendQueryParams(sql, nil, nil, nil, textFormat) }

func (a *analyst) tree(pipe *pgconn.Pipeline, i int) error {
	if err := readResult(pipe, nil); err != nil {
		return err
	}
	if err := readResult(pipe, nil); err != nil {
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == "42501" {
			return err
		}
		sql, start, origin := a.function(i)
		return asQueryError(err, sql, start, origin)
	}
	return readResult(pipe, func(row [][]byte) (err error) {
		a.all[i].Tree, err = derive.ParseTree(string(row[0]))
		return err
	})
}

// function writes what makes a function of a query, and where in it the query
// begins.
func (a *analyst) function(i int) (sql string, start int, origin func(int) int) {
	body, origin := a.queries[i].Bind(func(i int) string { return "$" + strconv.Itoa(i+1) })
	before := "CREATE FUNCTION pg_temp.viewlet_query(" + strings.Join(a.types[i], ", ") + ") RETURNS SETOF record BEGIN ATOMIC "
	return before + body + "; END", len(before), origin
}
