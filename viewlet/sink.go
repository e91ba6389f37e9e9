package viewlet

// Sink takes committed changes in commit order, all calls from the one
// goroutine that owns the replication connection. None of them blocks. An
// error ends the stream.
type Sink interface {
	// Begin opens a transaction. One that was begun and not committed, because
	// the connection broke, is forgotten: it comes again, whole.
	Begin(Tx)
	// Change is one row of the transaction begun, or one table of a TRUNCATE.
	Change(*Change) error
	// Message is a logical decoding message: within a transaction, when it was
	// emitted as transactional, else between two.
	Message(Message) error
	// Commit ends the transaction; end is the position behind its commit record.
	Commit(end LSN) error
	// Idle says, between transactions, that everything before end has been
	// delivered: a keepalive's WAL end.
	Idle(end LSN)
	// Room is nil while more may be delivered. Otherwise it is closed as soon
	// as more may be delivered; until then the source only keeps its
	// connection alive.
	Room() <-chan struct{}
}
