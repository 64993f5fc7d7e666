package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Options of Load.
type Options struct {
	// Stdin is read for the path "-".
	Stdin io.Reader
	// Namespace of objects that do not name one; default "default", as in kubectl.
	Namespace string
	// Only, if not empty, are the kinds to read; objects of others are ignored, whatever is in them.
	Only []string
}

// Source is a piece of input.
type Source struct {
	Name string // for messages
	Data []byte
}

// Load reads files, directories and, for "-", standard input. An error is of type [Errors] and lists all that is wrong.
func Load(paths []string, o Options) (*Set, error) {
	r := newReader(o)
	w := walker{reader: r, seen: map[string]bool{}}
	for _, path := range paths {
		w.path(path, o.Stdin)
	}
	return r.finish()
}

// Read is Load for what is in memory.
func Read(sources []Source, o Options) (*Set, error) {
	r := newReader(o)
	for _, s := range sources {
		r.source(s)
	}
	return r.finish()
}

// walker finds files.
type walker struct {
	*reader
	seen map[string]bool // directories, by their real path: symbolic links may go round in circles
}

func (w *walker) path(path string, stdin io.Reader) {
	if path == "-" {
		if stdin == nil {
			w.failed(path, "standard input is not there")
			return
		}
		data, err := io.ReadAll(stdin)
		if err != nil {
			w.failed("standard input", err.Error())
			return
		}
		w.source(Source{"standard input", data})
		return
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		w.failed(path, reason(err))
	case info.IsDir():
		found := len(w.sources)
		w.directory(path)
		if len(w.sources) == found {
			w.failed(path, "no manifests there (*.yaml, *.yml, *.json)")
		}
	default:
		w.file(path)
	}
}

func (w *walker) directory(path string) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		w.failed(path, reason(err))
		return
	}
	if w.seen[real] {
		return
	}
	w.seen[real] = true
	entries, err := os.ReadDir(path) // sorted
	if err != nil {
		w.failed(path, reason(err))
		return
	}
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := os.Stat(name) // of what a link leads to
		switch {
		case err != nil:
			w.failed(name, reason(err))
		case info.IsDir():
			w.directory(name)
		case isManifest(name):
			w.file(name)
		default:
			w.ignore(Place{File: name}, "file", "is not named *.yaml, *.yml or *.json")
		}
	}
}

func isManifest(name string) bool {
	if base := filepath.Base(name); base == "kustomization.yaml" || base == "kustomization.yml" {
		return false
	}
	return slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
}

func (w *walker) file(path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		w.failed(path, reason(err))
		return
	}
	w.source(Source{path, data})
}

// reason is an error of the file system without the path, which the message has already.
func reason(err error) string {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// reader collects what the documents say before it is put together.
type reader struct {
	options  Options
	set      Set
	errors   Errors
	sources  []string
	seen     map[string]Place // objects by kind and name
	mesh     meshReader
	meshFrom Place // of MeshConfig
}

func newReader(o Options) *reader {
	o.Namespace = cmp.Or(o.Namespace, "default")
	return &reader{options: o, seen: map[string]Place{}, mesh: meshReader{namespaces: map[string]labels{}}}
}

func (r *reader) failed(file, problem string) {
	r.errors = append(r.errors, &Error{Place: Place{File: file}, Problem: problem})
}

func (r *reader) ignore(at Place, what, why string) {
	r.set.Ignored = append(r.set.Ignored, Ignored{at, what, why})
}

func (r *reader) finish() (*Set, error) {
	if len(r.errors) == 0 {
		r.placeMesh()
	}
	if len(r.errors) > 0 {
		return nil, r.errors
	}
	return &r.set, nil
}

// source reads a file: JSON values, or a YAML stream.
func (r *reader) source(s Source) {
	r.sources = append(r.sources, s.Name)
	data := []byte(strings.TrimPrefix(string(s.Data), "\ufeff"))
	if looksLikeJSON(data) {
		var p parser
		values, err := p.json(data)
		if err == nil {
			for i, n := range values {
				r.document(Place{s.Name, i + 1, n.line}, n)
			}
			return
		}
		if filepath.Ext(s.Name) == ".json" {
			r.notJSON(s.Name, err)
			return
		}
	}
	texts, before := Split(data)
	for i, text := range texts {
		at := Place{s.Name, i + 1, before[i] + 1}
		p := parser{first: before[i], failed: func(line int, problem string) {
			r.errors = append(r.errors, &Error{Place: Place{s.Name, i + 1, line}, Problem: problem})
		}}
		if n := p.yaml(text); n != nil {
			at.Line = n.line
			r.document(at, n)
		}
	}
}

// notJSON reports a JSON file with something wrong in it. Nothing of it is read.
func (r *reader) notJSON(file string, err error) {
	e := &Error{Place: Place{File: file, Document: 1}, Problem: err.Error()}
	if p := (*jsonProblem)(nil); errors.As(err, &p) {
		e.Line = p.line
	}
	r.errors = append(r.errors, e)
}

// document takes one document apart: an object, a list of objects, or a piece of configuration in another form.
func (r *reader) document(at Place, n *node) {
	kind := n.str("kind")
	switch {
	case isEnvoyConfig(n):
		r.envoy(at, n)
	case n.kind != isObject:
		r.errors = append(r.errors, &Error{Place: at, Problem: n.kind.String() + "; a manifest is an object with apiVersion and kind"})
	case strings.HasSuffix(kind, "List") && n.get("items") != nil:
		r.list(at, n, kind)
	case n.get("cases") != nil && kind == "":
		r.ignore(at, "document", "test cases")
	case kind == "" && n.get("apiVersion") == nil && isMeshConfig(n):
		p := &problems{root: n}
		r.meshConfig(p, "", n, at)
		r.take(at, "MeshConfig", p)
	case kind != "" && n.get("apiVersion") == nil:
		r.errors = append(r.errors, &Error{Place: at, Object: kind, Problem: "apiVersion is missing"})
	case kind == "":
		r.errors = append(r.errors, &Error{Place: at, Problem: "neither a Kubernetes object (which has apiVersion and kind), nor an Envoy config_dump, " +
			"nor a list of listeners, nor a MeshConfig"})
	default:
		r.object(at, n, "", "")
	}
}

// list takes the items of a List. Those of a typed list may leave out kind and apiVersion.
func (r *reader) list(at Place, n *node, kind string) {
	item, version := strings.TrimSuffix(kind, "List"), n.str("apiVersion")
	if item == "" {
		version = ""
	}
	items := n.get("items")
	if items.kind != isList {
		r.errors = append(r.errors, &Error{Place: at, Object: kind, Field: "items", Problem: items.describe() + " where a list belongs"})
		return
	}
	for i, one := range items.items {
		place := at
		place.Line = one.line
		if one.kind != isObject {
			r.errors = append(r.errors, &Error{Place: place, Object: kind, Field: fmt.Sprintf("items[%d]", i), Problem: one.describe() + " where an object belongs"})
			continue
		}
		r.object(place, one, item, version)
	}
}

// take adds the problems of an object to all others.
func (r *reader) take(at Place, object string, p *problems) {
	for _, e := range p.list {
		e.File, e.Document, e.Object = at.File, at.Document, object
		e.Line = cmp.Or(e.Line, at.Line)
		r.errors = append(r.errors, e)
	}
}
