// Package derive reads Postgres's analysed tree of a viewlet's query, and
// derives which fragments a changed row makes stale.
package derive
