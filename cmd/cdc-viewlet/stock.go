package main

import (
	"context"
	"fmt"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// goneFingerprint is of no viewlet: some of its fragments may be there still.
const goneFingerprint = "gone"

// stock is what a session begins with.
type stock struct {
	stale      []string // viewlets to be rendered whole
	gone       []string // viewlets that Redis has and the rules have not
	committing []uint32 // transactions that will not come, and are not visible yet
	// unpublished are open transactions of which not all will come.
	unpublished []uint32
	reached     viewlet.LSN
	published   published
	vouched     map[string]string // what the state is to say of each viewlet
	shapes      map[string]string // and of its tables
}

// begin publishes the rules' tables, for whoever had the slot until now may have
// had other rules, has the queries go to the stream's server, and takes stock.
func (d *daemon) begin(ctx context.Context, ed *edition, stream *replication.Stream, made replication.State) (stock, error) {
	now, err := publishedNow(ctx, ed)
	if err != nil {
		return stock{}, err
	}
	changed, err := replication.Publish(ctx, ed.cfg, now.tables)
	if err == nil && changed {
		now, err = publishedNow(ctx, ed)
	}
	if err != nil {
		return stock{}, err
	}
	timeline := stream.Timeline
	if stream.Standby {
		timeline = 0
	}
	d.db.Follow(stream.SystemID, timeline)
	return d.takeStock(ctx, ed, stream, made, now)
}

// takeStock takes the state, and compares what Redis says of itself with the slot
// and with the rules. What it cannot vouch for is to be rendered whole.
func (d *daemon) takeStock(ctx context.Context, ed *edition, stream *replication.Stream, made replication.State, now published) (stock, error) {
	if err := d.cache.Ping(ctx); err != nil {
		return stock{}, err
	}
	state, err := d.cache.Take(ctx)
	if err != nil {
		return stock{}, err
	}
	s := stock{published: now, vouched: now.vouch(ed.set), shapes: now.shapesOf(ed.set)}
	for name := range state.Fingerprints {
		if ed.set.Viewlet(name) == nil {
			s.gone = append(s.gone, name)
		}
	}
	if g := gapBetween(state, stream, made, ed.cfg.Slot, d.db.Name()); g.reason != "" {
		d.app.log.Info("everything is rendered afresh", "reason", g.reason, "why", g.why)
		d.metrics.Gap(g.reason)
		if state, err = d.beginAnew(ctx, ed, state, stream, s.gone); err != nil {
			return stock{}, err
		}
	}
	// After that: whatever is saved says that Redis is as it is to be.
	for _, name := range s.gone {
		// Should it come back before all is deleted, nothing of it is good.
		if err := d.cache.SaveFingerprint(ctx, name, goneFingerprint); err != nil {
			return stock{}, err
		}
	}
	if err := d.cache.SaveRules(ctx, inForce(ed.written)); err != nil {
		return stock{}, err
	}
	s.reached = state.LSN
	for _, v := range ed.set.Viewlets {
		if state.Fingerprints[v.Name] != s.vouched[v.Name] || state.Shapes[v.Name] != s.shapes[v.Name] {
			s.stale = append(s.stale, v.Name)
		}
	}
	if len(s.stale) == 0 {
		return s, nil
	}
	if s.committing, err = d.db.Committing(ctx); err != nil {
		return s, err
	}
	s.unpublished, err = d.db.Unpublished(ctx, ed.cfg.Publication)
	return s, err
}

// beginAnew makes Redis vouch for nothing but the stream's beginning. What is
// gone from the rules stays noted until it is deleted.
func (d *daemon) beginAnew(ctx context.Context, ed *edition, old cache.State, stream *replication.Stream, gone []string) (cache.State, error) {
	anew := cache.State{
		System: stream.SystemID, Timeline: uint32(stream.Timeline), Slot: ed.cfg.Slot, Database: d.db.Name(),
		LSN: stream.Start, Fingerprints: map[string]string{},
	}
	for _, name := range gone {
		anew.Fingerprints[name] = goneFingerprint
	}
	if old.System != anew.System || old.Timeline != anew.Timeline || old.LSN > stream.End {
		if err := d.cache.ForgetGuards(ctx); err != nil {
			return anew, err
		}
	}
	return anew, d.cache.SaveState(ctx, anew)
}

// gap is why what is in Redis cannot be taken up where it was left. The zero gap
// is none.
type gap struct {
	reason string // a label of the metric
	why    string // a sentence for people
}

// gapBetween compares what Redis was filled from with what will come. A server on
// another timeline is one even where the slot went with it: see docs/design.md.
func gapBetween(state cache.State, stream *replication.Stream, made replication.State, slot, database string) gap {
	switch {
	case state.System == "":
		return gap{"redis_empty", "redis holds nothing yet"}
	case state.System != stream.SystemID:
		return gap{"other_server", "redis was filled from another server"}
	case state.Timeline != uint32(stream.Timeline):
		return gap{"other_timeline", "the server is on another timeline: a standby was promoted"}
	case state.LSN > stream.End:
		return gap{"server_behind", fmt.Sprintf("redis was filled up to %v, and the server is only at %v: it was restored from a copy", state.LSN, stream.End)}
	case made.Lost != "":
		return gap{"slot_lost", "the slot was lost: " + made.Lost}
	case made.SlotCreated:
		return gap{"slot_new", "the slot is new"}
	case state.Slot != slot || state.Database != database:
		return gap{"other_slot", "redis was filled from another slot or database"}
	case state.Elsewhere && state.Cluster:
		return gap{"redis_failover", "redis failed over or was restarted: a primary of the cluster is another one"}
	case state.Elsewhere && stream.Start > state.LSN:
		return gap{"redis_behind", fmt.Sprintf("redis failed over or was restarted, and has lost what was written last: the slot is at %v, and redis only at %v", stream.Start, state.LSN)}
	case stream.Start > state.LSN:
		return gap{"redis_behind", fmt.Sprintf("the slot is at %v, and redis only at %v: the slot was made anew, or redis restored from a copy", stream.Start, state.LSN)}
	}
	return gap{}
}
