// Package replication brings the WAL of a Postgres server in, and committed
// changes out: publication and slot, and the one connection that streams.
package replication
