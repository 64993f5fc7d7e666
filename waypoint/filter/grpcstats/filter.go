// Package grpcstats counts gRPC messages.
//
// What it does: follows the frames of gRPC requests and of their answers (a flag byte, four bytes of length, the message) and
// counts them as they begin, without holding any of them.
//
// Configured by: envoy.extensions.filters.http.grpc_stats.v3.FilterConfig (emit_filter_state: without it nothing is counted,
// since nobody would see it). Refuses: nothing. Notes: stats_for_all_methods, individual_method_stats_allowlist,
// enable_upstream_stats and replace_dots_in_grpc_service_name, which ask for counters per method (cluster.*.grpc.*).
//
// Writes: Exchange.Messages while the request lasts, Record.RequestMessages and ResponseMessages at its end. Istio's metrics
// istio_request_messages_total and istio_response_messages_total are made of these.
package grpcstats

import (
	"encoding/binary"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/waypoint/filter"

	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
)

// HTTP returns the compiler.
func HTTP() filter.Compiler[filter.HTTP] {
	return filter.Compiler[filter.HTTP]{
		New: func(name string, config proto.Message) (filter.HTTP, error) {
			c, ok := config.(*grpcstatsv3.FilterConfig)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T, not a grpc_stats FilterConfig", config)
			}
			f := &httpFilter{name: name}
			for _, field := range []struct {
				name  string
				isSet bool
			}{
				{"stats_for_all_methods", c.GetStatsForAllMethods().GetValue()},
				{"individual_method_stats_allowlist", c.GetIndividualMethodStatsAllowlist() != nil},
				{"enable_upstream_stats", c.GetEnableUpstreamStats()},
				{"replace_dots_in_grpc_service_name", c.GetReplaceDotsInGrpcServiceName()},
			} {
				if field.isSet {
					f.notes = append(f.notes, field.name+": there are no counters per gRPC method")
				}
			}
			if !c.GetEmitFilterState() {
				return idle{f}, nil
			}
			return f, nil
		},
	}
}

// idle is the filter when its counts would go nowhere. It does not see bodies.
type idle struct{ of *httpFilter }

func (f idle) Name() string                           { return f.of.name }
func (f idle) Notes() []string                        { return f.of.notes }
func (f idle) Request(*filter.Exchange) filter.Action { return filter.Continue }

type httpFilter struct {
	name  string
	notes []string
}

// counter is the state of one request. The two directions belong to a goroutine each.
type counter struct {
	messages          filter.Messages
	request, response frames
}

var counters = sync.Pool{New: func() any { return &counter{} }}

func (f *httpFilter) Name() string    { return f.name }
func (f *httpFilter) Notes() []string { return f.notes }

// Request begins to count if the request is gRPC.
func (f *httpFilter) Request(x *filter.Exchange) filter.Action {
	if x.Record.GRPC {
		c := counters.Get().(*counter)
		x.Messages = &c.messages
		x.SetLocal(f, c)
	}
	return filter.Continue
}

// RequestData counts in the client's direction.
func (f *httpFilter) RequestData(x *filter.Exchange, p []byte) {
	if c, ok := x.Local(f).(*counter); ok {
		if n := c.request.count(p); n > 0 {
			c.messages.Requests.Add(n)
		}
	}
}

// ResponseData counts in the server's direction.
func (f *httpFilter) ResponseData(x *filter.Exchange, p []byte) {
	if c, ok := x.Local(f).(*counter); ok {
		if n := c.response.count(p); n > 0 {
			c.messages.Responses.Add(n)
		}
	}
}

// Finish writes the totals.
func (f *httpFilter) Finish(x *filter.Exchange) {
	c, ok := x.Local(f).(*counter)
	if !ok {
		return
	}
	x.Record.RequestMessages, x.Record.ResponseMessages = c.messages.Requests.Load(), c.messages.Responses.Load()
	x.SetLocal(f, nil)
	x.Messages = nil
	c.messages.Requests.Store(0)
	c.messages.Responses.Store(0)
	c.request, c.response = frames{}, frames{}
	counters.Put(c)
}

// frames finds the beginnings of gRPC frames in a body that comes in pieces.
type frames struct {
	head [5]byte
	have int    // bytes of head
	skip uint32 // bytes of the message still to come
}

// count takes the next piece and returns how many frames begin in it.
func (f *frames) count(p []byte) (begun uint64) {
	for len(p) > 0 {
		if f.skip > 0 {
			n := min(uint32(min(len(p), 1<<30)), f.skip)
			f.skip -= n
			p = p[n:]
			continue
		}
		if f.have == 0 {
			begun++
		}
		n := copy(f.head[f.have:], p)
		f.have += n
		p = p[n:]
		if f.have == len(f.head) {
			f.skip, f.have = binary.BigEndian.Uint32(f.head[1:]), 0
		}
	}
	return begun
}
