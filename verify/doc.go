// Package verify compares the fragments in the store with fresh renders: what
// is missing there, different, or of an instance that is gone.
package verify
