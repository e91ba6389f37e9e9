package viewlet

// served remembers what passes of a lane have rendered, and what they saw: of a
// backlog, the first of a thousand changes of a row makes a fragment that shows
// the last one already. A pass waits for a snapshot that sees what it serves, and
// each of its queries sees at least that.
type served struct {
	by     map[Refresh]*Snapshot
	newest LSN // of these snapshots
}

// servedMax is how many refreshes are remembered: in a larger set, few are
// asked for again soon.
const servedMax = 1 << 12

// note remembers refreshes that a pass has served which began with the snapshot.
func (s *served) note(refreshes []Refresh, snap *Snapshot) {
	if snap == nil || len(refreshes) == 0 {
		return
	}
	if s.by == nil || len(s.by)+len(refreshes) > servedMax {
		s.by = make(map[Refresh]*Snapshot, len(refreshes))
	}
	for _, r := range refreshes {
		s.by[r] = snap
	}
	s.newest = max(s.newest, snap.LSN)
}

// has reports whether a pass that saw the transaction has served the refresh.
// That its commit was flushed as well is asked for a standby's sake, which has
// replayed as much as was flushed when the snapshot was taken.
func (s *served) has(r Refresh, from origin) bool {
	if from.xid == 0 || len(s.by) == 0 {
		return false
	}
	if from.commit >= s.newest { // nor will it have a later one: commits come in order
		s.by = nil
		return false
	}
	snap := s.by[r]
	return snap != nil && from.commit < snap.LSN && snap.Sees(from.xid)
}
