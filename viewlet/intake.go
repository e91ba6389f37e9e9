package viewlet

// A transaction's refreshes go to their lanes when it ends, a huge one's in
// pieces of this many: Postgres sends only what is committed.
const intakePiece = 4096

// intake is the transaction that is being delivered. Only the source's
// goroutine touches it, but for the counters.
type intake struct {
	tx        Tx
	open      bool
	refreshes []Refresh
	traffic   traffic
}

var _ Sink = (*Pipeline)(nil)

// Begin is a method of Sink.
func (p *Pipeline) Begin(tx Tx) {
	p.intake.tx, p.intake.open = tx, true
	p.intake.refreshes = p.intake.refreshes[:0]
}

// Change is a method of Sink.
func (p *Pipeline) Change(c *Change) error {
	in := &p.intake
	in.traffic.changes.Add(1)
	before := len(in.refreshes)
	var err error
	if in.refreshes, err = p.cfg.Match.Match(in.refreshes, c); err != nil {
		p.log.Error("a rule cannot be followed", "table", c.Rel.String(), "err", err)
	}
	if len(in.refreshes) != before {
		p.gather(before)
	}
	return nil
}

// Message is a method of Sink.
func (p *Pipeline) Message(m Message) error {
	if m.Prefix != MessagePrefix {
		return nil
	}
	in := &p.intake
	if !in.open {
		in.tx = Tx{FinalLSN: m.LSN}
	}
	before := len(in.refreshes)
	var err error
	if in.refreshes, err = p.cfg.Match.ParseMessage(in.refreshes, m.Content); err != nil {
		p.log.Error("a message asks for what there is not", "lsn", m.LSN, "err", err)
	}
	p.gather(before)
	if !in.open {
		p.deliver()
	}
	return nil
}

// Commit is a method of Sink.
func (p *Pipeline) Commit(end LSN) error {
	p.deliver()
	p.intake.open = false
	p.intake.traffic.transactions.Add(1)
	p.advance(end)
	return nil
}

// Idle is a method of Sink.
func (p *Pipeline) Idle(end LSN) {
	if !p.intake.open {
		p.advance(end)
	}
}

// Room is a method of Sink.
func (p *Pipeline) Room() <-chan struct{} { return p.room.full() }

func (p *Pipeline) advance(end LSN) {
	if uint64(end) > p.seen.Load() {
		p.seen.Store(uint64(end))
		p.poke()
	}
}

// gather drops from the refreshes appended at index from on those that say the
// same as the one before: a bulk update of one parent's rows says it of each.
func (p *Pipeline) gather(from int) {
	in := &p.intake
	kept := in.refreshes[:from]
	for _, r := range in.refreshes[from:] {
		if n := len(kept); n == 0 || kept[n-1] != r {
			kept = append(kept, r)
		}
	}
	in.refreshes = kept
	if len(in.refreshes) >= intakePiece {
		p.deliver()
	}
}

// deliver hands the refreshes gathered so far to their lanes.
func (p *Pipeline) deliver() {
	in := &p.intake
	rest := in.refreshes
	if len(rest) == 0 {
		return
	}
	from := origin{
		floor:     LSN(p.seen.Load()),
		commit:    in.tx.FinalLSN,
		xid:       in.tx.XID,
		committed: in.tx.Committed,
	}
	p.visible.expect(awaited{xid: in.tx.XID, commit: in.tx.FinalLSN, flushed: in.tx.FinalLSN + 1})
	for len(rest) > 0 {
		n := 1
		for n < len(rest) && rest[n].Viewlet == rest[0].Viewlet {
			n++
		}
		if l, ok := p.lanes[rest[0].Viewlet]; ok {
			l.pending.add(rest[:n], from)
		}
		rest = rest[n:]
	}
	clear(in.refreshes) // lets the strings go
	in.refreshes = in.refreshes[:0]
}
