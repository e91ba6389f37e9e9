package viewlet

// Refresh asks for fragments to be rendered again: one that is named, those
// that a lookup names, or all of a viewlet. It is comparable, so that asking
// twice is asking once.
type Refresh struct {
	// Key is the fragment. With a lookup in Via, Args are the lookup's inputs
	// instead of the fragment's own arguments.
	Key
	// Via is empty for the fragment itself, a name that rules.Set.Expansion
	// knows, or Whole.
	Via string
}

// Whole, as a Refresh's Via, means every fragment of the viewlet.
const Whole = "*"

// String gives product_teaser:42, product_teaser(products_in):5 or
// product_teaser:*.
func (r Refresh) String() string {
	switch r.Via {
	case "":
		return r.Key.String()
	case Whole:
		return r.Viewlet + ":*"
	}
	return r.Viewlet + "(" + r.Via + ")" + r.Args
}

// Watch says since when a store keeps older fragments of a viewlet out; see
// cache.Watch. The zero Watch is none.
type Watch struct {
	Token string
	From  LSN // what is rendered under it is of no older state than this
}

// Fragment is a rendered Key. A nil Body without an Err means that there is
// nothing to show, and that the fragment is to be deleted; an empty Body that
// is not nil is a fragment of no bytes.
type Fragment struct {
	Key  Key
	Body []byte
	// LSN was read before the snapshot that the Body was rendered in: every
	// commit that was visible at LSN is in it.
	LSN LSN
	// Seen saw no more than the query that the Body was rendered from, and than
	// any query that starts from now on; nil when that is not known, as when a
	// standby may serve the next one. Fragments of one query share it.
	Seen *Snapshot
	// Watch is what the store gave, before the Body was rendered, to who writes
	// beside the daemon. The daemon's own lanes have none.
	Watch Watch
	// Err is this fragment's own fault, such as a template that divides by
	// zero. What is in the cache stays.
	Err error
}
