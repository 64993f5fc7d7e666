package policytest

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gowaypoint/gowaypoint/authz/x/query"
)

// entryFields may stand in an entry of from or to, requestFields also in a case and in defaults.
var (
	entryFields = []string{
		"source", "sourceIp", "remoteIp", "jwt", "method", "path", "host", "scheme", "headers", "port", "destinationIp", "sni", "tcp", "metadata",
	}
	requestFields = append([]string{"for"}, entryFields...)
)

func (p *parser) fields(n *yaml.Node, at string, f *fields, known []string) {
	p.object(n, at, known, func(key string, v *yaml.Node) { p.field(key, v, at+"."+key, f) })
}

// field reads one field of a request.
func (p *parser) field(key string, n *yaml.Node, at string, f *fields) {
	switch key {
	case "jwt":
		claims := p.plain(n, at)
		f.add(func(c *Case) { c.Query.Claims = claims })
	case "headers":
		headers := p.headers(n, at)
		f.add(func(c *Case) { c.Query.Headers = merged(c.Query.Headers, headers) })
	case "metadata":
		filters := map[string]map[string]any{}
		p.members(n, at, func(filter string, v *yaml.Node) { filters[filter] = p.plain(v, at+"."+filter) })
		f.add(func(c *Case) { c.Query.Metadata = filters })
	case "tcp":
		var tcp bool
		if err := n.Decode(&tcp); err != nil {
			p.fail(n, at, "%q; want true or false", n.Value)
		}
		f.add(func(c *Case) { c.Query.TCP = tcp })
	case "port":
		port, err := strconv.ParseUint(n.Value, 10, 16)
		if err != nil || port == 0 {
			p.fail(n, at, "%q is not a port (1 to 65535)", n.Value)
		}
		f.add(func(c *Case) { c.Query.Port = uint16(port) })
	case "sourceIp", "remoteIp", "destinationIp":
		addr, err := netip.ParseAddr(n.Value)
		if err != nil {
			p.fail(n, at, "%q is not an IP address", n.Value)
		}
		f.add(func(c *Case) {
			*map[string]*netip.Addr{"sourceIp": &c.Query.SourceIP, "remoteIp": &c.Query.RemoteIP, "destinationIp": &c.Query.DestinationIP}[key] = addr
		})
	default:
		text := p.text(n, at)
		switch {
		case key == "source" && text == "nobody":
			text = ""
		case key == "path" && !strings.HasPrefix(text, "/") && text != "*":
			p.fail(n, at, "%q; a path begins with a slash", text)
		}
		f.add(func(c *Case) {
			*map[string]*string{
				"for": &c.For, "source": &c.Query.Source, "method": &c.Query.Method, "path": &c.Query.Path, "host": &c.Query.Host,
				"scheme": &c.Query.Scheme, "sni": &c.Query.ServerName,
			}[key] = text
		})
	}
}

func (p *parser) headers(n *yaml.Node, at string) []query.Header {
	var out []query.Header
	p.members(n, at, func(name string, v *yaml.Node) {
		if strings.HasPrefix(name, ":") || strings.EqualFold(name, "host") {
			p.fail(v, at+"."+name, "not a header here; set method, path, host or scheme")
		}
		values := []*yaml.Node{v}
		if v.Kind == yaml.SequenceNode {
			values = v.Content
		}
		for _, one := range values {
			out = append(out, query.Header{Name: name, Value: p.text(one, at+"."+name)})
		}
	})
	return out
}

// merged puts headers in place of those of the same name.
func merged(old, more []query.Header) []query.Header {
	out := slices.DeleteFunc(slices.Clone(old), func(h query.Header) bool {
		return slices.ContainsFunc(more, func(m query.Header) bool { return strings.EqualFold(h.Name, m.Name) })
	})
	return append(out, more...)
}

// plain reads an object of any shape.
func (p *parser) plain(n *yaml.Node, at string) map[string]any {
	if n.Kind != yaml.MappingNode {
		p.fail(n, at, "want an object")
		return nil
	}
	m := map[string]any{}
	if err := n.Decode(&m); err != nil {
		p.fail(n, at, "%v", err)
	}
	// Whatever a metadata struct cannot hold is found now, where the line is known.
	if _, err := (&query.Query{Metadata: map[string]map[string]any{"": m}}).Request(zeroPaths); err != nil {
		p.fail(n, at, "%v", err)
	}
	return m
}

func (p *parser) text(n *yaml.Node, at string) string {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		p.fail(n, at, "want text")
	}
	return n.Value
}

func (p *parser) items(n *yaml.Node) []*yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		p.fail(n, "cases", "want a list")
		return nil
	}
	return n.Content
}

// maxMerges bounds the merges of a table, which may go round in circles.
const maxMerges = 10_000

// members walks an object. What is merged into it (<<) counts where the object itself does not say otherwise.
func (p *parser) members(n *yaml.Node, at string, each func(key string, v *yaml.Node)) bool {
	n = resolved(n)
	if n.Kind != yaml.MappingNode {
		p.fail(n, at, "want an object")
		return false
	}
	seen := map[string]bool{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, v := n.Content[i], resolved(n.Content[i+1])
		switch {
		case key.ShortTag() == "!!merge" && v.Kind == yaml.SequenceNode:
			merged = append(merged, v.Content...)
			continue
		case key.ShortTag() == "!!merge":
			merged = append(merged, v)
			continue
		case seen[key.Value]:
			p.fail(key, strings.TrimPrefix(at+"."+key.Value, "."), "stands twice")
		}
		seen[key.Value] = true
		each(key.Value, v)
	}
	for _, m := range merged {
		if p.merges++; p.merges > maxMerges {
			if p.merges == maxMerges+1 {
				p.fail(n, at, "merges itself, or too much")
			}
			return false
		}
		p.members(m, at, func(key string, v *yaml.Node) {
			if !seen[key] {
				seen[key] = true
				each(key, v)
			}
		})
	}
	return true
}

// object walks an object whose fields are known.
func (p *parser) object(n *yaml.Node, at string, known []string, each func(key string, v *yaml.Node)) bool {
	return p.members(n, at, func(key string, v *yaml.Node) {
		if slices.Contains(known, key) {
			each(key, v)
			return
		}
		hint := "there are " + strings.Join(known, ", ")
		for _, k := range known {
			if strings.EqualFold(k, key) || strings.EqualFold(k, key+"s") || strings.EqualFold(k+"s", key) {
				hint = "is " + k + " meant?"
			}
		}
		p.fail(v, strings.TrimPrefix(at+"."+key, "."), "unknown field; %s", hint)
	})
}

// splitBy reads the policy of an expectation; rule is -1 for any.
func splitBy(by string) (policy string, rule int, ok bool) {
	if by == "none" {
		return by, -1, true
	}
	policy, rule = by, -1
	if name, index, found := strings.Cut(by, "["); found {
		n, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
		if err != nil || n < 0 || fmt.Sprintf("%s[%d]", name, n) != by {
			return "", 0, false
		}
		policy, rule = name, n
	}
	namespace, name, found := strings.Cut(policy, "/")
	return policy, rule, found && namespace != "" && name != "" && !strings.Contains(name, "/")
}
