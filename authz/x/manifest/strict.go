package manifest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// problems collects what is wrong with one object.
type problems struct {
	root *node
	list []*Error
}

// at reports a problem on the line of a field.
func (p *problems) at(path, format string, args ...any) {
	p.list = append(p.list, &Error{Place: Place{Line: p.root.lineOf(path)}, Field: path, Problem: fmt.Sprintf(format, args...)})
}

// inert is a field that is accepted and not read here.
type inert struct{}

// fromNode is a type that reads itself; it returns what is wrong.
type fromNode interface{ fromNode(n *node) string }

// decode reads a node into a Go value by json tags. What the type does not have is a problem.
func (p *problems) decode(path string, n *node, into any) {
	p.value(path, n, reflect.ValueOf(into).Elem())
}

func (p *problems) value(path string, n *node, v reflect.Value) {
	if n.kind == isNull { // as if it were not there
		return
	}
	if v.Type() == reflect.TypeFor[inert]() {
		return
	}
	if own, ok := v.Addr().Interface().(fromNode); ok {
		if problem := own.fromNode(n); problem != "" {
			p.at(path, "%s", problem)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.Type() == reflect.TypeFor[*node]() {
			v.Set(reflect.ValueOf(n))
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		p.value(path, n, v.Elem())
	case reflect.Struct:
		p.structure(path, n, v)
	case reflect.Slice:
		if !p.wants(path, n, isList) {
			return
		}
		for i, item := range n.items {
			e := reflect.New(v.Type().Elem()).Elem()
			p.value(fmt.Sprintf("%s[%d]", path, i), item, e)
			v.Set(reflect.Append(v, e))
		}
	case reflect.Map:
		if !p.wants(path, n, isObject) {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for _, m := range n.members {
			e := reflect.New(v.Type().Elem()).Elem()
			p.value(path+"["+m.name+"]", m.value, e)
			v.SetMapIndex(reflect.ValueOf(m.name), e)
		}
	default:
		p.plain(path, n, v)
	}
}

func (p *problems) structure(path string, n *node, v reflect.Value) {
	if !p.wants(path, n, isObject) {
		return
	}
	var known []string
	fields := map[string]reflect.Value{}
	collectFields(v, &known, fields)
	for _, m := range n.members {
		at := strings.TrimPrefix(path+"."+m.name, ".")
		if f, ok := fields[m.name]; ok {
			p.value(at, m.value, f)
		} else {
			p.unknown(at, m.name, known)
		}
	}
}

func collectFields(v reflect.Value, known *[]string, fields map[string]reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if names := f.Tag.Get("others"); names != "" { // names of fields that are accepted and not read
			for _, name := range strings.Fields(names) {
				*known = append(*known, name)
				fields[name] = reflect.New(reflect.TypeFor[inert]()).Elem()
			}
			continue
		}
		if f.Anonymous {
			collectFields(v.Field(i), known, fields)
			continue
		}
		name := f.Tag.Get("json")
		*known = append(*known, name)
		fields[name] = v.Field(i)
	}
}

// unknown reports a field that is not there, with the one that may be meant.
func (p *problems) unknown(path, name string, known []string) {
	if near := nearest(name, known); near != "" {
		p.at(path, "no such field; did you mean %s?", near)
		return
	}
	if len(known) <= 12 {
		p.at(path, "no such field; there are %s", strings.Join(known, ", "))
		return
	}
	p.at(path, "no such field")
}

func (p *problems) wants(path string, n *node, k kind) bool {
	if n.kind == k {
		return true
	}
	p.at(path, "%s where %s belongs", n.describe(), k)
	return false
}

// describe says what there is, with a hint at quotes for what YAML did not take for a string.
func (n *node) describe() string {
	switch n.kind {
	case isNumber, isBool:
		return fmt.Sprintf("%s (%s)", n.kind, cmp.Or(n.written, n.text))
	case isText:
		return fmt.Sprintf("%s (%q)", n.kind, n.text)
	}
	return n.kind.String()
}

// wantsText is wants for strings, where a forgotten pair of quotes is the usual mistake.
func (p *problems) wantsText(path string, n *node) bool {
	if n.kind == isNumber || n.kind == isBool {
		p.at(path, "%s where a string belongs; quote it: %q", n.describe(), cmp.Or(n.written, n.text))
		return false
	}
	return p.wants(path, n, isText)
}

func (p *problems) plain(path string, n *node, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if p.wantsText(path, n) {
			v.SetString(n.text)
		}
	case reflect.Bool:
		if p.wants(path, n, isBool) {
			v.SetBool(n.text == "true")
		}
	default:
		if !p.wants(path, n, isNumber) {
			return
		}
		if err := json.Unmarshal([]byte(n.text), v.Addr().Interface()); err != nil {
			p.at(path, "%s is out of range or not whole", n.text)
		}
	}
}

// nearest finds the name that was probably meant, "" if none is near.
func nearest(name string, known []string) string {
	best, distance := "", len(name)/3+1 // about one slip in three letters
	for _, k := range known {
		if strings.EqualFold(strings.ReplaceAll(k, "_", ""), strings.ReplaceAll(name, "_", "")) || k == name+"s" || name == k+"s" {
			return k
		}
		if d := editDistance(strings.ToLower(name), strings.ToLower(k)); d < distance || d == distance && best == "" {
			best, distance = k, d
		}
	}
	return best
}

// editDistance counts insertions, deletions, replacements and swaps of neighbours.
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = slices.Min([]int{rows[i-1][j] + 1, rows[i][j-1] + 1, rows[i-1][j-1] + cost})
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
