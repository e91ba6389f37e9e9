package value

import (
	"fmt"
	"testing"
)

func TestFaults(t *testing.T) {
	for oid, text := range map[uint32]string{21: "x", 701: "x", 114: "{", 3802: ""} {
		if v, err := Of(oid, text); err == nil {
			t.Errorf("%q as type %d gives %v, want an error", text, oid, v)
		}
	}
	for oid, text := range map[uint32]string{1700: "", 16: "", 25: ""} {
		if _, err := Of(oid, text); err != nil {
			t.Errorf("an empty text as type %d: %v", oid, err)
		}
	}
}

func FuzzOf(f *testing.F) {
	for oid, text := range map[uint32]string{16: "t", 23: "-5", 701: "1e+20", 1700: "1.50", 3802: `{"a": [1, null, 1.0e3]}`, 25: "x"} {
		f.Add(oid, text)
	}
	f.Fuzz(func(t *testing.T, oid uint32, text string) {
		v, err := Of(oid, text)
		if err != nil {
			return
		}
		switch v := v.(type) {
		case Decimal:
			if oid == 1700 && string(v) != text {
				t.Fatalf("%q became %q", text, v)
			}
		case int64:
			if again, err := Of(20, fmt.Sprint(v)); again != v || err != nil {
				t.Fatalf("%q became %v, and that %v, %v", text, v, again, err)
			}
		case Double:
			if again, err := Of(701, fmt.Sprint(v)); again != v && v == v || err != nil {
				t.Fatalf("%q became %v, and that %v, %v", text, v, again, err)
			}
		}
	})
}
