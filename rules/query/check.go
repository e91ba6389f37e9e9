package query

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/rules/hint"
)

// Fault is what is wrong with SQL[Start:End]. With a Warning the query can be
// run nevertheless.
type Fault struct {
	Start, End      int
	Warning         bool
	Summary, Detail string
}

// Faults says what can be known of a query without asking Postgres.
func (q *Query) Faults() []Fault {
	c := queryCheck{q: q, levels: []level{{query: true, empty: true}}, used: make([]bool, len(q.Params))}
	for t := range tokens(q.SQL) {
		c.token(t)
	}
	c.finish()
	return c.found
}

// level is the statement, or what stands in one pair of parentheses.
type level struct {
	open  token
	query bool // it begins as a query does
	cte   bool // it stands behind AS: WITH x AS (...)
	with  bool // it begins with WITH
	empty bool // no token yet
}

type queryCheck struct {
	q         *Query
	found     []Fault
	levels    []level
	prev      string // the token before, words in upper case
	prevCTE   bool   // the token before closed a CTE
	prevToken token
	used      []bool
	begun     bool
	begins    token // the first of the statement
	ended     bool  // a semicolon was seen
	second    bool  // a second statement was reported
	broken    bool  // the rest was eaten by a string or comment without an end
}

func (c *queryCheck) fault(t token, summary, format string, args ...any) {
	c.found = append(c.found, Fault{t.start, t.end, false, summary, fmt.Sprintf(format, args...)})
}

func (c *queryCheck) token(t token) {
	text := t.text
	if t.kind == tokenWord {
		text = strings.ToUpper(text)
	}
	if t.kind == tokenBroken {
		c.unterminated(t)
		return
	}
	if c.ended && text != ";" && !c.second {
		c.second = true
		c.fault(t, "More than one statement", "A query is one SELECT. Leave out what stands behind the semicolon, or join both with UNION or WITH.")
	}
	if !c.begun && text != ";" {
		c.begun, c.begins = true, t
		c.first(t, text)
	}
	closedCTE := false
	switch {
	case text == ";":
		c.ended = true
	case text == "(":
		c.startLevel(text)
		c.levels = append(c.levels, level{open: t, empty: true, cte: c.prev == "AS" || c.prev == "MATERIALIZED"})
	case text == ")":
		closedCTE = c.close(t)
	case t.kind == tokenParam:
		c.param(t)
	case t.kind == tokenPositional:
		c.fault(t, "Numbered parameter", "Parameters have names here: declare params = [\"id\"] and write @id instead of %s.", text)
	case t.kind == tokenWord && c.prev != "." && c.prev != "AS":
		c.word(t, text)
	}
	if text != "(" {
		c.startLevel(text)
	}
	c.prev, c.prevCTE, c.prevToken = text, closedCTE, t
}

// startLevel notes how the innermost level begins.
func (c *queryCheck) startLevel(text string) {
	in := &c.levels[len(c.levels)-1]
	if in.empty {
		in.query = in.query || startsQuery(text)
		in.with = text == "WITH"
		in.empty = false
	}
}

func startsQuery(text string) bool {
	return slices.Contains([]string{"SELECT", "WITH", "VALUES", "TABLE", "("}, text)
}

func (c *queryCheck) first(t token, text string) {
	if !startsQuery(text) {
		c.fault(t, "Not a SELECT", "A query is one SELECT (or WITH, VALUES, TABLE), for it is run again and again and must change nothing. This one begins with %s.", text)
	}
}

func (c *queryCheck) close(t token) (cte bool) {
	if len(c.levels) == 1 {
		c.fault(t, "Parenthesis without a beginning", "This parenthesis closes none.")
		return false
	}
	cte = c.levels[len(c.levels)-1].cte
	c.levels = c.levels[:len(c.levels)-1]
	return cte
}

func (c *queryCheck) word(t token, text string) {
	in := c.levels[len(c.levels)-1]
	switch text {
	case "INSERT", "UPDATE", "DELETE", "MERGE":
		if in.cte && in.empty || in.with && c.prevCTE {
			c.fault(t, "Query changes data", "A query is run again and again, and in a read-only transaction. Leave out the %s.", text)
		}
	case "INTO":
		if in.query && c.prev != "INSERT" && c.prev != "MERGE" {
			c.fault(t, "SELECT INTO", "SELECT INTO makes a table. A query only reads: leave out the INTO.")
		}
	}
	if c.prev == "FOR" && in.query && slices.Contains([]string{"UPDATE", "SHARE", "NO", "KEY"}, text) {
		t.start = c.prevToken.start
		c.fault(t, "Query locks rows", "A query only reads, in a read-only transaction. Leave out the locking clause.")
	}
}

func (c *queryCheck) param(t token) {
	name := t.text[1:]
	if i := slices.Index(c.q.Params, name); i >= 0 {
		c.used[i] = true
		return
	}
	remedy := fmt.Sprintf("Declare it: params = [%q].", name)
	if len(c.q.Params) > 0 {
		remedy = fmt.Sprintf("The params are %s.%s", hint.List(c.q.Params), hint.DidYouMean(name, c.q.Params, "@%s"))
	}
	c.fault(t, "Unknown parameter", "No param has the name %q. %s For the absolute value of a column write abs(%s).", name, remedy, name)
}

func (c *queryCheck) unterminated(t token) {
	c.broken = true
	what := "string"
	switch t.text[0] {
	case '"':
		what = "identifier"
	case '/':
		what = "comment"
	}
	end, _, _ := strings.Cut(t.text, "\n")
	t.end = t.start + len(end)
	c.fault(t, "Unterminated "+what, "This %s has no end.", what)
}

func (c *queryCheck) finish() {
	if i := strings.IndexByte(c.q.SQL, 0); i >= 0 {
		c.fault(token{start: i, end: i + 1}, "Zero byte in a query", "Postgres takes no zero bytes. Leave it out.")
	}
	if c.broken {
		return
	}
	if !c.begun {
		c.fault(token{}, "Empty query", "Write one SELECT.")
		return
	}
	for _, l := range c.levels[1:] {
		c.fault(l.open, "Parenthesis without an end", "This parenthesis is never closed.")
	}
	c.unused()
}

// unused reports the params that the query does not use: an error when it
// uses none, for then all fragments would be the same.
func (c *queryCheck) unused() {
	some := slices.Contains(c.used, true)
	for i, name := range c.q.Params {
		if c.used[i] {
			continue
		}
		at, detail := c.begins, fmt.Sprintf("Write @%s in the query where its value belongs, or leave it out of params.", name)
		if op, t := c.glued(name); op != "" {
			at, detail = t, fmt.Sprintf("To Postgres %s is one operator. Put a space before @%s if that is meant to be the param.", op, name)
		}
		c.found = append(c.found, Fault{at.start, at.end, some, "Param is not used", fmt.Sprintf("The query does not use the param %q. %s", name, detail)})
	}
}

// glued finds @name where the @ belongs to an operator, as in a<@name.
func (c *queryCheck) glued(name string) (op string, at token) {
	var prev token
	for t := range tokens(c.q.SQL) {
		if t.text == name && prev.kind == tokenOperator && prev.end == t.start && strings.HasSuffix(prev.text, "@") {
			return prev.text, token{start: prev.start, end: t.end}
		}
		prev = t
	}
	return "", token{}
}
