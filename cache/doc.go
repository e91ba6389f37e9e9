// Package cache keeps fragments in Redis, under keys that any client can compute.
package cache
