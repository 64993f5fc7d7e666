package gen

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

func sortedKeys(m protoreflect.Map) []protoreflect.MapKey {
	var all []protoreflect.MapKey
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool { all = append(all, k); return true })
	slices.SortFunc(all, func(a, b protoreflect.MapKey) int { return cmp.Compare(a.String(), b.String()) })
	return all
}

// Requests makes n requests aimed at the edges of a set's policies.
func (w World) Requests(s *pair.Set, n int) []*pair.Request {
	c := w.constants(s)
	all := make([]*pair.Request, 0, n)
	for range n {
		r := &pair.Request{HTTP: !s.Network, Principal: w.principalValue(c)}
		if r.HTTP {
			w.http(c, r)
		} else {
			r.Principal = valid(r.Principal) // it travels as metadata, which is UTF-8
		}
		all = append(all, r)
	}
	return all
}

func (w World) http(c *constants, r *pair.Request) {
	r.Method = w.methodValue(c)
	r.Target = w.target(c)
	r.Host = onTheWire(w.aimed(slices.Concat(c.headers[":authority"], c.headers["host"]), host))
	if w.oneIn(6) {
		r.Host = w.hostForm(r.Host)
	}
	if !w.oneIn(20) {
		r.Host = legalHost(r.Host)
	}
	if w.oneIn(3) {
		r.Claims = carried(w.claims(c))
	}
	if w.oneIn(6) {
		r.Other = carried(w.claimValue(c.claims[pair.OtherKey], 1))
	}
	if w.oneIn(6) {
		r.Address = pick(w, addresses).String()
	}
	for _, name := range headerNames {
		if name[0] != ':' && name != "host" && !w.oneIn(3) {
			w.lines(c, r, name)
		}
	}
	if w.oneIn(4) {
		list := some(w, 1, 3, func() string {
			return pick(w, append(strings.Fields("unknown 10.0.0.1:80 [2001:db8::1] 10.0.0.256"), pick(w, addresses).String(), pick(w, addresses).String(), ""))
		})
		r.Lines = append(r.Lines, pair.Line{Name: "x-forwarded-for", Value: strings.Trim(strings.Join(list, pick(w, []string{",", ", "})), " ")})
	}
	w.Shuffle(len(r.Lines), func(i, j int) { r.Lines[i], r.Lines[j] = r.Lines[j], r.Lines[i] })
}

// lines adds a header if the set asks for it, and sometimes if not: on one line, seldom on several.
func (w World) lines(c *constants, r *pair.Request, name string) {
	values, asked := c.headers[strings.ToLower(name)]
	if !asked && !w.oneIn(10) || slices.ContainsFunc(r.Lines, func(l pair.Line) bool { return strings.EqualFold(l.Name, name) }) {
		return
	}
	n := 1
	if w.oneIn(12) {
		n = 2 + w.IntN(2)
	}
	for range n {
		spelled := name
		if w.oneIn(4) {
			spelled = strings.ToUpper(name)
		}
		r.Lines = append(r.Lines, pair.Line{Name: spelled, Value: onTheWire(w.aimed(values, headerValue))})
	}
}

// aimed is one of the set's constants, one of the world's, or what is beside one.
func (w World) aimed(constants []string, k kind) string {
	if len(constants) == 0 || w.oneIn(5) {
		constants = words[k]
	}
	return w.beside(pick(w, constants))
}

func (w World) principalValue(c *constants) string {
	if w.oneIn(5) {
		return ""
	}
	return onTheWire(w.aimed(c.principals, principal))
}

// methodValue is a token (RFC 9110, 5.6.2) as far as the words are.
func (w World) methodValue(c *constants) string {
	m := pick(w, words[method])
	if from := c.headers[":method"]; len(from) > 0 && !w.oneIn(4) {
		m = w.beside(pick(w, from))
	}
	m = strings.Map(func(c rune) rune {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-._!", c) {
			return c
		}
		return -1
	}, m)
	if m == "" || strings.EqualFold(m, "connect") {
		return "GET"
	}
	return m
}

// legalHost leaves out what makes a host one that no filter ever sees.
func legalHost(s string) string {
	return strings.Map(func(c rune) rune {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-._~:[]!$&'()*+,;=%", c) {
			return c
		}
		return -1
	}, s)
}

// hostForm writes a host in another form, which means the same to some and not to others.
func (w World) hostForm(s string) string {
	return pick(w, []string{s + ":80", s + ":8080", s + ".", strings.ToUpper(s), s + ":", "[" + s + "]", strings.TrimSuffix(s, ":8080"), "x." + s, s + ":0"})
}

// target makes a path and query.
func (w World) target(c *constants) string {
	s := pick(w, words[path])
	if from := slices.Concat(c.paths, c.paths, c.headers[":path"]); len(from) > 0 && !w.oneIn(5) {
		s = pick(w, from)
	}
	for w.oneIn(2) {
		s = w.pathStep(s)
	}
	if w.oneIn(6) {
		s += "?" + pick(w, []string{"", "q=1", "a=/../b", "x?y", "p=//", "q=%2f", "#", "q#f"})
	}
	// A request line has no spaces and no control characters, and of other bytes Envoy's parser takes none as they are.
	asIs := w.oneIn(40)
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 0x80 && !asIs:
			b = fmt.Appendf(b, "%%%02x", c)
		case c > 0x20 && c != 0x7f:
			b = append(b, c)
		}
	}
	if s = string(b); s == "" || s[0] != '/' && s[0] != '*' {
		return "/" + s
	} else if s[0] == '*' && s != "*" {
		return "/" + s
	}
	return s
}

func (w World) pathStep(s string) string {
	at := 0
	if s != "" {
		at = w.IntN(len(s))
	}
	slash := max(0, strings.LastIndexByte(s[:at], '/'))
	switch w.IntN(12) {
	case 0:
		return s[:slash] + pick(w, []string{"/", "/.", "/x/..", "/%2e", "/%2E%2e/x", `\`, "/;", "/..", "%2f", "%5C"}) + s[slash:]
	case 1:
		if s != "" {
			return s[:at] + fmt.Sprintf(pick(w, []string{"%%%02x", "%%%02X"}), s[at]) + s[at+1:]
		}
		return s
	case 2:
		return s + pick(w, []string{"/", ";x=1", ".", "%", "%2", "%zz", "%00", "%20", "#f", "%23", "%3f", "?", "//", "/.", "/..", "%252f", `\`, "\xff", "=", "*"})
	case 3:
		return fmt.Sprintf("%s%%%02x%s", s[:at], w.IntN(256), s[at:])
	case 4:
		return strings.ReplaceAll(s, "/", pick(w, []string{"//", "%2f", "%2F", `\`, "/./"}))
	case 5:
		return strings.ReplaceAll(s, "%", "%25")
	}
	return w.step(s)
}

// claims makes a JWT payload.
func (w World) claims(c *constants) *structpb.Value {
	fields := map[string]*structpb.Value{}
	for _, name := range claimNames {
		if len(c.claims[name]) > 0 || w.oneIn(3) {
			fields[name] = w.claimValue(c.claims[name], 2)
		}
	}
	if w.oneIn(20) {
		return w.claimValue(nil, 1)
	}
	return structpb.NewStructValue(&structpb.Struct{Fields: fields})
}

// carried is a value that the header to the reference can carry: its filter takes no more than 8 KiB of base64.
func carried(v *structpb.Value) *structpb.Value {
	if proto.Size(v) > 6000 {
		return nil
	}
	return v
}

func (w World) claimValue(constants []string, depth int) *structpb.Value {
	switch n := w.IntN(12); {
	case n == 0:
		return structpb.NewNullValue()
	case n == 1:
		return structpb.NewBoolValue(w.oneIn(2))
	case n == 2:
		return structpb.NewNumberValue(pick(w, numbers) + pick(w, []float64{0, 0, 0.25}))
	case depth > 0 && n < 5:
		return structpb.NewListValue(&structpb.ListValue{Values: some(w, 0, 3, func() *structpb.Value { return w.claimValue(constants, depth-1) })})
	case depth > 0 && n == 5:
		fields := map[string]*structpb.Value{}
		for _, name := range some(w, 0, 3, func() string { return pick(w, claimNames) }) {
			fields[name] = w.claimValue(constants, depth-1)
		}
		return structpb.NewStructValue(&structpb.Struct{Fields: fields})
	}
	return structpb.NewStringValue(valid(w.aimed(constants, claim)))
}
