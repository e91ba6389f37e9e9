package viewlet

import (
	"net/url"
	"strings"
	"testing"
)

func TestLSNRoundTrip(t *testing.T) {
	for _, s := range []string{"0/0", "0/16B3748", "16/B374D848", "FFFFFFFF/FFFFFFFF"} {
		l, err := ParseLSN(s)
		if err != nil || l.String() != s {
			t.Errorf("ParseLSN(%q) = %v, %v", s, l, err)
		}
	}
	for _, s := range []string{"", "0", "/", "0/", "/1", "0/x", "1/2/3", "100000000/0", "-1/0"} {
		if l, err := ParseLSN(s); err == nil {
			t.Errorf("ParseLSN(%q) = %v, want an error", s, l)
		}
	}
}

func TestKeyNames(t *testing.T) {
	for want, k := range map[string]Key{
		"category_menu":             NewKey("category_menu"),
		"product_teaser:42":         NewKey("product_teaser", "42"),
		"teaser:42:sv":              NewKey("teaser", "42", "sv"),
		"teaser:":                   NewKey("teaser", ""),
		"teaser::":                  NewKey("teaser", "", ""),
		"page:a%3Ab%25%7B%7D%20%0A": NewKey("page", "a:b%{} \n"),
		"page:%F0%9F%8C%B3":         NewKey("page", "🌳"),
	} {
		if k.String() != want {
			t.Errorf("got %s, want %s", k, want)
		}
		back, err := ParseKey(want)
		if err != nil || back != k {
			t.Errorf("ParseKey(%q) = %v, %v", want, back, err)
		}
	}
	for _, s := range []string{"", ":42", "page:a b", "page:%", "page:%4", "page:%zz", "page:%41", "page:%c3"} {
		if k, err := ParseKey(s); err == nil {
			t.Errorf("ParseKey(%q) = %v, want an error", s, k)
		}
	}
}

func FuzzKey(f *testing.F) {
	f.Add("42", "sv")
	f.Add("", "a:b%{}\x00\xff")
	f.Fuzz(func(t *testing.T, a, b string) {
		k := NewKey("v", a, b)
		back, err := ParseKey(k.String())
		if err != nil || back != k {
			t.Fatalf("ParseKey(%q) = %v, %v", k, back, err)
		}
		args, err := k.Split(nil)
		if err != nil || len(args) != 2 || args[0] != a || args[1] != b {
			t.Fatalf("Split(%q) = %q, %v", k, args, err)
		}
		// QueryEscape differs from RFC 3986 in the space alone.
		if want := "v:" + strings.ReplaceAll(url.QueryEscape(a)+":"+url.QueryEscape(b), "+", "%20"); k.String() != want {
			t.Fatalf("got %s, want %s", k, want)
		}
	})
}

// A whole rendering that is asked for while another is under way is told of
// once, when it is done, however many changes fall in meanwhile.
func TestWholeAskedForDuringWholeIsToldOnce(t *testing.T) {
	var r room
	r.max = 100
	var p pending
	p.init(&r)
	told := 0
	whole := Refresh{Key: Key{Viewlet: "v"}, Via: Whole}
	p.add([]Refresh{whole}, origin{floor: 1})
	p.take(true)
	p.add([]Refresh{whole}, origin{floor: 2, then: []func(error){func(error) { told++ }}})
	for i := range 3 {
		p.add([]Refresh{{Key: NewKey("v", string(rune('a'+i)))}}, origin{floor: 3})
		p.take(false)
	}
	p.done(nil)
	if told != 0 {
		t.Errorf("told %d times before it was rendered", told)
	}
	if floor, held := p.floorHeld(); !held || floor != 2 {
		t.Errorf("held is %v %v, want 2", floor, held)
	}
	p.take(true)
	p.done(nil)
	if told != 1 {
		t.Errorf("told %d times, want once", told)
	}
}
