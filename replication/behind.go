package replication

import "time"

const (
	// several is after how many transactions that were waiting for the walsender it
	// counts as behind. Two come at once now and then, however little it has to do.
	several = 4
	// breath is how long what it sends then is left to come before it is read. It
	// bounds by how much the last of it comes later.
	breath = time.Millisecond
)

// behind tells whether the walsender has more at hand than it has sent. When it has
// nothing more, and not all is confirmed, it sends a keepalive before it waits. So a
// transaction that comes without one since the last has been waiting for its turn.
//
// Most often it is behind because others have the processor, and the first of them
// are we: whoever is handed each small transaction as it comes renders it alone.
// What is read together is rendered together, for a fraction of the work.
//
// WalSndWaitForWal: https://doxygen.postgresql.org/walsender_8c.html
type behind struct {
	told bool // it has said that there is nothing more, since a transaction began
	run  int  // transactions in a row without that
}

// begins learns that a transaction does.
func (b *behind) begins() {
	if b.run++; b.told {
		b.run = 0
	}
	b.told = false
}

// caughtUp learns that there was nothing more.
func (b *behind) caughtUp() { b.told, b.run = true, 0 }

func (b *behind) is() bool { return b.run >= several }
