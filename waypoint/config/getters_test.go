package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/runtime/protoimpl"
)

const module = "github.com/gowaypoint/gowaypoint/"

// A field is honoured only if the package that its line names reads it: calls its getter, selects it, or asks for the type of
// its oneof. The packages are type-checked, so a getter of the same name in another message does not count.
func TestHonouredFieldsAreReadWhereTheirLinesSay(t *testing.T) {
	l := load(t)
	for _, path := range slices.Sorted(maps.Keys(lines(t).rules)) {
		r := lines(t).rules[path]
		if r.class != Honoured && r.compiledTo == "" || strings.HasPrefix(path, "struct:") {
			continue
		}
		where := r.compiledTo
		if where == "" {
			where, _, _ = strings.Cut(r.why, ": ")
		}
		where, _, _ = strings.Cut(where, " + ")
		if where == "fields" {
			if fd := descriptor(t, path[:strings.LastIndexByte(path, '.')]).Fields().ByName(protoreflect.Name(path[strings.LastIndexByte(path, '.')+1:])); fd.Message() == nil {
				t.Errorf("%s: is no message, and has no fields to look at", path)
			}
			continue
		}
		dirs, err := l.readers(where)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		names, err := goNames(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if !slices.ContainsFunc(dirs, func(d string) bool {
			return slices.ContainsFunc(names, func(n string) bool { return l.reads[d][n] })
		}) {
			t.Errorf("%s: %q does not read it (%v)", path, where, names)
		}
	}
}

// readers are the packages that may read a field for the package that the line names: that one, and those of ours that it
// imports. What is compiled into package program is read here.
func (l *loaded) readers(where string) ([]string, error) {
	kind, name, scoped := strings.Cut(where, ":")
	if !scoped {
		kind, _, _ = strings.Cut(where, ".")
	}
	switch kind {
	case "config", "program":
		return []string{module + "waypoint/config"}, nil
	case "route", "identity":
		return l.closure(module + "waypoint/" + kind)
	case "filter":
		return l.closure(module + "waypoint/filter/" + name)
	case "telemetry":
		return l.closure(module + "telemetry/" + name)
	}
	return nil, fmt.Errorf("%q names no package", where)
}

// goNames are the Go identifiers by which the field of a message may be read, as reads has them.
func goNames(path string) ([]string, error) {
	i := strings.LastIndexByte(path, '.')
	mt, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(path[:i]))
	if err != nil {
		return nil, err
	}
	field := path[i+1:]
	typ := reflect.TypeOf(mt.Zero().Interface()).Elem()
	own := typ.PkgPath() + "." + typ.Name() + "."
	if f, ok := tagged(typ, field); ok {
		return []string{own + f, own + "Get" + f}, nil
	}
	if mi, ok := mt.(*protoimpl.MessageInfo); ok {
		for _, w := range mi.OneofWrappers {
			wt := reflect.TypeOf(w).Elem()
			if f, ok := tagged(wt, field); ok {
				return []string{own + "Get" + f, typ.PkgPath() + "." + wt.Name()}, nil
			}
		}
	}
	return nil, errors.New("no Go field")
}

// tagged finds the struct field of a protobuf field.
func tagged(t reflect.Type, field string) (string, bool) {
	for i := range t.NumField() {
		if slices.Contains(strings.Split(t.Field(i).Tag.Get("protobuf"), ","), "name="+field) {
			return t.Field(i).Name, true
		}
	}
	return "", false
}

// loaded is our packages, type-checked.
type loaded struct {
	imports map[string][]string
	// reads has "import path.Type.Method", "import path.Type.Field" and "import path.Type", by the package that uses it.
	reads map[string]map[string]bool
}

type listed struct {
	ImportPath, Dir, Export string
	GoFiles, Imports        []string
}

func load(t *testing.T) *loaded {
	t.Helper()
	if packages == nil {
		packages = loadPackages(t)
	}
	return packages
}

// packages is loaded once for all tests, which run one after the other.
var packages *loaded

func loadPackages(t *testing.T) *loaded {
	t.Helper()
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,Imports",
		module+"waypoint/...", module+"telemetry/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*listed{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := &listed{}
		if err := dec.Decode(p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
	l := &loaded{imports: map[string][]string{}, reads: map[string]map[string]bool{}}
	fset := token.NewFileSet()
	imp := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(all[path].Export) })
	for path, p := range all {
		if strings.HasPrefix(path, module) {
			l.imports[path] = p.Imports
			l.reads[path] = uses(t, fset, imp, p)
		}
	}
	return l
}

// closure is a package and those of ours that it imports, directly or not.
func (l *loaded) closure(path string) ([]string, error) {
	if l.reads[path] == nil {
		return nil, fmt.Errorf("there is no package %s", path)
	}
	out := []string{path}
	for i := 0; i < len(out); i++ {
		for _, p := range l.imports[out[i]] {
			if strings.HasPrefix(p, module) && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

// uses collects what a package uses of others' types.
func uses(t *testing.T, fset *token.FileSet, imp types.Importer, p *listed) map[string]bool {
	t.Helper()
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{}}
	conf := types.Config{Importer: imp}
	if _, err := conf.Check(p.ImportPath, fset, files, info); err != nil {
		t.Fatal(err)
	}
	assigned := map[*ast.SelectorExpr]bool{}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if a, ok := n.(*ast.AssignStmt); ok && a.Tok == token.ASSIGN {
				for _, x := range a.Lhs {
					if s, ok := x.(*ast.SelectorExpr); ok {
						assigned[s] = true
					}
				}
			}
			return true
		})
	}
	out := map[string]bool{}
	for e, s := range info.Selections {
		if assigned[e] {
			continue
		}
		recv := s.Recv()
		if ptr, ok := recv.(*types.Pointer); ok {
			recv = ptr.Elem()
		}
		if n, ok := recv.(*types.Named); ok && n.Obj().Pkg() != nil {
			out[n.Obj().Pkg().Path()+"."+n.Obj().Name()+"."+s.Obj().Name()] = true
		}
	}
	for _, o := range info.Uses {
		if tn, ok := o.(*types.TypeName); ok && tn.Pkg() != nil {
			out[tn.Pkg().Path()+"."+tn.Name()] = true
		}
	}
	return out
}
