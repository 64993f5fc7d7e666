package waypoint

import (
	"errors"
	"fmt"

	"github.com/gowaypoint/gowaypoint/xdsclient"
)

// Ready returns nil when the pod may be sent traffic (contract P12): clusters and listeners have been accepted once, the first
// configuration is in force with its ports bound and the certificates that it needs, and the server is not draining. Once it
// was ready, an istiod that goes away does not change that.
func (s *Server) Ready() error {
	if s.draining.Load() {
		return errors.New("server is terminated: draining")
	}
	if s.updates.wasReady.Load() {
		return nil
	}
	cds, lds := s.xds.Stats(xdsclient.TypeCluster), s.xds.Stats(xdsclient.TypeListener)
	if cds.Accepted == 0 || lds.Accepted == 0 {
		counts := fmt.Sprintf("cds updates: %d successful, %d rejected; lds updates: %d successful, %d rejected",
			cds.Accepted, cds.Rejected, lds.Accepted, lds.Rejected)
		if cds.Rejected+lds.Rejected > 0 {
			return errors.New("config received from XDS server, but was rejected: " + counts)
		}
		return errors.New("config not received from XDS server (is Istiod running?): " + counts)
	}
	p := s.current.Load()
	if len(p.Listeners) == 0 {
		return errors.New("server is not live: no listener is in force yet")
	}
	for _, l := range p.Listeners {
		if l.Refused != nil {
			return fmt.Errorf("server is not live: listener %q is refused: %w", l.Name, l.Refused)
		}
		if l.TLS == nil {
			continue
		}
		ctx, err := s.contexts.server(l.TLS)
		if err != nil {
			return fmt.Errorf("server is not live: listener %q: %w", l.Name, err)
		}
		if err := ctx.Ready(); err != nil {
			return fmt.Errorf("server is not live: listener %q waits for its secrets: %w", l.Name, err)
		}
	}
	if s.updates.swapped.Load() == 0 {
		return errors.New("server is not live: its ports are not open yet")
	}
	if err := s.updates.bindError(); err != nil {
		return fmt.Errorf("server is not live: %w", err)
	}
	s.updates.wasReady.Store(true)
	return nil
}
