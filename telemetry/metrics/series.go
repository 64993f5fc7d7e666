package metrics

import (
	"slices"
	"sync/atomic"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

// shape says which metrics a series has.
type shape uint8

const (
	httpShape     shape = iota // requests_total and the three histograms
	messagesShape              // gRPC messages: only peer labels, since they are counted before there is a response
	tcpShape                   // the four TCP counters
	shapeCount
)

// shapeMetrics are the metrics of a shape: first the counters, then the histograms.
var shapeMetrics = [shapeCount][]int{
	httpShape:     {requestsTotal, requestDuration, requestBytes, responseBytes},
	messagesShape: {requestMessages, responseMessages},
	tcpShape:      {tcpOpened, tcpClosed, tcpSent, tcpReceived},
}

// key finds a series. It is made of what the labels are made of, but by reference where that is possible: peers, services
// and policies never change, so their addresses stand for their content.
type key struct {
	policy              *policy
	source, destination *telemetry.Peer
	service             *telemetry.Service
	principal           string
	named               string // the destination's name where it is not the service's: special clusters, Host header
	values              string // of the policy's expressions
	flags               telemetry.Flags
	code                int32
	grpc                telemetry.GRPCStatus
	shape               shape
	isGRPC, mtls        bool
}

// series is one set of labels and all metrics that have it.
type series struct {
	shape    shape
	counters [4]atomic.Uint64
	hist     [3]*histogram
	labels   [4]string // rendered, per metric of the shape; "" with dropped
	dropped  [4]bool

	used atomic.Int64 // Unix seconds
	open atomic.Int64 // TCP connections that hold the series
	idle int64        // seconds after which it expires
}

// touch notes the use. It writes only when the second changes, so that cores do not fight over the cache line.
func (s *series) touch(now int64) {
	if s.used.Load() < now {
		s.used.Store(now)
	}
}

func (s *series) expired(now int64) bool { return s.open.Load() == 0 && now-s.used.Load() > s.idle }

// histogram counts whole numbers into cumulative buckets when it is read.
type histogram struct {
	bounds []float64 // ascending, shared
	counts []atomic.Uint64
	sum    atomic.Uint64
}

func newHistogram(bounds []float64) *histogram {
	return &histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

func (h *histogram) observe(v uint64) {
	i, _ := slices.BinarySearch(h.bounds, float64(v)) // the first bound that is >= v
	h.counts[i].Add(1)
	h.sum.Add(v)
}
