// Package cdcviewlet carries the sample shop inside the binary: the very files
// that `cdc-viewlet run` finds in this folder.
package cdcviewlet

import "embed"

// Shop holds rules.hcl, the templates folder that it names, and shop.sql: the
// shop's tables and rows, as one script of many statements.
//
//go:embed rules.hcl templates shop.sql
var Shop embed.FS
