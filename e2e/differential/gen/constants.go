package gen

import (
	"strings"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	uritemplatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

// constants are what the policies of a set ask for.
type constants struct {
	headers    map[string][]string // by lower-case name
	paths      []string            // of url_path and templates
	principals []string
	claims     map[string][]string // by the last key of the path
}

// constants walks a set. Of a regular expression it takes a string that matches.
func (w World) constants(s *pair.Set) *constants {
	c := &constants{headers: map[string][]string{}, claims: map[string][]string{}}
	for _, f := range s.Filters {
		for _, rules := range []*rbacv3.RBAC{f.Rules, f.Shadow} {
			walk(rules.ProtoReflect(), func(m proto.Message) bool { return w.collect(c, m) })
		}
	}
	return c
}

// collect takes the constants of the matchers that have a context, and reports whether to go deeper.
func (w World) collect(c *constants, m proto.Message) bool {
	switch m := m.(type) {
	case *routev3.HeaderMatcher:
		name := strings.ToLower(m.GetName())
		c.headers[name] = append(c.headers[name], w.texts(m)...)
		return false
	case *matcherv3.PathMatcher:
		c.paths = append(c.paths, w.texts(m)...)
		return false
	case *uritemplatev3.UriTemplateMatchConfig:
		c.paths = append(c.paths, w.path(m.GetPathTemplate()))
		return false
	case *matcherv3.FilterStateMatcher:
		c.principals = append(c.principals, w.texts(m)...)
		return false
	case *matcherv3.MetadataMatcher:
		if n := len(m.GetPath()); n > 0 {
			key := m.GetPath()[n-1].GetKey()
			c.claims[key] = append(c.claims[key], w.texts(m.GetValue())...)
		}
		return false
	}
	return true
}

// texts are the strings of a matcher, whatever field they are in.
func (w World) texts(m proto.Message) []string {
	all := []string{}
	walk(m.ProtoReflect(), func(m proto.Message) bool {
		switch m := m.(type) {
		case *matcherv3.RegexMatcher:
			all = append(all, w.sample(m.GetRegex()))
			return false
		case *matcherv3.StringMatcher:
			for _, s := range []string{m.GetExact(), m.GetPrefix(), m.GetSuffix(), m.GetContains()} {
				if s != "" {
					all = append(all, s)
				}
			}
		case *routev3.HeaderMatcher:
			for _, s := range []string{m.GetExactMatch(), m.GetPrefixMatch(), m.GetSuffixMatch(), m.GetContainsMatch()} {
				if s != "" {
					all = append(all, s)
				}
			}
		}
		return true
	})
	return all
}

// path makes a path that a template likely matches.
func (w World) path(template string) string {
	var b strings.Builder
	for i := 0; i < len(template); i++ {
		switch c := template[i]; {
		case strings.HasPrefix(template[i:], "**"):
			b.WriteString(pick(w, []string{"", "x", "x/y", "x/", "/"}))
			i++
		case c == '*':
			b.WriteString(pick(w, []string{"x", "a.b~c", "%61", "a=b", "", "a:b@c"}))
		case c == '{':
			body, _, _ := strings.Cut(template[i+1:], "}")
			i += len(body) + 1
			if _, form, ok := strings.Cut(body, "="); ok {
				b.WriteString(w.path(form))
			} else {
				b.WriteString(pick(w, []string{"v1", "1", ""}))
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// walk visits a message and those in it, until visit says not to go deeper. It looks into Any.
func walk(m protoreflect.Message, visit func(proto.Message) bool) {
	if !m.IsValid() || !visit(m.Interface()) {
		return
	}
	if any, ok := m.Interface().(interface {
		UnmarshalNew() (proto.Message, error)
	}); ok {
		if inner, err := any.UnmarshalNew(); err == nil {
			walk(inner.ProtoReflect(), visit)
		}
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() { // in the order of the fields, so that a seed gives one result
		field := fields.Get(i)
		if !m.Has(field) || field.Message() == nil {
			continue
		}
		switch v := m.Get(field); {
		case field.IsMap():
			for _, key := range sortedKeys(v.Map()) {
				walk(v.Map().Get(key).Message(), visit)
			}
		case field.IsList():
			for k := range v.List().Len() {
				walk(v.List().Get(k).Message(), visit)
			}
		default:
			walk(v.Message(), visit)
		}
	}
}
