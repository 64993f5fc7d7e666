package exchange

import (
	"errors"

	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/h1"
	"github.com/gowaypoint/gowaypoint/waypoint/h2"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// Connection is what carries requests: a tunnel's inside.
type Connection struct {
	Conn message.Conn
	Info *filter.Conn
	// Chain returns the chain for the next request, by the configuration in force; nil: the connection may not go on.
	Chain func() *program.Chain
	// Prefix was read from Conn already.
	Prefix []byte
	// HTTP2: the client speaks HTTP/2 with prior knowledge.
	HTTP2 bool
	// H2 are the engine's options that do not come from the chain.
	H2 h2.Options
}

// ErrParked is what ServeConn returns when the connection's goroutine was given back while the client has nothing to say: the
// connection lives, and goes on in another goroutine.
var ErrParked = errors.New("parked")

// parker is a connection that can do without a goroutine while nothing comes; see h2.
type parker interface {
	AwaitOrPark(resume func()) (parked bool)
}

// ServeConn serves requests until the connection ends.
func (env *Env) ServeConn(c *Connection) error {
	chain := c.Chain()
	if chain == nil || chain.HTTP == nil {
		c.Conn.Reset(message.ConnectError)
		return errors.New("no HTTP chain for the connection")
	}
	if c.HTTP2 {
		return env.serve2(c, chain.HTTP)
	}
	l := &loop1{env: env, c: c, sc: h1.NewServerConn(c.Conn, h1Options(chain.HTTP, c.Prefix))}
	l.parker, _ = c.Conn.(parker)
	l.resume = func() { _ = l.run() } // its end has nobody to tell, and nothing to add
	c.Prefix = nil
	return l.run()
}

// loop1 serves one request after the other on an HTTP/1.1 connection.
type loop1 struct {
	env    *Env
	c      *Connection
	sc     *h1.ServerConn
	parker parker // nil: the connection cannot be parked
	resume func()
}

func (l *loop1) run() error {
	for {
		if l.parker != nil && l.sc.Idle() && l.parker.AwaitOrPark(l.resume) {
			return ErrParked
		}
		if goOn, err := l.one(); !goOn {
			l.sc.Close()
			return err
		}
	}
}

// one serves one request; false: it was the last.
func (l *loop1) one() (bool, error) {
	s, err := l.sc.Next()
	if err != nil {
		return false, err
	}
	chain := l.c.Chain()
	if chain == nil || chain.HTTP == nil {
		s.Reset(message.ConnectError)
		return false, errors.New("the configuration has no chain for this connection any more")
	}
	if l.env.Draining.Load() {
		l.sc.CloseAfter()
	}
	l.env.serve(s, l.c.Info, chain)
	return l.sc.Finish(), nil
}

func (env *Env) serve2(c *Connection, http *program.HTTP) error {
	o := c.H2
	o.MaxConcurrentStreams = http.HTTP2.MaxConcurrentStreams
	o.InitialWindow = http.HTTP2.InitialStreamWindow
	o.ConnWindow = http.HTTP2.InitialConnectionWindow
	o.EnableConnectProtocol = http.HTTP2.AllowConnect
	o.KeepaliveInterval = http.HTTP2.KeepaliveInterval
	o.KeepaliveTimeout = http.HTTP2.KeepaliveTimeout
	o.MaxHeaderListSize = uint32(http.MaxRequestHeaderBytes)
	o.Limits.MaxHeaderFields = http.MaxRequestHeaders
	o.IdleTimeout = http.IdleTimeout
	conn := h2.NewServer(prefixed(c), o, func(s *h2.Stream) {
		chain := c.Chain()
		if chain == nil || chain.HTTP == nil {
			s.Reset(message.RefusedStream)
			return
		}
		env.serve(s, c.Info, chain)
	})
	return conn.Serve()
}

// ServeStream serves one request that came as a stream of a connection whose owner is elsewhere: CONNECT on the HBONE port.
func (env *Env) ServeStream(s message.Stream, info *filter.Conn, chain *program.Chain) {
	env.serve(s, info, chain)
}

func h1Options(http *program.HTTP, prefix []byte) h1.Options {
	o := h1.Options{Prefix: prefix, AcceptHTTP10: http.AcceptHTTP10, MaxHeadBytes: http.MaxRequestHeaderBytes, MaxFields: http.MaxRequestHeaders}
	switch {
	case http.RejectUnderscores:
		o.Underscores = h1.RejectUnderscores
	case http.DropUnderscores:
		o.Underscores = h1.DropUnderscores
	}
	return o
}

// prefixed is a connection whose first bytes have been read already.
func prefixed(c *Connection) message.Conn {
	if len(c.Prefix) == 0 {
		return c.Conn
	}
	return &prefixConn{Conn: c.Conn, prefix: c.Prefix}
}

type prefixConn struct {
	message.Conn
	prefix []byte
}

func (p *prefixConn) Read(b []byte) (int, error) {
	if len(p.prefix) > 0 {
		n := copy(b, p.prefix)
		if p.prefix = p.prefix[n:]; len(p.prefix) == 0 {
			p.prefix = nil
		}
		return n, nil
	}
	return p.Conn.Read(b)
}
