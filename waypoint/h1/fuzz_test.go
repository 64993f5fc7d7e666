package h1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// seed adds the bytes of the fixtures in files that match.
func seed(f *testing.F, match string) {
	files, _ := filepath.Glob("testdata/*.txt")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil || !strings.Contains(file, match) {
			continue
		}
		for _, part := range strings.Split(string(raw), "\n## ")[1:] {
			body, _, _ := strings.Cut(part, "\n----\n")
			in, _ := fixtureInput(f, body)
			f.Add(in)
		}
	}
}

// heard is all that was understood of a connection's bytes.
func heard(in []byte, step int, o Options) string {
	var out strings.Builder
	sc := NewServerConn(&tape{in: in, step: step}, o)
	defer sc.Close()
	for {
		s, err := sc.Next()
		if err != nil {
			return out.String()
		}
		var h message.Head
		end, err := s.ReadHead(&h)
		if err != nil {
			out.WriteString("refused\n")
			return out.String()
		}
		fmt.Fprintf(&out, "%s %q %q %q %q %v", h.Method, h.Scheme, h.Authority, h.Path, h.Upgrade, end)
		describeFields(&out, &h)
		body, err := io.ReadAll(readerOf(s))
		fmt.Fprintf(&out, "%q", body)
		if err != nil {
			out.WriteString("broken\n")
		}
		ok(s, &h, end)
		if !sc.Finish() {
			out.WriteString("closed\n")
			return out.String()
		}
	}
}

// FuzzRequests: whatever comes is understood alike in one piece and in small ones, and what was accepted is forwarded as a
// message that is understood as the same.
func FuzzRequests(f *testing.F) {
	seed(f, "")
	f.Fuzz(func(t *testing.T, in []byte) {
		if at, bit := heard(in, 0, Options{}), heard(in, 3, Options{}); at != bit {
			t.Fatalf("at once:\n%s\nin pieces:\n%s", at, bit)
		}
		sc := NewServerConn(&tape{in: in}, Options{})
		s, err := sc.Next()
		if err != nil {
			return
		}
		var h, again message.Head
		end, err := s.ReadHead(&h)
		if err != nil {
			return
		}
		wire := &tape{}
		u := NewClientConn(wire, Options{}).Stream()
		if err = u.WriteHead(&h, end); err != nil {
			t.Fatalf("accepted, and cannot be sent on: %v\n%q", err, in)
		}
		if err = u.Flush(); err != nil {
			t.Fatal(err)
		}
		s, err = NewServerConn(&tape{in: wire.out}, Options{}).Next()
		if err != nil {
			t.Fatal(err)
		}
		if _, err = s.ReadHead(&again); err != nil {
			t.Fatalf("what was sent on is refused: %v\n%q", err, wire.out)
		}
		h.Scheme = "" // is not sent
		if n, err := length(&h.Fields); err == nil && n >= 0 {
			h.Fields.Set(header.ContentLength, fmt.Sprint(n)) // is sent without leading zeros
		} else if end && !bodiless(h.Method) {
			h.Fields.Set(header.ContentLength, "0") // is added
		}
		slices.SortStableFunc(h.Fields.All(), byName)
		slices.SortStableFunc(again.Fields.All(), byName)
		var a, b strings.Builder
		describeFields(&a, &h)
		describeFields(&b, &again)
		if a.String() != b.String() || h.Method != again.Method || h.Path != again.Path || h.Authority != again.Authority {
			t.Fatalf("sent on as something else:\n%+v\n%+v", h, again)
		}
	})
}

func byName(a, b header.Field) int { return strings.Compare(a.Name, b.Name) }

// FuzzAgainstNetHTTP: what we accept, Go's server accepts with the same meaning. (Not the reverse: it takes bare LF and more.)
func FuzzAgainstNetHTTP(f *testing.F) {
	seed(f, "")
	f.Fuzz(func(t *testing.T, in []byte) {
		sc := NewServerConn(&tape{in: in}, Options{EnableTrailers: true})
		theirs := bufio.NewReader(bytes.NewReader(in))
		if bytes.HasPrefix(in, []byte("\r\n")) {
			return // Go's parser does not skip the empty line
		}
		for {
			s, err := sc.Next()
			if err != nil {
				return
			}
			var h message.Head
			end, err := s.ReadHead(&h)
			if err != nil || h.Method == "CONNECT" {
				return
			}
			if badURL(h.Path) {
				return // Go wants targets to be valid URLs; we, like Envoy, visible ASCII
			}
			r, err := http.ReadRequest(theirs)
			if err != nil {
				t.Fatalf("Go refuses: %v\n%q", err, in)
			}
			if r.Method != h.Method || r.Host != h.Authority {
				t.Fatalf("%s %s, Go %s %s\n%q", h.Method, h.Authority, r.Method, r.Host, in)
			}
			for _, fd := range h.Fields.All() {
				if fd.Name == "te" || fd.Name == "trailer" {
					continue
				}
				if !slices.Contains(r.Header.Values(fd.Name), fd.Value) {
					t.Fatalf("%s: %q, Go %q", fd.Name, fd.Value, r.Header.Values(fd.Name))
				}
			}
			body, err := io.ReadAll(readerOf(s))
			want, wantErr := io.ReadAll(r.Body)
			if err == nil && wantErr != nil {
				if strings.Contains(wantErr.Error(), "trailer") {
					return // Go refuses some names in trailers that we drop
				}
				t.Fatalf("body %q, Go %q, %v\n%q", body, want, wantErr, in)
			}
			if err == nil && !bytes.Equal(body, want) {
				t.Fatalf("body %q, Go %q\n%q", body, want, in)
			}
			if err != nil {
				return
			}
			ok(s, &h, end)
			if !sc.Finish() {
				return
			}
		}
	})
}

// badURL tells whether Go's URL parser may refuse a path that we take.
func badURL(p string) bool {
	return strings.ContainsAny(p, "%#[]^|{}\"<>\\`") || strings.HasPrefix(p, "//")
}

// FuzzResponses: as FuzzRequests, for answers; and Go's client understands what we accept in the same way.
func FuzzResponses(f *testing.F) {
	seed(f, "response")
	f.Fuzz(func(t *testing.T, in []byte) {
		hear := func(step int) (message.Head, string, error) {
			s := NewClientConn(&tape{in: in, step: step}, Options{}).Stream()
			if err := s.WriteHead(&message.Head{Method: "GET", Path: "/", Authority: "a"}, true); err != nil {
				t.Fatal(err)
			}
			var h message.Head
			for {
				end, err := s.ReadHead(&h)
				if err != nil {
					return h, "", err
				}
				if h.Informational() {
					continue
				}
				if end {
					return h, "", nil
				}
				body, err := io.ReadAll(readerOf(s))
				return h, string(body), err
			}
		}
		h, body, err := hear(0)
		h2, body2, err2 := hear(3)
		if (err == nil) != (err2 == nil) || h.Status != h2.Status && err == nil || body != body2 {
			t.Fatalf("%v %q %v, in pieces %v %q %v", h, body, err, h2, body2, err2)
		}
		var r *message.ResetError
		if err != nil && message.AsMalformed(err) == nil && !errors.As(err, &r) {
			t.Fatalf("an error of no known kind: %v", err)
		}
		if err != nil {
			return
		}
		br := bufio.NewReader(bytes.NewReader(in))
		for {
			resp, err := http.ReadResponse(br, &http.Request{Method: "GET"})
			if err != nil {
				t.Fatalf("Go refuses: %v\n%q", err, in)
			}
			if resp.StatusCode < 200 {
				continue
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != h.Status || string(got) != body || err != nil && !strings.Contains(err.Error(), "trailer") {
				t.Fatalf("%d %q, Go %d %q %v\n%q", h.Status, body, resp.StatusCode, got, err, in)
			}
			return
		}
	})
}

// FuzzChunks: the decoder gives the same for every way to cut its input, and what it gives is part of the input.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("5;x=y\r\nhello\r\n0\r\n\r\n"), uint8(1))
	f.Add([]byte("1\r\nx\r\n1\r\ny\r\n0\r\nA: b\r\n\r\n"), uint8(7))
	f.Add([]byte("ffffffffffffffff\r\n"), uint8(3))
	f.Add([]byte("10\r\n0123456789abcdef\r\n0"), uint8(2))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		decode := func(step int) (out []byte, state chunkState, bad bool) {
			var d chunks
			for rest := in; len(rest) > 0; {
				piece := rest[:min(step, len(rest))]
				rest = rest[len(piece):]
				for len(piece) > 0 {
					k, err := d.skip(piece)
					if err != nil {
						return out, d.state, true
					}
					piece = piece[k:]
					if d.state == inTrailers {
						return out, d.state, false
					}
					if d.left < 0 {
						t.Fatal("negative chunk")
					}
					if d.state == inData {
						n := int(min(d.left, int64(len(piece))))
						out, piece = append(out, piece[:n]...), piece[n:]
						d.take(n)
					}
				}
			}
			return out, d.state, false
		}
		a, sa, ba := decode(len(in) + 1)
		b, sb, bb := decode(int(step)%32 + 1)
		if !bytes.Equal(a, b) || ba != bb || !ba && sa != sb {
			t.Fatalf("%q %v %v, in pieces %q %v %v", a, sa, ba, b, sb, bb)
		}
	})
}
