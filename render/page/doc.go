// Package page makes a fragment's bytes of a template and of rows as a template
// sees them.
package page
