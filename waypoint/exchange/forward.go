package exchange

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/cluster"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/route"

	"google.golang.org/protobuf/types/known/structpb"
)

// forward routes the request and sends it where its route says.
func (e *exchange) forward() (tunnel func()) {
	r := e.match()
	e.forwarding = true
	if r == nil {
		e.reply(filter.Reply{Status: http.StatusNotFound, Details: "route_not_found", Flag: telemetry.FlagNoRouteFound})
		return nil
	}
	switch {
	case r.Refused != nil:
		e.refuse(r.Refused)
	case r.Redirect != nil:
		e.reply(filter.Reply{Status: r.Redirect.Status, Details: "direct_response",
			Headers: []string{"location", r.Redirect.Location(&e.req)}})
	case r.Direct != nil:
		e.reply(filter.Reply{Status: r.Direct.Status, Body: r.Direct.Body, Details: "direct_response"})
	case e.upgradeDenied(r.Forward):
		e.reply(filter.Reply{Status: http.StatusForbidden, Details: "upgrade_failed"})
	case r.Forward.Connect && e.req.Method == http.MethodConnect:
		return e.terminateConnect(r)
	default:
		e.proxy(r)
	}
	return nil
}

// match routes the request, once, or anew after a filter cleared the route.
func (e *exchange) match() *route.Route {
	if !e.routed {
		e.routed = true
		if e.http.Routes == nil {
			return nil
		}
		e.route = e.http.Routes.Match(&route.Request{Head: &e.req, Metadata: e.dynamic})
		if r := e.route; r != nil {
			e.rec.RouteName = r.Name
			if r.Host != nil {
				e.rec.VirtualHost = r.Host.Name
			}
			if r.Forward != nil && len(r.Forward.Clusters) > 0 {
				e.choice = r.Forward.Choose(rand.Uint64())
			}
		}
	}
	return e.route
}

func (e *exchange) dynamic(namespace string, path []string) *structpb.Value {
	return e.x.Metadata.Get(namespace, path...)
}

// destinationOf notes where a route leads: cluster and service, for the record.
func (e *exchange) destinationOf(r *route.Route) {
	if r == nil || r.Forward == nil {
		return
	}
	name := ""
	if e.choice != nil {
		name = e.choice.Name
	} else if r.Forward.ClusterHeader != "" {
		name, _ = e.req.Get(r.Forward.ClusterHeader)
	}
	e.rec.UpstreamCluster = name
	if e.cluster = e.env.Clusters.Get(name); e.cluster == nil {
		return
	}
	e.rec.UpstreamClusterAlt = e.cluster.Config().AltStatName
	if s := &e.cluster.Config().Service; s.Host != "" {
		e.rec.Service = (*telemetry.Service)(s)
	}
}

// destination finds the cluster; false: there is none and the request has been answered.
func (e *exchange) destination(r *route.Route) bool {
	e.destinationOf(r)
	if e.cluster == nil {
		e.reply(filter.Reply{Status: r.Forward.NotFoundStatus, Details: "cluster_not_found", Flag: telemetry.FlagNoClusterFound})
		return false
	}
	if cfg := e.cluster.Config(); cfg.Refused != nil {
		e.refuse(cfg.Refused)
		return false
	}
	return true
}

// terminateConnect opens a tunnel into an internal listener (upgrade_configs CONNECT with connect_config). The answer comes
// before anything is dialled: what fails later shows inside the tunnel.
func (e *exchange) terminateConnect(r *route.Route) func() {
	if !e.destination(r) {
		return nil
	}
	to := e.cluster.Config().Internal
	// What this CONNECT's filters wrote is what its tunnel's inside may share; other streams of the connection have their own.
	outer := *e.x.Conn
	outer.State = e.x.Conn.State.Clone()
	e.x.State.CopyTo(&outer.State)
	if to == nil || !e.env.Reachable(&outer, &e.req, to) {
		e.reply(filter.Reply{Status: http.StatusServiceUnavailable, Flag: telemetry.FlagUpstreamConnectionFailure,
			Details: "upstream_reset_before_response_started{remote_connection_failure}"})
		return nil
	}
	t, ok := e.down.(interface{ Tunnel() message.Conn })
	if !ok {
		e.refuse(errors.New("CONNECT came in a protocol that cannot carry a tunnel"))
		return nil
	}
	e.resp.Reset()
	e.resp.Status = http.StatusOK
	e.rec.ResponseCodeDetails = "via_upstream"
	// :status and nothing else: ztunnel breaks on content-length, and Envoy's answer looks like this.
	if e.writeHead(&e.resp, false) != nil || e.down.Flush() != nil {
		return nil
	}
	e.down.OnReset(nil)
	env, conn, head, tunnel := e.env, &outer, &message.Head{}, t.Tunnel()
	head.CopyFrom(&e.req)
	e.ended = true
	return func() { env.Tunnel(tunnel, conn, head, to) }
}

// proxy sends the request to an endpoint and its answer back, trying again as the policy allows.
func (e *exchange) proxy(r *route.Route) {
	if !e.destination(r) {
		return
	}
	policy := e.retryPolicy(r.Forward)
	timeout, perTry := e.timeouts(r.Forward)
	e.rewrite(r, timeout)
	e.mirror(r.Forward)
	if timeout > 0 {
		e.startTimeout(timeout)
		defer e.stopTimeout()
	}
	pick := e.pickContext(r.Forward, policy)
	for attempt := uint32(0); ; attempt++ {
		isRetry := e.retrying
		e.retrying = false
		failed := e.attempt(policy, pick, perTry, attempt)
		if isRetry {
			e.cluster.EndRetry()
		}
		if failed == nil {
			break
		}
		if !e.again(policy, failed, attempt) {
			e.giveUp(failed, attempt)
			break
		}
	}
	if e.retrying { // allowed, but the client left before it began
		e.retrying = false
		e.cluster.EndRetry()
	}
	e.body.stop()
}

// failure is an attempt that gave no answer for the client, or an answer that the policy wants to try again.
type failure struct {
	reason    string // Envoy's reset reason, or "" for an answer
	transport string // the transport's error
	flag      telemetry.Flag
	connect   bool // no connection: the request was not sent
	refused   bool // the peer did not look at it
	stale     bool // a kept connection ended before a byte of the answer
	reset     bool
	timeout   timeoutKind
	answer    bool // the endpoint answered, and the policy does not want that answer
	malformed bool
}

// attempt sends the request once. nil: the answer has gone to the client, as far as that was possible.
func (e *exchange) attempt(policy *retryState, pick cluster.PickContext, perTry time.Duration, n uint32) *failure {
	pick.Skip = e.tried
	host, err := e.cluster.Pick(&pick)
	if err != nil {
		e.reply(filter.Reply{Status: http.StatusServiceUnavailable, Body: "no healthy upstream", Details: "no_healthy_upstream",
			Flag: telemetry.FlagNoHealthyUpstream})
		return nil
	}
	if policy.skipPrevious {
		e.tried = append(e.tried, host)
	}
	e.rec.Attempts = int(n) + 1
	if e.rec.UpstreamHost != "" {
		e.rec.EarlierHosts += e.rec.UpstreamHost + ","
	}
	e.rec.UpstreamHost = host.Display()
	e.rec.UpstreamAddress = host.Endpoint().Address
	e.rec.Destination = e.env.Peer(e.rec.UpstreamAddress.Addr())
	e.autoHost(host)
	if len(host.Endpoint().Hops) > 1 {
		e.rec.UpstreamLocalText = "envoy://internal_client_address/"
	}
	if !host.TryBegin() {
		e.overflow()
		return nil
	}
	defer host.End()

	timing := &e.rec.Timing
	timing.PoolWait = telemetry.At(time.Since(e.rec.Start))
	timing.PoolReady = timing.PoolWait
	lease, ok := host.TryAcquire(e.down.Version())
	if !ok {
		lease, err = e.dial(host)
		timing.PoolReady = telemetry.At(time.Since(e.rec.Start))
		if err != nil {
			return e.dialFailure(host, err)
		}
		if lease.Fresh {
			timing.ConnectStart, timing.ConnectEnd = timing.PoolWait, timing.PoolReady
		}
	}
	host.Report(cluster.Connected)
	e.lease = lease
	defer func() {
		e.body.detach(lease.Stream)
		e.lease.Release()
	}()
	gone, timedOut := e.beginAttempt(lease.Stream)
	defer e.endAttempt()
	if gone || timedOut != noTimeout {
		lease.Stream.Reset(message.Cancel)
		return &failure{reason: "local reset", timeout: timedOut}
	}
	var perTryTimer *time.Timer
	if perTry > 0 {
		perTryTimer = e.afterTimeout(perTry, perTryTimeout)
		defer perTryTimer.Stop()
	}
	e.rec.UpstreamProtocol = protocol(lease.Stream.Version())
	if err := e.send(lease.Stream); err != nil {
		// The endpoint may have answered and closed its side before it had read the request: the reading side knows.
		e.env.Logger.Debug("request not sent completely", "endpoint", e.rec.UpstreamHost, "error", err)
		if f := e.unsendable(lease.Stream, err); f != nil {
			return f
		}
	}
	return e.receive(policy, n, perTryTimer)
}

// dial makes a connection; the client's reset ends the wait.
func (e *exchange) dial(host *cluster.Host) (cluster.Lease, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	e.mu.Lock()
	e.cancel = cancel
	gone := e.gone != nil || e.timedOut != noTimeout && e.timedOut != perTryTimeout
	e.mu.Unlock()
	if gone {
		return cluster.Lease{}, &cluster.ConnectError{Hop: "dial", Err: context.Canceled}
	}
	lease, err := host.Acquire(ctx, e.down.Version())
	e.mu.Lock()
	e.cancel = nil
	e.mu.Unlock()
	return lease, err
}

// dialFailure says what a connection that could not be had means. nil: the request has been answered.
func (e *exchange) dialFailure(host *cluster.Host, err error) *failure {
	switch kind := e.timedOutKind(); {
	case kind != noTimeout:
		return &failure{timeout: kind, reset: true}
	case errors.Is(err, cluster.ErrOverflow):
		e.overflow()
		return nil
	case !e.clientGone():
		host.Report(cluster.ConnectFailed)
	}
	return connectFailure(err)
}

// pickContext is what load balancing may know of the request. The hash is that of the first attempt for all of them.
func (e *exchange) pickContext(f *route.Forward, policy *retryState) cluster.PickContext {
	p := cluster.PickContext{OriginalDst: e.x.Conn.Local, SkipAttempts: policy.hostAttempts}
	if len(f.HashPolicies) > 0 {
		p.Hash, p.HasHash = f.HashWithCookie(&e.req, e.x.Conn.Remote.Addr(), func(h *route.HashPolicy) string {
			v := route.CookieValue(e.x.Conn.Remote, e.x.Conn.Local)
			e.cookies = append(e.cookies, h.SetCookie(v))
			return v
		})
	}
	return p
}

func connectFailure(err error) *failure {
	f := &failure{reason: "remote connection failure", transport: err.Error(), connect: true, reset: true, flag: telemetry.FlagUpstreamConnectionFailure}
	var ce *cluster.ConnectError
	if errors.As(err, &ce) && ce.Timeout {
		f.reason = "connection timeout"
	}
	return f
}

// send writes the request's head and what is there of its body; the rest is the body's own goroutine's business.
func (e *exchange) send(up message.Stream) error {
	e.rec.Timing.UpstreamFirstTx = e.rec.Timing.PoolReady
	e.rec.UpstreamWireBytesSent, e.rec.UpstreamHeaderBytesSent = wireSize(&e.req)
	if e.req.Upgrade != "" {
		if err := up.WriteHead(&e.req, false); err != nil {
			return err
		}
		e.requestComplete()
		return up.Flush()
	}
	if e.body.empty() {
		err := up.WriteHead(&e.req, true)
		if err == nil {
			err = up.Flush()
		}
		e.requestComplete()
		return err
	}
	if err := up.WriteHead(&e.req, false); err != nil {
		return err
	}
	return e.body.send(up)
}

// unsendable tells whether the codec itself refused to write the request: a head that the endpoint's protocol does not have, or an
// upgrade that it does not offer; or the connection takes no more streams. The endpoint then knows nothing of it, so nobody must wait
// for its answer. nil: the transport failed.
func (e *exchange) unsendable(up message.Stream, err error) *failure {
	var r *message.ResetError
	switch {
	case e.timedOutKind() != noTimeout || e.clientGone():
		return nil
	case errors.As(err, &r) && r.Refused():
		// A GOAWAY came between the choice of the connection and the head.
		return &failure{reason: "remote refused stream reset", refused: true, reset: true, flag: telemetry.FlagUpstreamRemoteReset}
	case r != nil:
		return nil
	}
	up.Reset(message.Cancel)
	return &failure{reason: "local reset", transport: err.Error(), flag: telemetry.FlagLocalReset}
}

// resetFailure turns an error of the upstream stream into a failure.
func (e *exchange) resetFailure(err error) *failure {
	if kind := e.timedOutKind(); kind != noTimeout {
		return &failure{timeout: kind, reset: true}
	}
	if e.clientGone() || e.body.malformed() != nil {
		return &failure{reason: "local reset"}
	}
	var r *message.ResetError
	switch {
	case message.AsMalformed(err) != nil:
		return &failure{reason: "protocol error", malformed: true, reset: true, flag: telemetry.FlagUpstreamProtocolError}
	case errors.As(err, &r) && r.Refused():
		return &failure{reason: "remote refused stream reset", refused: true, reset: true, flag: telemetry.FlagUpstreamRemoteReset}
	case errors.As(err, &r) && r.Remote && e.lease.Stream.Version() != message.HTTP2:
		// HTTP/1.1 knows no resets: that of the tunnel it is in ends its connection. The endpoint did it on purpose, so this is
		// no kept connection that has just run out.
		return &failure{reason: "connection termination", reset: true, flag: telemetry.FlagUpstreamConnectionTermination}
	case r != nil && r.Remote:
		return &failure{reason: "remote reset", reset: true, flag: telemetry.FlagUpstreamRemoteReset}
	case errors.As(err, &r) && !r.Lost:
		return &failure{reason: "local reset", reset: true, flag: telemetry.FlagLocalReset}
	default:
		return &failure{reason: "connection termination", reset: true, stale: !e.lease.Fresh, flag: telemetry.FlagUpstreamConnectionTermination}
	}
}

func (e *exchange) overflow() {
	e.reply(filter.Reply{Status: http.StatusServiceUnavailable, Flag: telemetry.FlagUpstreamOverflow,
		Body:    "upstream connect error or disconnect/reset before headers. reset reason: overflow",
		Details: "upstream_reset_before_response_started{overflow}", Headers: []string{"x-envoy-overloaded", "true"}})
}

// giveUp answers for the last attempt.
func (e *exchange) giveUp(f *failure, attempt uint32) {
	if e.clientGone() {
		return // recorded by finish
	}
	if m := e.body.malformed(); m != nil { // the client's fault, not the endpoint's
		e.malformed(m)
		return
	}
	if r, ok := timedOutReply(f.timeout); ok {
		e.reply(r)
		return
	}
	switch f.timeout {
	case noTimeout:
	case perTryTimeout:
		e.reply(filter.Reply{Status: http.StatusGatewayTimeout, Body: "upstream request timeout", Details: "upstream_per_try_timeout",
			Flag: telemetry.FlagUpstreamRequestTimeout})
		return
	default:
		e.reply(filter.Reply{Status: http.StatusGatewayTimeout, Body: "upstream request timeout", Details: "response_timeout",
			Flag: telemetry.FlagUpstreamRequestTimeout})
		return
	}
	e.rec.UpstreamTransportFailureReason = f.transport
	body := "upstream connect error or disconnect/reset before headers. "
	if attempt > 0 {
		body += "retried and the latest reset reason: "
	} else {
		body += "reset reason: "
	}
	body += f.reason
	details := f.reason
	if f.transport != "" {
		body += ", transport failure reason: " + f.transport
		details += "|" + f.transport
	}
	status := http.StatusServiceUnavailable
	if f.malformed {
		status = http.StatusBadGateway
	}
	e.reply(filter.Reply{Status: status, Body: body, Flag: f.flag,
		Details: "upstream_reset_before_response_started{" + strings.ReplaceAll(details, " ", "_") + "}"})
}

// rewrite makes the request's head what the endpoint gets.
func (e *exchange) rewrite(r *route.Route, timeout time.Duration) {
	r.ApplyRequest(&e.req, e.choice, &e.rec)
	if timeout > 0 && !e.http.SuppressEnvoyHeaders {
		e.req.Fields.Set(header.XEnvoyExpectedRqTimeoutMs, strconv.FormatInt(timeout.Milliseconds(), 10))
	}
	e.injectTrace()
}
