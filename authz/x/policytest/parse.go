package policytest

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gowaypoint/gowaypoint/authz/x/query"
)

// Parse reads a table of cases.
//
// The document has cases, and optionally defaults and clients.
//
// A case has a name; from, one client or a list of them (the name of an entry in clients, an identity, or an object of fields);
// to, one operation or a list of them ("GET /path", "TCP", or an object of fields); expect, which is allow, deny or ask; and by,
// the policy that has to decide: namespace/name, with a rule as in namespace/name[0], or none when no policy may match. Every
// client is tried with every operation. In place of from, expect may be an object: for each client one verdict, or a list
// with one for each operation.
//
// The fields of a request may stand in defaults, in a case, in an entry of from and in an entry of to; the later of these goes
// before the earlier.
//
//	for            the target: Service/<namespace>/<name>, or ServiceEntry or Gateway (not in from and to)
//	source         the client's identity, spiffe:// optional
//	sourceIp       its address
//	remoteIp       its address as trusted forwarding headers tell it
//	jwt            the claims of its verified token, an object
//	method, path, host, scheme
//	headers        an object; a list of values sends the header several times
//	port           that the client dials
//	destinationIp  that the client dials
//	sni            of its TLS hello
//	tcp            true for a connection that is not HTTP
//	metadata       dynamic metadata: an object by filter
//
// The error is [Errors].
func Parse(file string, data []byte) ([]Case, error) {
	p := &parser{file: file}
	var doc, second yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&doc); err == io.EOF || err == nil && len(doc.Content) == 0 {
		return nil, Errors{{File: file, Line: 1, Problem: "there are no cases"}}
	} else if err != nil {
		return nil, Errors{{File: file, Problem: strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	cases := p.table(doc.Content[0])
	if err := d.Decode(&second); err != io.EOF {
		p.fail(&second, "", "a second document; a file has one table")
	}
	if len(p.errors) == 0 && len(cases) == 0 {
		p.fail(doc.Content[0], "cases", "there are no cases")
	}
	if len(p.errors) > 0 {
		return nil, p.errors
	}
	return cases, nil
}

// Error is one thing that is wrong with a table.
type Error struct {
	File    string
	Line    int
	Field   string
	Problem string
}

func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s += fmt.Sprintf(":%d", e.Line)
	}
	if e.Field != "" {
		s += ": " + e.Field
	}
	return s + ": " + e.Problem
}

// Errors is everything that is wrong with a table. It has at least one element.
type Errors []*Error

// Error has a line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

type parser struct {
	file     string
	errors   Errors
	defaults fields
	clients  map[string]client
	merges   int
}

// client is an entry of from, with the name that it has in reports.
type client struct {
	name   string
	fields fields
}

func (p *parser) fail(n *yaml.Node, field, format string, args ...any) {
	p.errors = append(p.errors, &Error{p.file, n.Line, field, fmt.Sprintf(format, args...)})
}

// table reads the document.
func (p *parser) table(n *yaml.Node) []Case {
	p.clients = map[string]client{}
	var cases *yaml.Node
	p.object(n, "", []string{"defaults", "clients", "cases"}, func(key string, v *yaml.Node) {
		switch key {
		case "defaults":
			p.fields(v, "defaults", &p.defaults, requestFields)
		case "clients":
			p.members(v, "clients", func(name string, v *yaml.Node) {
				at := "clients." + name
				if name == "nobody" {
					p.fail(v, at, "nobody is the client without an identity; choose another name")
				}
				p.clients[name] = client{name, p.clientFields(v, at)}
			})
		case "cases":
			cases = v
		}
	})
	var out []Case
	for i, c := range p.items(cases) {
		out = append(out, p.testCase(resolved(c), fmt.Sprintf("cases[%d]", i))...)
	}
	return out
}

// testCase reads one entry of cases and multiplies it out.
func (p *parser) testCase(n *yaml.Node, at string) []Case {
	c := Case{File: p.file, Line: n.Line}
	var own fields
	var from, to, expect *yaml.Node
	ok := p.object(n, at, append([]string{"name", "from", "to", "expect", "by"}, requestFields...), func(key string, v *yaml.Node) {
		switch key {
		case "name":
			c.Name = p.text(v, at+".name")
		case "from":
			from = v
		case "to":
			to = v
		case "expect":
			expect = v
		case "by":
			c.Expect.By = p.text(v, at+".by")
			if _, _, ok := splitBy(c.Expect.By); !ok {
				p.fail(v, at+".by", "%q; want namespace/name, namespace/name[rule] or none", c.Expect.By)
			}
		default:
			p.field(key, v, at+"."+key, &own)
		}
	})
	if !ok {
		return nil
	}
	if c.Name == "" {
		p.fail(n, at, "name is missing")
	}
	if expect == nil {
		p.fail(n, at, "expect is missing: allow, deny or ask")
		return nil
	}
	clients := p.listOf(from, at+".from", p.client)
	operations := p.listOf(to, at+".to", p.operation)
	verdicts := p.verdicts(expect, at+".expect", &clients, len(operations), from != nil)
	if verdicts == nil {
		return nil
	}
	var out []Case
	for i, who := range clients {
		for j, what := range operations {
			one := c
			one.Expect.Verdict = verdicts[i][j]
			for _, f := range []*fields{&p.defaults, &own, &who.fields, &what.fields} {
				f.apply(&one)
			}
			if !one.Query.TCP {
				if one.Query.Method == "" {
					one.Query.Method = "GET"
				}
				if one.Query.Path == "" {
					one.Query.Path = "/"
				}
			}
			if names := joined(who.name, what.name); names != "" && (len(clients) > 1 || len(operations) > 1) {
				one.Name += " (" + names + ")"
			}
			out = append(out, one)
		}
	}
	return out
}

func joined(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}

// verdicts reads expect, as a verdict for each client and operation. An object names the clients itself.
func (p *parser) verdicts(n *yaml.Node, at string, clients *[]client, operations int, hasFrom bool) [][]Verdict {
	if n.Kind != yaml.MappingNode {
		v, ok := p.verdict(n, at)
		if !ok {
			return nil
		}
		out := make([][]Verdict, len(*clients))
		for i := range out {
			out[i] = slices.Repeat([]Verdict{v}, operations)
		}
		return out
	}
	if hasFrom {
		p.fail(n, at, "the clients stand in expect; leave out from")
		return nil
	}
	*clients = nil
	var out [][]Verdict
	ok := true
	p.members(n, at, func(name string, v *yaml.Node) {
		key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name, Line: v.Line}
		*clients = append(*clients, p.client(key, at+"."+name))
		if v.Kind != yaml.SequenceNode {
			one, good := p.verdict(v, at+"."+name)
			ok = ok && good
			out = append(out, slices.Repeat([]Verdict{one}, operations))
			return
		}
		if len(v.Content) != operations {
			p.fail(v, at+"."+name, "%d verdicts for %d operations", len(v.Content), operations)
			ok = false
		}
		var row []Verdict
		for i, item := range v.Content {
			one, good := p.verdict(item, fmt.Sprintf("%s.%s[%d]", at, name, i))
			ok = ok && good
			row = append(row, one)
		}
		out = append(out, row)
	})
	if !ok {
		return nil
	}
	return out
}

func (p *parser) verdict(n *yaml.Node, at string) (Verdict, bool) {
	v, ok := parseVerdict(n.Value)
	if !ok || n.Kind != yaml.ScalarNode {
		p.fail(n, at, "%q; want allow, deny or ask", n.Value)
	}
	return v, ok
}

// listOf reads one entry or a list of them; nothing is one entry without fields.
func (p *parser) listOf(n *yaml.Node, at string, read func(*yaml.Node, string) client) []client {
	switch {
	case n == nil:
		return []client{{}}
	case n.Kind != yaml.SequenceNode:
		return []client{read(n, at)}
	case len(n.Content) == 0:
		p.fail(n, at, "an empty list tests nothing")
	}
	var out []client
	for i, item := range n.Content {
		out = append(out, read(resolved(item), fmt.Sprintf("%s[%d]", at, i)))
	}
	return out
}

// resolved follows an alias.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// client reads an entry of from.
func (p *parser) client(n *yaml.Node, at string) client {
	if n.Kind != yaml.ScalarNode {
		f := p.clientFields(n, at)
		return client{f.name(), f}
	}
	name := p.text(n, at)
	if c, ok := p.clients[name]; ok {
		return c
	}
	if name != "nobody" && !strings.Contains(name, "/") {
		known := slices.Sorted(maps.Keys(p.clients))
		if !slices.Contains(known, "nobody") {
			known = append(known, "nobody")
		}
		p.fail(n, at, "client %q is not defined; there are %s", name, strings.Join(known, ", "))
		return client{}
	}
	return client{name, p.clientFields(n, at)}
}

func (p *parser) clientFields(n *yaml.Node, at string) fields {
	var f fields
	if n.Kind == yaml.ScalarNode {
		p.field("source", n, at, &f)
		return f
	}
	p.fields(n, at, &f, entryFields)
	return f
}

// operation reads an entry of to.
func (p *parser) operation(n *yaml.Node, at string) client {
	var f fields
	if n.Kind != yaml.ScalarNode {
		p.fields(n, at, &f, entryFields)
		return client{f.name(), f}
	}
	words := strings.Fields(p.text(n, at))
	switch {
	case len(words) == 1 && words[0] == "TCP":
		f.add(func(c *Case) { c.Query.TCP = true })
	case len(words) == 2 && strings.HasPrefix(words[1], "/"):
		f.add(func(c *Case) { c.Query.Method, c.Query.Path = words[0], words[1] })
	case len(words) == 1 && strings.HasPrefix(words[0], "/"):
		f.add(func(c *Case) { c.Query.Path = words[0] })
	default:
		p.fail(n, at, "%q; want a method and a path, such as GET /cart, or TCP, or an object of fields", n.Value)
	}
	return client{n.Value, f}
}

// fields are what an object sets in a case, in order.
type fields struct{ set []func(*Case) }

func (f *fields) add(set func(*Case)) { f.set = append(f.set, set) }

func (f *fields) apply(c *Case) {
	for _, set := range f.set {
		set(c)
	}
}

// name describes an entry by what it sets.
func (f *fields) name() string {
	var c Case
	f.apply(&c)
	var words []string
	add := func(s string) {
		if s != "" {
			words = append(words, s)
		}
	}
	q := &c.Query
	add(strings.TrimPrefix(q.Source, "spiffe://"))
	add(q.Method)
	add(q.Host + q.Path)
	for _, h := range q.Headers {
		add(h.Name + ": " + h.Value)
	}
	if rest := (query.Query{Claims: q.Claims, SourceIP: q.SourceIP, RemoteIP: q.RemoteIP, Port: q.Port, TCP: q.TCP}); len(rest.Args()) > 0 {
		add(rest.Flags())
	}
	return strings.Join(words, " ")
}
