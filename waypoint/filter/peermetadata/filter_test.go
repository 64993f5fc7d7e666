package peermetadata_test

import (
	"net/netip"
	"reflect"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/telemetry"
	. "github.com/gowaypoint/gowaypoint/waypoint/filter/filtertest"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/peermetadata"
)

var (
	web     = &telemetry.Peer{Workload: "web"}
	options = peermetadata.Options{Network: "here", Peer: func(a netip.Addr) *telemetry.Peer {
		if a == netip.MustParseAddr("10.0.0.1") {
			return web
		}
		return nil
	}}
)

const downstream = `{"downstream_discovery":[{"workload_discovery":{}}],"shared_with_upstream":true}`

func TestHTTP(t *testing.T) {
	for name, c := range map[string]struct {
		config  string
		headers []string
		remote  string
		want    *telemetry.Peer
		notes   []string
	}{
		"as istiod sends it":       {config: downstream, remote: "10.0.0.1:1", want: web},
		"an IPv4-mapped address":   {config: downstream, remote: "[::ffff:10.0.0.1]:1", want: web},
		"an unknown address":       {config: downstream, remote: "10.0.0.2:1"},
		"upstream only":            {config: `{"upstream_discovery":[{"workload_discovery":{}}]}`, remote: "10.0.0.1:1"},
		"of another network":       {config: downstream, remote: "10.0.0.1:1", headers: []string{"x-forwarded-network: there"}},
		"of this network, it says": {config: downstream, remote: "10.0.0.1:1", headers: []string{"x-forwarded-network: here"}, want: web},
		"with baggage": {
			config: `{"downstream_discovery":[{"baggage":{}},{"workload_discovery":{}}],"downstream_propagation":[{"baggage":{}}]}`,
			remote: "10.0.0.1:1", want: web,
			notes: []string{"downstream_discovery[0].baggage: peers are found by address only", "downstream_propagation: not supported"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := Build(t, peermetadata.HTTP(options), "waypoint_downstream_peer_metadata", Parse(t, &structpb.Struct{}, c.config))
			x := New("GET", "/", c.headers...)
			x.Conn.Remote = netip.MustParseAddrPort(c.remote)
			f.Request(x)
			if x.Record.Source != c.want {
				t.Errorf("source %+v, want %+v", x.Record.Source, c.want)
			}
			if x.Conn.Peer != nil {
				t.Error("a request wrote to the connection of others")
			}
			if !reflect.DeepEqual(Notes(f), c.notes) {
				t.Errorf("notes %q, want %q", Notes(f), c.notes)
			}
		})
	}
}

// The inside of a tunnel knows its client from the CONNECT, if that is to be shared.
func TestConnect(t *testing.T) {
	for config, want := range map[string]*telemetry.Peer{downstream: web, `{"downstream_discovery":[{"workload_discovery":{}}]}`: nil} {
		x := New("CONNECT", "")
		Build(t, peermetadata.HTTP(options), "n", Parse(t, &structpb.Struct{}, config)).Request(x)
		if x.Conn.Peer != want || x.Record.Source != web {
			t.Errorf("%s: the tunnel's client is %+v, the record's %+v", config, x.Conn.Peer, x.Record.Source)
		}
	}
}

func TestMetadataExchange(t *testing.T) {
	f := Build(t, peermetadata.MetadataExchange(options), "istio.metadata_exchange",
		Parse(t, &structpb.Struct{}, `{"enable_discovery":true,"protocol":"istio-peer-exchange"}`))
	c := New("GET", "/").Conn
	if f.Connect(c) != nil || c.Peer != web || len(Notes(f)) != 0 {
		t.Errorf("peer %+v, notes %q", c.Peer, Notes(f))
	}
	f = Build(t, peermetadata.MetadataExchange(options), "istio.metadata_exchange", Parse(t, &structpb.Struct{}, `{"additional_labels":["a"]}`))
	c = New("GET", "/").Conn
	if f.Connect(c) != nil || c.Peer != nil || len(Notes(f)) != 1 {
		t.Errorf("without enable_discovery: peer %+v, notes %q", c.Peer, Notes(f))
	}
}

func TestCarrierPassesEverybody(t *testing.T) {
	if d := Build(t, peermetadata.Carrier(), "n", nil).Connect(New("GET", "/").Conn); d != nil {
		t.Errorf("%+v", d)
	}
}
