package ztun

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"

	"golang.org/x/net/http2"
)

// HBONEPort is where tunnels are accepted.
const HBONEPort = 15008

// Server terminates HBONE for one workload. Its answers are ztunnel's: 200
// once the application has taken the connection, 400 for anything that is not
// a CONNECT to an address of this workload, 503 when the application is not
// there.
type Server struct {
	// IP is the workload's only address, as text.
	IP       string
	Identity *Identity
	// Dial reaches the application; it is given IP:port.
	Dial func(ctx context.Context, address string) (net.Conn, error)

	mu    sync.Mutex
	peers []string
}

// Serve accepts connections until the listener is closed, then ends them.
func (s *Server) Serve(listener net.Listener) error {
	ctx, cancel := context.WithCancel(context.Background())
	var connections sync.WaitGroup
	defer connections.Wait()
	defer cancel()
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		connections.Go(func() { s.serveConn(ctx, conn) })
	}
}

// Peers returns the identities that have opened tunnels, one entry for each.
func (s *Server) Peers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.peers...)
}

func (s *Server) serveConn(ctx context.Context, raw net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // cuts what is open
	defer stop()
	defer func() { _ = raw.Close() }() // nothing to save
	conn := tls.Server(raw, s.Identity.tlsConfig(""))
	if err := conn.HandshakeContext(ctx); err != nil {
		return // the client has the alert
	}
	peer, _ := peerOf(conn)
	new(http2.Server).ServeConn(conn, &http2.ServeConnOpts{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.tunnel(w, r, peer) }),
	})
}

func (s *Server) tunnel(w http.ResponseWriter, r *http.Request, peer string) {
	host, _, err := net.SplitHostPort(r.Host)
	if r.Method != http.MethodConnect || err != nil || host != s.IP {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	application, err := s.Dial(r.Context(), r.Host)
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer func() { _ = application.Close() }() // both directions are over
	s.mu.Lock()
	s.peers = append(s.peers, peer)
	s.mu.Unlock()

	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w).Flush
	if flush() != nil {
		return
	}
	go func() {
		_, _ = io.Copy(application, r.Body) // the other direction learns of a failure
		if half, ok := application.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // as above
		}
	}()
	_, _ = io.Copy(flushing{w, flush}, application) // its end is the end of the stream
}

// flushing sends every piece at once: a tunnel must not hold bytes back.
type flushing struct {
	io.Writer
	flush func() error
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	return n, errors.Join(err, f.flush())
}
