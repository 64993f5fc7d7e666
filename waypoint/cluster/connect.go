package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/hbone"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// defaultConnectTimeout is Envoy's cluster connect_timeout; istiod leaves it out of the fixed clusters.
const defaultConnectTimeout = 5 * time.Second

// ConnectError says which hop failed. It is what %UPSTREAM_TRANSPORT_FAILURE_REASON% prints.
type ConnectError struct {
	Hop string // "dial 10.0.0.1:15008", "TLS", "CONNECT 10.0.0.1:8080"
	Err error
	// Timeout: the connect timeout ran out.
	Timeout bool
}

func (e *ConnectError) Error() string { return e.Hop + ": " + e.Err.Error() }
func (e *ConnectError) Unwrap() error { return e.Err }

// Connect opens a byte stream to h over its hops, for a TCP session. The caller closes it.
func (h *Host) Connect(ctx context.Context) (message.Conn, error) {
	h.used.Store(time.Now().UnixNano())
	return h.connect(ctx, h.cluster.Config())
}

func (h *Host) connect(ctx context.Context, cfg *program.Cluster) (message.Conn, error) {
	ep := h.Endpoint()
	if ep.Refused != nil {
		return nil, &ConnectError{Hop: "config", Err: ep.Refused}
	}
	timeout := cfg.ConnectTimeout
	if timeout == 0 {
		timeout = defaultConnectTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := h.cluster.m.connect(ctx, ep.Hops)
	if err != nil {
		h.Stats.ConnectFail.Add(1)
		h.cluster.Stats.ConnectFailures.Add(1)
		var ce *ConnectError
		if !errors.As(err, &ce) {
			ce = &ConnectError{Hop: "connect", Err: err}
		}
		ce.Timeout = ce.Timeout || errors.Is(ctx.Err(), context.DeadlineExceeded)
		return nil, ce
	}
	return conn, nil
}

// connect follows hops from the outermost to the innermost.
func (m *Manager) connect(ctx context.Context, hops []program.Hop) (message.Conn, error) {
	if len(hops) == 0 {
		return nil, &ConnectError{Hop: "config", Err: errors.New("the endpoint has no address to connect to")}
	}
	outer, last := hops[:len(hops)-1], &hops[len(hops)-1]
	switch {
	case last.Connect != nil:
		return m.connectTunnel(ctx, outer, last)

	case last.TLS != nil:
		below, err := m.connect(ctx, outer)
		if err != nil {
			return nil, err
		}
		return m.connectTLS(ctx, below, last.TLS)

	case last.Proxy != program.NoProxyProtocol:
		// Whose addresses the header carries is known to the session, not here: config refuses such clusters until it is.
		return nil, &ConnectError{Hop: "PROXY", Err: errors.New("upstream PROXY protocol is not supported")}

	default:
		c, err := m.opts.Dialer.DialContext(ctx, "tcp", last.Dial)
		if err != nil {
			return nil, &ConnectError{Hop: "dial " + last.Dial, Err: err}
		}
		return hbone.FromNetConn(c), nil
	}
}

func (m *Manager) connectTLS(ctx context.Context, below message.Conn, t *program.ClientTLS) (message.Conn, error) {
	cfg, err := m.opts.ClientTLS(t)
	if err != nil {
		below.Reset(message.Cancel)
		return nil, &ConnectError{Hop: "TLS", Err: err}
	}
	c := hbone.TLSClient(hbone.NetConn(below), cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		below.Reset(message.Cancel)
		return nil, &ConnectError{Hop: "TLS", Err: err}
	}
	return hbone.FromNetConn(c), nil
}

// connectTunnel opens a CONNECT stream on a pooled connection over the outer hops.
func (m *Manager) connectTunnel(ctx context.Context, outer []program.Hop, hop *program.Hop) (message.Conn, error) {
	cfg := poolConfig{http2: hop.HTTP2, idle: hop.IdleTimeout, maxRequests: hop.MaxRequests}
	stream, err := m.tunnels.open(ctx, hopsKey(outer), func(ctx context.Context) (message.Conn, error) {
		return m.connect(ctx, outer)
	}, cfg)
	if err != nil {
		return nil, err
	}
	conn, err := hbone.Connect(ctx, stream, hop.Connect.Authority, hop.Connect.Headers, hop.Connect.UsePost)
	if err != nil {
		return nil, &ConnectError{Hop: "CONNECT " + hop.Connect.Authority, Err: err}
	}
	return conn, nil
}

// hopsKey is equal for hops that lead to the same place in the same way, so that connections over them can be shared.
func hopsKey(hops []program.Hop) string {
	if len(hops) == 2 && hops[0].Dial != "" && hops[1].TLS != nil {
		return hops[0].Dial + "|" + hops[1].TLS.Key // the usual case: HBONE
	}
	var b strings.Builder
	for i := range hops {
		switch h := &hops[i]; {
		case h.Connect != nil:
			fmt.Fprintf(&b, "|connect %q %q %v", h.Connect.Authority, h.Connect.Headers, h.Connect.UsePost)
		case h.TLS != nil:
			b.WriteString("|" + h.TLS.Key)
		case h.Proxy != program.NoProxyProtocol:
			b.WriteString("|proxy " + strconv.Itoa(int(h.Proxy)))
		default:
			b.WriteString("|" + h.Dial)
		}
	}
	return b.String()
}

// dialAddress is the hop for an address.
func dialAddress(a netip.Addr, port uint16) program.Hop {
	return program.Hop{Dial: net.JoinHostPort(a.String(), strconv.Itoa(int(port)))}
}
