package headermutation_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/telemetry/format"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	. "github.com/gowaypoint/gowaypoint/waypoint/filter/filtertest"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/headermutation"
	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
)

func compile(t *testing.T, mutations string) filter.HTTP {
	t.Helper()
	return Build(t, headermutation.HTTP(format.Options{}), "m", Parse(t, &mutationv3.HeaderMutation{}, `{"mutations":`+mutations+`}`))
}

func lines(f *header.Fields) (out []string) {
	for _, e := range f.All() {
		out = append(out, e.Name+": "+e.Value)
	}
	return out
}

// What istiod sends for ambient.istio.io/xfcc-include-client-identity.
const xfcc = `{"request_mutations":[{"append":{"append_action":"OVERWRITE_IF_EXISTS_OR_ADD","header":{"key":"x-forwarded-client-cert",
	"value":"By=%FILTER_STATE(io.istio.local_principal:PLAIN)%;URI=%FILTER_STATE(io.istio.peer_principal:PLAIN)%"}}}]}`

func TestClientIdentity(t *testing.T) {
	f := compile(t, xfcc)
	want := []string{"a: 1", "x-forwarded-client-cert: By=spiffe://cluster.local/ns/shop/sa/waypoint;URI=" + Principal}
	for _, headers := range [][]string{{"a: 1"}, {"a: 1", "x-forwarded-client-cert: URI=spiffe://forged", "x-forwarded-client-cert: URI=again"}} {
		x := New("GET", "/", headers...)
		if f.Request(x) != filter.Continue {
			t.Fatal("not continued")
		}
		if got := lines(&x.Request.Fields); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestActions(t *testing.T) {
	const action = `{"response_mutations":[{"append":{"append_action":%q,"keep_empty_value":%v,"header":{"key":"X-A","value":%q}}}]}`
	for _, c := range []struct {
		action, value string
		keepEmpty     bool
		before, after string // values of x-a, separated by commas; "-" is none
	}{
		{"APPEND_IF_EXISTS_OR_ADD", "v", false, "-", "v"},
		{"APPEND_IF_EXISTS_OR_ADD", "v", false, "1", "1,v"},
		{"ADD_IF_ABSENT", "v", false, "-", "v"},
		{"ADD_IF_ABSENT", "v", false, "1", "1"},
		{"OVERWRITE_IF_EXISTS_OR_ADD", "v", false, "-", "v"},
		{"OVERWRITE_IF_EXISTS_OR_ADD", "v", false, "1,2", "v"},
		{"OVERWRITE_IF_EXISTS", "v", false, "-", "-"},
		{"OVERWRITE_IF_EXISTS", "v", false, "1,2", "v"},
		{"APPEND_IF_EXISTS_OR_ADD", "%REQ(no)%", false, "1", "1"},
		{"APPEND_IF_EXISTS_OR_ADD", "%REQ(no)%", true, "1", "1,"},
		{"OVERWRITE_IF_EXISTS_OR_ADD", "%REQ(no)%", false, "1", "-"},
		{"OVERWRITE_IF_EXISTS_OR_ADD", "%REQ(no)%", true, "1", ""},
		{"OVERWRITE_IF_EXISTS_OR_ADD", "%REQ(split)%", false, "1", "-"},
		{"APPEND_IF_EXISTS_OR_ADD", "%REQ(split)%", false, "1", "1"},
		{"OVERWRITE_IF_EXISTS_OR_ADD", "%RESP(x-b)%/%REQ(:method)%", false, "-", "b/GET"},
	} {
		f := compile(t, fmt.Sprintf(action, c.action, c.keepEmpty, c.value))
		x := New("GET", "/", "split: a\r\nx-forged: 1")
		x.Response = &message.Head{Status: 200}
		x.Response.Fields.Append("x-b", "b")
		if c.before != "-" {
			for v := range strings.SplitSeq(c.before, ",") {
				x.Response.Fields.Append("x-a", v)
			}
		}
		f.(filter.Responder).Response(x)
		var values []string
		for i := 0; ; i++ {
			v, ok := x.Response.Fields.Nth("x-a", i)
			if !ok {
				break
			}
			values = append(values, v)
		}
		got := strings.Join(values, ",")
		if values == nil {
			got = "-"
		}
		if got != c.after {
			t.Errorf("%s %q on %q gives %q, want %q", c.action, c.value, c.before, got, c.after)
		}
	}
}

func TestInOrder(t *testing.T) {
	f := compile(t, `{"request_mutations":[{"remove":"A"},{"append":{"header":{"key":"b","value":"%REQ(a)%!"}}}]}`)
	x := New("GET", "/", "a: 1", "a: 2")
	f.Request(x)
	if got := lines(&x.Request.Fields); !slices.Equal(got, []string{"b: !"}) {
		t.Errorf("%q", got)
	}
	x.Response = &message.Head{}
	f.(filter.Responder).Response(x)
	if got := lines(&x.Response.Fields); got != nil {
		t.Errorf("the response has %q", got)
	}
}

func TestRefused(t *testing.T) {
	for mutations, want := range map[string]string{
		`{"request_mutations":[{"remove":":path"}]}`:                                                   "request_mutations[0].remove",
		`{"request_mutations":[{"remove":"Content-Length"}]}`:                                          "content-length",
		`{"response_mutations":[{"append":{"header":{"key":"Transfer-Encoding","value":"chunked"}}}]}`: "transfer-encoding",
		`{"request_mutations":[{"append":{"header":{"key":"host","value":"x"}}}]}`:                     "host",
		`{"request_mutations":[{"append":{"header":{"key":"a","value":"%NO_SUCH%"}}}]}`:                "NO_SUCH",
		`{"request_mutations":[{"append":{"append":true,"header":{"key":"a","value":"b"}}}]}`:          "append_action",
		`{"request_mutations":[{"remove_on_match":{"key_matcher":{"prefix":"x"}}}]}`:                   "remove_on_match",
		`{"request_mutations":[{}]}`:                       "request_mutations[0]",
		`{"query_parameter_mutations":[{"remove":"a"}]}`:   "query_parameter_mutations",
		`{"response_trailers_mutations":[{"remove":"a"}]}`: "response_trailers_mutations",
	} {
		_, err := headermutation.HTTP(format.Options{Report: func(string) {}}).New("m", Parse(t, &mutationv3.HeaderMutation{}, `{"mutations":`+mutations+`}`))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives error %v, want %q in it", mutations, err, want)
		}
	}
}
