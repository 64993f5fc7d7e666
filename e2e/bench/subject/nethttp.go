package subject

import (
	"context"
	"net"
	"net/netip"
	"os/exec"

	"github.com/gowaypoint/gowaypoint/e2e/bench/mesh"
)

// NetHTTP is the yardstick of the standard library; binary is built from bench/cmd/nethttp. It knows one policy only: the number
// in mesh.Policy changes nothing.
func NetHTTP(binary string) Subject {
	return Subject{Name: "nethttp", Start: func(ctx context.Context, s Setup) (Proxy, error) {
		p, err := newProcess("nethttp", map[string][]byte{
			"cert-chain.pem": s.Identity.CertPEM, "key.pem": s.Identity.KeyPEM, "root-cert.pem": s.RootPEM,
		})
		if err != nil {
			return nil, err
		}
		args := []string{"-listen", s.Config.Address(), "-pod", netip.AddrPortFrom(s.Config.Pod, mesh.ServicePort).String(), "-certs", p.dir}
		if s.Config.Policy.Principal {
			args = append(args, "-principal", mesh.ClientSPIFFE)
		}
		return p, p.start(ctx, s, exec.Command(binary, args...), func(ctx context.Context) error { //nolint:gosec,noctx // our own; Stop ends it
			return dialable(ctx, s.Config.Address())
		})
	}}
}

func dialable(ctx context.Context, addr string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err == nil {
		_ = c.Close() // only its opening counted
	}
	return err
}
