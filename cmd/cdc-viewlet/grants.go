package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

// attribute is a query of the rules, and where it stands.
type attribute struct {
	name, attr string // of a viewlet or lookup
	query      *rules.Query
}

func queriesOf(set *rules.Set) []attribute {
	var all []attribute
	for _, v := range set.Viewlets {
		all = append(all, attribute{v.Name, "query", v.Query})
		if v.All != nil {
			all = append(all, attribute{v.Name, "all", v.All})
		}
	}
	for _, l := range set.Lookups {
		all = append(all, attribute{l.Name, "query", l.Query})
	}
	return all
}

// grants finds the queries that the role may not run: Postgres looks at rights
// when a query starts, and not when it is prepared. EXPLAIN starts one and goes
// no further. What else may be wrong with a query is found elsewhere.
//
// https://www.postgresql.org/docs/current/sql-explain.html
func grants(ctx context.Context, conn *pgconn.PgConn, set *rules.Set) (rules.Diagnostics, error) {
	queries := queriesOf(set)
	pipe := conn.StartPipeline(ctx)
	for _, q := range queries {
		sql, _ := q.query.Bind(func(param int) string { return "$" + strconv.Itoa(param+1) })
		pipe.SendQueryParams("EXPLAIN "+sql, make([][]byte, len(q.query.Params)), nil, nil, nil)
		pipe.SendPipelineSync() // so that an error ends nothing else
	}
	err := pipe.Flush()
	type told struct{ where, detail string }
	once := map[told]bool{} // a viewlet's all reads what its query reads, and so do lookups that come from it
	var diags rules.Diagnostics
	for i := 0; err == nil && i < len(queries); i++ {
		var refusal *pgconn.PgError
		if refusal, err = explained(pipe); refusal != nil {
			detail := sentence(fmt.Sprintf("Postgres says: %s (SQLSTATE %s)", refusal.Message, refusal.Code))
			if sql := grant(refusal.Message, pgx.Identifier{conn.ParameterStatus("session_authorization")}.Sanitize()); sql != "" {
				detail += " Let the role read it: " + sql
			}
			problem := set.Problem(queries[i].name, queries[i].attr, -1, rules.Error, "The role may not run this query", detail)
			inBlock, there := told{queries[i].name, detail}, told{problem.Subject.String(), detail}
			if !once[inBlock] && !once[there] {
				diags = append(diags, problem)
			}
			once[inBlock], once[there] = true, true
		}
	}
	if closing := pipe.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the role's rights: %w", err)
	}
	return diags, nil
}

// explained reads the answer to one EXPLAIN and the sync behind it; nil when the
// role may run the query.
func explained(pipe *pgconn.Pipeline) (refusal *pgconn.PgError, err error) {
	for {
		result, err := pipe.GetResults()
		var pg *pgconn.PgError
		switch rr := result.(type) {
		case *pgconn.PipelineSync:
			return refusal, nil
		case *pgconn.ResultReader:
			_, err = rr.Close()
		case nil:
			if err == nil {
				return refusal, errors.New("the server answered too little")
			}
		}
		switch {
		case errors.As(err, &pg) && pg.Code == insufficientPrivilege:
			refusal = pg
		case err != nil && pg == nil:
			return refusal, err
		}
	}
}
