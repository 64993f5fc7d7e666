// Package filtertest makes exchanges for the tests of filters.
package filtertest

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// Principal is the client's identity in exchanges that New makes.
const Principal = "spiffe://cluster.local/ns/shop/sa/web"

// New makes an exchange inside a tunnel: a request from 10.0.0.1 to 10.96.0.10:80, with headers as "name: value" lines.
func New(method, path string, headers ...string) *filter.Exchange {
	c := &filter.Conn{
		ID:    7,
		Local: netip.MustParseAddrPort("10.96.0.10:80"), Remote: netip.MustParseAddrPort("10.0.0.1:4321"),
	}
	c.State.Set(filter.PeerPrincipalKey, Principal, filter.NotShared)
	c.State.Set(filter.LocalPrincipalKey, "spiffe://cluster.local/ns/shop/sa/waypoint", filter.NotShared)
	return On(c, method, path, headers...)
}

// On makes an exchange on a connection.
func On(c *filter.Conn, method, path string, headers ...string) *filter.Exchange {
	h := &message.Head{Method: method, Path: path, Authority: "shop.example", Scheme: "http"}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		if name == ":authority" {
			h.Authority = value
			continue
		}
		h.Fields.Append(name, value)
	}
	x := &filter.Exchange{
		Conn: c, Request: h,
		Record:     &telemetry.Record{Start: time.Now(), RequestHeaders: h, DownstreamRemote: c.Remote, DownstreamLocal: c.Local},
		PerRoute:   func(string) any { return nil },
		ClearRoute: func() {},
	}
	x.Record.PeerPrincipal, _ = c.State.Get(filter.PeerPrincipalKey)
	x.Record.LocalPrincipal, _ = c.State.Get(filter.LocalPrincipalKey)
	x.Record.Metadata, x.Record.FilterState = &x.Metadata, stateOf{x}
	ct, _ := h.Get("content-type")
	x.Record.GRPC = strings.HasPrefix(ct, "application/grpc")
	return x
}

type stateOf struct{ x *filter.Exchange }

func (s stateOf) Plain(key string) (string, bool)     { return s.x.FilterState(key) }
func (s stateOf) Field(string, string) (string, bool) { return "", false }

// Route makes config the per-route configuration of every filter.
func Route(x *filter.Exchange, config any) { x.PerRoute = func(string) any { return config } }

// Parse reads a message from protobuf JSON.
func Parse[M proto.Message](t testing.TB, m M, json string) M {
	t.Helper()
	if err := protojson.Unmarshal([]byte(json), m); err != nil {
		t.Fatalf("%s\n%v", json, err)
	}
	return m
}

// Build compiles a filter, which must work.
func Build[F any](t testing.TB, c filter.Compiler[F], name string, config proto.Message) F {
	t.Helper()
	f, err := c.New(name, config)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Notes are what a filter leaves out.
func Notes(f any) []string {
	if n, ok := f.(filter.Noter); ok {
		return n.Notes()
	}
	return nil
}
