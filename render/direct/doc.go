// Package direct makes fragments of the usual templates without Go's engine, byte for byte as that would.
package direct
