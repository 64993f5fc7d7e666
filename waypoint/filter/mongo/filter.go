// Package mongo is the place of mongo_proxy in a chain.
//
// What it does: nothing. In Envoy the filter reads along in MongoDB's protocol to count commands and, when its configuration
// says so, to log them or to delay them; it changes no byte and denies nobody, and the tcp_proxy behind it does the work. istiod
// puts it before the tcp_proxy of each Mongo port, by default.
//
// Configured by: envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy (stat_prefix). Refuses: nothing. Notes: that there
// are no mongo.* counters, and the fields access_log, delay, commands and emit_dynamic_metadata.
//
// Writes: nothing.
package mongo

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/waypoint/filter"

	mongov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/mongo_proxy/v3"
)

// Network returns the compiler.
func Network() filter.Compiler[filter.Network] {
	return filter.Compiler[filter.Network]{
		New: func(name string, config proto.Message) (filter.Network, error) {
			c, ok := config.(*mongov3.MongoProxy)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T, not a MongoProxy", config)
			}
			f := inert{name: name, notes: []string{"stat_prefix: MongoDB commands are not counted"}}
			for field, isSet := range map[string]bool{
				"access_log": c.GetAccessLog() != "", "delay": c.GetDelay() != nil,
				"commands": len(c.GetCommands()) > 0, "emit_dynamic_metadata": c.GetEmitDynamicMetadata(),
			} {
				if isSet {
					f.notes = append(f.notes, field+": not supported")
				}
			}
			return f, nil
		},
	}
}

type inert struct {
	name  string
	notes []string
}

func (f inert) Name() string                        { return f.name }
func (f inert) Notes() []string                     { return f.notes }
func (f inert) Connect(*filter.Conn) *filter.Denial { return nil }
