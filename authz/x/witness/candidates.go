package witness

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
)

// Values that no policy is likely to name.
const (
	elsewhere = "elsewhere"
	somebody  = "somebody"
	other     = "other"
)

// candidates are the values of a dimension that the constants of some tests suggest, the plainest first. The tests may be of
// several dimensions; those of others are passed over.
func candidates(d alternative.Dimension, tests []alternative.Test, trustDomain string, issuers []string) []value {
	var own []alternative.Test
	for _, t := range tests {
		if t.Dimension == d {
			own = append(own, t)
		}
	}
	var out []value
	switch d.Kind {
	case alternative.Source:
		out = sources(own, trustDomain)
	case alternative.Method:
		out = append(texts("GET", "POST"), patterns(own, nil)...)
	case alternative.Host:
		out = patterns(own, hostForms)
		out = append(out, texts(elsewhere+".example")...)
	case alternative.Path:
		out = patterns(own, pathForms)
		out = append(out, texts("/", "/"+elsewhere)...)
		out = slices.DeleteFunc(out, func(v value) bool { return !strings.HasPrefix(v.text, "/") }) // no client sends such
	case alternative.Port:
		out = ports(own)
	case alternative.SourceIP, alternative.RemoteIP, alternative.DestinationIP:
		out = addresses(own)
	case alternative.Token:
		out = tokens(own, issuers)
	case alternative.Claim, alternative.Metadata:
		for _, v := range patterns(own, nil) {
			if strings.HasPrefix(v.text, "[") && strings.HasSuffix(v.text, "]") { // of metadata: an element of a list
				v.text = strings.Trim(v.text, "[]")
			}
			out = append(out, v, value{any: []any{v.text}}, value{any: []any{other, v.text}})
		}
		out = append(out, value{text: other}, value{absent: true})
	default:
		out = append(patterns(own, nil), value{text: other}, value{absent: true})
	}
	return unique(out)
}

// constants of tests, the positive ones first.
func constants(tests []alternative.Test) []string {
	var out []string
	for _, t := range tests {
		out = append(out, t.Values...)
	}
	for _, t := range tests {
		out = append(out, t.Not...)
	}
	return out
}

// patterns fills in the wildcards of constants and steps over their edges. The plain instances of all come before the forms
// of any. forms adds what the kind of text allows.
func patterns(tests []alternative.Test, forms func(string) []string) []value {
	all := constants(tests)
	var plain, edges []string
	for _, c := range all {
		plain = append(plain, instances(c)...)
	}
	// What begins as one test says and ends as another.
	prefixes, suffixes := ends(all)
	for _, a := range prefixes {
		for _, b := range suffixes {
			plain = append(plain, a+b, a+"x"+b)
		}
	}
	for _, p := range plain {
		edges = append(edges, around(p)...)
		if forms != nil {
			edges = append(edges, forms(p)...)
		}
	}
	return texts(append(plain, edges...)...)
}

// maxEnds bounds the prefixes and suffixes that are put together.
const maxEnds = 20

// ends are the texts of prefixes and of suffixes among constants.
func ends(constants []string) (prefixes, suffixes []string) {
	for _, c := range constants {
		switch {
		case c == "*":
		case strings.HasSuffix(c, "*") && len(prefixes) < maxEnds:
			prefixes = append(prefixes, c[:len(c)-1])
		case strings.HasPrefix(c, "*") && len(suffixes) < maxEnds:
			suffixes = append(suffixes, c[1:])
		}
	}
	return prefixes, suffixes
}

// instances are strings that a constant of the API matches.
func instances(c string) []string {
	switch {
	case strings.Contains(c, "{*}") || strings.Contains(c, "{**}"):
		fill := func(one, many string) string { return strings.NewReplacer("{*}", one, "{**}", many).Replace(c) }
		return []string{fill("x", "x"), fill("x", "x/y"), fill("x", ""), fill("x/y", "x"), fill("", "x")}
	case c == "*":
		return []string{"x"}
	case strings.HasPrefix(c, "*"):
		return []string{"x" + c[1:], c[1:]}
	case strings.HasSuffix(c, "*"):
		return []string{c[:len(c)-1] + "x", c[:len(c)-1]}
	case strings.Contains(c, "*"): // only names of namespaces have wildcards within; elsewhere it is a star
		return []string{c, strings.ReplaceAll(c, "*", "x")}
	}
	return []string{c}
}

// around is one character more and less, and the other case.
func around(s string) []string {
	if s == "" {
		return nil
	}
	out := []string{s + "x", s[:len(s)-1], "x" + s, s[1:]}
	if lower := strings.ToLower(s); lower != s {
		return append(out, lower)
	}
	if upper := strings.ToUpper(s); upper != s {
		return append(out, upper)
	}
	return out
}

// hostForms are other names of the same host.
func hostForms(h string) []string {
	name, port, hasPort := strings.Cut(h, ":")
	if hasPort {
		return []string{name, name + ".:" + port}
	}
	return []string{h + ":80", h + ":8080", h + ".", "www." + h}
}

// pathForms are paths that some server takes for the same, or for one below.
func pathForms(p string) []string {
	if !strings.HasPrefix(p, "/") {
		return []string{"/" + p}
	}
	out := []string{
		strings.TrimSuffix(p, "/") + "/", p + "?q=1", p + "/below", "/" + p, "/x/.." + p, "/." + p,
		"/%2f" + p[1:], "/x/..%2f" + p[1:], "/;" + p, p + ";v=1", p + "/..", p + "/..%2fx", "//x/.." + p,
	}
	if i := len(p) - 1; i > 0 {
		out = append(out, p[:i]+"%"+hex(p[i]), p[:i]+"%25"+hex(p[i]))
	}
	return out
}

func hex(c byte) string { return strings.ToUpper(strconv.FormatUint(uint64(c), 16)) }

func ports(tests []alternative.Test) []value {
	var out []value
	for _, c := range constants(tests) {
		n, err := strconv.Atoi(c)
		if err != nil {
			continue
		}
		out = append(out, texts(c)...)
		for _, near := range []int{n - 1, n + 1} {
			if near > 0 && near < 1<<16 {
				out = append(out, texts(strconv.Itoa(near))...)
			}
		}
	}
	return append(out, texts("80", "8080", "9")...)
}

// addresses are the first and the last of each range and their neighbours outside.
func addresses(tests []alternative.Test) []value {
	var out []value
	add := func(a netip.Addr) {
		if a.IsValid() {
			out = append(out, texts(a.String())...)
		}
	}
	for _, c := range constants(tests) {
		p, err := netip.ParsePrefix(c)
		if err != nil {
			a, err := netip.ParseAddr(c)
			if err != nil {
				continue
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		first := p.Masked().Addr()
		last := lastOf(p)
		add(first)
		add(last)
		add(first.Prev())
		add(last.Next())
	}
	// TEST-NET-3 and the documentation range of IPv6 stand for the rest of the world.
	return append(out, texts("203.0.113.7", "2001:db8:ffff::7")...)
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
