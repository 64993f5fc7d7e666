package lint

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
	"github.com/gowaypoint/gowaypoint/authz/x/query"
)

// expression is text that means something only in a regular expression and hardly stands in a path.
var expression = regexp.MustCompile(`\.\*|\.\+|^\^|\$$|\[[^]]*-[^]]*\]|\\[dwbs.]|\(.*\||\)\?`)

func (l *linter) path(x at) {
	v := x.v
	switch {
	case strings.Contains(v, "{*}") || strings.Contains(v, "{**}"):
		return
	case expression.MatchString(v):
		x.report(l, "path-regex", fmt.Sprintf("%q is compared character by character, not as a regular expression, %s", v, x.consequence()),
			"write a prefix (/api/*), a suffix (*.html) or a template (/api/{*}/items, /api/{**})")
		return
	case strings.Contains(v, "{") || strings.Contains(v, "}"):
		x.report(l, "path-form", fmt.Sprintf("%q: of templates there are only {*} for one segment and {**} for the rest, %s", v, x.consequence()), "write {*} for each variable segment")
		return
	case strings.Contains(v, "://"):
		x.report(l, "path-form", fmt.Sprintf("%q is a whole URL; a path begins after the host, %s", v, x.consequence()), "put the host under hosts, and write the path from its first slash on")
		return
	case strings.ContainsAny(v, "?"):
		x.report(l, "path-form", fmt.Sprintf("%q has a query, which is cut off before paths are compared, %s", v, x.consequence()), "write "+v[:strings.IndexByte(v, '?')]+"; a policy cannot look at the query by paths")
		return
	case strings.Contains(v, "#"):
		x.report(l, "path-form", fmt.Sprintf("%q has a fragment, which clients do not send, %s", v, x.consequence()), "write "+v[:strings.IndexByte(v, '#')])
		return
	case l.middle(x):
		return
	case !strings.HasPrefix(v, "/") && !strings.HasPrefix(v, "*"):
		x.report(l, "path-form", fmt.Sprintf("%q does not begin with a slash, and every path does, %s", v, x.consequence()), "write /"+v)
		return
	}
	l.normal(x)
	if base := strings.TrimSuffix(v, "*"); base != v && !x.not && x.p.allows() && len(base) > 1 && base[0] == '/' && !strings.ContainsAny(base[len(base)-1:], "/=-_.") {
		x.report(l, "path-prefix", fmt.Sprintf("%q also allows paths such as %sx: the prefix does not end at a slash", v, base), fmt.Sprintf("write both %s and %s/*", base, base))
	}
}

// normal reports a path that no request has after normalisation.
func (l *linter) normal(x at) {
	literal := strings.Trim(x.v, "*")
	if literal == "" || !strings.HasPrefix(literal, "/") {
		return
	}
	normal, _, ok := pathnorm.Normalize(literal, l.paths)
	if strings.HasSuffix(x.v, "*") { // what follows may complete a last segment that begins with dots
		if cut := strings.LastIndexByte(literal, '/'); strings.Trim(literal[cut:], "/.") == "" {
			normal, _, ok = pathnorm.Normalize(literal[:cut+1], l.paths)
			literal = literal[:cut+1]
		}
	}
	if !ok || normal != literal {
		x.report(l, "path-not-normal", fmt.Sprintf("%q: requests are normalised before they are compared (%s), and none has this path then, %s", x.v, l.set.PathNormalization(), x.consequence()),
			"write "+normal)
	}
}

func (l *linter) host(x at) {
	v := x.v
	switch {
	case strings.Contains(v, "://"), strings.Contains(v, "/"):
		x.report(l, "host-form", fmt.Sprintf("%q is no host; clients name only the host and the port, %s", v, x.consequence()), "write the host alone, and put the path under paths")
	case l.middle(x):
	case len(v) > 1 && v[0] == '*' && v[1] != '.' && v[1] != ':' && v[1] != '-':
		x.report(l, "wide-host", fmt.Sprintf("%q also matches hosts of other domains, such as evil%s", v, v[1:]), fmt.Sprintf("write %s and *.%s", v[1:], v[1:]))
	}
}

// lists looks at a test as a whole.
func (l *linter) lists(p *policy, t alternative.Test) {
	switch t.Dimension.Kind {
	case alternative.Host:
		l.hostPorts(p, t.Values, t.Field, false)
		l.hostPorts(p, t.Not, t.NotField, true)
	case alternative.Path:
		l.bypass(p, t)
	case alternative.Head:
		if p.denies() && len(t.Values) > 0 {
			l.report(p, "header-bypass", t.Field, fmt.Sprintf("the client chooses the header %s: it passes by leaving it out, or by a list such as %q in one line", t.Dimension.Name, t.Values[0]+",x"),
				"make it an ALLOW of the good values, unless a gateway in front sets the header")
		}
	}
	l.headerName(p, t)
}

// hostPorts asks that for each host its forms with a port are there too.
func (l *linter) hostPorts(p *policy, hosts []string, field string, not bool) {
	var bare []string
	for _, h := range hosts {
		if h == "*" || strings.Contains(h, ":") || strings.HasSuffix(h, "*") || strings.Contains(h, "/") {
			continue
		}
		withPort := false
		for _, other := range hosts {
			name, _, ok := strings.Cut(other, ":")
			withPort = withPort || ok && strings.EqualFold(name, h) || strings.HasSuffix(other, "*") && strings.HasPrefix(strings.ToLower(h), strings.ToLower(strings.TrimSuffix(other, "*")))
		}
		if !withPort {
			bare = append(bare, h)
		}
	}
	if len(bare) == 0 {
		return
	}
	text := "clients that dial any port but 80 send the host with the port, such as %s:8080, and that matches none of %s: "
	switch {
	case p.allows() && !not:
		text += "they are refused"
	case p.denies() && !not:
		text += "they pass by this DENY, and so does anybody who adds a port"
	default:
		text += "the exception does not hold for them"
		if p.allows() {
			text += ", and anybody may pass by it with a port"
		}
	}
	var fixed []string
	for _, h := range bare {
		if strings.HasPrefix(h, "*") {
			fixed = append(fixed, fmt.Sprintf("%q", h+":<port>"))
		} else {
			fixed = append(fixed, fmt.Sprintf("%q", h+":*"))
		}
	}
	l.report(p, "host-port", field, fmt.Sprintf(text, strings.TrimLeft(bare[0], "*."), quoted(bare)), "add "+strings.Join(fixed, ", "))
}

// spelling is another way of writing a path, that some server takes for the same.
type spelling struct{ path, what string }

// spellings of the last segment of a path; what stands before may have to be as it is.
func spellings(p string) []spelling {
	at := strings.LastIndexByte(strings.TrimSuffix(p, "/"), '/') + 1
	head, last := p[:at], p[at:]
	flipped := strings.ToUpper(last)
	if flipped == last {
		flipped = strings.ToLower(last)
	}
	out := []spelling{
		{p + "/", "a slash at the end"}, {head + "/" + last, "a doubled slash"}, {head + "%2f" + last, "an escaped slash"},
		{head + "x/..%2f" + last, "an escaped slash after dots"}, {head + ";/" + last, "a parameter"}, {p + ";x", "a parameter at the end"},
		{head + flipped, "another case"},
	}
	if last != "" {
		out = append(out, spelling{fmt.Sprintf("%s%%25%02X%s", head, last[0], last[1:]), "a character escaped twice"})
	}
	return out
}

// bypass reports the spellings that pass by a DENY of paths, or by an exception that an ALLOW makes.
func (l *linter) bypass(p *policy, t alternative.Test) {
	list, field := t.Values, t.Field
	if p.allows() {
		list, field = t.Not, t.NotField
	}
	if len(list) == 0 || !p.allows() && !p.denies() || t.Name != "paths" {
		return
	}
	// A DENY is passed by what it does not match, an exception by what the ALLOW as a whole matches.
	if !p.allows() {
		t.Not = nil
	}
	matcher, err := alternative.Compile([]alternative.Test{t}, p.Namespace, l.target())
	if err != nil {
		return // reported as invalid
	}
	var examples []string
	seen := map[string]bool{}
	for _, v := range list {
		literal := strings.NewReplacer("{*}", "x", "{**}", "x", "*", "x").Replace(strings.TrimSuffix(v, "*"))
		if !strings.HasPrefix(literal, "/") || literal == "/" {
			continue
		}
		if strings.HasPrefix(v, "*") {
			literal = "/" + literal
		}
		if r, err := request(literal, l.paths); err != nil || matcher.Match(r) == p.allows() {
			continue // reported otherwise
		}
		for _, s := range spellings(literal) {
			r, err := request(s.path, l.paths)
			if err != nil || matcher.Match(r) != p.allows() || seen[s.what] {
				continue
			}
			seen[s.what] = true
			examples = append(examples, fmt.Sprintf("%s (%s)", s.path, s.what))
		}
	}
	if len(examples) == 0 {
		return
	}
	severity := l.severity["path-bypass"]
	fix := "turn it round: ALLOW the paths that are meant, which an odd spelling does not match"
	if p.allows() {
		fix = "name the paths that are allowed in place of the exception"
	}
	if !l.paths.UnescapeSlashes {
		fix += "; or set MeshConfig.pathNormalization.normalization to DECODE_AND_MERGE_SLASHES and see that the server reads paths strictly"
	} else {
		severity = Info // what is left depends on the server
	}
	text := "a server may take these for the same path, and they pass by the DENY: "
	if p.allows() {
		text = "a server may take these for the same path, and they are allowed in spite of the exception: "
	}
	if severity != "" {
		l.reportAs(severity, p, "path-bypass", field, text+strings.Join(examples, ", "), fix)
	}
}

var errNoPath = errors.New("no path")

func request(path string, mode pathnorm.Options) (*authz.Request, error) {
	if path == "" {
		return nil, errNoPath
	}
	return (&query.Query{Method: "GET", Path: path}).Request(mode)
}

// token of RFC 9110, section 5.6.2.
var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

func (l *linter) headerName(p *policy, t alternative.Test) {
	named, ok := strings.CutPrefix(t.Name, "request.headers[")
	if !ok {
		return
	}
	header := strings.TrimSuffix(named, "]")
	at := strings.TrimSuffix(strings.TrimSuffix(t.Field, ".values"), ".notValues") + ".key"
	fields := map[string]string{":method": "methods", ":path": "paths", ":authority": "hosts", "host": "hosts"}
	switch lower := strings.ToLower(header); {
	case fields[lower] != "":
		why := map[string]string{
			":method": "it is not a header", ":path": "it is not a header, and is compared with its query",
			":authority": "it is not a header, and is compared with its case", "host": "hosts are compared without regard to case, headers are not",
		}[lower]
		l.report(p, "header-name", at, fmt.Sprintf("request.headers[%s]: %s", header, why), "use to.operation."+fields[lower])
	case !token.MatchString(header):
		l.report(p, "header-name", at, fmt.Sprintf("%q is not the name of a header, %s", header, p.consequence()), "write the name alone: request.headers[x-name]")
	}
}
