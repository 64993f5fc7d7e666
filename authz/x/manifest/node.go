package manifest

import (
	"encoding/json"
	"strconv"
	"strings"
)

// node is a value of the input with its line. YAML and JSON are both read into it, so that what follows is written once.
type node struct {
	line    int
	kind    kind
	text    string // of a string; of a number or boolean as in JSON
	written string // of a number or boolean as it stands in the input, where that is not text
	members []member
	items   []*node
	block   bool // a YAML block scalar, whose text begins on the line after
}

type member struct {
	name  string
	line  int
	value *node
}

type kind uint8

const (
	isNull kind = iota
	isText
	isNumber
	isBool
	isObject
	isList
)

func (k kind) String() string {
	return [...]string{"null", "a string", "a number", "a boolean", "an object", "a list"}[k]
}

// get returns a member's value, nil if there is none or n is no object.
func (n *node) get(name string) *node {
	if n == nil {
		return nil
	}
	for i := range n.members {
		if n.members[i].name == name {
			return n.members[i].value
		}
	}
	return nil
}

// str returns the text of a string member, "" if there is none.
func (n *node) str(name string) string {
	if v := n.get(name); v != nil && v.kind == isText {
		return v.text
	}
	return ""
}

// line of the deepest part of the path that is there. A path is like spec.rules[0].to or metadata.labels[app.kubernetes.io/name].
func (n *node) lineOf(path string) int {
	line, _ := n.find(path)
	return line
}

// find is lineOf, and tells whether the whole path is there.
func (n *node) find(path string) (line int, there bool) {
	line = n.line
	for n != nil && path != "" {
		var step string
		if path[0] == '[' {
			end := strings.IndexByte(path, ']')
			if end < 0 {
				break
			}
			step, path = path[1:end], path[end+1:]
		} else {
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			step, path = path[:end], path[end:]
		}
		path = strings.TrimPrefix(path, ".")
		next, at := n.child(step)
		if next != nil {
			line = at
		}
		n = next
	}
	return line, n != nil && path == ""
}

func (n *node) child(step string) (*node, int) {
	if n.kind == isList {
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.items) {
			return n.items[i], n.items[i].line
		}
		return nil, 0
	}
	for i := range n.members {
		if n.members[i].name == step {
			return n.members[i].value, n.members[i].line
		}
	}
	return nil, 0
}

// json writes the value as JSON.
func (n *node) json() []byte { return n.appendJSON(nil) }

func (n *node) appendJSON(b []byte) []byte {
	switch n.kind {
	case isText:
		return appendText(b, n.text)
	case isNumber, isBool:
		return append(b, n.text...)
	case isObject:
		b = append(b, '{')
		for i := range n.members {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendText(b, n.members[i].name), ':')
			b = n.members[i].value.appendJSON(b)
		}
		return append(b, '}')
	case isList:
		b = append(b, '[')
		for i, item := range n.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.appendJSON(b)
		}
		return append(b, ']')
	}
	return append(b, "null"...)
}

func appendText(b []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil { // a string always has a JSON form
		return append(b, `""`...)
	}
	return append(b, text...)
}
