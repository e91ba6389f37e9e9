package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// published is the rules' tables at one moment.
type published struct {
	tables []viewlet.Table
	marks  map[uint32]string // replication.Marks
}

// publishedNow gives the rules' tables as they are now. One that was dropped
// since the rules were checked harms only the viewlets that need it.
func publishedNow(ctx context.Context, ed *edition) (published, error) {
	var now published
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
	now.marks, err = replication.Marks(ctx, conn, ed.cfg)
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
	marks := make(map[string][]string)
	for _, t := range p.tables {
		for name := range set.RefreshedBy([]viewlet.Table{t}) {
			marks[name] = append(marks[name], p.marks[t.OID])
		}
	}
	vouched := make(map[string]string, len(set.Viewlets))
	for _, v := range set.Viewlets {
		slices.Sort(marks[v.Name])
		sum := sha256.Sum256([]byte(strings.Join(marks[v.Name], " ")))
		vouched[v.Name] = set.Fingerprint(v.Name) + marksSign + hex.EncodeToString(sum[:8])
	}
	return vouched
}

// marksSign is between a viewlet's fingerprint and that of the marks.
const marksSign = "."
