package direct

// builtins are functions of Go's engine.
//
// https://pkg.go.dev/text/template#hdr-Functions
var builtins = map[string]function{
	"eq":    {2, unlimited, equalToAny},
	"ne":    {2, 2, compared(not(equal))},
	"lt":    {2, 2, compared(less)},
	"le":    {2, 2, compared(lessOrEqual)},
	"gt":    {2, 2, compared(not(lessOrEqual))},
	"ge":    {2, 2, compared(not(less))},
	"not":   {1, 1, negated},
	"len":   {1, 1, length},
	"index": {1, unlimited, index},
}

// either is or: the first argument that is true, or the last; or it is and: the
// first that is false, or the last. Those behind it are not looked at, but for
// final, which the pipeline has come to already.
func either(args []operand, final operand, or bool) operand {
	if len(args) == 0 {
		return final
	}
	return func(r *Run) (last datum, ok bool) {
		var v datum
		if final != nil {
			if last, ok = final(r); !ok {
				return last, false
			}
		}
		for _, arg := range args {
			if v, ok = arg(r); !ok {
				return v, false
			}
			if is, ok := v.truth(r); !ok || is == or {
				return v, ok
			}
		}
		if final != nil {
			return last, true
		}
		return v, true
	}
}

func negated(r *Run, args []datum) (datum, bool) {
	is, ok := args[0].truth(r)
	return datumOfBool(!is), ok
}

func length(r *Run, args []datum) (datum, bool) {
	n, ok := args[0].len(r)
	return datum{kind: short, n: int64(n)}, ok
}

// index is args[0][args[1]][args[2]] and so on: of lists by numbers, and of
// rows and objects by names.
func index(r *Run, args []datum) (v datum, ok bool) {
	v = args[0]
	for _, at := range args[1:] {
		if v, ok = v.at(r, at); !ok {
			return v, false
		}
	}
	return v, v.kind != nothing || len(args) > 1
}

// at is one of the elements of v.
func (v datum) at(r *Run, at datum) (datum, bool) {
	switch at.kind {
	case long, short:
		list, _ := v.any.([]any)
		switch {
		case v.kind == allRows && at.n >= 0 && at.n < int64(len(r.rows)):
			return datum{kind: oneRow, n: int64(r.rows[at.n])}, true
		case at.n >= 0 && at.n < int64(len(list)):
			return datumOf(list[at.n]), true
		}
	case words:
		if v.kind == whole && at.text == "rows" {
			return datum{}, false // the engine has none where the template does not say so
		}
		return r.field(v, at.text, r.p.places(at.text))
	}
	return datum{}, false
}
