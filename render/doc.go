// Package render turns keys to fragments: one SQL query for many keys at once,
// then a template.
package render
