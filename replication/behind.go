package replication

import "time"

const (
	// several is after how many transactions that were waiting for the walsender it
	// counts as behind. A few come at once however little it has to do: Postgres
	// flushes commits together.
	several = 8
	// breath is how long what it sends then is left to come before it is read. It
	// bounds by how much the last of it comes later.
	breath = time.Millisecond
	// deep is how many bytes a breath brings of what is no trickle of small
	// transactions, but a backlog that is to be read as fast as it is sent.
	deep = 8 << 10
	// lately is for how long the walsender may have sent nothing and still be behind.
	lately = 4 * time.Millisecond
)

// behind tells whether the walsender has more at hand than it has sent. Where it
// comes to the end of what it knew to be flushed, and not all of that is confirmed,
// it sends a keepalive, and looks for more. So a transaction that comes without one
// since the last has been waiting for its turn.
//
// Most often it is behind because others have the processor, and the first of them
// are we: whoever is handed each small transaction as it comes renders it alone.
// What is read together is rendered together, for a fraction of the work.
//
// A keepalive may come for other reasons too, as while a synchronous standby is
// named. Then it counts as less behind than it is, and is read as always.
//
// WalSndWaitForWal: https://doxygen.postgresql.org/walsender_8c.html
type behind struct {
	told bool // a keepalive came since the last transaction began
	run  int  // transactions in a row before which none came
}

// begins learns that a transaction does.
func (b *behind) begins() {
	if b.run++; b.told {
		b.run = 0
	}
	b.told = false
}

// caughtUp learns of a keepalive, or that nothing came for a while.
func (b *behind) caughtUp() { b.told, b.run = true, 0 }

func (b *behind) is() bool { return b.run >= several }
