package reference

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

// timeout of one answer, and of a connection's start.
const timeout = 20 * time.Second

// Conn is a connection to Envoy, for one goroutine.
type Conn struct {
	envoy *Envoy
	pair  *pair.Conn
	net   net.Conn
	r     *bufio.Reader
}

// Dial opens a connection from the addresses that c names, with its PROXY header or TLS handshake.
func (e *Envoy) Dial(ctx context.Context, c *pair.Conn) (*Conn, error) {
	d := net.Dialer{Timeout: timeout}
	network, address := "unix", pipePath(e.dir, c.Listener)
	if !c.Listener.Pipe {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.Source, 0))
		network, address = "tcp", netip.AddrPortFrom(c.Destination, e.Port(c.Listener)).String()
	}
	raw, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := &Conn{envoy: e, pair: c, net: raw}
	if err := conn.open(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	conn.r = bufio.NewReaderSize(conn.net, 64<<10)
	return conn, nil
}

func (c *Conn) open(ctx context.Context) error {
	if err := c.net.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if c.pair.Proxied() {
		if _, err := c.net.Write(proxyHeader(c.pair.ProxySource, c.pair.ProxyDestination, nil)); err != nil {
			return err
		}
	}
	if !c.pair.Listener.TLS {
		return nil
	}
	config := &tls.Config{ServerName: c.pair.ServerName, InsecureSkipVerify: true} //nolint:gosec // whose server it is does not matter here
	if c.pair.Client != nil {
		cert, err := c.envoy.client(c.pair.Client)
		if err != nil {
			return err
		}
		config.Certificates = []tls.Certificate{cert}
	}
	t := tls.Client(c.net, config)
	c.net = t
	return t.HandshakeContext(ctx)
}

// Close ends the connection.
func (c *Conn) Close() { _ = c.net.Close() } // all that was wanted has been read

func (c *Conn) send(b []byte) error {
	if err := c.net.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := c.net.Write(b)
	return err
}

// tlv is a field of a PROXY header.
type tlv struct {
	kind  byte
	value string
}

// proxyHeader is version 2 of the PROXY protocol.
func proxyHeader(source, destination netip.AddrPort, fields []tlv) []byte {
	var body []byte
	family := byte(0x11) // TCP over IPv4
	if source.Addr().Is6() {
		family = 0x21
	}
	body = append(append(body, source.Addr().AsSlice()...), destination.Addr().AsSlice()...)
	body = binary.BigEndian.AppendUint16(body, source.Port())
	body = binary.BigEndian.AppendUint16(body, destination.Port())
	for _, f := range fields {
		body = append(binary.BigEndian.AppendUint16(append(body, f.kind), uint16(len(f.value))), f.value...) //nolint:gosec // short
	}
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x21, family)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...) //nolint:gosec // short
}

// Question is a request for one of the loaded sets.
type Question struct {
	Set     int // index in what was loaded
	Request *pair.Request
}

// Ask sends questions over one connection, and over more connections like it where Envoy ends one, and hands on each reply.
// A question waits for the answer to the one before: with several on their way Envoy 1.40 may stop after the second, or end
// the connection.
func (e *Envoy) Ask(ctx context.Context, c *pair.Conn, questions []Question, each func(Question, *Reply)) error {
	var conn *Conn
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	var buf []byte
	for _, q := range questions {
		if conn == nil {
			var err error
			if conn, err = e.Dial(ctx, c); err != nil {
				return err
			}
		}
		buf = q.Request.AppendWire(buf[:0], strconv.Itoa(q.Set))
		reply, err := conn.ask(buf, q.Request.Method == http.MethodHead)
		if err != nil {
			return fmt.Errorf("asking envoy %q on %v: %w", buf, c, errors.Join(err, ctx.Err()))
		}
		each(q, reply)
		if reply.closes {
			conn.Close()
			conn = nil
		}
	}
	return nil
}

func (c *Conn) ask(request []byte, head bool) (*Reply, error) {
	if err := c.send(request); err != nil {
		return nil, err
	}
	return c.read(head)
}
