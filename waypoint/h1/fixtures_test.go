package h1

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

// TestFixtures reads testdata/*.txt. A case is a title ("## …"), prose, the options ("with …"), the bytes that arrive ("> …" is
// a line with CRLF, ">> …" is without; both may have Go escapes), "----", and what was understood.
//
// Each case arrives twice over a real socket: at once, and byte by byte. Both must be understood alike.
func TestFixtures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runFile(t, file) })
	}
}

func runFile(t *testing.T, file string) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	read := readRequests
	if strings.Contains(file, "response") {
		read = readResponse
	}
	parts := strings.Split(string(raw), "\n## ")
	for i, part := range parts[1:] {
		title, _, _ := strings.Cut(part, "\n")
		body, want, _ := strings.Cut(part, "\n----\n")
		in, with := fixtureInput(t, body)
		got := read(t, in, with, 0)
		if slow := read(t, in, with, 1); verdicts(slow) != verdicts(got) {
			t.Errorf("%s: byte by byte it is\n%s\nat once it is\n%s", title, slow, got)
		}
		parts[i+1] = body + "\n----\n" + got
		if want = strings.TrimRight(want, "\n"); !*update && want != strings.TrimRight(got, "\n") {
			t.Errorf("%s: got\n%s\nwant\n%s", title, got, want)
		}
	}
	if *update {
		if err = os.WriteFile(file, []byte(strings.Join(parts, "\n## ")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// verdicts leaves out why a message was refused: with one byte at a time another reason may be seen first.
func verdicts(out string) string {
	lines := strings.Split(out, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "refused ") {
			lines[i] = "refused"
		}
	}
	return strings.Join(lines, "\n")
}

func fixtureInput(t testing.TB, body string) (in []byte, with string) {
	for l := range strings.SplitSeq(body, "\n") {
		if w, ok := strings.CutPrefix(l, "with "); ok {
			with = w
			continue
		}
		l, ok := strings.CutPrefix(l, ">")
		if !ok {
			continue
		}
		l, part := strings.CutPrefix(l, ">")
		s, err := strconv.Unquote(`"` + strings.ReplaceAll(strings.TrimPrefix(l, " "), `"`, `\"`) + `"`)
		if err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		if in = append(in, s...); !part {
			in = append(in, "\r\n"...)
		}
	}
	return in, with
}

func fixtureOptions(with string) (o Options) {
	o.AcceptHTTP10 = strings.Contains(with, "http10")
	o.EnableTrailers = strings.Contains(with, "trailers")
	if strings.Contains(with, "reject_underscores") {
		o.Underscores = RejectUnderscores
	}
	if strings.Contains(with, "drop_underscores") {
		o.Underscores = DropUnderscores
	}
	return o
}

// readRequests serves what arrives, answering each request with 200, and tells what it understood.
func readRequests(t *testing.T, in []byte, with string, step int) string {
	ours, peer := pair(t)
	ours.step = step
	go func() {
		_, _ = peer.Write(in)
		_ = peer.CloseWrite()
		_, _ = io.Copy(io.Discard, peer)
	}()
	c := NewServerConn(ours, fixtureOptions(with))
	defer c.Close()
	var out strings.Builder
	for {
		s, err := c.Next()
		if err != nil {
			fmt.Fprintf(&out, "then %v\n", err)
			return out.String()
		}
		var h message.Head
		end, err := s.ReadHead(&h)
		if err != nil {
			describeError(&out, err)
		} else {
			fmt.Fprintf(&out, "%s %s for %s", h.Method, h.Path, h.Authority)
			if h.Scheme != "" {
				out.WriteString(" scheme " + h.Scheme)
			}
			if h.Upgrade != "" {
				out.WriteString(" upgrade to " + h.Upgrade)
			}
			describe(&out, s, &h, end)
		}
		answer := message.Head{Status: 200}
		if err = s.WriteHead(&answer, true); err != nil {
			fmt.Fprintf(&out, "answer: %v\n", err)
		}
		if !c.Finish() {
			out.WriteString("closed\n")
			return out.String()
		}
	}
}

// readResponse sends a request and tells what it understood of the answer.
func readResponse(t *testing.T, in []byte, with string, step int) string {
	ours, peer := pair(t)
	ours.step = step
	c := NewClientConn(ours, fixtureOptions(with))
	defer c.Close()
	s := c.Stream()
	req := message.Head{Method: "GET", Path: "/", Authority: "a"}
	if m := strings.Fields(with); len(m) > 0 && m[0] == strings.ToUpper(m[0]) {
		req.Method = m[0]
	}
	if _, p, ok := strings.Cut(with, "upgrade "); ok {
		req.Upgrade = p
	}
	if err := s.WriteHead(&req, req.Method != "CONNECT" && req.Upgrade == ""); err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Write(in); err != nil {
		t.Fatal(err)
	}
	_ = peer.CloseWrite()
	var out strings.Builder
	for {
		var h message.Head
		end, err := s.ReadHead(&h)
		if err != nil {
			describeError(&out, err)
			break
		}
		fmt.Fprintf(&out, "%d", h.Status)
		if h.Upgrade != "" {
			out.WriteString(" upgrade to " + h.Upgrade)
		}
		if h.Informational() {
			describeFields(&out, &h)
			continue
		}
		describe(&out, s, &h, end)
		break
	}
	cs := s.(*ClientStream)
	again := cs.reuse && cs.complete() && cs.in.buf == nil
	if again {
		n, err := ours.TCPConn.Read(make([]byte, 1)) // what Readable would find, the end apart
		again = n == 0 && err == io.EOF
	}
	fmt.Fprintf(&out, "complete %v, the connection may be used again %v\n", cs.in.done.Load(), again)
	return out.String()
}

func describeFields(out *strings.Builder, h *message.Head) {
	out.WriteString("\n")
	for _, f := range h.Fields.All() {
		fmt.Fprintf(out, "  %s: %q\n", f.Name, f.Value)
	}
}

func describe(out *strings.Builder, s message.Stream, h *message.Head, end bool) {
	if end {
		out.WriteString(" end")
	}
	describeFields(out, h)
	if end {
		return
	}
	body, err := io.ReadAll(readerOf(s))
	fmt.Fprintf(out, "  body %q\n", body)
	if err != nil {
		describeError(out, err)
	}
	if tr := s.Trailer(); tr != nil {
		for _, f := range tr.All() {
			fmt.Fprintf(out, "  trailer %s: %q\n", f.Name, f.Value)
		}
	}
}

func describeError(out *strings.Builder, err error) {
	var r *message.ResetError
	if m := message.AsMalformed(err); m != nil {
		fmt.Fprintf(out, "refused %d %s: %s\n", m.Status, m.Details, m.Reason)
	} else if errors.As(err, &r) {
		fmt.Fprintf(out, "lost: %v\n", r.Cause)
	} else {
		fmt.Fprintf(out, "%v\n", err)
	}
}

type streamReader struct{ message.Stream }

// Read checks on the way that Buffered told the truth about what follows.
func (r streamReader) Read(p []byte) (int, error) {
	want, complete := r.Buffered()
	n, err := r.Stream.Read(p)
	if want > 0 && n == 0 || n > 0 && want > 0 && n < want && n < len(p) {
		return n, fmt.Errorf("Buffered said %d, Read gave %d of %d", want, n, len(p))
	}
	if complete && want == 0 && err == nil {
		return n, errors.New("Buffered said complete")
	}
	return n, err
}

func readerOf(s message.Stream) io.Reader { return streamReader{s} }
