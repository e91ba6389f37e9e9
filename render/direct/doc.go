// Package direct makes fragments of templates that only print values, branch, loop
// and name values, as most do. It does without Go's engine, which asks reflection
// at every step and takes some ten times as long.
//
// What is not in here, in the template or in a value, is the engine's: the
// program is not compiled, or gives up, and then the engine is to make the whole
// fragment. What a program makes is what the engine makes, byte for byte.
package direct
