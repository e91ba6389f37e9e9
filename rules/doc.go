// Package rules reads rules.hcl and says which fragments a change makes stale.
package rules
