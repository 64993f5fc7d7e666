package admin

import (
	"testing"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
)

func TestMaskFits(t *testing.T) {
	listeners, boot := &adminv3.ListenersConfigDump{}, &adminv3.BootstrapConfigDump{}
	for text, want := range map[string][2]bool{ // fits listeners, fits bootstrap
		"dynamic_listeners":                  {true, false},
		"dynamic_listeners,static_listeners": {true, false},
		" version_info , static_listeners":   {true, false},
		"dynamic_listeners.name":             {false, false}, // not through a repeated field
		"version_info.x":                     {false, false}, // nor into a text
		"bootstrap.node.id,last_updated":     {false, true},
		"bootstrap.node,bootstrap.node.id":   {false, true},
		"bootstrap.node.nothing":             {false, false},
		"bootstrap.node.metadata.fields.x":   {false, false}, // nor into a map
		"bootstrap,dynamic_listeners":        {false, false},
	} {
		m := parseMask(text)
		got := [2]bool{m.fits(listeners.ProtoReflect().Descriptor()), m.fits(boot.ProtoReflect().Descriptor())}
		if got != want {
			t.Errorf("%q fits %v, want %v", text, got, want)
		}
	}
}
