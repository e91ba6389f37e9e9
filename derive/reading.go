package derive

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// Reading identifies what a tree means: with a view, a function or a column's
// type that is another, so is the Reading, as is each time it is asked of a
// tree whose tables were made anew.
func Reading(tree Tree, c *Catalog) string {
	r := &reading{catalog: c, seen: map[uint32]bool{}}
	r.tree(tree)
	return hex.EncodeToString(r.sum())
}

type reading struct {
	catalog *Catalog
	seen    map[uint32]bool // relations and functions
	parts   []string
}

func (r *reading) tree(tree Tree) {
	oids := References(tree)
	r.parts = append(r.parts, tree.text)
	for _, oid := range oids.Functions {
		if f := r.catalog.Functions[oid]; f != nil && f.Definition != "" {
			r.parts = append(r.parts, f.Definition)
		}
	}
	for _, oid := range oids.Relations {
		rel := r.catalog.Relations[oid]
		if rel == nil || r.seen[oid] {
			continue
		}
		r.seen[oid] = true
		r.parts = append(r.parts, fmt.Sprintf("%q %c %+v", rel.SQL, rel.Kind, rel.Columns))
		if rel.View.text != "" && !rel.System {
			r.tree(rel.View)
		}
	}
}

func (r *reading) sum() []byte {
	h := sha256.New()
	for _, part := range r.parts {
		_, _ = io.WriteString(h, fmt.Sprintf("%d:%s", len(part), part))
	}
	return h.Sum(nil)
}
