//go:build envoy

package differential

import (
	"context"
	"slices"
	"strings"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/e2e/differential/oracle"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
	"github.com/gowaypoint/gowaypoint/e2e/differential/reference"
)

// others are headers that a client may send and that Envoy does not keep on one line, although one might think so.
var others = strings.Fields("accept-language cookie forwarded from host-x max-forwards proxy-authorization range x-real-ip x-b3-traceid traceparent " +
	"tracestate baggage access-control-allow-origin grpc-status x-envoy-peer-metadata date server set-cookie location etag vary x-envoy-original-dst-host " +
	"sec-websocket-key x-amzn-trace-id x-cloud-trace-context x-ot-span-context x-envoy-original-method x-a")

// TestOneLine asks Envoy, header by header, whether it joins two lines into one.
func TestOneLine(t *testing.T) {
	names := slices.Concat(oracle.OneLine, others)
	var sets []*pair.Set
	var questions []reference.Question
	for i, name := range names {
		comma := &rbacv3.Principal{Identifier: &rbacv3.Principal_Header{Header: &routev3.HeaderMatcher{
			Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_ContainsMatch{ContainsMatch: ","},
		}}}
		sets = append(sets, &pair.Set{Filters: []pair.Filter{{Rules: &rbacv3.RBAC{Policies: map[string]*rbacv3.Policy{
			"p": {Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Any{Any: true}}}, Principals: []*rbacv3.Principal{comma}},
		}}}}})
		lines := []pair.Line{{Name: name, Value: "1"}, {Name: name, Value: "2"}}
		questions = append(questions, reference.Question{Set: i, Request: &pair.Request{HTTP: true, Method: "GET", Target: "/", Host: "h", Lines: lines}})
	}
	e, ctx := shared(t), context.Background()
	if err := e.Load(ctx, sets); err != nil {
		t.Fatal(err)
	}
	err := e.Ask(ctx, connTo("base"), questions, func(q reference.Question, reply *reference.Reply) {
		name := names[q.Set]
		if why := reply.Malformed(); why != "" {
			t.Errorf("%s: %s", name, why)
			return
		}
		answer, err := reply.Answer()
		if err != nil {
			t.Error(err)
		}
		if want := slices.Contains(oracle.OneLine, name); answer.Allowed != want || authz.OneLine(name) != want {
			t.Errorf("%s: envoy keeps it on one line: %v; the oracle says %v, authz %v", name, answer.Allowed, want, authz.OneLine(name))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
