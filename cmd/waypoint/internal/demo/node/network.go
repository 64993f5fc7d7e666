// Package node is the demo's data plane around the waypoint: a network of virtual addresses on loopback, a client node, which
// is the ztunnel and the pods that call, and a destination node, which is the ztunnel and the pods that are called. Between
// them and the waypoint everything goes over real sockets with real TLS.
package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Network leads virtual addresses, those of pods and the waypoint, to loopback sockets, and tells the waypoint which pod is
// behind a connection. It is what [waypoint.Config] takes as Dialer and Listen. It is safe for concurrent use.
type Network struct {
	mu      sync.Mutex
	hosts   map[netip.AddrPort]string // port 0: any port
	sources map[string]netip.Addr     // by the client's end of a loopback connection
	came    chan struct{}             // closed and replaced when a source came
}

// NewNetwork makes an empty network.
func NewNetwork() *Network {
	return &Network{hosts: map[netip.AddrPort]string{}, sources: map[string]netip.Addr{}, came: make(chan struct{})}
}

// Route leads a virtual address to a socket. Port 0 stands for all ports; "" takes the address away.
func (n *Network) Route(virtual netip.AddrPort, socket string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if socket == "" {
		delete(n.hosts, virtual)
		return
	}
	n.hosts[virtual] = socket
}

// DialContext connects to a virtual address. A loopback address is dialled as it is.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	if a.Addr().IsLoopback() {
		return d.DialContext(ctx, network, address)
	}
	n.mu.Lock()
	socket, ok := n.hosts[a]
	if !ok {
		socket, ok = n.hosts[netip.AddrPortFrom(a.Addr(), 0)]
	}
	n.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("connect: no route to host %s", address)
	}
	return d.DialContext(ctx, network, socket)
}

// DialFrom connects as a pod: the other side sees the pod's address.
func (n *Network) DialFrom(ctx context.Context, source netip.Addr, address string) (net.Conn, error) {
	c, err := n.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.sources[c.LocalAddr().String()] = source
	close(n.came)
	n.came = make(chan struct{})
	n.mu.Unlock()
	return c, nil
}

// Listen binds a loopback socket for the waypoint's address host.
func (n *Network) Listen(host netip.Addr) func(netip.AddrPort) (net.Listener, error) {
	return func(a netip.AddrPort) (net.Listener, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		n.Route(netip.AddrPortFrom(host, a.Port()), l.Addr().String())
		return &listener{l, n}, nil
	}
}

type listener struct {
	net.Listener
	network *Network
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, network: l.network}, nil
}

// conn shows the pod's address. It is looked up when it is asked for, since a connection may be accepted before its client
// knows its own end.
type conn struct {
	net.Conn
	network *Network
	once    sync.Once
	remote  net.Addr
}

// sourceWait is long beside the microseconds that it takes, and short for somebody who came from elsewhere.
const sourceWait = 500 * time.Millisecond

func (c *conn) RemoteAddr() net.Addr {
	c.once.Do(func() {
		c.remote = c.Conn.RemoteAddr()
		real := c.remote.String()
		timeout := time.After(sourceWait)
		for {
			c.network.mu.Lock()
			source, ok := c.network.sources[real]
			delete(c.network.sources, real)
			came := c.network.came
			c.network.mu.Unlock()
			if ok {
				port := c.remote.(*net.TCPAddr).AddrPort().Port()
				c.remote = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, port))
				return
			}
			select {
			case <-came:
			case <-timeout:
				return
			}
		}
	})
	return c.remote
}
