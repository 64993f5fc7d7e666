package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
)

func lines(t *testing.T) *table {
	t.Helper()
	tab, err := fields()
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func descriptor(t *testing.T, message string) protoreflect.MessageDescriptor {
	t.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(message))
	if err != nil {
		t.Errorf("[%s]: %v", message, err)
		return nil
	}
	return d.(protoreflect.MessageDescriptor)
}

// Every line names a field that exists, and every value of an enum one that exists.
func TestTableNamesFields(t *testing.T) {
	tab := lines(t)
	for _, path := range slices.Sorted(maps.Keys(tab.rules)) {
		if strings.HasPrefix(path, "struct:") {
			continue // known by TypedStruct only: there is no descriptor
		}
		i := strings.LastIndexByte(path, '.')
		d := descriptor(t, path[:i])
		if d == nil {
			continue
		}
		fd := d.Fields().ByName(protoreflect.Name(path[i+1:]))
		if fd == nil {
			t.Errorf("%s: no such field", path)
			continue
		}
		for value := range tab.rules[path].values {
			if fd.Kind() == protoreflect.EnumKind && fd.Enum().Values().ByName(protoreflect.Name(value)) == nil {
				t.Errorf("%s = %s: no such value", path, value)
			}
		}
	}
}

// What an honoured field leads to is decided field by field, so every message that can be reached has a section.
func TestTableIsClosed(t *testing.T) {
	tab := lines(t)
	for message := range tab.messages {
		if strings.HasPrefix(message, "struct:") {
			continue
		}
		d := descriptor(t, message)
		if d == nil {
			continue
		}
		for i := range d.Fields().Len() {
			fd := d.Fields().Get(i)
			r := tab.rules[message+"."+string(fd.Name())]
			if r == nil || r.class != Honoured || r.whole {
				continue
			}
			below := fd.Message()
			if fd.IsMap() {
				below = fd.MapValue().Message()
			}
			if below == nil || below.ParentFile().Package() == "google.protobuf" || tab.messages[string(below.FullName())] {
				continue
			}
			t.Errorf("%s is honoured, but there is no [%s]", r.path, below.FullName())
		}
	}
}

// Every honoured field says where; the identifiers of packages that are here must exist, so that what is renamed or removed
// takes its line along.
func TestTableNamesCode(t *testing.T) {
	known := map[string]map[string]bool{"config": identifiers(t, "."), "program": identifiers(t, "../program"), "route": identifiers(t, "../route")}
	tab := lines(t)
	for _, path := range slices.Sorted(maps.Keys(tab.rules)) {
		r := tab.rules[path]
		if r.class != Honoured {
			continue
		}
		where, _, _ := strings.Cut(r.why, ":")
		where, _, _ = strings.Cut(where, " + ")
		switch where {
		case "filter", "telemetry", "identity", "fields":
			continue // a package, which another test looks into
		}
		pkg, name, ok := strings.Cut(where, ".")
		if !ok || known[pkg] == nil || !known[pkg][name] {
			t.Errorf("%s: %q is no identifier of config, program or route", path, where)
		}
	}
}

// identifiers collects Type, Type.Field, func and method names of a package.
func identifiers(t *testing.T, dir string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			switch x := decl.(type) {
			case *ast.FuncDecl:
				out[x.Name.Name] = true
			case *ast.GenDecl:
				for _, s := range x.Specs {
					if ts, ok := s.(*ast.TypeSpec); ok {
						typeIdentifiers(ts, out)
					}
				}
			}
		}
	}
	return out
}

func typeIdentifiers(ts *ast.TypeSpec, out map[string]bool) {
	out[ts.Name.Name] = true
	st, ok := ts.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range st.Fields.List {
		for _, n := range f.Names {
			out[ts.Name.Name+"."+n.Name] = true
		}
	}
}

func TestTableSyntax(t *testing.T) {
	for text, want := range map[string]string{
		"[a.B]\nx | honoured":                          "fields.txt:2: want field | class | where or why",
		"[a.B]\nx | well | why":                        `fields.txt:2: "well" is no class`,
		"[a.B]\nx | inert | why\nx | inert | why":      "fields.txt:3: a.B.x is there twice",
		"[a.B]\nx = 1 | inert | why":                   "fields.txt:2: a.B.x: the line for all values must come first",
		"[a.B]\n[a.B]":                                 "fields.txt:2: [a.B] is there twice",
		"secure | a.\n[a.B]\nx | honoured | program.X": "",
	} {
		_, err := parseTable(text)
		if got := errText(err); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestPerConnectionHeaderIsReported(t *testing.T) {
	const path = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TunnelingConfig.headers_to_add"
	for value, want := range map[string]Class{
		"waypoint": Honoured,
		"%FILTER_STATE(istio.double_hbone.hbone_target_address:PLAIN)%": Honoured,
		"%FILTER_STATE(io.istio.baggage:PLAIN)%":                        Reported,
	} {
		m := &tcpv3.TcpProxy{TunnelingConfig: &tcpv3.TcpProxy_TunnelingConfig{HeadersToAdd: []*corev3.HeaderValueOption{
			{Header: &corev3.HeaderValue{Key: "plain", Value: "x"}}, {Header: &corev3.HeaderValue{Key: "baggage", Value: value}}}}}
		got := Honoured
		for _, f := range newCensus().take(newDecoder(), m).found {
			if strings.HasPrefix(f.path, path) {
				got = f.class
			}
		}
		if got != want {
			t.Errorf("%s: %v, want %v", value, got, want)
		}
	}
}
