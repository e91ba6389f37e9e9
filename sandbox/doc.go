// Package sandbox runs throw-away Postgres and Redis servers, for the demo, the
// tests and the benchmarks.
package sandbox
