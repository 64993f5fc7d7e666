package xdsclient

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// TestMachine walks the state machine through testdata/*.txt. In such a file, a line that begins with "> " is an input,
// the indented lines after it are what the machine did, and everything else is prose. See testdata/README.txt for the inputs.
func TestMachine(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 2 {
		t.Fatalf("fixtures missing: %v %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal([]byte(got), want) {
				t.Errorf("%s differs; run with -update and read the diff. Now:\n%s", file, got)
			}
		})
	}
}

// replay returns the text with the output lines written anew.
func replay(t *testing.T, text string) string {
	w := &walk{t: t, m: newMachine(&corev3.Node{Id: "waypoint"}, []string{TypeCluster, TypeListener, TypeWorkload}, []string{TypeWorkload})}
	var out strings.Builder
	for line := range strings.Lines(text) {
		command, isInput := strings.CutPrefix(line, "> ")
		switch {
		case isInput:
			out.WriteString(line)
			w.run(strings.TrimSpace(command))
			for _, o := range w.out {
				out.WriteString("  " + o + "\n")
			}
			w.out = nil
		case strings.HasPrefix(line, "  "): // former output
		default:
			out.WriteString(line)
		}
	}
	return out.String()
}

type walk struct {
	t   *testing.T
	m   *machine
	now time.Time
	out []string
}

func (w *walk) printf(format string, args ...any) {
	w.out = append(w.out, strings.Split(fmt.Sprintf(format, args...), "\n")...)
}

// run executes one input. A leading "+" holds back the flush, so that several inputs go out together.
func (w *walk) run(command string) {
	command, hold := strings.CutPrefix(command, "+")
	words := strings.Fields(command)
	args := words[1:]
	w.now = w.now.Add(time.Second)
	switch words[0] {
	case "connect":
		w.m.connect()
	case "disconnect":
		w.m.disconnect()
	case "names":
		w.m.setNames(longType(w.t, args[0]), args[1:])
	case "subscribe":
		w.m.subscribe(longType(w.t, args[0]), args[1:])
	case "unsubscribe":
		w.m.unsubscribe(longType(w.t, args[0]), args[1:])
	case "recv":
		w.printUpdate(w.m.receive(response(w.t, args)))
	case "accept":
		w.m.finish(nil, w.now)
	case "reject":
		var rejected []Rejection
		for _, r := range strings.Split(strings.TrimPrefix(command, "reject "), " | ") {
			part := strings.SplitN(r, " ", 3)
			rejected = append(rejected, Rejection{Name: part[0], Field: part[1], Reason: part[2]})
		}
		w.m.finish(rejected, w.now)
	case "show":
		w.show(w.m.typeSnapshot(longType(w.t, args[0])))
	default:
		w.t.Fatalf("unknown input %q", command)
	}
	for _, n := range w.m.notes {
		w.printf("log: %s", n)
	}
	w.m.notes = nil
	if hold {
		return
	}
	for _, r := range w.m.ready() {
		w.printf("%s", printRequest(r))
	}
}

// response reads "CDS nonce=1 a=bytes b=bytes@version -c": resources a and b, c removed. Odd ones: "a!" has no body, "a~x" has
// a body of another type, "a^x" a ttl, "a%x" a resource_name, "=x" no name.
func response(t *testing.T, args []string) *discoveryv3.DeltaDiscoveryResponse {
	url := longType(t, args[0])
	resp := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: url, SystemVersionInfo: "push"}
	for _, a := range args[1:] {
		if nonce, ok := strings.CutPrefix(a, "nonce="); ok {
			resp.Nonce = nonce
			continue
		}
		if name, ok := strings.CutPrefix(a, "-"); ok {
			resp.RemovedResources = append(resp.RemovedResources, name)
			continue
		}
		i := strings.IndexAny(a, "=!~^%")
		name, kind, value := a[:i], a[i], a[i+1:]
		value, version, _ := strings.Cut(value, "@")
		r := &discoveryv3.Resource{Name: name, Version: version, Resource: &anypb.Any{TypeUrl: url, Value: []byte(value)}}
		switch kind {
		case '!':
			r.Resource = nil
		case '~':
			r.Resource.TypeUrl = TypeRoute
		case '^':
			r.Ttl = durationpb.New(time.Second)
		case '%':
			r.ResourceName = &discoveryv3.ResourceName{Name: name}
		}
		resp.Resources = append(resp.Resources, r)
	}
	return resp
}

func (w *walk) printUpdate(u *Update) {
	if u == nil {
		w.printf("nothing to apply")
		return
	}
	text := "apply " + ShortType(u.TypeURL)
	if u.First {
		text += " first"
	}
	if len(u.Changed) > 0 {
		var names []string
		for _, r := range u.Changed {
			names = append(names, r.Name+"="+string(r.Value))
		}
		text += " changed " + strings.Join(names, " ")
	}
	if len(u.Removed) > 0 {
		text += " removed " + strings.Join(u.Removed, " ")
	}
	w.printf("%s", text)
}

func printRequest(r *discoveryv3.DeltaDiscoveryRequest) string {
	text := "send " + ShortType(r.GetTypeUrl())
	if r.GetNode() != nil {
		text += " node=" + r.GetNode().GetId()
	}
	if r.GetErrorDetail() != nil {
		text += " NACK " + r.GetResponseNonce() + "\n     " + strings.ReplaceAll(r.GetErrorDetail().GetMessage(), "\n", "\n     ")
	} else if r.GetResponseNonce() != "" {
		text += " ACK " + r.GetResponseNonce()
	}
	for _, list := range []struct {
		label string
		names []string
	}{{"subscribe", r.GetResourceNamesSubscribe()}, {"unsubscribe", r.GetResourceNamesUnsubscribe()}} {
		if len(list.names) > 0 {
			text += " " + list.label + " " + strings.Join(list.names, " ")
		}
	}
	if held := r.GetInitialResourceVersions(); len(held) > 0 {
		var have []string
		for name, version := range held {
			have = append(have, strings.TrimSuffix(name+"@"+version, "@"))
		}
		slices.Sort(have)
		text += " holding " + strings.Join(have, " ")
	}
	return text
}

func (w *walk) show(s TypeSnapshot) {
	w.printf("attempts %d accepted %d rejected %d unchanged %d nonce %q", s.Attempts, s.Accepted, s.Rejected, s.Unchanged, s.Nonce)
	for _, e := range s.Entries {
		text := e.Name + ":"
		if e.Accepted != nil {
			text += fmt.Sprintf(" in force %q since %ds", e.Accepted.Value, e.LastUpdated.Second())
		}
		if e.Failure != nil {
			text += fmt.Sprintf(" rejected %q at %ds (%s)", e.Failure.Resource.Value, e.Failure.Time.Second(), e.Failure.Details)
		}
		w.printf("%s", text)
	}
}

func longType(t *testing.T, short string) string {
	for _, p := range pushOrder {
		if p.short == short {
			return p.url
		}
	}
	if strings.Contains(short, "/") {
		return short
	}
	t.Fatalf("unknown type %q", short)
	return ""
}
