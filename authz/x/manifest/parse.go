package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxAliased bounds what a document may grow by through YAML aliases that contain aliases.
const maxAliased = 100_000

// parser turns text into nodes, and collects what is wrong.
type parser struct {
	first  int          // line of the file before the document's first
	active []*yaml.Node // anchors that are being expanded
	copies int          // values that were made by expanding
	failed func(line int, problem string)
}

func (p *parser) fail(line int, format string, args ...any) {
	p.failed(line, fmt.Sprintf(format, args...))
}

// Split cuts a YAML stream into documents, each with the number of lines before it.
func Split(data []byte) (documents [][]byte, before []int) {
	var current []byte
	start, n := 0, 0
	for line := range bytes.Lines(data) {
		n++
		if bytes.HasPrefix(line, []byte("---")) && (len(line) == 3 || bytes.IndexByte([]byte(" \t\r\n"), line[3]) >= 0) {
			if n > 1 {
				documents, before = append(documents, current), append(before, start)
			}
			current, start = append([]byte("   "), line[3:]...), n-1 // what follows the marker belongs to the document
			continue
		}
		current = append(current, line...)
	}
	return append(documents, current), append(before, start)
}

// looksLikeJSON tells by the first character. A YAML flow mapping looks the same, and is read as YAML if it is no JSON.
func looksLikeJSON(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && (data[0] == '{' || data[0] == '[')
}

// yaml reads one document. It returns nil for one without content, and after an error.
func (p *parser) yaml(text []byte) *node {
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	err := d.Decode(&doc)
	if err == io.EOF {
		return nil
	}
	if err == nil {
		if err = d.Decode(&more); err == io.EOF {
			err = nil
		} else if err == nil {
			p.fail(p.first+more.Line, "a second document without --- before it")
			return nil
		}
	}
	if err != nil {
		line, problem := yamlError(err)
		if at := tabIn(text); at > 0 {
			line, problem = at, "not YAML: the line begins with a tab; YAML is indented with spaces"
		}
		p.fail(p.first+line, "%s", problem)
		return nil
	}
	if len(doc.Content) == 0 {
		return nil
	}
	return p.convert(doc.Content[0])
}

// tabIn is the first line, from 1, that is indented with a tab; 0 for none. It is asked only of what is not YAML.
func tabIn(text []byte) int {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if rest := bytes.TrimLeft(line, " "); len(rest) > 0 && rest[0] == '\t' {
			return n
		}
	}
	return 0
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)`)

func yamlError(err error) (line int, problem string) {
	m := yamlLine.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " "))
	line, convErr := strconv.Atoi(m[1])
	if convErr != nil {
		line = 1
	}
	return line, "not YAML: " + m[2]
}

// convert resolves aliases, merge keys and scalars.
func (p *parser) convert(y *yaml.Node) *node {
	if len(p.active) > 0 {
		if p.copies++; p.copies == maxAliased {
			p.fail(p.first+y.Line, "too large: aliases stand for more than %d values", maxAliased)
		}
		if p.copies >= maxAliased {
			return &node{line: p.first + y.Line}
		}
	}
	n := &node{line: p.first + y.Line}
	switch y.Kind {
	case yaml.AliasNode:
		if slices.Contains(p.active, y.Alias) {
			p.fail(n.line, "alias *%s stands inside of what it refers to", y.Value)
			return n
		}
		p.active = append(p.active, y.Alias)
		defer func() { p.active = p.active[:len(p.active)-1] }()
		return p.convert(y.Alias)
	case yaml.MappingNode:
		n.kind = isObject
		p.mapping(n, y)
	case yaml.SequenceNode:
		n.kind = isList
		for _, item := range y.Content {
			n.items = append(n.items, p.convert(item))
		}
	case yaml.ScalarNode:
		p.scalar(n, y)
	}
	return n
}

func (p *parser) mapping(n *node, y *yaml.Node) {
	var merged []member
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		line := p.first + key.Line
		switch {
		case key.Kind != yaml.ScalarNode:
			p.fail(line, "a key has to be a string")
			continue
		case key.ShortTag() == "!!merge":
			merged = append(merged, p.merge(value)...)
			continue
		case key.ShortTag() == "!!bool" || isOldBool(key):
			p.fail(line, "key %s is a boolean in YAML as Kubernetes reads it: quote it", key.Value)
			continue
		}
		if n.get(key.Value) != nil {
			p.fail(line, "key %s stands twice in one object", strconv.Quote(key.Value))
			continue
		}
		n.members = append(n.members, member{key.Value, line, p.convert(value)})
	}
	for _, m := range merged { // what stands in the object itself goes before what is merged into it
		if n.get(m.name) == nil {
			n.members = append(n.members, m)
		}
	}
}

func (p *parser) merge(value *yaml.Node) []member {
	n := p.convert(value)
	if n.kind == isList {
		var all []member
		for _, item := range n.items {
			all = append(all, item.members...)
		}
		return all
	}
	if n.kind != isObject {
		p.fail(n.line, "<< wants an object to merge, not %s", n.kind)
	}
	return n.members
}

// isOldBool knows the booleans of YAML 1.1, which Kubernetes' tools still read.
func isOldBool(y *yaml.Node) bool {
	if y.Style != 0 || y.ShortTag() != "!!str" {
		return false
	}
	switch y.Value {
	case "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF":
		return true
	}
	return false
}

func (p *parser) scalar(n *node, y *yaml.Node) {
	if isOldBool(y) {
		n.written = y.Value
		n.kind, n.text = isBool, strconv.FormatBool(strings.ContainsAny(y.Value[:1], "yY") || strings.EqualFold(y.Value, "on"))
		return
	}
	n.written = y.Value
	var v any
	switch tag := y.ShortTag(); tag {
	case "!!str", "!!timestamp":
		n.kind, n.text, n.block = isText, y.Value, y.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
		return
	case "!!null":
		return
	case "!!bool", "!!int", "!!float":
		if err := y.Decode(&v); err != nil {
			_, problem := yamlError(err)
			p.fail(n.line, "%s", problem)
			return
		}
	default:
		p.fail(n.line, "values tagged %s are not understood", tag)
		return
	}
	switch v := v.(type) {
	case bool:
		n.kind, n.text = isBool, strconv.FormatBool(v)
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			p.fail(n.line, "%s is no number in JSON", y.Value)
			return
		}
		n.kind, n.text = isNumber, strconv.FormatFloat(v, 'g', -1, 64)
	default: // int, int64, uint64
		n.kind, n.text = isNumber, fmt.Sprint(v)
	}
}

// json reads a stream of JSON values. An error is returned, not reported, because the text may be YAML after all.
func (p *parser) json(data []byte) ([]*node, error) {
	r := jsonReader{data: data, Decoder: json.NewDecoder(bytes.NewReader(data)), line: 1}
	r.UseNumber()
	var out []*node
	for {
		token, err := r.Token()
		if err == io.EOF {
			return out, nil
		}
		if err == nil {
			var n *node
			if n, err = r.value(token); err == nil {
				out = append(out, n)
				continue
			}
		}
		var problem *jsonProblem
		if !errors.As(err, &problem) {
			problem = &jsonProblem{r.here(), "not JSON: " + err.Error()}
		}
		return nil, problem
	}
}

type jsonProblem struct {
	line    int
	problem string
}

func (e *jsonProblem) Error() string { return e.problem }

type jsonReader struct {
	*json.Decoder
	data   []byte
	line   int
	offset int // up to which lines are counted
}

// here is the line of the token that was read last.
func (r *jsonReader) here() int {
	end := min(int(r.InputOffset()), len(r.data))
	r.line += bytes.Count(r.data[r.offset:end], []byte("\n"))
	r.offset = end
	return r.line
}

func (r *jsonReader) value(token json.Token) (*node, error) {
	n := &node{line: r.here()}
	switch v := token.(type) {
	case json.Delim:
		if v == '[' {
			n.kind = isList
			return n, r.list(n)
		}
		n.kind = isObject
		return n, r.object(n)
	case string:
		n.kind, n.text = isText, v
	case json.Number:
		n.kind, n.text = isNumber, v.String()
	case bool:
		n.kind, n.text = isBool, strconv.FormatBool(v)
	}
	return n, nil
}

func (r *jsonReader) list(n *node) error {
	for {
		token, err := r.Token()
		if err != nil {
			return cut(err)
		}
		if token == json.Delim(']') {
			return nil
		}
		item, err := r.value(token)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
}

func (r *jsonReader) object(n *node) error {
	seen := map[string]bool{}
	for {
		token, err := r.Token()
		if err != nil {
			return cut(err)
		}
		if token == json.Delim('}') {
			return nil
		}
		m := member{name: fmt.Sprint(token), line: r.here()}
		if token, err = r.Token(); err != nil {
			return cut(err)
		}
		if m.value, err = r.value(token); err != nil {
			return err
		}
		if seen[m.name] {
			return &jsonProblem{m.line, fmt.Sprintf("key %q stands twice in one object", m.name)}
		}
		seen[m.name] = true
		n.members = append(n.members, m)
	}
}

func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
