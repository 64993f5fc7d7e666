package runner

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	serveremote "k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// Streams that nobody uses are closed after a kubelet's own times.
const (
	streamIdle     = 4 * time.Hour
	streamCreation = 30 * time.Second
)

// serveKubelet serves the part of the kubelet's API that the API server calls
// on behalf of kubectl and istioctl, and returns its port. It asks for no
// client certificate: only the test's own namespace reaches it.
func (r *Runner) serveKubelet(ctx context.Context) (port int, err error) {
	certificate, err := selfSigned()
	if err != nil {
		return 0, err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(r.Network.Node().String(), "0"))
	if err != nil {
		return 0, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", r.serveLogs)
	for _, method := range []string{"GET", "POST"} { // websocket and SPDY
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}", r.servePortForward)
		mux.HandleFunc(method+" /exec/{namespace}/{pod}/{container}", r.serveExec)
	}
	// The streaming protocols take the connection over, which HTTP/2 has no way to.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler: mux, Protocols: protocols, ReadHeaderTimeout: streamCreation,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
	}
	r.wg.Go(func() {
		if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			r.Logf("kubelet API: %v", err)
		}
	})
	context.AfterFunc(ctx, func() { _ = server.Close() }) // its connections end with the test
	return listener.Addr().(*net.TCPAddr).Port, nil
}

func (r *Runner) serveLogs(w http.ResponseWriter, request *http.Request) {
	file, err := os.Open(r.Log(request.PathValue("namespace"), request.PathValue("pod")))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	defer func() { _ = file.Close() }() // read-only
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.Copy(w, file) // the client may leave
}

func (r *Runner) servePortForward(w http.ResponseWriter, request *http.Request) {
	options, err := portforward.NewV4Options(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	name := request.PathValue("namespace") + "/" + request.PathValue("pod")
	portforward.ServePortForward(w, request, forwarder{r}, name, "", options, streamIdle, streamCreation, portforward.SupportedProtocols)
}

func (r *Runner) serveExec(w http.ResponseWriter, request *http.Request) {
	options, err := serveremote.NewOptions(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	name := request.PathValue("namespace") + "/" + request.PathValue("pod")
	serveremote.ServeExec(w, request, executor{r}, name, "", request.PathValue("container"), request.URL.Query()["command"],
		options, streamIdle, streamCreation, serveremote.SupportedStreamingProtocols)
}

// forwarder connects streams to ports on a pod's loopback, as a kubelet does.
type forwarder struct{ r *Runner }

func (f forwarder) PortForward(ctx context.Context, name, _ string, port int32, stream io.ReadWriteCloser) error {
	namespace, podName, _ := strings.Cut(name, "/")
	p := f.r.find(namespace, podName)
	if p == nil {
		return fmt.Errorf("pod %s does not run here", name)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))
	p.mu.Lock()
	sandbox := p.sandbox
	p.mu.Unlock()
	var conn net.Conn
	var err error
	if sandbox == nil { // a mirror pod: the node's own network
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
	} else {
		conn, err = sandbox.Dial(ctx, address)
	}
	if err != nil {
		return err
	}
	// Either side ending ends both: these are requests of tools.
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(conn, stream); done <- struct{}{} }()
	go func() { _, _ = io.Copy(stream, conn); done <- struct{}{} }()
	<-done
	_ = conn.Close() // cuts the other direction
	_ = stream.Close()
	return nil
}

// executor runs further commands in a container.
type executor struct{ r *Runner }

func (e executor) ExecInContainer(ctx context.Context, name string, _, containerName string, argv []string,
	in io.Reader, out, errOut io.WriteCloser, _ bool, _ <-chan serveremote.TerminalSize, _ time.Duration,
) error {
	namespace, podName, _ := strings.Cut(name, "/")
	sandbox, err := e.r.Sandbox(namespace, podName)
	if err != nil {
		return err
	}
	p := e.r.find(namespace, podName)
	if p == nil {
		return fmt.Errorf("pod %s does not run here", name)
	}
	for _, c := range p.containers {
		if c.spec.Name != containerName {
			continue
		}
		image, err := e.r.image(c.spec.Image)
		if err != nil {
			return err
		}
		f := p.facts()
		env, _, err := c.environment(f, image)
		if err != nil {
			return err
		}
		s := spec{root: c.root(), argv: argv, env: env, dir: "/"}
		s.uid, s.gid = user(f.pod, c.spec)
		p.mu.Lock()
		main := c.process
		p.mu.Unlock()
		if main == nil {
			return fmt.Errorf("container %s of pod %s does not run", containerName, name)
		}
		process, err := s.start(sandbox, in, out, errOut)
		if err != nil {
			return err
		}
		select {
		case <-process.done:
		case <-ctx.Done():
			process.kill()
		case <-main.done: // a container ends with its main process
			process.kill()
		}
		<-process.done
		if process.code != 0 {
			return utilexec.CodeExitError{Err: fmt.Errorf("exit code %d", process.code), Code: process.code}
		}
		return nil
	}
	return fmt.Errorf("pod %s has no container %q", name, containerName)
}

// selfSigned makes the server's certificate. The API server does not check it
// unless it is told to.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
