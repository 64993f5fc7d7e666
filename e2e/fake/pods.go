package fake

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"

	"golang.org/x/net/http2"
	corev1 "k8s.io/api/core/v1"
)

// Pod is a pod of the manifests: a client, a server or both.
type Pod struct {
	Name, Namespace, Account, IP string

	// Connections and Tunnels count what came in through HBONE.
	Connections, Tunnels atomic.Int64

	m      *Mesh
	client *http2.Transport
}

// Image is an application: it serves connections until the listener is closed.
type Image func(pod *Pod, l net.Listener)

// run starts what a pod of the manifests has to run.
func (m *Mesh) run(spec *corev1.Pod, images map[string]Image) error {
	p := &Pod{Name: spec.Name, Namespace: spec.Namespace, Account: spec.Spec.ServiceAccountName, IP: spec.Status.PodIP, m: m}
	if p.Account == "" {
		p.Account = "default"
	}
	if p.Namespace == "default" {
		m.Pods[p.Name] = p
	} else {
		m.Pods[p.Name+"."+p.Namespace] = p
	}
	hbone := spec.Annotations["ambient.istio.io/redirection"] == "enabled"
	for _, c := range spec.Spec.Containers {
		image := images[c.Image]
		if image == nil {
			image = Images[c.Image]
		}
		if image == nil {
			return fmt.Errorf("pod %s: no image %q", p.Name, c.Image)
		}
		for _, port := range c.Ports {
			l, err := m.loopbackListener()
			if err != nil {
				return err
			}
			go image(p, l)
			addr := fmt.Sprintf("%s:%d", p.IP, port.ContainerPort)
			if hbone { // from outside, only the tunnel leads there
				addr = "app " + addr
			}
			m.route(addr, l.Addr().String())
		}
	}
	if hbone {
		return p.terminate()
	}
	return nil
}

func (m *Mesh) loopbackListener() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		m.T.Cleanup(func() { _ = l.Close() })
	}
	return l, err
}

// terminate serves HBONE on the pod's port 15008, as its node's ztunnel does: mutual TLS with the pod's certificate, and each
// CONNECT becomes a TCP connection to the application. Only the waypoint may come.
func (p *Pod) terminate() error {
	id, err := p.m.ca.Issue(p.Namespace, p.Account)
	if err != nil {
		return err
	}
	l, err := p.m.loopbackListener()
	if err != nil {
		return err
	}
	cfg := id.TLS("spiffe://cluster.local/ns/default/sa/waypoint")
	p.m.route(p.IP+":15008", l.Addr().String())
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go p.serveHBONE(tls.Server(raw, cfg))
		}
	}()
	return nil
}

func (p *Pod) serveHBONE(c *tls.Conn) {
	if err := c.Handshake(); err != nil {
		p.m.T.Logf("pod %s: %v", p.Name, err)
		_ = c.Close()
		return
	}
	p.Connections.Add(1)
	(&http2.Server{}).ServeConn(c, &http2.ServeConnOpts{Handler: http.HandlerFunc(p.connect)})
}

// connect serves one CONNECT.
func (p *Pod) connect(w http.ResponseWriter, r *http.Request) {
	real, ok := p.m.host("app " + r.Host)
	if r.Method != http.MethodConnect || !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	p.Tunnels.Add(1)
	var d net.Dialer
	conn, err := d.DialContext(r.Context(), "tcp", real)
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	app := conn.(*net.TCPConn)
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush() // an error shows in what follows
	go func() {
		if _, err := io.Copy(app, r.Body); err != nil {
			_ = app.SetLinger(0) // a reset tunnel becomes a reset connection
			_ = app.Close()
			return
		}
		_ = app.CloseWrite()
	}()
	_, err = io.Copy(flushing{w}, app)
	_ = app.Close()
	if err != nil && !errors.Is(err, context.Canceled) {
		panic(http.ErrAbortHandler) // resets the stream
	}
}

// flushing sends each write at once.
type flushing struct{ w http.ResponseWriter }

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if err == nil {
		err = http.NewResponseController(f.w).Flush()
	}
	return n, err
}
