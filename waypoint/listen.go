package waypoint

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/h2"
	"github.com/gowaypoint/gowaypoint/waypoint/hbone"
	"github.com/gowaypoint/gowaypoint/waypoint/identity"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// ports are the sockets that the Program's listeners are bound to.
type ports struct {
	mu       sync.Mutex
	bound    map[netip.AddrPort]*port
	acceptor []*hbone.Acceptor
	closed   bool
}

// port is one bound address. Which listener serves it is looked up for each connection, so that a push changes what new
// connections get without a gap in listening.
type port struct {
	addr     netip.AddrPort
	listener net.Listener
	acceptor *hbone.Acceptor
}

// bind makes the sockets those that the Program names; it returns what could not be bound.
func (s *Server) bind(p *program.Program) error {
	s.ports.mu.Lock()
	defer s.ports.mu.Unlock()
	if s.ports.closed {
		return nil
	}
	if s.ports.bound == nil {
		s.ports.bound = map[netip.AddrPort]*port{}
	}
	wanted := map[netip.AddrPort]bool{}
	var failed error
	for _, l := range p.Listeners {
		for _, a := range l.Addresses {
			wanted[a] = true
			if s.ports.bound[a] != nil {
				continue
			}
			if err := s.open(a); err != nil {
				failed = fmt.Errorf("listener %q: address %s cannot be bound: %w", l.Name, a, err)
			}
		}
	}
	for a, b := range s.ports.bound {
		if !wanted[a] {
			_ = b.listener.Close() // stops Accept; connections go on
			b.acceptor.Drain(s.drainGrace())
			delete(s.ports.bound, a)
		}
	}
	return failed
}

func (s *Server) open(a netip.AddrPort) error {
	listen := s.cfg.Listen
	if listen == nil {
		listen = listenTCP
	}
	l, err := listen(a)
	if err != nil {
		return err
	}
	b := &port{addr: a, listener: l}
	b.acceptor = &hbone.Acceptor{
		TLS:     func() (*tls.Config, error) { return s.serverTLS(a) },
		H2:      func() h2.Options { return s.hboneOptions(a) },
		Handler: func(st *h2.Stream, c *hbone.Conn) { s.connectStream(a, st, c) },
		Opened:  func(c *hbone.Conn) { s.opened(a, c) },
		Parked:  s.shrink.parked,
		Logger:  s.log,
	}
	s.ports.bound[a] = b
	s.ports.acceptor = append(s.ports.acceptor, b.acceptor)
	s.log.Info("listening", "address", l.Addr().String())
	go func() {
		if err := b.acceptor.Serve(context.Background(), l); err != nil {
			s.log.Error("listening ended", "address", a.String(), "error", err)
		}
	}()
	return nil
}

// listenTCP binds exactly what xDS says: 0.0.0.0 is IPv4 only, as in Envoy; dual stack comes as a second address.
func listenTCP(a netip.AddrPort) (net.Listener, error) {
	network := "tcp4"
	if a.Addr().Is6() {
		network = "tcp6"
	}
	return net.Listen(network, a.String())
}

// listenerAt is the listener that the Program in force has for an address.
func (s *Server) listenerAt(a netip.AddrPort) *program.Listener {
	for _, l := range s.current.Load().Listeners {
		if slices.Contains(l.Addresses, a) {
			return l
		}
	}
	return nil
}

func (s *Server) serverTLS(a netip.AddrPort) (*tls.Config, error) {
	l := s.listenerAt(a)
	switch {
	case l == nil:
		return nil, fmt.Errorf("no listener has the address %s any more", a)
	case l.Refused != nil:
		return nil, fmt.Errorf("listener %q: %w", l.Name, l.Refused)
	case l.TLS == nil:
		return nil, fmt.Errorf("listener %q has no TLS context: plaintext tunnels have no identity", l.Name)
	}
	ctx, err := s.contexts.server(l.TLS)
	if err != nil {
		return nil, fmt.Errorf("listener %q: %w", l.Name, err)
	}
	return ctx.Config(), nil
}

func (s *Server) hboneOptions(a netip.AddrPort) h2.Options {
	o := h2.Options{Budget: s.budget, Logger: s.log}
	l := s.listenerAt(a)
	if l == nil || l.Chain == nil || l.Chain.HTTP == nil {
		return o
	}
	p := &l.Chain.HTTP.HTTP2
	// Never fewer than 100: ztunnel does not look at the limit, and streams beyond it would hang in its pool.
	o.MaxConcurrentStreams = max(p.MaxConcurrentStreams, 100)
	o.InitialWindow, o.ConnWindow = p.InitialStreamWindow, p.InitialConnectionWindow
	o.KeepaliveInterval, o.KeepaliveTimeout = p.KeepaliveInterval, p.KeepaliveTimeout
	o.MaxHeaderListSize = uint32(l.Chain.HTTP.MaxRequestHeaderBytes)
	o.Limits.MaxHeaderFields = l.Chain.HTTP.MaxRequestHeaders
	o.IdleTimeout = l.Chain.HTTP.IdleTimeout
	return o
}

// hboneConn is what all CONNECT requests of one HBONE connection have in common.
type hboneConn struct {
	peer identity.Peer
	info filter.Conn
}

// opened notes what a finished handshake proved.
func (s *Server) opened(a netip.AddrPort, c *hbone.Conn) {
	h := &hboneConn{}
	if l := s.listenerAt(a); l != nil && l.TLS != nil {
		if ctx, err := s.contexts.server(l.TLS); err == nil {
			h.peer = ctx.Peer(&c.TLS)
		}
	}
	remote := addrPort(c.Remote)
	h.info = filter.Conn{
		ID: s.connID.Add(1), Local: addrPort(c.Local), Remote: remote,
		RequestedServerName: lowerName(h.peer.SNI), // a policy on it, and the log, see it as Envoy has it
		TLS:                 true, PeerURISAN: h.peer.URISAN, LocalURISAN: h.peer.LocalURISAN, PeerSubject: h.peer.Subject,
		PeerDNSSANs: h.peer.DNSSANs, PeerCertHash: h.peer.Fingerprint, Handshake: &telemetry.TLS{State: &c.TLS},
	}
	c.Data = h
}

// connectStream serves one stream of an HBONE connection: a CONNECT, most likely.
func (s *Server) connectStream(a netip.AddrPort, st *h2.Stream, c *hbone.Conn) {
	l := s.listenerAt(a)
	if l == nil || l.Refused != nil || l.Chain == nil || l.Chain.HTTP == nil {
		st.Reset(message.InternalError) // there is nothing to serve it with
		return
	}
	info := c.Data.(*hboneConn).info // a copy: each CONNECT has filter state of its own
	info.State = info.State.Clone()
	for _, f := range l.Chain.Network {
		if d := f.Connect(&info); d != nil {
			d.Hold(st)
			st.Reset(message.ConnectError)
			return
		}
	}
	s.exchange.ServeStream(st, &info, l.Chain)
}

// close closes the sockets and ends all connections.
func (p *ports) close() {
	p.mu.Lock()
	p.closed = true
	acceptors := p.acceptor
	for _, b := range p.bound {
		_ = b.listener.Close() // the process ends: there is nobody to tell
	}
	p.mu.Unlock()
	for _, a := range acceptors {
		a.Close()
	}
}

func (p *ports) drain(grace time.Duration) {
	p.mu.Lock()
	acceptors := slices.Clone(p.acceptor)
	p.mu.Unlock()
	for _, a := range acceptors {
		a.Drain(grace)
	}
}

// counts sums the acceptors' statistics.
func (p *ports) counts() (accepted uint64, active int64, failed uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.acceptor {
		accepted += a.Stats.Accepted.Load()
		active += a.Stats.Active.Load()
		failed += a.Stats.HandshakeFailed.Load()
	}
	return accepted, active, failed
}

func (p *ports) streams() int {
	p.mu.Lock()
	acceptors := slices.Clone(p.acceptor)
	p.mu.Unlock()
	n := 0
	for _, a := range acceptors {
		n += a.Streams()
	}
	return n
}

// Listeners returns the listeners of the configuration in force by name, with the addresses that they are bound to.
func (s *Server) Listeners() map[string][]netip.AddrPort {
	out := map[string][]netip.AddrPort{}
	for _, l := range s.current.Load().Listeners {
		out[l.Name] = slices.Clone(l.Addresses)
	}
	return out
}

func (p *ports) addresses() []net.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []net.Addr
	for _, b := range p.bound {
		out = append(out, b.listener.Addr())
	}
	return out
}

// lowerName puts the ASCII letters of a server name in lower case, as Envoy does, and leaves every other byte alone: with Unicode's
// rules the Kelvin sign is a k, and a client could send a name that a policy takes for another.
func lowerName(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}
	return string(b)
}
