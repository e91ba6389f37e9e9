package main

import (
	"context"
	"time"
)

// schemaEvery is how often the database is asked whether what the queries read
// there is still the same.
const schemaEvery = 5 * time.Second

// followSchema derives the rules anew when a table, view or function that the
// queries read was altered; nil: what is in force stays. A session begins with
// the next edition and renders what is not the same with it. What a viewlet
// cannot follow any more is told, and harms that viewlet only.
func (d *daemon) followSchema(ctx context.Context) *edition {
	ed := d.edition()
	mark, err := d.db.SchemaMark(ctx, ed.catalog)
	if err != nil || mark == ed.schema {
		return nil // the stream meets a server that is gone
	}
	in, err := d.app.inspect(ctx, ed.written, d.db, ed.cfg, ed.from)
	if ctx.Err() != nil {
		return nil // the session has ended
	}
	if err != nil {
		if ed.news(err.Error()) {
			d.app.log.Warn("the schema may have changed, and what follows from it cannot be read yet; trying again", "err", err)
		}
		return nil
	}
	if !in.diags.HasErrors() {
		ed.said = ""
	} else {
		mark = "" // what it lacks has no mark: look again
		if ed.news(in.wrong()) {
			d.app.tell(in.set, in.diags)
			d.app.log.Error("the schema has changed, and rules do not fit it any more; the other viewlets go on")
		}
	}
	next := &edition{inspection: in, written: ed.written, cfg: ed.cfg, schema: mark, said: ed.said}
	changed := next.since(ed)
	if len(changed) == 0 {
		d.mu.Lock()
		ed.schema, ed.catalog = mark, in.catalog
		d.mu.Unlock()
		return nil
	}
	d.app.log.Info("the schema has changed: rules derived anew", "viewlets", changed)
	return next
}

// news reports whether what is wrong with the schema is not what was told last.
func (ed *edition) news(wrong string) bool {
	told := ed.said
	ed.said = wrong
	return wrong != told
}

// since names the viewlets that are not what they were.
func (ed *edition) since(before *edition) (changed []string) {
	for _, v := range ed.set.Viewlets {
		if ed.set.Fingerprint(v.Name) != before.set.Fingerprint(v.Name) {
			changed = append(changed, v.Name)
		}
	}
	return changed
}
