package conformance

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite our column of testdata/smuggling.txt; with build tag envoy, Envoy's too")

const smugglingFile = "testdata/smuggling.txt"

// smuggling is one case of the file.
type smuggling struct {
	title string
	prose string // the lines up to "----", as they are
	sent  []byte
	// What came of it, one line each: what the pod got, then the answers.
	ours, envoy []string
}

// The file is prose, then sections: "## title", explanation, the bytes ("> " is a line with CRLF, ">> " one without; both with Go
// escapes; "@" is the case's own path, "/case-N/"), "----", and lines "ours: …" and "envoy: …".
func readSmuggling(t *testing.T) (intro string, cases []*smuggling) {
	t.Helper()
	raw, err := os.ReadFile(smugglingFile)
	must(t, err)
	parts := strings.Split(string(raw), "\n## ")
	for i, part := range parts[1:] {
		prose, results, _ := strings.Cut(part, "\n----\n")
		c := &smuggling{prose: prose}
		c.title, _, _ = strings.Cut(prose, "\n")
		c.sent = sentBytes(t, prose, casePath(i))
		for l := range strings.SplitSeq(results, "\n") {
			if rest, ok := strings.CutPrefix(l, "ours: "); ok {
				c.ours = append(c.ours, rest)
			} else if rest, ok := strings.CutPrefix(l, "envoy: "); ok {
				c.envoy = append(c.envoy, rest)
			}
		}
		cases = append(cases, c)
	}
	return parts[0], cases
}

func casePath(i int) string { return fmt.Sprintf("/case-%d/", i) }

func sentBytes(t *testing.T, prose, path string) (b []byte) {
	t.Helper()
	for l := range strings.SplitSeq(prose, "\n") {
		l, ok := strings.CutPrefix(l, ">")
		if !ok {
			continue
		}
		l, part := strings.CutPrefix(l, ">")
		l = strings.NewReplacer(`"`, `\"`, "@", path).Replace(strings.TrimPrefix(l, " "))
		s, err := strconv.Unquote(`"` + l + `"`)
		must(t, err)
		if b = append(b, s...); !part {
			b = append(b, "\r\n"...)
		}
	}
	return b
}

func writeSmuggling(t *testing.T, intro string, cases []*smuggling) {
	t.Helper()
	var b strings.Builder
	b.WriteString(intro)
	for _, c := range cases {
		fmt.Fprintf(&b, "\n## %s\n----\n", c.prose)
		for _, l := range c.ours {
			fmt.Fprintf(&b, "ours: %s\n", l)
		}
		for _, l := range c.envoy {
			fmt.Fprintf(&b, "envoy: %s\n", l)
		}
	}
	must(t, os.WriteFile(smugglingFile, []byte(b.String()), 0o600))
}

// Each case is refused, or the pod gets what can be read in one way only.
func TestSmuggling(t *testing.T) {
	intro, cases := readSmuggling(t)
	if len(cases) < 60 {
		t.Fatalf("only %d cases", len(cases))
	}
	r := &recorder{}
	n := start(t, ours(t), "127.9.23", r.serve)
	for i, got := range smuggle(t, n, r, cases) {
		c := cases[i]
		if *update {
			c.ours = got
		} else if strings.Join(got, "\n") != strings.Join(c.ours, "\n") {
			t.Errorf("%s:\n%s\nthe file has\n%s", c.title, strings.Join(got, "\n"), strings.Join(c.ours, "\n"))
		}
	}
	for _, problem := range r.ambiguous() {
		t.Error(problem)
	}
	if *update {
		writeSmuggling(t, intro, cases)
	}
}

// smuggle sends the cases, many at a time, and tells what came of each.
func smuggle(t *testing.T, n *node, r *recorder, cases []*smuggling) [][]string {
	t.Helper()
	h := n.hboneConn()
	answers := make([][]string, len(cases))
	slots := make(chan struct{}, 16)
	var all sync.WaitGroup
	for i, c := range cases {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			tunnel, err := n.tunnel(h)
			if err != nil {
				answers[i] = []string{"no tunnel: " + err.Error()}
				return
			}
			near, far, err := socketPair()
			if err != nil {
				answers[i] = []string{err.Error()}
				return
			}
			defer func() { _ = far.Close() }() // ends the tunnel
			go pipe(near, tunnel)
			answers[i] = converse(far, c.sent)
		})
	}
	all.Wait()
	time.Sleep(50 * time.Millisecond) // the last bodies have been cut off by now
	out := make([][]string, len(cases))
	for i := range cases {
		out[i] = append(r.of(casePath(i)), answers[i]...)
	}
	for _, stray := range r.strays() {
		t.Errorf("the pod got a request of no case: %s", stray)
	}
	return out
}

// quiet is how long nothing comes when a proxy waits for more.
const quiet = 1500 * time.Millisecond

// converse sends everything and returns the answers and whether the connection was closed. The client never closes its side
// first: Envoy would take that for the end of everything.
func converse(c *net.TCPConn, b []byte) (lines []string) {
	if _, err := c.Write(b); err != nil {
		return []string{"write: " + err.Error()}
	}
	r := bufio.NewReader(c)
	for {
		_ = c.SetReadDeadline(time.Now().Add(quiet)) // fails on a closed socket only, and Read then tells
		_, err := r.Peek(1)                          // ReadResponse does not tell an end before an answer from one within
		var resp *http.Response
		if err == nil {
			resp, err = http.ReadResponse(r, nil)
		}
		if err != nil {
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				return append(lines, "open")
			case errors.Is(err, io.EOF), strings.Contains(err.Error(), "reset by peer"):
				return append(lines, "closed")
			}
			return append(lines, "not an answer: "+err.Error())
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close() // read to its end
		line := strconv.Itoa(resp.StatusCode)
		if err != nil {
			line += " cut off"
		}
		lines = append(lines, line)
		if resp.StatusCode == http.StatusSwitchingProtocols {
			return append(lines, "upgraded")
		}
	}
}

// recorder is the pod's application: it keeps the exact bytes that it gets and answers each request with 200.
type recorder struct {
	mu       sync.Mutex
	received []received
}

type received struct {
	raw  []byte // head and body as they were on the wire
	text string // for the file
	path string
	// cut: the connection ended within the body, so the pod does not take it for a request. Whether a proxy has sent a head on when
	// it finds that the body is bad depends on who is faster, so these are not in the file.
	cut bool
}

func (r *recorder) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	wire := &tap{r: c}
	in := bufio.NewReader(wire)
	for {
		from := wire.consumed(in)
		req, err := http.ReadRequest(in)
		if err != nil {
			if left := wire.b[from:]; len(left) > 0 {
				line, _, _ := strings.Cut(string(left), "\r\n")
				r.add(received{raw: left, text: fmt.Sprintf("%s, not a request: %v", line, err), path: line})
			}
			return
		}
		body, err := io.ReadAll(req.Body)
		raw := wire.b[from:wire.consumed(in)]
		text := fmt.Sprintf("%s %s for %s, body %q", req.Method, req.RequestURI, req.Host, body)
		cut := err != nil
		for _, name := range []string{"Expect", "Upgrade", "Te", "Trailer", "X-Seen"} {
			if v := req.Header.Values(name); len(v) > 0 {
				text += fmt.Sprintf(", %s %q", strings.ToLower(name), strings.Join(v, "|"))
			}
		}
		r.add(received{raw: raw, text: text, path: req.RequestURI, cut: cut})
		if cut {
			return
		}
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"); err != nil {
			return // the proxy has gone
		}
	}
}

func (r *recorder) add(x received) {
	r.mu.Lock()
	r.received = append(r.received, x)
	r.mu.Unlock()
}

var anyCase = regexp.MustCompile(`/case-[0-9]+/`)

// of lists what came of one case, by the path in it.
func (r *recorder) of(path string) (lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.received {
		if strings.Contains(x.path, path) && !x.cut {
			lines = append(lines, strings.ReplaceAll(x.text, path, "@"))
		}
	}
	return lines
}

func (r *recorder) strays() (lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.received {
		if !anyCase.MatchString(x.path) {
			lines = append(lines, x.text)
		}
	}
	return lines
}

// tap keeps what is read through it.
type tap struct {
	r io.Reader
	b []byte
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.b = append(t.b, p[:n]...)
	return n, err
}

// consumed is how much has been taken out of in.
func (t *tap) consumed(in *bufio.Reader) int { return len(t.b) - in.Buffered() }

// ambiguous tells which of the messages that the pod got another server might read in another way. net/http has read them in
// one; the bytes have to be so plain that there is no other.
func (r *recorder) ambiguous() (problems []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.received {
		if why := doubt(x.raw); why != "" {
			problems = append(problems, fmt.Sprintf("%s: the pod got %q", why, x.raw))
		}
	}
	return problems
}

var (
	requestLine = regexp.MustCompile(`^[A-Z]+ [!-~]+ HTTP/1\.1$`)
	fieldLine   = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[!-~\\x80-\\xff]?[\\t -~\\x80-\\xff]*$")
	decimal     = regexp.MustCompile(`^(0|[1-9][0-9]{0,17})$`)
	chunkLine   = regexp.MustCompile(`^[0-9a-fA-F]{1,8}$`)
)

// doubt returns what of RFC 9112 a request breaks, "" for nothing, by the strictest reading.
func doubt(raw []byte) string {
	head, body, ok := strings.Cut(string(raw), "\r\n\r\n")
	if !ok {
		return "a head without an end"
	}
	lines := strings.Split(head, "\r\n")
	if !requestLine.MatchString(lines[0]) {
		return "the request line"
	}
	values := map[string][]string{}
	for _, l := range lines[1:] {
		if !fieldLine.MatchString(l) {
			return "the field line " + strconv.Quote(l)
		}
		name, value, _ := strings.Cut(l, ":")
		name = strings.ToLower(name)
		values[name] = append(values[name], strings.TrimSpace(value))
	}
	length, coding := values["content-length"], values["transfer-encoding"]
	switch {
	case len(values["host"]) != 1:
		return "not one Host"
	case len(length) > 0 && len(coding) > 0, len(length) > 1, len(coding) > 1:
		return "two framings"
	case len(coding) == 1:
		if coding[0] != "chunked" {
			return "a transfer coding other than chunked"
		}
		return doubtChunks(body)
	case len(length) == 1:
		if !decimal.MatchString(length[0]) {
			return "the content length"
		}
		if n, err := strconv.Atoi(length[0]); err != nil || len(body) > n {
			return "more body than content length"
		}
	case body != "":
		return "a body without a length"
	}
	return ""
}

// doubtChunks allows a body that ends too early: the connection was closed then, and a server must not take it for whole.
func doubtChunks(body string) string {
	for body != "" {
		line, rest, ok := strings.Cut(body, "\r\n")
		if !ok {
			return ""
		}
		if !chunkLine.MatchString(line) {
			return "the chunk size " + strconv.Quote(line)
		}
		n, err := strconv.ParseInt(line, 16, 64)
		if err != nil {
			return err.Error()
		}
		if n == 0 {
			if rest != "\r\n" && rest != "" && !strings.HasSuffix(rest, "\r\n\r\n") {
				return "bytes after the last chunk"
			}
			return ""
		}
		if int64(len(rest)) < n+2 {
			return ""
		}
		if rest[n:n+2] != "\r\n" {
			return "a chunk without an end"
		}
		body = rest[n+2:]
	}
	return ""
}
