package match

// interner keeps the strings made last, so that a hot key costs no allocation.
// It holds at most two generations of them.
type interner struct{ young, old map[string]string }

const (
	internedStrings = 8192 // in one generation
	internedBytes   = 128  // of one string; longer ones are not kept
)

func (t *interner) intern(b []byte) string {
	if s, ok := t.young[string(b)]; ok {
		return s
	}
	s, ok := t.old[string(b)]
	if !ok {
		s = string(b)
	}
	if len(s) > internedBytes {
		return s
	}
	if t.young == nil || len(t.young) == internedStrings {
		t.young, t.old = t.old, t.young
		if t.young == nil {
			t.young = make(map[string]string)
		}
		clear(t.young)
	}
	t.young[s] = s
	return s
}
