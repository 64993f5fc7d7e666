package config

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
)

//go:embed fields.txt
var fieldsText string

// Class says what becomes of a field that is set.
type Class uint8

// The classes. The order is that of concern.
const (
	// Honoured: it has the effect that its documentation gives it.
	Honoured Class = iota
	// Inert: it has no effect here that anybody could miss; fields.txt says why.
	Inert
	// Reported: it is not honoured; the effect that is missed is no matter of security.
	Reported
	// Refused: it is not honoured and may not be passed over: the chain or cluster that holds it serves nobody.
	Refused
)

var classNames = [...]string{"honoured", "inert", "reported", "refused"}

func (c Class) String() string { return classNames[c] }

// rule is a line of fields.txt, or what stands in for one that is not there.
type rule struct {
	path  string
	class Class
	why   string
	// compiledTo is the identifiers that the line names, where a pending line has taken the place of class and why.
	compiledTo string
	// elsewhere: who compiles the field refuses what it concerns, which may be less than the chain.
	elsewhere bool
	// whole: what is in the message is the business of who honours it.
	whole bool
	// values overrules the line for single values.
	values map[string]*rule
}

// table is fields.txt.
type table struct {
	rules map[string]*rule
	// types are extensions that one line decides about, by the type of their configuration.
	types map[string]*rule
	// pending are identifiers that nobody reads yet; path is the identifier.
	pending map[string]*rule
	// messages are those that have a section, by name.
	messages map[string]bool
	// secure are prefixes of message names whose unlisted fields are refused.
	secure []string
}

// fields is parsed once; it is never changed afterwards.
var fields = sync.OnceValues(func() (*table, error) { return parseTable(fieldsText) })

// parseTable reads lines of the form
//
//	[message]
//	field, field = VALUE | class | where or why
//	pending | identifier | class | why
//	secure | prefix
//	whole | message | class | why
//
// A rule's path is the message's full name, a dot and the field. Types that are known as TypedStruct only begin with "struct:".
func parseTable(text string) (*table, error) {
	t := &table{rules: map[string]*rule{}, types: map[string]*rule{}, messages: map[string]bool{}, pending: map[string]*rule{}}
	message := ""
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if name, ok := strings.CutPrefix(line, "["); ok {
			message = strings.TrimSuffix(name, "]")
			if t.messages[message] {
				return nil, fmt.Errorf("fields.txt:%d: [%s] is there twice", i+1, message)
			}
			t.messages[message] = true
			continue
		}
		cols := strings.SplitN(line, "|", 3)
		for k := range cols {
			cols[k] = strings.TrimSpace(cols[k])
		}
		if len(cols) == 2 && cols[0] == "secure" {
			t.secure = append(t.secure, cols[1])
			continue
		}
		if p, ok := strings.CutPrefix(line, "pending |"); ok {
			if err := addWhole(t.pending, p); err != nil {
				return nil, fmt.Errorf("fields.txt:%d: %w", i+1, err)
			}
			continue
		}
		if p, ok := strings.CutPrefix(line, "whole |"); ok {
			if err := addWhole(t.types, p); err != nil {
				return nil, fmt.Errorf("fields.txt:%d: %w", i+1, err)
			}
			continue
		}
		if len(cols) != 3 || cols[2] == "" {
			return nil, fmt.Errorf("fields.txt:%d: want field | class | where or why", i+1)
		}
		class, err := parseClass(cols[1])
		if err != nil {
			return nil, fmt.Errorf("fields.txt:%d: %w", i+1, err)
		}
		for _, field := range strings.Split(cols[0], ",") {
			r := &rule{path: message + "." + strings.TrimSpace(field), class: class, why: cols[2]}
			if class == Refused {
				r.why, r.elsewhere = strings.CutPrefix(r.why, "route: ")
			}
			if class == Honoured {
				r.why, r.whole = strings.CutSuffix(r.why, ": whole")
				t.suspend(r)
			}
			if err := t.enter(r); err != nil {
				return nil, fmt.Errorf("fields.txt:%d: %w", i+1, err)
			}
		}
	}
	return t, nil
}

// suspend takes the honour from a field as long as an identifier that it needs is pending.
func (t *table) suspend(r *rule) {
	needs := r.why
	for _, id := range strings.Split(needs, " + ") {
		if p := t.pending[id]; p != nil {
			r.class, r.why, r.compiledTo = p.class, p.why, needs
			return
		}
	}
}

// addWhole enters a line that is about an identifier or a type as a whole.
func addWhole(to map[string]*rule, line string) error {
	cols := strings.SplitN(line, "|", 3)
	if len(cols) != 3 {
		return errors.New("want a name | class | why")
	}
	class, err := parseClass(strings.TrimSpace(cols[1]))
	if err != nil {
		return err
	}
	name := strings.TrimSpace(cols[0])
	if to[name] != nil {
		return fmt.Errorf("%s is there twice", name)
	}
	// A filter that is not there is refused by name when the chain is compiled.
	to[name] = &rule{path: name, class: class, why: strings.TrimSpace(cols[2]), elsewhere: true}
	return nil
}

func parseClass(s string) (Class, error) {
	for c, name := range classNames {
		if s == name {
			return Class(c), nil
		}
	}
	return 0, fmt.Errorf("%q is no class", s)
}

func (t *table) enter(r *rule) error {
	path, value, has := strings.Cut(r.path, " = ")
	if !has {
		if t.rules[r.path] != nil {
			return fmt.Errorf("%s is there twice", r.path)
		}
		t.rules[r.path] = r
		return nil
	}
	all := t.rules[path]
	if all == nil {
		return fmt.Errorf("%s: the line for all values must come first", path)
	}
	if all.values == nil {
		all.values = map[string]*rule{}
	}
	all.values[value] = r
	return nil
}

// unlisted is the rule for a path without a line.
func (t *table) unlisted(message protoreflect.FullName, path string) *rule {
	for _, p := range t.secure {
		if strings.HasPrefix(string(message), p) {
			return &rule{path: path, class: Refused, why: "not known here, and it could matter to security"}
		}
	}
	return &rule{path: path, class: Reported, why: "not known here"}
}
