// Package tcpproxy is the life of one TCP session inside a tunnel: network filters, a cluster by weight, an endpoint, and bytes
// both ways until both sides have ended.
//
// The filters decide before anything is dialled, so a server that speaks first is never heard by a client that policy forbids;
// Envoy runs network RBAC at the client's first byte. When the configuration changes while the session lasts, [Session.Recheck]
// runs them again and a session that is no longer allowed is reset; Envoy keeps it.
//
// Half-close is carried over in both directions. A session ends when both directions have, when one of them breaks, when it was
// idle for idle_timeout, or at max_downstream_connection_duration.
//
// Memory: a direction holds a buffer only while bytes move.
package tcpproxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/cluster"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
	"github.com/gowaypoint/gowaypoint/waypoint/route"
)

// Env is what all sessions share.
type Env struct {
	Clusters *cluster.Manager
	Peer     func(netip.Addr) *telemetry.Peer
	Logger   *slog.Logger
	Stats    Stats
}

// Stats count sessions; Active is a gauge.
type Stats struct {
	Sessions atomic.Uint64
	Active   atomic.Int64
	Denied   atomic.Uint64
	Failed   atomic.Uint64
}

// Session is one TCP session.
type Session struct {
	env   *Env
	down  message.Conn
	info  *filter.Conn
	chain func() *program.Chain

	rec telemetry.Record

	checking       sync.Mutex // filters see one connection one at a time
	received, sent atomic.Uint64
	lastMoved      atomic.Int64 // unix nanoseconds

	mu     sync.Mutex
	up     message.Conn
	reason string // why this side ended it, for the log
	flag   telemetry.Flag
	over   bool
}

// connectAttempts is TcpProxy.max_connect_attempts; Envoy's default, which istiod leaves.
const connectAttempts = 1

// New makes a session. chain returns the filter chain by the configuration in force, nil when there is none any more.
func (env *Env) New(down message.Conn, info *filter.Conn, chain func() *program.Chain) *Session {
	return &Session{env: env, down: down, info: info, chain: chain}
}

// Serve runs the session to its end. prefix was read from the tunnel already.
func (s *Session) Serve(prefix []byte) {
	chain := s.chain()
	if chain == nil { // gone since the tunnel was dispatched to it
		chain = &program.Chain{}
	}
	env := s.env
	env.Stats.Sessions.Add(1)
	env.Stats.Active.Add(1)
	defer env.Stats.Active.Add(-1)
	r := &s.rec
	*r = telemetry.Record{
		Start: time.Now(), DownstreamRemote: s.info.Remote, DownstreamLocal: s.info.Local, ConnectionID: s.info.ID,
		RequestedServerName: s.info.RequestedServerName, Source: s.info.Peer, FilterChain: chain.Name, FilterState: &s.info.State,
	}
	r.PeerPrincipal, _ = s.info.State.Get(filter.PeerPrincipalKey)
	r.LocalPrincipal, _ = s.info.State.Get(filter.LocalPrincipalKey)

	if d := s.denied(chain); d != nil {
		env.Stats.Denied.Add(1)
		r.ConnectionTerminationDetails = d.Details
		r.Flags.Set(d.Flag)
		d.Hold(s.down)
		s.down.Reset(message.ConnectError)
		s.finish(chain)
		return
	}
	r.Source = s.info.Peer // a filter may have found it
	r.PeerPrincipal, _ = s.info.State.Get(filter.PeerPrincipalKey)
	r.LocalPrincipal, _ = s.info.State.Get(filter.LocalPrincipalKey)
	s.run(chain, prefix)
	s.finish(chain)
}

// denied runs the chain's network filters; nil: all of them let the session pass.
func (s *Session) denied(chain *program.Chain) *filter.Denial {
	if chain == nil {
		return &filter.Denial{Details: "filter_chain_not_found", Flag: telemetry.FlagNoRouteFound}
	}
	if chain.Refused != nil {
		s.env.Logger.Warn("connection refused: the configuration cannot be honoured", "chain", chain.Name, "error", chain.Refused)
		return &filter.Denial{Details: "config_refused", Flag: telemetry.FlagNoFilterConfigFound}
	}
	if chain.TCP == nil {
		return &filter.Denial{Details: "filter_chain_changed_protocol", Flag: telemetry.FlagNoRouteFound}
	}
	s.checking.Lock()
	defer s.checking.Unlock()
	for _, f := range chain.Network {
		if d := f.Connect(s.info); d != nil {
			return d
		}
	}
	return nil
}

// Recheck asks the configuration in force whether the session may go on, and resets it if not. Any goroutine may call it.
func (s *Session) Recheck() {
	s.mu.Lock()
	over := s.over
	s.mu.Unlock()
	if over {
		return
	}
	if d := s.denied(s.chain()); d != nil {
		s.end(d.Details, d.Flag)
	}
}

// end resets both sides, once.
func (s *Session) end(reason string, flag telemetry.Flag) {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return
	}
	s.over, s.reason, s.flag = true, reason, flag
	up := s.up
	s.mu.Unlock()
	s.down.Reset(message.ConnectError)
	if up != nil {
		up.Reset(message.ConnectError)
	}
}

func (s *Session) run(chain *program.Chain, prefix []byte) {
	tcp := chain.TCP
	r := &s.rec
	name := choose(tcp)
	r.UpstreamCluster = name
	c := s.env.Clusters.Get(name)
	if c == nil {
		s.fail(telemetry.FlagNoClusterFound, "")
		return
	}
	cfg := c.Config()
	if cfg.Refused != nil || tcp.Tunnel != nil {
		err := cfg.Refused
		if err == nil {
			err = errors.New("tcp_proxy.tunneling_config is not honoured on a service chain")
		}
		s.env.Logger.Warn("connection refused: the configuration cannot be honoured", "chain", chain.Name, "cluster", name, "error", err)
		s.fail(telemetry.FlagNoFilterConfigFound, "config_refused")
		return
	}
	r.UpstreamClusterAlt = cfg.AltStatName
	if cfg.Service.Host != "" {
		r.Service = (*telemetry.Service)(&cfg.Service)
	}
	up, host, err := s.connect(tcp, c)
	if err != nil {
		switch {
		case errors.Is(err, cluster.ErrNoHealthyHost):
			s.fail(telemetry.FlagNoHealthyUpstream, "")
		case errors.Is(err, cluster.ErrOverflow):
			s.fail(telemetry.FlagUpstreamOverflow, "")
		default:
			r.Flags.Set(telemetry.FlagUpstreamRetryLimitExceeded)
			r.UpstreamTransportFailureReason = err.Error()
			s.fail(telemetry.FlagUpstreamConnectionFailure, "")
		}
		return
	}
	defer host.EndSession()
	s.mu.Lock()
	s.up = up
	over := s.over
	s.mu.Unlock()
	if over {
		up.Reset(message.Cancel)
		return
	}
	report := s.reports(chain)
	report(filter.Opened)
	s.copyBoth(tcp, up, prefix, report)
}

func choose(tcp *program.TCP) string {
	switch len(tcp.Clusters) {
	case 0:
		return ""
	case 1:
		return tcp.Clusters[0].Name
	}
	x := rand.Uint32N(max(tcp.TotalWeight, 1))
	for _, c := range tcp.Clusters {
		if x < c.Weight {
			return c.Name
		}
		x -= c.Weight
	}
	return tcp.Clusters[len(tcp.Clusters)-1].Name
}

func (s *Session) connect(tcp *program.TCP, c *cluster.Cluster) (message.Conn, *cluster.Host, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.down.OnReset(func(*message.ResetError) { cancel() })
	r := &s.rec
	pick := cluster.PickContext{OriginalDst: s.info.Local}
	if tcp.HashSourceIP {
		pick.Hash, pick.HasHash = route.HashAddress(s.info.Remote.Addr()), true
	}
	var err error
	for range connectAttempts {
		var host *cluster.Host
		if host, err = c.Pick(&pick); err != nil {
			break
		}
		r.Attempts++
		r.UpstreamHost = host.Display()
		r.UpstreamAddress = host.Endpoint().Address
		r.Destination = s.env.Peer(r.UpstreamAddress.Addr())
		if len(host.Endpoint().Hops) > 1 {
			r.UpstreamLocalText = "envoy://internal_client_address/"
		}
		if !host.TryBeginSession() {
			return nil, nil, cluster.ErrOverflow
		}
		var up message.Conn
		if up, err = host.Connect(ctx); err == nil {
			host.Report(cluster.ConnectedFinal)
			return up, host, nil
		}
		host.EndSession()
		if ctx.Err() == nil {
			host.Report(cluster.ConnectFailed)
		}
	}
	return nil, nil, err
}

// fail closes the client's side of a session that reached nobody.
func (s *Session) fail(flag telemetry.Flag, details string) {
	s.env.Stats.Failed.Add(1)
	s.rec.Flags.Set(flag)
	s.rec.ConnectionTerminationDetails = details
	s.down.Reset(message.ConnectError)
}

// copyBoth moves bytes both ways until the session is over.
func (s *Session) copyBoth(tcp *program.TCP, up message.Conn, prefix []byte, report func(filter.Phase)) {
	broken := func(*message.ResetError) { s.end("", telemetry.FlagNone) }
	s.down.OnReset(broken)
	up.OnReset(broken)
	s.lastMoved.Store(time.Now().UnixNano())
	stop := s.watch(tcp, report)
	defer stop()

	done := make(chan struct{})
	go func() {
		defer close(done)
		s.oneWay(up, s.down, nil, &s.sent)
	}()
	s.oneWay(s.down, up, prefix, &s.received)
	<-done
	s.down.OnReset(nil)
	up.OnReset(nil)
	_ = up.Close()     // both directions have ended or were reset: nothing is left to lose
	_ = s.down.Close() // likewise
}

// oneWay copies from src to dst until src ends, and then ends dst's side.
func (s *Session) oneWay(src, dst message.Conn, prefix []byte, count *atomic.Uint64) {
	if len(prefix) > 0 {
		if _, err := dst.Write(prefix); err != nil {
			s.end("", telemetry.FlagNone)
			return
		}
		count.Add(uint64(len(prefix)))
	}
	awaiter, canAwait := src.(interface{ Await() error })
	for {
		if canAwait {
			if awaiter.Await() != nil {
				canAwait = false // Read says how it ended
				continue
			}
		}
		buf := buffers.Get().(*[]byte)
		n, err := src.Read(*buf)
		if n > 0 {
			s.lastMoved.Store(time.Now().UnixNano())
			count.Add(uint64(n))
			if _, werr := dst.Write((*buf)[:n]); werr != nil {
				buffers.Put(buf)
				s.end("", telemetry.FlagNone)
				return
			}
		}
		buffers.Put(buf)
		if err == io.EOF {
			if dst.CloseWrite() != nil {
				s.end("", telemetry.FlagNone)
			}
			return
		}
		if err != nil {
			s.end("", telemetry.FlagUpstreamConnectionTermination)
			return
		}
	}
}

// bufferSize is two TLS records.
const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}
