package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/cdc-viewlet/cdc-viewlet/derive"
	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// planChange prints which fragments a change of one row refreshes, and why.
func (a *app) planChange(ctx context.Context, in *inspection, db *render.Database, f planFlags) error {
	t, err := in.table(f.table)
	if err != nil {
		return err
	}
	change, err := changeOf(ctx, t, db, f)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	named := 0
	for _, e := range in.set.Explain(change) {
		n, err := writeExplained(ctx, w, in, e)
		if err != nil {
			return err
		}
		if named += n; e.Err != nil {
			a.say("%s: what was given does not tell which fragments; give more columns, or --row-of", called(e.Rule))
		}
	}
	if named == 0 {
		a.say("this %s refreshes nothing", change.Op)
	}
	return w.Flush()
}

// table finds one that the rules are about, by its name as a table block has it.
func (in *inspection) table(name string) (*viewlet.Table, error) {
	wanted, err := rules.ParseTableName(name)
	if err != nil {
		return nil, usagef("--table %s: %v", name, err)
	}
	var names, bare []string
	for i, t := range in.tables {
		if t.Name == wanted.Name && (wanted.Schema == "" || t.Schema == wanted.Schema) {
			return &in.tables[i], nil
		}
		names = append(names, derive.TableLabel(viewlet.TableName{Schema: t.Schema, Name: t.Name}))
		bare = append(bare, t.Name)
	}
	slices.Sort(names)
	if best := nearest(name, append(bare, names...)); best != "" {
		return nil, usagef("no rule is about a table %q; did you mean %s?", name, best)
	}
	return nil, usagef("no rule is about a table %q; there are rules about %s", name, strings.Join(names, ", "))
}

// writeExplained prints the fragments that one rule names, each on a line.
func writeExplained(ctx context.Context, w *tabwriter.Writer, in *inspection, e rules.Explained) (named int, err error) {
	for _, r := range e.Refreshes {
		yield := func(keys []viewlet.Key) error {
			for _, k := range keys {
				named++
				if _, err := fmt.Fprintf(w, "%s\t%s\n", k, called(e.Rule)); err != nil {
					return err
				}
			}
			return nil
		}
		switch r.Via {
		case "":
			err = yield([]viewlet.Key{r.Key})
		case viewlet.Whole:
			named++
			_, err = fmt.Fprintf(w, "%s:%s\t%s\n", r.Viewlet, viewlet.Whole, called(e.Rule))
		default:
			err = in.renderer.Expand(ctx, r.Viewlet, r.Via, []string{r.Args}, yield)
		}
		if err != nil {
			return named, err
		}
	}
	return named, nil
}

// changeOf makes of what was given the change that the stream would tell.
func changeOf(ctx context.Context, t *viewlet.Table, db *render.Database, f planFlags) (*viewlet.Change, error) {
	c := &viewlet.Change{Op: viewlet.Update, Rel: relationOf(t)}
	before, err := rowOf(c.Rel, "--old", f.old)
	if err != nil {
		return nil, err
	}
	after, err := rowOf(c.Rel, "--new", f.new)
	if err != nil {
		return nil, err
	}
	switch {
	case f.row != "":
		row, err := storedRow(ctx, t, c.Rel, db, f.row)
		if err != nil {
			return nil, err
		}
		c.New = filled(after, row)
		if f.old != "" || f.new != "" { // else any of its columns may change
			c.Old = filled(before, row)
		}
	case f.old == "":
		c.Op, c.New = viewlet.Insert, filled(after, unknown(c.Rel, viewlet.Null))
	case f.new == "":
		c.Op, c.Old = viewlet.Delete, filled(before, unknown(c.Rel, viewlet.Unchanged))
	default:
		same := filled(filled(before, after), unknown(c.Rel, viewlet.Unchanged))
		c.Old, c.New = same, filled(filled(after, before), same)
	}
	return c, nil
}

// relationOf is a table as the stream describes it.
func relationOf(t *viewlet.Table) *viewlet.Relation {
	rel := &viewlet.Relation{ID: t.OID, Schema: t.Schema, Name: t.Name, Identity: t.Identity}
	for _, c := range t.Columns {
		if !c.Generated {
			rel.Columns = append(rel.Columns, viewlet.Column{Name: c.Name, Type: c.TypeOID, Key: c.Identity || t.Identity == viewlet.IdentityFull})
		}
	}
	return rel
}

// filled takes what a row does not tell from another.
func filled(row, other viewlet.Tuple) viewlet.Tuple {
	full := slices.Clone(row)
	for i := range full {
		if full[i].Kind == viewlet.NotSent || full[i].Kind == viewlet.Unchanged {
			full[i] = other[i]
		}
	}
	return full
}

func unknown(rel *viewlet.Relation, kind viewlet.ValueKind) viewlet.Tuple {
	row := make(viewlet.Tuple, len(rel.Columns))
	for i := range row {
		row[i].Kind = kind
	}
	return row
}

// rowOf reads a JSON object of columns. Those that it has not are not sent.
func rowOf(rel *viewlet.Relation, flag, text string) (viewlet.Tuple, error) {
	row := make(viewlet.Tuple, len(rel.Columns))
	if text == "" {
		return row, nil
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &given); err != nil || given == nil {
		return nil, usagef(`%s is no JSON object, such as {"id":5,"name":"Oak"}: %v`, flag, errors.Join(err))
	}
	for name, value := range given {
		i := slices.IndexFunc(rel.Columns, func(c viewlet.Column) bool { return c.Name == name })
		if i < 0 {
			return nil, usagef("%s has a column %q, and the stream's columns of %s are %s", flag, name, rel, strings.Join(columnNames(rel), ", "))
		}
		row[i] = textOf(value)
	}
	return row, nil
}

// textOf turns a value of JSON into Postgres's text form.
func textOf(value json.RawMessage) viewlet.Value {
	var s string
	switch {
	case string(value) == "null":
		return viewlet.Value{Kind: viewlet.Null}
	case string(value) == "true", string(value) == "false":
		s = string(value[:1])
	case json.Unmarshal(value, &s) != nil:
		s = string(value)
	}
	return viewlet.Value{Kind: viewlet.Text, Text: []byte(s)}
}

func columnNames(rel *viewlet.Relation) []string {
	names := make([]string, len(rel.Columns))
	for i, c := range rel.Columns {
		names[i] = c.Name
	}
	return names
}

// storedRow reads a row by its primary key.
func storedRow(ctx context.Context, t *viewlet.Table, rel *viewlet.Relation, db *render.Database, key string) (viewlet.Tuple, error) {
	values := strings.Split(key, ",")
	switch {
	case len(t.PrimaryKey) == 0:
		return nil, usagef("%s has no primary key to find a row by; give its columns with --old and --new", rel)
	case len(t.PrimaryKey) == 1:
		values = []string{key}
	case len(values) != len(t.PrimaryKey):
		return nil, usagef("--row-of %s: the primary key of %s is (%s)", key, rel, strings.Join(t.PrimaryKey, ", "))
	}
	row, err := db.Row(ctx, viewlet.TableName{Schema: t.Schema, Name: t.Name}, columnNames(rel), t.PrimaryKey, values)
	if err != nil {
		return nil, err
	}
	if row == nil {
		return nil, fmt.Errorf("%s has no row with %s = %s", rel, strings.Join(t.PrimaryKey, ", "), key)
	}
	return row, nil
}
