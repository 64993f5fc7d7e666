package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/rbac"
)

// Chain is a filter chain of a proxy, with its filters in order.
type Chain struct {
	// Listener and Name; a chain without a name has its number, such as "#0".
	Listener, Name string
	// HTTP is true for a chain with an HTTP connection manager. Then Filters are the HTTP filters, after the network filters.
	HTTP    bool
	Filters []Filter
	// PerRoute is true when routes of the chain bring RBAC of their own, in place of the filters'. Compile refuses such a chain.
	PerRoute bool
	// Path is how the connection manager normalises paths.
	Path pathnorm.Options
	// Where it stands.
	Where Place
}

// Filter is one filter of a chain.
type Filter struct {
	Name, Type string // of type URL, without what stands before the slash; "" for one without configuration
	// RBAC filters have one of these.
	HTTP    *httpv3.RBAC
	Network *networkv3.RBAC
	Where   Place
	// config of the others.
	config *node
}

// String is listener and name.
func (c *Chain) String() string { return strings.TrimSpace(c.Listener + " " + c.Name) }

// Enforces tells whether the chain has an RBAC filter.
func (c *Chain) Enforces() bool {
	for _, f := range c.Filters {
		if f.HTTP != nil || f.Network != nil {
			return true
		}
	}
	return false
}

// Compile makes of the chain's RBAC filters what a request can be decided with. An error names the filter.
func (c *Chain) Compile() (authz.Chain, error) {
	if c.PerRoute {
		return nil, fmt.Errorf("%s: chain %s: a route has RBAC of its own (RBACPerRoute), which is not evaluated here", c.Where, c)
	}
	var out authz.Chain
	for i := range c.Filters {
		f := &c.Filters[i]
		var compiled *rbac.Filter
		var err error
		switch {
		case f.HTTP != nil:
			compiled, err = rbac.FromHTTP(f.HTTP)
		case f.Network != nil:
			compiled, err = rbac.FromNetwork(f.Network)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: chain %s: filter %s: %w", f.Where, c, f.Name, err)
		}
		out = append(out, authz.Stage{Shadow: compiled.Shadow, Enforced: compiled.Enforced, Provider: f.provider()})
	}
	return out, nil
}

// provider of a filter that hands requests to an extension provider, by the names of its shadow rules.
func (f *Filter) provider() string {
	rules, prefix := f.HTTP.GetShadowRules(), f.HTTP.GetShadowRulesStatPrefix()
	if f.Network != nil {
		rules, prefix = f.Network.GetShadowRules(), f.Network.GetShadowRulesStatPrefix()
	}
	if prefix != "istio_ext_authz_" {
		return ""
	}
	for name := range rules.GetPolicies() {
		if s, ok := authz.ParseSource(name); ok {
			return cmp.Or(s.Provider, unnamed)
		}
	}
	return ""
}

// unnamed is the provider of rules of istiod before 1.30, which do not tell its name.
const unnamed = "(not named)"

// isEnvoyConfig tells a config_dump, a discovery response, a listener or a list of listeners.
func isEnvoyConfig(n *node) bool {
	if n.kind == isList {
		return len(n.items) > 0 && (isListener(n.items[0]) || isChain(n.items[0]) || isFilter(n.items[0]))
	}
	return n.get("configs") != nil || n.get("resources") != nil && n.get("kind") == nil || isListener(n) || isChain(n) || isFilter(n)
}

// isChain tells a filter chain, or what waypoint authz convert prints.
func isChain(n *node) bool { return n.get("kind") == nil && n.get("filters") != nil }

// isFilter tells a filter that stands alone, with its name or without.
func isFilter(n *node) bool {
	if n.get("kind") != nil {
		return false
	}
	url := n.str("@type")
	return n.either("typed_config") != nil || strings.HasSuffix(url, "/"+typeHTTP) || strings.HasSuffix(url, "/"+typeNetwork)
}

func isListener(n *node) bool {
	return n.get("kind") == nil && (n.either("filter_chains") != nil || strings.HasSuffix(n.str("@type"), "/envoy.config.listener.v3.Listener") ||
		n.either("listener_filters") != nil || n.either("default_filter_chain") != nil)
}

// either is a member by its name in the proto file or in JSON: Envoy writes the first, istioctl the second.
func (n *node) either(name string) *node {
	if v := n.get(name); v != nil {
		return v
	}
	parts := strings.Split(name, "_")
	for i := 1; i < len(parts); i++ {
		parts[i] = strings.ToUpper(parts[i][:1]) + parts[i][1:]
	}
	return n.get(strings.Join(parts, ""))
}

func (n *node) list(name string) []*node {
	if v := n.either(name); v != nil {
		return v.items
	}
	return nil
}

func (n *node) field(name string) string {
	if v := n.either(name); v != nil && v.kind == isText {
		return v.text
	}
	return ""
}

// has tells whether there is a message of a type anywhere in it.
func (n *node) has(name string) bool {
	if n == nil {
		return false
	}
	if strings.HasSuffix(n.str("@type"), "/"+name) || strings.HasSuffix(n.field("type_url"), "/"+name) {
		return true
	}
	return slices.ContainsFunc(n.items, func(i *node) bool { return i.has(name) }) || slices.ContainsFunc(n.members, func(m member) bool { return m.value.has(name) })
}

// envoyReader collects the chains of one document.
type envoyReader struct {
	problems
	at     Place
	chains []Chain
}

func (r *reader) envoy(at Place, n *node) {
	e := &envoyReader{problems: problems{root: n}, at: at}
	switch {
	case n.kind == isList && isFilter(n.items[0]):
		e.chain("", 0, &node{line: n.line, kind: isObject, members: []member{{"filters", n.line, n}}})
	case n.kind == isList:
		for i, l := range n.items {
			if isChain(l) {
				e.chain("", i, l)
			} else {
				e.listener(l)
			}
		}
	case isChain(n):
		e.chain("", 0, n)
	case isFilter(n):
		e.chain("", 0, &node{line: n.line, kind: isObject, members: []member{{"filters", n.line, &node{line: n.line, kind: isList, items: []*node{n}}}}})
	case n.get("configs") != nil:
		for _, c := range n.list("configs") {
			e.dump(c)
		}
	case n.get("resources") != nil:
		for _, l := range n.list("resources") {
			if isListener(l) {
				e.listener(l)
			}
		}
	default:
		e.listener(n)
	}
	if len(e.chains) == 0 && len(e.problems.list) == 0 {
		r.ignore(at, "Envoy configuration", "has no filter chains")
	}
	r.take(at, "", &e.problems)
	r.set.Chains = append(r.set.Chains, e.chains...)
}

// dump reads a section of a config_dump: listeners that are active, else those that are warming.
func (e *envoyReader) dump(c *node) {
	if strings.HasSuffix(c.str("@type"), ".ListenersConfigDump") {
		for _, l := range c.list("static_listeners") {
			e.listener(l.get("listener"))
		}
		for _, l := range c.list("dynamic_listeners") {
			state := l.either("active_state")
			if state == nil {
				state = l.either("warming_state")
			}
			e.listener(state.get("listener"))
		}
	} else if isListener(c) {
		e.listener(c)
	}
}

func (e *envoyReader) listener(l *node) {
	if l == nil {
		return
	}
	all := l.list("filter_chains")
	if c := l.either("default_filter_chain"); c != nil {
		all = append(all, c)
	}
	for i, c := range all {
		e.chain(l.field("name"), i, c)
	}
}

func (e *envoyReader) chain(listener string, i int, c *node) {
	chain := Chain{Listener: listener, Name: cmp.Or(c.field("name"), fmt.Sprintf("#%d", i)), Where: e.place(c)}
	e.filters(&chain, c.list("filters"))
	e.chains = append(e.chains, chain)
}

func (e *envoyReader) place(n *node) Place {
	p := e.at
	p.Line = n.line
	return p
}

func (e *envoyReader) problem(n *node, field, format string, args ...any) {
	e.problems.list = append(e.problems.list, &Error{Place: e.place(n), Field: field, Problem: fmt.Sprintf(format, args...)})
}

const (
	typeHTTP     = "envoy.extensions.filters.http.rbac.v3.RBAC"
	typeNetwork  = "envoy.extensions.filters.network.rbac.v3.RBAC"
	typePerRoute = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute"
	typeManager  = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)

func (e *envoyReader) filters(chain *Chain, filters []*node) {
	for _, n := range filters {
		f := Filter{Name: n.field("name"), Where: e.place(n), config: n.either("typed_config")}
		if n.str("@type") != "" { // the configuration alone
			f.config = n
		}
		if f.config != nil {
			url := cmp.Or(f.config.field("type_url"), f.config.str("@type"))
			f.Type = url[strings.LastIndexByte(url, '/')+1:]
		}
		at := fmt.Sprintf("chain %s, filter %s", chain, f.Name)
		switch f.Type {
		case typeHTTP:
			f.HTTP, chain.HTTP = &httpv3.RBAC{}, true
			e.message(at, f.config, f.HTTP)
		case typeNetwork:
			f.Network = &networkv3.RBAC{}
			e.message(at, f.config, f.Network)
		case typeManager:
			chain.HTTP, chain.Path, chain.PerRoute = true, pathOptions(f.config), f.config.has(typePerRoute)
			chain.Filters = append(chain.Filters, f)
			e.filters(chain, f.config.list("http_filters"))
			continue
		}
		chain.Filters = append(chain.Filters, f)
	}
}

// message reads a filter's configuration. Fields and extensions that are not known are an error: they may make it stricter.
func (e *envoyReader) message(at string, n *node, into proto.Message) {
	plain := *n
	plain.members = nil
	for _, m := range n.members {
		if m.name != "@type" {
			plain.members = append(plain.members, m)
		}
	}
	if err := protojson.Unmarshal(plain.json(), into); err != nil {
		e.problem(n, at, "%s", protoError(err))
	}
}

func pathOptions(hcm *node) pathnorm.Options {
	is := func(name string) bool {
		v := hcm.either(name)
		if v != nil && v.kind == isObject { // a BoolValue may be written out
			v = v.get("value")
		}
		return v != nil && v.text == "true"
	}
	escaped := hcm.field("path_with_escaped_slashes_action")
	return pathnorm.Options{
		Normalize: is("normalize_path"), MergeSlashes: is("merge_slashes"),
		UnescapeSlashes: strings.HasPrefix(escaped, "UNESCAPE") || strings.HasPrefix(escaped, "REJECT"),
	}
}
