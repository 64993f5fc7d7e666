package waypoint

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/exchange"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/h2"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
	"github.com/gowaypoint/gowaypoint/waypoint/tcpproxy"
)

// target is where a CONNECT wants to go, read from filter state as listener filter original_dst does. A hostname, a missing or
// bad port and an IPv4-mapped address yield nothing, as in Envoy.
func target(state *filter.State) netip.AddrPort {
	text, _ := state.Get(filter.OriginalDstLocal)
	a, err := netip.ParseAddrPort(text)
	if err != nil || a.Addr().Is4In6() || a.Addr().Zone() != "" || !canonicalPort(text) {
		return netip.AddrPort{}
	}
	return a
}

// canonicalPort refuses ports that netip reads but that another parser may read otherwise ("080").
func canonicalPort(text string) bool {
	port := text[strings.LastIndexByte(text, ':')+1:]
	return port == "0" || port[0] != '0'
}

// inside describes the connection inside a tunnel: what outer shares with it, and the addresses that original_dst restores.
func (s *Server) inside(outer *filter.Conn, to *program.Dispatch) *filter.Conn {
	in := &filter.Conn{ID: s.connID.Add(1), Peer: outer.Peer}
	outer.State.Upstream(&in.State)
	if to.OriginalDst {
		in.Local = target(&in.State)
		if text, ok := in.State.Get(filter.OriginalDstRemote); ok {
			if a, err := netip.ParseAddrPort(text); err == nil {
				in.Remote = a
			}
		}
	}
	return in
}

// reachable tells before the 200 whether a tunnel can lead anywhere. Envoy's answer has two forms, and this is what makes the
// difference: without sniffing the chain is picked at once and its absence is a 503; with sniffing the 200 comes first and a
// reset follows.
func (s *Server) reachable(outer *filter.Conn, _ *message.Head, to *program.Dispatch) bool {
	if to.Refused != nil {
		s.log.Warn("tunnel refused: the configuration cannot be honoured", "listener", to.Name, "error", to.Refused)
		return false
	}
	in := s.inside(outer, to)
	authority, _ := in.State.Get(filter.AuthorityKey)
	if m := to.Lookup(authority, in.Local); m != nil {
		return true
	}
	if in.Local.IsValid() && to.Inspects(in.Local.Port()) {
		return true
	}
	s.logNoChain(in, to)
	return false
}

// tunnel serves the inside of a tunnel until it ends.
func (s *Server) tunnel(t message.Conn, outer *filter.Conn, _ *message.Head, to *program.Dispatch) {
	in := s.inside(outer, to)
	c := &inner{server: s, info: in, listener: to.Name}
	c.authority, _ = in.State.Get(filter.AuthorityKey)

	protocol, prefix := program.NotSniffed, []byte(nil)
	leaf := to.Lookup(c.authority, in.Local)
	// A chain that does not depend on the protocol needs no sniffing to be chosen. Envoy inspects all the same, and so delays
	// a server that speaks first; ours does not.
	if to.Inspects(in.Local.Port()) && (leaf == nil || leaf.Chain == nil) {
		var err error
		if protocol, prefix, err = sniff(t, to.InspectTimeout); err != nil {
			t.Reset(message.ConnectError)
			return
		}
	}
	c.protocol = protocol
	var chain *program.Chain
	if leaf != nil {
		chain = leaf.ForProtocol(protocol)
	}
	if chain == nil {
		s.logNoChain(in, to)
		t.Reset(message.ConnectError)
		return
	}
	switch {
	case chain.HTTP != nil:
		s.serveHTTP(t, c, chain, prefix)
	case chain.TCP != nil || chain.Refused != nil:
		session := s.tcp.New(t, in, c.now)
		s.sessions.add(session)
		defer s.sessions.remove(session)
		session.Serve(prefix)
	default:
		t.Reset(message.ConnectError)
	}
}

// denied tells whether a network filter refuses a connection, nil: none does.
func denied(chain *program.Chain, info *filter.Conn) *filter.Denial {
	for _, f := range chain.Network {
		if d := f.Connect(info); d != nil {
			return d
		}
	}
	return nil
}

func (s *Server) serveHTTP(t message.Conn, c *inner, chain *program.Chain, prefix []byte) {
	if d := denied(chain, c.info); d != nil {
		d.Hold(t)
		t.Reset(message.ConnectError)
		return
	}
	isH2 := c.protocol == program.H2C
	switch {
	case chain.HTTP.Codec == program.HTTP2Only:
		isH2 = true
	case chain.HTTP.Codec == program.HTTP1Only:
		isH2 = false
	case c.protocol == program.NotSniffed:
		// codec_type AUTO on a port that is not sniffed: the HTTP codec itself looks for the preface.
		p, read, err := sniffPreface(t)
		if err != nil {
			_ = t.Close() // the client left without a request
			return
		}
		isH2, prefix = p, read
	}
	err := s.exchange.ServeConn(&exchange.Connection{
		Conn: t, Info: c.info, Chain: c.now, Prefix: prefix, HTTP2: isH2, H2: h2.Options{Budget: s.budget, Logger: s.log},
	})
	if err != nil && !errors.Is(err, exchange.ErrParked) {
		s.log.Debug("connection in a tunnel ended", "local", c.info.Local.String(), "remote", c.info.Remote.String(), "error", err)
	}
}

// sniffPreface tells HTTP/2 from HTTP/1.1 by the first bytes.
func sniffPreface(t message.Conn) (isH2 bool, read []byte, err error) {
	buf := make([]byte, 0, smallSniff)
	for {
		n, err := t.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		k := min(len(buf), len(preface))
		if k > 0 && string(buf[:k]) != preface[:k] {
			return false, buf, nil
		}
		if k == len(preface) {
			return true, buf, nil
		}
		if err != nil {
			return false, buf, err
		}
	}
}

func (s *Server) logNoChain(in *filter.Conn, to *program.Dispatch) {
	if len(to.Logs) == 0 {
		return
	}
	r := telemetry.Record{
		Start: s.now(), DownstreamLocal: in.Local, DownstreamRemote: in.Remote, ConnectionID: in.ID, Source: in.Peer,
		ResponseCodeDetails: "filter_chain_not_found", FilterState: &in.State, NoChain: true,
	}
	r.Flags.Set(telemetry.FlagNoRouteFound)
	r.PeerPrincipal, _ = in.State.Get(filter.PeerPrincipalKey)
	r.LocalPrincipal, _ = in.State.Get(filter.LocalPrincipalKey)
	for _, l := range to.Logs {
		l.Log(&r)
	}
}

// inner is the connection inside a tunnel, and how to find its chain again when the configuration has changed.
type inner struct {
	server    *Server
	info      *filter.Conn
	listener  string
	authority string
	protocol  program.Sniffed

	mu sync.Mutex // held while the chain is looked for
	// found is nil at first: the tunnel's first chain is by the configuration that its CONNECT met, which may be gone by now.
	found atomic.Pointer[found] // HTTP/2 streams of one tunnel ask at the same time
}

// found is the chain by one configuration; nil: it has none for this connection.
type found struct {
	program *program.Program
	chain   *program.Chain
}

// now returns the chain by the configuration in force, nil when there is none any more.
func (c *inner) now() *program.Chain {
	p := c.server.current.Load()
	f := c.found.Load()
	if f == nil || p != f.program {
		c.mu.Lock() // network filters see one connection one at a time
		defer c.mu.Unlock()
		first := f == nil
		f = &found{program: p}
		if d := p.Dispatches[c.listener]; d != nil && d.Refused == nil {
			if leaf := d.Lookup(c.authority, c.info.Local); leaf != nil {
				f.chain = leaf.ForProtocol(c.protocol)
			}
		}
		// TCP sessions run their network filters themselves. In front of HTTP they run when the connection begins and when the
		// configuration has changed.
		if f.chain != nil && f.chain.HTTP != nil && !first && denied(f.chain, c.info) != nil {
			f.chain = nil
		}
		c.found.Store(f)
	}
	return f.chain
}

// sessions are the TCP sessions that a new configuration may end.
type sessions struct {
	mu   sync.Mutex
	live map[*tcpproxy.Session]struct{}
}

func (l *sessions) add(s *tcpproxy.Session) {
	l.mu.Lock()
	l.live[s] = struct{}{}
	l.mu.Unlock()
}

func (l *sessions) remove(s *tcpproxy.Session) {
	l.mu.Lock()
	delete(l.live, s)
	l.mu.Unlock()
}

// recheck asks each session whether it may go on.
func (l *sessions) recheck() {
	l.mu.Lock()
	list := make([]*tcpproxy.Session, 0, len(l.live))
	for s := range l.live {
		list = append(list, s)
	}
	l.mu.Unlock()
	for _, s := range list {
		s.Recheck()
	}
}

// addrPort is the address of a socket, not valid for anything else.
func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
