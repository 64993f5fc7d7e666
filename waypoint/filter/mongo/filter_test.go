package mongo_test

import (
	"testing"

	. "github.com/gowaypoint/gowaypoint/waypoint/filter/filtertest"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/mongo"

	mongov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/mongo_proxy/v3"
)

func TestPassesAndSaysWhatItLeavesOut(t *testing.T) {
	f := Build(t, mongo.Network(), "envoy.filters.network.mongo_proxy", Parse(t, &mongov3.MongoProxy{}, `{"stat_prefix":"x","emit_dynamic_metadata":true}`))
	if d := f.Connect(New("GET", "/").Conn); d != nil {
		t.Errorf("%+v", d)
	}
	if n := Notes(f); len(n) != 2 || n[1] != "emit_dynamic_metadata: not supported" {
		t.Errorf("notes %q", n)
	}
}
