package gen

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

const rounds = 400

// Everything that is made compiles, and of each kind of set a good part is about something.
func TestSetsCompile(t *testing.T) {
	filters := 0
	for i := range uint64(rounds) {
		w := New(1, i)
		network := i%5 == 0
		s := w.Raw(network)
		if i%2 == 0 {
			var err error
			if s, err = w.Istio(network); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		if len(s.Filters) > pair.MaxFilters || s.Network != network {
			t.Errorf("%d: %d filters, network %v", i, len(s.Filters), s.Network)
		}
		filters += len(s.Filters)
		if _, err := s.Compile(); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	if filters < rounds {
		t.Errorf("only %d filters in %d sets", filters, rounds)
	}
}

// A pair that failed can be made again from its seed.
func TestSameSeedSamePairs(t *testing.T) {
	for i := range uint64(50) {
		wire := func() []byte {
			w := New(3, i)
			s := w.Raw(false)
			var b []byte
			for _, r := range w.Requests(s, 20) {
				b = r.AppendWire(b, "0")
			}
			return b
		}
		if !bytes.Equal(wire(), wire()) {
			t.Errorf("seed 3, stream %d: two runs differ", i)
		}
	}
}

// What is on the wire is framed as it should be, whatever the generators made.
func TestRequestsAreFramed(t *testing.T) {
	head := regexp.MustCompile(`\A[^ \r\n]+ [^ \r\n]+ HTTP/1\.1\r\n(?:[a-zA-Z_-]+: [^\r\n]*\r\n)+\r\n\z`)
	repeated, odd := 0, 0
	for i := range uint64(rounds) {
		w := New(5, i)
		for _, r := range w.Requests(w.Raw(false), 10) {
			wire := r.AppendWire(nil, "7")
			if !head.Match(wire) {
				t.Fatalf("seed 5, stream %d: %q", i, wire)
			}
			names := map[string]bool{}
			for _, l := range r.Lines {
				if name := strings.ToLower(l.Name); names[name] {
					repeated++
				} else {
					names[name] = true
				}
			}
			if bytes.ContainsFunc(wire, func(c rune) bool { return c > 0x7f }) {
				odd++
			}
		}
	}
	if repeated < 100 || odd < 100 {
		t.Errorf("%d repeated headers, %d requests beyond ASCII: too few to show anything", repeated, odd)
	}
}

// The constants of a set come back in its requests.
func TestRequestsAreAimed(t *testing.T) {
	matched, total := 0, 0
	for i := range uint64(rounds) {
		w := New(9, i)
		s := w.Raw(false)
		compiled, err := s.Compile()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range w.Requests(s, 10) {
			c := w.Conn(&pair.Listeners[w.IntN(len(pair.Listeners))])
			view, ok := r.View(c, 8080)
			if !ok {
				continue
			}
			total++
			a, err := compiled.Decide(view, true)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range a.Filters {
				if f.Policy != "" || f.ShadowPolicy != "" {
					matched++
					break
				}
			}
		}
	}
	if matched < total/8 || matched > total*7/8 {
		t.Errorf("a policy matches in %d of %d pairs", matched, total)
	}
}
