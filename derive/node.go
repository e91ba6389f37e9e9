package derive

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Tree is a query as Postgres analysed it: pg_proc.prosqlbody, or a view's
// pg_rewrite.ev_action. It is only read, by any goroutine.
type Tree struct {
	text string
	root value
}

// ParseTree reads the text form of a tree.
func ParseTree(text string) (Tree, error) {
	root, err := parseTree(text)
	return Tree{text, root}, err
}

// value is what a field of a node holds: NULL, a word, a node or a list. Its
// zero value is NULL, and reading what it is not gives zero values too: a field
// that one version of Postgres has and another has not reads as absent.
type value struct {
	kind  valueKind
	word  string  // of a word, without escapes; of a list of numbers, its letter: i, o, b or x
	node  *node   // of a node
	items []value // of a list; of a datum's length what follows it
}

type valueKind uint8

const (
	isNull valueKind = iota
	isWord
	isNode
	isList
)

// node is {LABEL :field value :field value}.
type node struct {
	label  string
	fields []field
}

type field struct {
	name  string
	value value
}

// get gives the field's value. A nil node has no fields.
func (n *node) get(name string) value {
	if n == nil {
		return value{}
	}
	for i := range n.fields {
		if n.fields[i].name == name {
			return n.fields[i].value
		}
	}
	return value{}
}

// is reports whether the node has one of the labels. A nil node has none.
func (n *node) is(labels ...string) bool {
	if n == nil {
		return false
	}
	for _, l := range labels {
		if n.label == l {
			return true
		}
	}
	return false
}

func (n *node) text(name string) string { return n.get(name).word }
func (n *node) flag(name string) bool   { return n.get(name).word == "true" }
func (n *node) int(name string) int     { return n.get(name).int() }
func (n *node) oid(name string) uint32  { return n.get(name).oid() }
func (n *node) child(name string) *node { return n.get(name).node }
func (n *node) list(name string) []value {
	return n.get(name).items
}

func (v value) int() int {
	i, _ := strconv.Atoi(v.word)
	return i
}

func (v value) oid() uint32 {
	i, _ := strconv.ParseUint(v.word, 10, 32)
	return uint32(i)
}

// parseTree reads the text form in which Postgres keeps a tree of nodes in its
// catalogs (pg_node_tree). It knows the form and none of the nodes, so a field
// or a node that a newer Postgres brings is read like any other.
//
// https://www.postgresql.org/docs/current/catalog-pg-rewrite.html
func parseTree(text string) (value, error) {
	p := treeParser{text: text}
	v, err := p.value()
	if err != nil {
		return value{}, fmt.Errorf("read node tree at byte %d: %w", p.at, err)
	}
	if t := p.peek(); t.text != "" {
		return value{}, fmt.Errorf("read node tree at byte %d: %q behind its end", p.at, t.text)
	}
	return v, nil
}

// maxDepth is far beyond what Postgres's own max_stack_depth lets it write.
const maxDepth = 20_000

type treeParser struct {
	text  string
	at    int
	depth int
	ahead token // the next one, when end is not 0
}

// token is a brace, a parenthesis, or a word as it is written. Its text is
// empty at the end.
type token struct {
	text string
	end  int
}

// What a byte is to pg_strtok.
const (
	ofWord = iota
	ofSpace
	ofBracket
)

var byteClass = [256]uint8{' ': ofSpace, '\n': ofSpace, '\t': ofSpace, '(': ofBracket, ')': ofBracket, '{': ofBracket, '}': ofBracket}

// peek reads the next token as Postgres's pg_strtok does: words end at white
// space, parentheses and braces, unless a backslash stands before.
func (p *treeParser) peek() token {
	if p.ahead.end == 0 {
		p.ahead = p.read()
	}
	return p.ahead
}

func (p *treeParser) read() token {
	start := p.at
	for start < len(p.text) && byteClass[p.text[start]] == ofSpace {
		start++
	}
	if start == len(p.text) {
		return token{end: start}
	}
	if byteClass[p.text[start]] == ofBracket {
		return token{text: p.text[start : start+1], end: start + 1}
	}
	end := start
	for end < len(p.text) && byteClass[p.text[end]] == ofWord {
		if p.text[end] == '\\' && end+1 < len(p.text) {
			end++
		}
		end++
	}
	return token{text: p.text[start:end], end: end}
}

func (p *treeParser) next() token {
	t := p.peek()
	p.at, p.ahead = t.end, token{}
	return t
}

func (p *treeParser) value() (value, error) {
	if p.depth++; p.depth > maxDepth {
		return value{}, errors.New("nested too deeply")
	}
	defer func() { p.depth-- }()
	switch t := p.next(); t.text {
	case "":
		return value{}, errors.New("it ends within")
	case "{":
		n, err := p.node()
		return value{kind: isNode, node: n}, err
	case "(":
		return p.list()
	case ")", "}":
		return value{}, fmt.Errorf("%q without its beginning", t.text)
	case "<>":
		return value{}, nil
	default:
		return value{kind: isWord, word: unescape(t.text)}, nil
	}
}

// node reads what follows a brace. The token after a field's name is its value
// even when it looks like a name: an alias may begin with a colon.
func (p *treeParser) node() (*node, error) {
	n := &node{label: p.next().text, fields: make([]field, 0, 12)}
	for {
		name := p.next().text
		switch {
		case name == "}":
			return n, nil
		case name == "":
			return nil, errors.New("it ends within a node")
		case name[0] != ':':
			return nil, fmt.Errorf("%q where a field's name should be", name)
		}
		first, err := p.value()
		if err != nil {
			return nil, err
		}
		for p.more() { // as of a datum, whose bytes follow its length
			next, err := p.value()
			if err != nil {
				return nil, err
			}
			first.items = append(first.items, next)
		}
		n.fields = append(n.fields, field{name[1:], first})
	}
}

// more reports whether a field's value goes on.
func (p *treeParser) more() bool {
	after := p.peek().text
	return after != "" && after != "}" && after[0] != ':'
}

// list reads what follows a parenthesis. Lists of integers, OIDs, transactions
// and bits begin with a letter.
func (p *treeParser) list() (value, error) {
	l := value{kind: isList}
	switch t := p.peek(); t.text {
	case "i", "o", "x", "b":
		p.next()
		l.word = t.text
	}
	for p.peek().text != ")" {
		v, err := p.value()
		if err != nil {
			return value{}, err
		}
		l.items = append(l.items, v)
	}
	p.next()
	return l, nil
}

// unescape gives a word's text. A string within a list stands in quotes.
func unescape(word string) string {
	if len(word) >= 2 && word[0] == '"' && word[len(word)-1] == '"' {
		word = word[1 : len(word)-1]
	}
	if strings.IndexByte(word, '\\') < 0 {
		return word
	}
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		if word[i] == '\\' && i+1 < len(word) {
			i++
		}
		b.WriteByte(word[i])
	}
	return b.String()
}

// walk visits the node and all below it, parents first. Where visit gives
// false, what is below is left out.
func (v value) walk(visit func(*node) bool) {
	if v.node != nil && visit(v.node) {
		for _, f := range v.node.fields {
			f.value.walk(visit)
		}
	}
	for _, item := range v.items {
		item.walk(visit)
	}
}
