package direct

// basic is how the engine compares: within one of these, and no two with one
// another.
type basic int

const (
	null basic = iota
	truths
	integers
	floats
	texts
	incomparable
)

func (k kind) basic() basic {
	switch k {
	case nothing:
		return null
	case boolean:
		return truths
	case long, short:
		return integers
	case double, float:
		return floats
	case words, decimal:
		return texts
	}
	return incomparable
}

// comparison gives the comparison of two values, or that it is none.
type comparison func(a, b datum) (is, ok bool)

func compared(by comparison) func(*Run, []datum) (datum, bool) {
	return func(_ *Run, args []datum) (datum, bool) {
		is, ok := by(args[0], args[1])
		return datumOfBool(is), ok
	}
}

func not(c comparison) comparison {
	return func(a, b datum) (is, ok bool) {
		is, ok = c(a, b)
		return !is, ok
	}
}

// equalToAny is eq: of the first and any other. Those behind that may be of
// any type.
func equalToAny(_ *Run, args []datum) (datum, bool) {
	for _, b := range args[1:] {
		if is, ok := equal(args[0], b); is || !ok {
			return datumOfBool(is), ok
		}
	}
	return datumOfBool(false), true
}

// equal compares anything scalar with NULL, too.
func equal(a, b datum) (is, ok bool) {
	as, bs := a.kind.basic(), b.kind.basic()
	if as == incomparable || bs == incomparable {
		return false, false
	}
	if as != bs {
		return false, as == null || bs == null
	}
	switch as {
	case floats:
		return a.f == b.f, true
	case texts:
		return a.text == b.text, true
	}
	return a.n == b.n, true
}

func less(a, b datum) (is, ok bool) {
	as := a.kind.basic()
	if as != b.kind.basic() {
		return false, false
	}
	switch as {
	case integers:
		return a.n < b.n, true
	case floats:
		return a.f < b.f, true
	case texts:
		return a.text < b.text, true
	}
	return false, false
}

// lessOrEqual is not the opposite of less the other way round: NaN is neither.
func lessOrEqual(a, b datum) (is, ok bool) {
	if is, ok = less(a, b); is || !ok {
		return is, ok
	}
	return equal(a, b)
}
