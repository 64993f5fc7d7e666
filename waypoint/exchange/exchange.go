package exchange

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/tracing"
	"github.com/gowaypoint/gowaypoint/waypoint/cluster"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
	"github.com/gowaypoint/gowaypoint/waypoint/route"
)

// exchange is the state of one request. It is reused: begin sets what the last one left behind.
type exchange struct {
	env   *Env
	down  message.Stream
	chain *program.Chain
	http  *program.HTTP

	x    filter.Exchange
	req  message.Head
	resp message.Head
	rec  telemetry.Record
	span tracing.Span

	// noBody: the request ended with its head.
	noBody bool
	// headSent, ended: what went to the client so far.
	headSent, ended bool
	grpc            bool
	forwarding      bool // past the filters: the route's response rules hold for local replies, too
	head            bool // the method is HEAD: an answer has no body
	ran             int  // filters of the chain that have seen the request
	bodies          []filter.Body

	route    *route.Route
	routed   bool
	choice   *route.WeightedCluster
	cluster  *cluster.Cluster
	tried    []*cluster.Host
	retrying bool     // the attempt to come has been allowed by the cluster's retry budget
	cookies  []string // Set-Cookie values of hash policies
	retry    retryState

	body  requestBody
	lease cluster.Lease

	small [1024]byte

	watched      bool // there are timeouts of the client's side
	moved        atomic.Int64
	requestTimer *time.Timer

	// mu guards what other goroutines touch: the client's reset and timers.
	mu       sync.Mutex
	up       message.Stream // the stream of the attempt in progress
	cancel   context.CancelFunc
	gone     *message.ResetError // the client gave up
	waiting  chan struct{}       // closed when the client gives up while a filter waits
	timedOut timeoutKind
	timeout  *time.Timer   // the request's
	limit    time.Duration // that timeout, until it runs
	sent     time.Duration // from Record.Start until the request had come completely; 0: it has not
	// generation counts the requests that have used this memory, so that a late timer knows it is late.
	generation uint64

	onReset func(*message.ResetError)
}

type timeoutKind uint8

const (
	noTimeout timeoutKind = iota
	requestTimeout
	perTryTimeout
	idleTimeout
	maxStreamTimeout
	clientTimeout // request_timeout: the client did not send all of its request in time
)

var pool = sync.Pool{New: func() any {
	e := &exchange{}
	e.onReset = e.onDownReset
	e.x.PerRoute = e.perRoute
	e.x.ClearRoute = e.clearRoute
	e.x.Wait = e.wait
	return e
}}

// serve runs one exchange on a stream. The caller then looks after the connection.
func (env *Env) serve(down message.Stream, conn *filter.Conn, chain *program.Chain) {
	e := pool.Get().(*exchange)
	e.env, e.down, e.chain, e.http = env, down, chain, chain.HTTP
	e.x.Conn = conn
	tunnel := e.run()
	e.release()
	if tunnel != nil {
		tunnel()
	}
}

// run is the request from its head to its record. It returns what takes over when the request opened a tunnel, so that a
// tunnel that stays open for hours does not hold the exchange's memory.
func (e *exchange) run() (tunnel func()) {
	end, err := e.readHead()
	if err != nil && message.AsMalformed(err) == nil {
		return nil // nobody there: no exchange took place
	}
	e.begin(end)
	defer e.env.Stats.Active.Add(-1)
	e.down.OnReset(e.onReset)
	stop := e.watch()
	defer stop()
	if err != nil {
		e.malformed(message.AsMalformed(err))
	} else if e.prepare() && e.filters() {
		tunnel = e.forward()
	}
	e.finish()
	return tunnel
}

func (e *exchange) begin(end bool) {
	env := e.env
	env.Stats.Requests.Add(1)
	env.Stats.Active.Add(1)
	e.noBody = end
	e.grpc = isGRPC(e.req.Fields.Value(header.ContentType))
	e.head = e.req.Method == http.MethodHead

	r, conn := &e.rec, e.x.Conn // field by field: release has emptied the Record, and it is too large to be copied
	r.Start = time.Now()
	r.Protocol = protocol(e.down.Version())
	r.GRPC = e.grpc
	r.RequestHeaders = (*joined)(&e.req)
	r.DownstreamRemote = conn.Remote
	r.DownstreamLocal = conn.Local
	r.ConnectionID = conn.ID
	r.RequestedServerName = conn.RequestedServerName
	r.Source = conn.Peer
	r.FilterChain = e.chain.Name
	r.Metadata = (*metadata)(e)
	r.FilterState = (*state)(e)
	r.PeerPrincipal, _ = conn.State.Get(filter.PeerPrincipalKey)
	r.LocalPrincipal, _ = conn.State.Get(filter.LocalPrincipalKey)
	r.TLS = conn.Handshake
	r.WireBytesReceived, r.HeaderBytesReceived = wireSize(&e.req)
	r.HeaderBytesReceived = received(r.HeaderBytesReceived, &e.req)
	if e.noBody {
		r.Timing.DownstreamLastRx = telemetry.At(0)
	}
	e.x.Request, e.x.Response, e.x.Record = &e.req, nil, &e.rec
	e.body.begin(e, end)
}

// release makes e ready for another request and gives it back. No other goroutine knows of it any more: the client's reset is
// taken back first, timers are stopped, and the body's goroutine has ended.
func (e *exchange) release() {
	e.down.OnReset(nil)
	e.mu.Lock()
	e.up, e.cancel, e.gone, e.timedOut = nil, nil, nil, noTimeout
	e.generation++
	e.timeout, e.limit, e.sent = nil, 0, 0
	e.mu.Unlock()
	e.req.Reset()
	e.resp.Reset()
	e.x.Metadata.Reset()
	e.x.State = filter.State{}
	e.x.Conn, e.x.Response = nil, nil
	e.rec = telemetry.Record{}
	e.span = tracing.Span{}
	e.noBody, e.headSent, e.ended, e.forwarding, e.ran, e.bodies = false, false, false, false, 0, e.bodies[:0]
	e.route, e.routed, e.choice, e.cluster = nil, false, nil, nil
	e.cookies = nil
	clear(e.tried)
	e.tried = e.tried[:0]
	e.body.release()
	e.lease = cluster.Lease{}
	e.retry = retryState{}
	e.watched, e.requestTimer = false, nil
	e.down, e.chain, e.http, e.env = nil, nil, nil, nil
	pool.Put(e)
}

// onDownReset runs on the connection's reader when the client gives up.
func (e *exchange) onDownReset(why *message.ResetError) {
	e.mu.Lock()
	e.gone = why
	up, cancel := e.up, e.cancel
	if e.waiting != nil {
		close(e.waiting)
		e.waiting = nil
	}
	e.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	if up != nil {
		up.Reset(message.Cancel)
	}
}

// wait is filter.Exchange.Wait.
func (e *exchange) wait(d time.Duration) bool {
	e.mu.Lock()
	if e.gone != nil {
		e.mu.Unlock()
		return false
	}
	gone := make(chan struct{})
	e.waiting = gone
	e.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-gone:
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting = nil
	return e.gone == nil
}

// clientGone tells whether the client gave up.
func (e *exchange) clientGone() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.gone != nil
}

// beginAttempt names the stream that a reset by the client, or a timeout, ends. It tells whether either has come already. An
// earlier attempt that ran out of its time does not count.
func (e *exchange) beginAttempt(up message.Stream) (gone bool, timedOut timeoutKind) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.up = up
	if e.timedOut == perTryTimeout {
		e.timedOut = noTimeout
	}
	return e.gone != nil, e.timedOut
}

// endAttempt takes the stream away from those who would reset it. Whoever has decided to and not done so yet comes too late: the
// connection may be another request's by then, so it must not be used again.
func (e *exchange) endAttempt() {
	e.mu.Lock()
	up := e.up
	e.up = nil
	ending := e.gone != nil || e.timedOut != noTimeout
	e.mu.Unlock()
	if ending && up != nil {
		up.Reset(message.Cancel)
	}
}

func protocol(v message.Version) telemetry.Protocol {
	switch v {
	case message.HTTP2:
		return telemetry.HTTP2
	case message.HTTP10:
		return telemetry.HTTP10
	default:
		return telemetry.HTTP11
	}
}

// received is what Envoy counts of the fields of a head that came: one byte of each line end only.
func received(fields uint64, h *message.Head) uint64 {
	lines := h.Fields.Len()
	if h.Authority != "" {
		lines++
	}
	return fields - uint64(lines)
}

func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// wireSize is what a head took on the wire as HTTP/1.1, and what its fields did of it; HPACK makes it smaller in HTTP/2.
func wireSize(h *message.Head) (all, fields uint64) {
	if h.Authority != "" {
		fields = uint64(len("host: \r\n") + len(h.Authority))
	}
	for i := range h.Fields.All() {
		f := h.Fields.At(i)
		fields += uint64(len(f.Name) + len(f.Value) + len(": \r\n"))
	}
	line := len("HTTP/1.1  \r\n\r\n")
	if h.Status != 0 {
		line += len("200") + len(http.StatusText(h.Status))
	} else {
		line += len(h.Method) + len(h.Path)
	}
	return fields + uint64(line), fields
}
