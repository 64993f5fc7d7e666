//go:build envoy

package differential

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gowaypoint/gowaypoint/e2e/differential/oracle"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
	"github.com/gowaypoint/gowaypoint/e2e/differential/reference"
)

// TestExceptions shows every deliberate difference on both sides: what Envoy does, what authz does instead.
func TestExceptions(t *testing.T) {
	twice := func(name, first, second string) []pair.Line {
		return []pair.Line{{Name: name, Value: first}, {Name: name, Value: second}}
	}
	for _, c := range []struct {
		what, listener string
		action         rbacv3.RBAC_Action
		principal      string
		lines          []pair.Line
		envoy, ours    bool // allowed
		because        oracle.Exception
	}{
		{"an ALLOW of one of two values", "base", rbacv3.RBAC_ALLOW, `{"header": {"name": "x-role", "string_match": {"exact": "admin"}}}`,
			twice("x-role", "guest", "admin"), true, false, oracle.RepeatedHeader},
		{"a DENY of the list", "base", rbacv3.RBAC_DENY, `{"header": {"name": "x-role", "string_match": {"exact": "guest,admin"}}}`,
			twice("x-role", "guest", "admin"), true, false, oracle.RepeatedHeader},
		{"a DENY of everything but one value", "base", rbacv3.RBAC_DENY, `{"header": {"name": "x-role", "string_match": {"exact": "admin"}, "invert_match": true}}`,
			twice("x-role", "guest", "admin"), true, false, oracle.RepeatedHeader},
		{"a DENY of a value, of a header that Envoy keeps on one line", "base", rbacv3.RBAC_DENY, `{"header": {"name": "user-agent", "string_match": {"exact": "bot"}}}`,
			twice("user-agent", "bot", "curl"), true, false, oracle.RepeatedHeader},
		{"an ALLOW of the list, of such a header", "base", rbacv3.RBAC_ALLOW, `{"header": {"name": "user-agent", "string_match": {"exact": "bot,curl"}}}`,
			twice("user-agent", "bot", "curl"), true, false, oracle.RepeatedHeader},
		{"a DENY by address, from nowhere", "pipe", rbacv3.RBAC_DENY, `{"direct_remote_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}}`,
			nil, true, false, oracle.UnknownAddress},
		{"an ALLOW of all other addresses, from nowhere", "pipe", rbacv3.RBAC_ALLOW, `{"not_id": {"source_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}}}`,
			nil, true, false, oracle.UnknownAddress},
		{"a DENY of a range, and the address in IPv6 form", "base", rbacv3.RBAC_DENY, `{"remote_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}}`,
			[]pair.Line{{Name: "x-forwarded-for", Value: "::ffff:10.0.0.1"}}, true, false, oracle.MappedAddress},
		{"an ALLOW of all but that range", "base", rbacv3.RBAC_ALLOW, `{"not_id": {"remote_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}}}`,
			[]pair.Line{{Name: "x-forwarded-for", Value: "::ffff:10.0.0.1"}}, true, false, oracle.MappedAddress},
		{"a DENY of a range, and that address in filter state", "base", rbacv3.RBAC_DENY, `{"filter_state": {"key": "` + pair.AddressKey + `", "address_match": {"ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}}}`,
			nil, true, false, oracle.MappedAddress},
		{"an ALLOW of all but that range, in filter state", "base", rbacv3.RBAC_ALLOW, `{"filter_state": {"key": "` + pair.AddressKey + `", "address_match": {"ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}], "invert_match": true}}}`,
			nil, true, false, oracle.MappedAddress},
		{"an ALLOW of whoever is authenticated, and a client without a certificate", "tls", rbacv3.RBAC_ALLOW, `{"authenticated": {}}`,
			nil, true, false, oracle.NoCertificate},
		{"an ALLOW of any name", "tls", rbacv3.RBAC_ALLOW, `{"authenticated": {"principal_name": {"safe_regex": {"regex": ".*"}}}}`,
			nil, true, false, oracle.NoCertificate},
	} {
		t.Run(c.what, func(t *testing.T) {
			principal := &rbacv3.Principal{}
			if err := protojson.Unmarshal([]byte(c.principal), principal); err != nil {
				t.Fatal(err)
			}
			s := &pair.Set{Filters: []pair.Filter{{Rules: &rbacv3.RBAC{Action: c.action, Policies: map[string]*rbacv3.Policy{
				"p": {Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Any{Any: true}}}, Principals: []*rbacv3.Principal{principal}},
			}}}}}
			conn := connTo(c.listener)
			request := &pair.Request{HTTP: true, Method: "GET", Target: "/", Host: "h", Lines: c.lines, Address: "::ffff:10.0.0.1"}
			envoy := ask(t, s, conn, request)
			view, _ := request.View(conn, 0)
			compiled, err := s.Compile()
			if err != nil {
				t.Fatal(err)
			}
			ours, err := compiled.Decide(view, true)
			if err != nil {
				t.Fatal(err)
			}
			if envoy.Allowed != c.envoy || ours.Allowed != c.ours {
				t.Errorf("envoy allows: %v, want %v; authz allows: %v, want %v", envoy.Allowed, c.envoy, ours.Allowed, c.ours)
			}
			if because, ok := explained(s, view, ours, envoy); !ok || because != c.because {
				t.Errorf("explained is %v, by %v", ok, because)
			}
		})
	}
}

// connTo is a plain connection to a listener.
func connTo(listener string) *pair.Conn {
	loopback := netip.MustParseAddr("127.0.0.1")
	i := slices.IndexFunc(pair.Listeners, func(l pair.Listener) bool { return l.Name == listener })
	c := &pair.Conn{Listener: &pair.Listeners[i], Source: loopback, Destination: loopback}
	if c.Listener.Pipe {
		c.Source, c.Destination = netip.Addr{}, netip.Addr{}
	}
	return c
}

// ask asks a real Envoy, one for all tests of the process.
func ask(t *testing.T, s *pair.Set, c *pair.Conn, r *pair.Request) pair.Answer {
	t.Helper()
	ctx := context.Background()
	e := shared(t)
	if err := e.Load(ctx, []*pair.Set{s}); err != nil {
		t.Fatal(err)
	}
	var answer pair.Answer
	err := e.Ask(ctx, c, []reference.Question{{Request: r}}, func(_ reference.Question, reply *reference.Reply) {
		if why := reply.Malformed(); why != "" {
			t.Errorf("envoy refuses the request: %s", why)
		}
		var err error
		if answer, err = reply.Answer(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return answer
}
