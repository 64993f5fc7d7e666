package fake

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// A fixture is a text file of sections. The first is prose. Each other begins with a line "-- NAME":
//
//	-- mesh       MeshConfig, YAML
//	-- manifests  what the cluster holds besides testdata/base.yaml, YAML
//	-- requests   one per line, and what must come of it
//	-- apply      manifests that are applied while everything goes on
//	-- delete     manifests whose objects are deleted
//
// Sections are carried out in order. A line of requests is
//
//	[await] [xN] METHOD TARGET [how…] => outcome…
//
// await tries again until the outcome is as wanted: what was applied takes a moment. xN makes N requests. METHOD is that of HTTP,
// or TCP, or WS for a WebSocket that echoes. TARGET is service:port, service.namespace:port, pod/name:port or ip:port, with a path
// for HTTP. Connections are kept and used again by later lines with the same client, address and protocol. How:
//
//	from=POD        the client; sleep unless it is said
//	h2, tls, grpc   HTTP/2 with prior knowledge; TLS inside of the tunnel; a gRPC request over h2
//	host=NAME       the Host; the service's name unless it is said
//	name:value      a header
//	body="TEXT"     a body
//	new             a connection of its own
//	send="TEXT"     TCP: what the client sends
//	end             TCP: the client ends its direction after that
//	as=NAME         TCP: the connection stays open, and later lines name it as their target
//
// Outcomes; values may be alternatives separated by |, and "" stands for nothing:
//
//	403             the status
//	pod=NAME        who answered
//	pods=A,B        all who answered, with xN
//	body="TEXT"     the body; body~"TEXT" is a part of it
//	name:value      a header of the answer; the application's are X-Path, X-Host …, and Saw-NAME for each header that it got
//	grpc=7          grpc-status
//	details=, flags=, log.FIELD=   what the access log says
//	unlogged=yes                   the access log says nothing
//	after=1s, within=3s            how long it took
//	recv="TEXT"     TCP: what came first; recv="" that nothing came within 300 ms
//	closed          TCP: the connection ended, without a byte more
//	no-tunnel=503   the CONNECT got that status
type fixture struct {
	path     string
	prose    string
	mesh     string
	sections []section
}

type section struct {
	name     string
	text     string
	requests []*request
}

// request is one line.
type request struct {
	line   int
	source string

	await          bool
	times          int
	method, target string
	path           string
	how            map[string]string // of the words with =, and of those without
	headers        [][2]string
	want           []expectation
}

// expectation is one word of an outcome.
type expectation struct {
	key   string // "status", "pod", …, or "header NAME"
	part  bool   // ~ instead of =
	value string
}

func readFixture(path string) (*fixture, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := &fixture{path: path}
	name := "prose"
	var text []string
	start := 1
	end := func() error {
		body := strings.Join(text, "\n")
		switch name {
		case "prose":
			f.prose = strings.TrimSpace(body)
		case "mesh":
			f.mesh = body
		case "manifests", "apply", "delete":
			f.sections = append(f.sections, section{name: name, text: body})
		case "requests":
			s := section{name: name}
			for i, line := range text {
				if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
					continue
				}
				r, err := parseRequest(line)
				if err != nil {
					return fmt.Errorf("%s:%d: %w", path, start+i, err)
				}
				r.line = start + i
				s.requests = append(s.requests, r)
			}
			f.sections = append(f.sections, s)
		default:
			return fmt.Errorf("%s:%d: no section is called %q", path, start-1, name)
		}
		return nil
	}
	for i, line := range strings.Split(string(b), "\n") {
		if next, ok := strings.CutPrefix(line, "-- "); ok {
			if err := end(); err != nil {
				return nil, err
			}
			name, text, start = strings.TrimSpace(next), nil, i+2
			continue
		}
		text = append(text, line)
	}
	if err := end(); err != nil {
		return nil, err
	}
	if len(f.prose) < 40 {
		return nil, fmt.Errorf("%s: begins without saying what it shows and why", path)
	}
	return f, nil
}

func parseRequest(line string) (*request, error) {
	words, err := split(line)
	if err != nil {
		return nil, err
	}
	r := &request{source: strings.TrimSpace(line), times: 1, how: map[string]string{}}
	if len(words) > 0 && words[0] == "await" {
		r.await, words = true, words[1:]
	}
	if len(words) > 0 && words[0][0] == 'x' {
		if r.times, err = strconv.Atoi(words[0][1:]); err != nil {
			return nil, err
		}
		words = words[1:]
	}
	if len(words) < 4 {
		return nil, fmt.Errorf("want METHOD TARGET => outcome, got %q", line)
	}
	r.method = words[0]
	var slash bool
	r.target = words[1]
	if rest, isPod := strings.CutPrefix(r.target, "pod/"); isPod {
		r.target, r.path, slash = strings.Cut(rest, "/")
		r.target = "pod/" + r.target
	} else {
		r.target, r.path, slash = strings.Cut(r.target, "/")
	}
	if slash {
		r.path = "/" + r.path
	}
	outcome := false
	for _, w := range words[2:] {
		switch {
		case w == "=>":
			outcome = true
		case outcome:
			e, err := parseExpectation(w)
			if err != nil {
				return nil, err
			}
			r.want = append(r.want, e)
		default:
			k, v, op, err := parseWord(w)
			if err != nil {
				return nil, err
			}
			if op == ":" {
				r.headers = append(r.headers, [2]string{k, v})
			} else {
				r.how[k] = v
			}
		}
	}
	if len(r.want) == 0 {
		return nil, fmt.Errorf("no outcome in %q", line)
	}
	return r, nil
}

func parseExpectation(w string) (expectation, error) {
	k, v, op, err := parseWord(w)
	switch {
	case err != nil:
		return expectation{}, err
	case op == ":":
		return expectation{key: "header " + k, value: v}, nil
	case op == "~":
		return expectation{key: k, part: true, value: v}, nil
	case k == "closed":
		return expectation{key: k, value: "yes"}, nil
	case op == "":
		if _, err := strconv.Atoi(k); err != nil {
			return expectation{}, fmt.Errorf("%q is no outcome", w)
		}
		return expectation{key: "status", value: k}, nil
	}
	return expectation{key: k, value: v}, nil
}

// parseWord takes key=value, key~value, key:value or key apart; the value may be a Go string in quotes.
func parseWord(w string) (key, value, op string, err error) {
	i := strings.IndexAny(w, "=~:")
	if i < 0 {
		return w, "", "", nil
	}
	key, value, op = w[:i], w[i+1:], w[i:i+1]
	if strings.HasPrefix(value, `"`) {
		value, err = strconv.Unquote(value)
		if err != nil {
			err = fmt.Errorf("%s: %w", w, err)
		}
	}
	return key, value, op, err
}

// split splits at spaces outside of quotes.
func split(line string) ([]string, error) {
	var out []string
	for rest := strings.TrimSpace(line); rest != ""; rest = strings.TrimLeft(rest, " ") {
		end := 0
		for end < len(rest) && rest[end] != ' ' {
			if rest[end] == '"' {
				q, err := strconv.QuotedPrefix(rest[end:])
				if err != nil {
					return nil, fmt.Errorf("%w at %s", err, rest[end:])
				}
				end += len(q)
				continue
			}
			end++
		}
		out = append(out, rest[:end])
		rest = rest[end:]
	}
	return out, nil
}
