// Package web serves what the daemon knows, and the fragments it keeps, over HTTP.
package web
