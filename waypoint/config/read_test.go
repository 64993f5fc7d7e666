package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A field is honoured only if somebody reads what it was compiled into: each field of a program or route type that fields.txt
// names is read outside of this package, and what comes after " + " outside of its own package. Assigning to it is not reading it.
func TestHonouredFieldsAreRead(t *testing.T) {
	l := load(t)
	read := func(where string, hook bool) bool {
		pkg, field, _ := strings.Cut(where, ".")
		for path, used := range l.reads {
			if path == module+"waypoint/config" || hook && path == module+"waypoint/"+pkg {
				continue
			}
			if used[module+"waypoint/"+pkg+"."+field] {
				return true
			}
		}
		return false
	}
	unread := map[string][]string{}
	hooks := map[string]bool{}
	for path, r := range lines(t).rules {
		needs := r.compiledTo
		if needs == "" {
			needs, _, _ = strings.Cut(r.why, ": ")
		}
		for i, id := range strings.Split(needs, " + ") {
			hooks[id] = hooks[id] || i > 0
			if r.class == Honoured && strings.Count(id, ".") == 2 && !read(id, i > 0) {
				unread[id] = append(unread[id], path)
			}
		}
	}
	for id := range lines(t).pending {
		if _, ok := hooks[id]; !ok {
			t.Errorf("pending %s: no line needs it", id)
		} else if read(id, hooks[id]) {
			t.Errorf("%s is read by now: take its pending line out of fields.txt", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(unread)) {
		slices.Sort(unread[id])
		t.Errorf("nobody reads %s: %v are not honoured", id, unread[id])
	}
}

// Package route has a table of its own, by which it refuses single routes. The two must say the same.
func TestRouteAgrees(t *testing.T) {
	for message, sets := range routeRules(t) {
		d := descriptor(t, message)
		if d == nil {
			continue
		}
		for i := range d.Fields().Len() {
			name := string(d.Fields().Get(i).Name())
			r := lines(t).rules[message+"."+name]
			if r == nil {
				t.Errorf("%s.%s has no line", message, name)
				continue
			}
			class := r.class
			if r.compiledTo != "" {
				class = Honoured // route does its part
			}
			switch {
			case slices.Contains(sets[0], name):
				if class > Inert {
					t.Errorf("%s: route honours it", r.path)
				}
			case slices.Contains(sets[1], name):
				if class != Refused || !r.elsewhere {
					t.Errorf("%s: route refuses it: %v, %q", r.path, class, r.why)
				}
			case class == Honoured || class == Refused:
				t.Errorf("%s: route reports it, and leaves it out", r.path)
			}
		}
	}
}

// routeRules reads the table in the source of package route: by message, what it honours and what it refuses.
func routeRules(t *testing.T) map[string][2][]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../route/audit.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][2][]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		kv, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		pair, ok := kv.Value.(*ast.CompositeLit)
		if !ok || len(pair.Elts) != 2 {
			return true
		}
		out[text(t, kv.Key)] = [2][]string{strings.Fields(text(t, pair.Elts[0])), strings.Fields(text(t, pair.Elts[1]))}
		return false
	})
	if len(out) == 0 {
		t.Fatal("route/audit.go has no table")
	}
	return out
}

func text(t *testing.T, e ast.Expr) string {
	t.Helper()
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		t.Fatalf("%T is no string", e)
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
