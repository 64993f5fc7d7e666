package query_test

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/query"
)

var full = query.Query{
	Source: "cluster.local/ns/shop/sa/web", Method: "GET", Host: "cart:80", Path: "/a/../cart?x=it's", Scheme: "http", Port: 80,
	Headers: []query.Header{{Name: "X-A", Value: "1"}, {Name: "x-a", Value: "2"}}, Claims: map[string]any{"iss": "me"},
	SourceIP: netip.MustParseAddr("10.0.0.1"), ServerName: "sni", Metadata: map[string]map[string]any{"f": {"k": "v"}},
	DestinationIP: netip.MustParseAddr("10.96.0.1"), RemoteIP: netip.MustParseAddr("1.2.3.4"),
}

// Every attribute arrives where a policy looks for it.
func TestRequest(t *testing.T) {
	q := full
	r, err := q.Request(pathnorm.Base)
	if err != nil {
		t.Fatal(err)
	}
	if r.Path != "/cart?x=it's" || r.Method != "GET" || r.Authority != "cart:80" || r.Scheme != "http" || r.ServerName != "sni" {
		t.Errorf("%+v", r)
	}
	if id, ok := r.FilterState.FilterState(authz.PeerPrincipal); !ok || id != "spiffe://cluster.local/ns/shop/sa/web" {
		t.Error(id, ok)
	}
	if v, ok := r.Headers.Header("x-a", 1); !ok || v != "2" {
		t.Error(v, ok)
	}
	if _, ok := r.Headers.Header("x-a", 2); ok {
		t.Error("three lines")
	}
	jwt := r.Metadata.Metadata(authz.DynamicMetadata, "envoy.filters.http.jwt_authn")
	if got := jwt.GetFields()["payload"].GetStructValue().GetFields()["iss"].GetStringValue(); got != "me" {
		t.Error(got)
	}
	if r.Destination != netip.MustParseAddrPort("10.96.0.1:80") || r.RemoteIP.String() != "1.2.3.4" || r.DirectRemoteIP.String() != "10.0.0.1" {
		t.Errorf("%v %v %v", r.Destination, r.RemoteIP, r.DirectRemoteIP)
	}
	q.TCP = true
	if r, err = q.Request(pathnorm.Base); err != nil || r.HTTP || r.Metadata.Metadata(authz.DynamicMetadata, "envoy.filters.http.jwt_authn") != nil {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := (&query.Query{Path: "/%00"}).Request(pathnorm.Base); err == nil {
		t.Error("a NUL was taken")
	}
}

// A shell reads the line back as the arguments.
func TestFlags(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(sh, "-c", `printf '%s\n' `+full.Flags()).Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Join(full.Args(), "\n") + "\n"; string(out) != want {
		t.Errorf("got %q\nwant %q", out, want)
	}
}
