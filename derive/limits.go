package derive

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Limit is something on which a viewlet's fragments depend and that no derived
// rule follows: what it is, why, and what to write instead.
type Limit struct {
	Table  viewlet.TableName // zero: it is no table's
	Name   string            // of a function, or of what SQL calls it; empty: it is none's
	Params []string          // those that a row of Table cannot name; nil: it is about something else
	Reason string
	Remedy string
}

// String gives the reason and the remedy, two sentences.
func (l Limit) String() string { return l.Reason + " " + l.Remedy }

// limits gathers them while a query is read.
type limits struct {
	catalog *Catalog
	all     []Limit
	unseen  map[*Relation]bool // the stream does not tell of their changes
}

func (l *limits) add(limit Limit) {
	same := func(o Limit) bool { return o.Table == limit.Table && o.Name == limit.Name && o.Reason == limit.Reason }
	if !slices.ContainsFunc(l.all, same) {
		l.all = append(l.all, limit)
	}
}

// relation checks a table as the query reads it.
func (l *limits) relation(r *Relation, rte *node) {
	if why := r.unseen(); why != "" {
		l.unseen[r] = true
		l.add(Limit{Table: r.TableName, Reason: fmt.Sprintf("%s %s.", r, why), Remedy: unseenRemedy(r)})
	}
	for _, part := range r.Unseen {
		if rte.flag("inh") {
			l.add(Limit{Table: part.TableName, Reason: fmt.Sprintf("%s is read with %s, and %s.", part, r, part.unseen()), Remedy: unseenRemedy(part)})
		}
	}
	if r.RowSecurity {
		l.add(Limit{
			Table: r.TableName, Reason: fmt.Sprintf("Row-level security decides which rows of %s are seen, and what its policies read is not followed.", r),
			Remedy: "Render as a role with BYPASSRLS, or give the fragments a timeout.",
		})
	}
	if rte.get("tablesample").kind != isNull {
		l.add(Limit{
			Table: r.TableName, Name: "TABLESAMPLE", Reason: fmt.Sprintf("TABLESAMPLE gives other rows of %s whenever it is asked.", r),
			Remedy: "Give the fragments a timeout.",
		})
	}
}

// unseen says why the stream does not tell of the relation's changes; empty: it
// does.
func (r *Relation) unseen() string {
	switch {
	case r.System:
		return "is a system catalog, whose changes the stream does not carry"
	case r.Kind == 'm':
		return "is a materialized view: what REFRESH changes in it, the stream does not carry"
	case r.Kind == 'f':
		return "is a foreign table, whose changes its own server has"
	case r.Kind != 'r' && r.Kind != 'p':
		return "is neither a table nor a view, and the stream does not carry its changes"
	case r.Persistence == 'u':
		return "is an unlogged table, whose changes are in no stream"
	case r.Persistence == 't':
		return "is a temporary table, whose changes are in no stream"
	}
	return ""
}

// The columns that each table has.
//
// https://www.postgresql.org/docs/current/ddl-system-columns.html
var systemColumns = map[int]string{-1: "ctid", xminColumn: "xmin", -3: "cmin", -4: "xmax", -5: "cmax", tableOID: "tableoid"}

const (
	xminColumn = -2
	tableOID   = -6
)

// system checks a column that is not the table's own. An UPDATE gives a row
// another xmin; the others change without any.
func (l *limits) system(r *Relation, column int) {
	if column == xminColumn || column == tableOID {
		return
	}
	l.add(Limit{
		Name: systemColumns[column], Reason: fmt.Sprintf("The %s of a row of %s changes without the row's changing.", systemColumns[column], r),
		Remedy: "Leave it out, or give the fragments a timeout.",
	})
}

func unseenRemedy(r *Relation) string {
	if r.Kind == 'm' {
		return "Send pg_logical_emit_message(true, 'cdc-viewlet', 'NAME:*') in the transaction that refreshes it, or give the fragments a timeout."
	}
	return fmt.Sprintf("Give the fragments a timeout, or write ignore = [%s] where it does not matter.", quoteHCL(TableLabel(r.TableName)))
}

// expression checks one node of an expression.
func (l *limits) expression(n *node) {
	switch {
	case n.is("SQLVALUEFUNCTION"):
		l.sqlValue(n.int("op"))
	case n.is("NEXTVALUEEXPR"):
		l.function("nextval")
	}
	for _, name := range functionFields {
		if oid := n.oid(name); oid != 0 {
			l.call(oid)
		}
	}
	if op := l.catalog.Operators[n.oid("opno")]; op == nil && n.oid("opno") != 0 {
		l.function("an operator that is not in the catalog")
	}
}

// call checks a function by what pg_proc says of it. An immutable one reads no
// table: that is what the word promises.
//
// https://www.postgresql.org/docs/current/xfunc-volatility.html
func (l *limits) call(oid uint32) {
	f := l.catalog.Functions[oid]
	switch {
	case f == nil:
		l.function("a function that is not in the catalog")
	case f.Volatility == 'i':
	case f.Schema == "pg_catalog" && f.Volatility == 's' && stableEnough[f.Name]:
	case f.Schema == "pg_catalog":
		l.function(f.Name)
	default:
		l.add(Limit{
			Name: f.Schema + "." + f.Name, Reason: fmt.Sprintf("The function %s.%s is not immutable, and may read tables that are not followed.", f.Schema, f.Name),
			Remedy: fmt.Sprintf("Declare it IMMUTABLE if it reads nothing. If it does, write table blocks for that and ignore = [%q], or give the fragments a timeout.", f.Schema+"."+f.Name),
		})
	}
}

func (l *limits) function(name string) {
	l.add(Limit{
		Name: name, Reason: fmt.Sprintf("The result of %s changes without any row's changing.", name),
		Remedy: "Give the fragments a timeout, or make it a param.",
	})
}

// sqlValue checks CURRENT_DATE and its like, by SQLValueFunctionOp in
// Postgres's primnodes.h. The database's name stays what it is.
func (l *limits) sqlValue(op int) {
	names := strings.Fields("CURRENT_DATE CURRENT_TIME CURRENT_TIME CURRENT_TIMESTAMP CURRENT_TIMESTAMP LOCALTIME LOCALTIME " +
		"LOCALTIMESTAMP LOCALTIMESTAMP CURRENT_ROLE CURRENT_USER USER SESSION_USER - CURRENT_SCHEMA")
	switch {
	case op >= len(names):
		l.function("an SQL value function that is not known")
	case names[op] != "-":
		l.function(names[op])
	}
}

// moments are texts that are read as the time when the query is analysed, which
// leaves no trace in the tree.
//
// https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-DATETIME-SPECIAL-VALUES
var moments = regexp.MustCompile(`(?i)'\s*(now|today|tomorrow|yesterday)\b[^']*'`)

func (l *limits) moment(q Query) {
	said := moments.FindString(q.SQL)
	if said == "" {
		return
	}
	q.Tree.root.walk(func(n *node) bool {
		switch n.oid("consttype") {
		case dateType, timeType, timetzType, timestampType, timestamptzType:
			l.function(said)
		}
		return true
	})
}

// stableEnough are the functions of Postgres that are stable because settings
// decide what they give, and not immutable: settings are the same for every
// session that renders.
var stableEnough = wordSet(`
	anytextcat array_to_json array_to_string concat concat_ws convert convert_from convert_to current_database
	date date_add date_cmp_timestamptz date_eq_timestamptz date_ge_timestamptz date_gt_timestamptz date_le_timestamptz
	date_lt_timestamptz date_ne_timestamptz date_part date_subtract date_trunc enum_first enum_last enum_range extract
	format generate_series in_range interval_pl_timestamptz json_agg json_agg_strict json_build_array json_build_object
	json_object_agg json_object_agg_strict json_object_agg_unique json_object_agg_unique_strict json_populate_record
	json_populate_recordset json_to_record json_to_recordset json_to_tsvector jsonb_agg jsonb_agg_strict
	jsonb_build_array jsonb_build_object jsonb_object_agg jsonb_object_agg_strict jsonb_object_agg_unique
	jsonb_object_agg_unique_strict jsonb_path_exists_tz jsonb_path_match_tz jsonb_path_query_array_tz
	jsonb_path_query_first_tz jsonb_path_query_tz jsonb_populate_record jsonb_populate_record_valid
	jsonb_populate_recordset jsonb_to_record jsonb_to_recordset jsonb_to_tsvector length make_timestamptz money numeric
	overlaps pg_typeof phraseto_tsquery plainto_tsquery quote_literal quote_nullable row_to_json textanycat time timestamp
	timestamp_cmp_timestamptz timestamp_eq_timestamptz timestamp_ge_timestamptz timestamp_gt_timestamptz
	timestamp_le_timestamptz timestamp_lt_timestamptz timestamp_ne_timestamptz timestamptz timestamptz_cmp_date
	timestamptz_cmp_timestamp timestamptz_eq_date timestamptz_eq_timestamp timestamptz_ge_date timestamptz_ge_timestamp
	timestamptz_gt_date timestamptz_gt_timestamp timestamptz_le_date timestamptz_le_timestamp timestamptz_lt_date
	timestamptz_lt_timestamp timestamptz_mi_interval timestamptz_ne_date timestamptz_ne_timestamp
	timestamptz_pl_interval timetz timezone to_char to_date to_json to_jsonb to_number to_timestamp to_tsquery
	to_tsvector ts_headline ts_match_tq ts_match_tt ts_parse websearch_to_tsquery xml xml_is_well_formed`)

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(words) {
		set[word] = true
	}
	return set
}
