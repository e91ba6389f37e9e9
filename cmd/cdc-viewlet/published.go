package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// published is the rules' tables at one moment.
type published struct {
	tables []viewlet.Table
	marks  map[uint32]string // replication.Marks
	shapes map[uint32]string // replication.Shapes
}

// tablesEvery is how often is looked at the tables, and tablesTimeout how long a
// look may take.
const tablesEvery, tablesTimeout = 5 * time.Second, 30 * time.Second

// publishedNow gives the rules' tables as they are now. One that was dropped
// since the rules were checked harms only the viewlets that need it.
func publishedNow(ctx context.Context, ed *edition) (published, error) {
	var now published
	ctx, cancel := context.WithTimeout(ctx, tablesTimeout)
	defer cancel()
	conn, err := replication.Connect(ctx, ed.cfg)
	if err != nil {
		return now, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	names := ed.set.TableNames()
	found, err := replication.Tables(ctx, conn, names)
	if err != nil {
		return now, err
	}
	for _, name := range names {
		t, ok := found[name]
		if ok && (t.Kind == 'r' || t.Kind == 'p') && t.Persistence == 'p' {
			now.tables = append(now.tables, t)
		}
	}
	if now.marks, err = replication.Marks(ctx, conn, ed.cfg); err != nil {
		return now, err
	}
	now.shapes, err = replication.Shapes(ctx, conn, now.tables)
	return now, err
}

// same reports whether every change of the tables was published from the one
// moment to the other.
func (p published) same(other published) bool {
	return slices.EqualFunc(p.tables, other.tables, func(a, b viewlet.Table) bool {
		return a.OID == b.OID && p.marks[a.OID] == other.marks[b.OID]
	})
}

// vouch gives, by viewlet, what the state says once all of it was rendered: the
// fingerprint of its rules, and of the marks of the tables that refresh it. As
// long as both stay, every change that it needs was in the stream.
func (p published) vouch(set *rules.Set) map[string]string {
	vouched := p.sums(set, func(t viewlet.Table) string { return p.marks[t.OID] })
	for name, sum := range vouched {
		vouched[name] = set.Fingerprint(name) + marksSign + sum
	}
	return vouched
}

// shapesOf gives, by viewlet, the shape of the tables that refresh it: what
// their rows depend on and no change in the stream tells.
func (p published) shapesOf(set *rules.Set) map[string]string {
	return p.sums(set, func(t viewlet.Table) string {
		return fmt.Sprintf("%s.%s %d %s", t.Schema, t.Name, t.OID, p.shapes[t.OID])
	})
}

// sums gives, by viewlet, a sum of what there is to say of the tables that
// refresh it.
func (p published) sums(set *rules.Set, of func(viewlet.Table) string) map[string]string {
	said := make(map[string][]string)
	for _, t := range p.tables {
		for name := range set.RefreshedBy([]viewlet.Table{t}) {
			said[name] = append(said[name], of(t))
		}
	}
	sums := make(map[string]string, len(set.Viewlets))
	for _, v := range set.Viewlets {
		slices.Sort(said[v.Name])
		sum := sha256.Sum256([]byte(strings.Join(said[v.Name], " ")))
		sums[v.Name] = hex.EncodeToString(sum[:8])
	}
	return sums
}

// marksSign is between a viewlet's fingerprint and that of the marks.
const marksSign = "."
