package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A field is honoured only if somebody reads what it was compiled into: each program or route field that fields.txt names is
// selected somewhere outside of this package. Names are compared without their types, so a field whose name
// is common may go unnoticed.
func TestHonouredFieldsAreRead(t *testing.T) {
	read := selected(t, "..", "config")
	unread := map[string][]string{}
	for path, r := range lines(t).rules {
		where, _, _ := strings.Cut(r.why, ":")
		parts := strings.Split(where, ".")
		if r.class != Honoured || len(parts) != 3 || parts[0] != "program" {
			continue
		}
		if !read[parts[2]] {
			unread[where] = append(unread[where], path)
		}
	}
	for id := range lines(t).pending {
		if parts := strings.Split(id, "."); read[parts[len(parts)-1]] {
			t.Errorf("%s is read by now: take its pending line out of fields.txt", id)
		}
	}
	for _, where := range slices.Sorted(maps.Keys(unread)) {
		slices.Sort(unread[where])
		t.Errorf("nobody reads %s: %v are not honoured", where, unread[where])
	}
}

// selected collects the names of fields and methods that the packages below dir select, those in skip and tests left out.
func selected(t *testing.T, dir string, skip ...string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && slices.Contains(skip, e.Name()):
			return filepath.SkipDir
		case e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				out[s.Sel.Name] = true
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
