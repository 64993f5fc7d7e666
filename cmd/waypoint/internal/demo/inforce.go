package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"
	"github.com/gowaypoint/gowaypoint/xdsclient"
)

// apply puts manifests into force and waits until the waypoint serves by them.
func (s *stack) apply(ctx context.Context, files []manifests.File) error {
	mesh, err := manifests.Load(files)
	if err != nil {
		return err
	}
	old := s.mesh.Load()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err = s.put(mesh)
	if err == nil {
		err = s.awaitInForce(ctx)
	}
	if err != nil {
		// Back to what was in force, so that the next change begins from something that works.
		return errors.Join(err, s.put(old))
	}
	return nil
}

// settle is how long the waypoint may need from having a resource to serving by it: compiling takes milliseconds here.
const settle = 300 * time.Millisecond

// awaitInForce waits until the waypoint has what the control plane holds, and then for the program made of it.
func (s *stack) awaitInForce(ctx context.Context) error {
	for {
		missing, err := s.missing()
		if err != nil {
			return err
		}
		if missing == "" {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the waypoint does not take the configuration: %s", missing)
		case <-time.After(2 * time.Millisecond):
		}
	}
	// A program compiled before this moment may or may not hold the last resource; the next one does.
	version := s.server.Program().Version
	for end := time.Now().Add(settle); time.Now().Before(end) && s.server.Program().Version == version; {
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// missing names a resource that the waypoint does not have as the control plane holds it; "" when there is none. The error says
// that the waypoint has refused one since the resources were put.
func (s *stack) missing() (string, error) {
	for _, t := range []string{xdsclient.TypeCluster, xdsclient.TypeEndpoint, xdsclient.TypeListener} {
		snap := s.server.XDS().Snapshot(t)
		if snap.LastError != "" && snap.LastErrorTime.After(s.putAt) {
			return "", fmt.Errorf("the waypoint refuses it: %s", snap.LastError)
		}
		got := map[string]xdsclient.Entry{}
		for _, e := range snap.Entries {
			got[e.Name] = e
		}
		if len(got) != len(s.resources[t]) {
			return fmt.Sprintf("%s: %d resources, not %d", t, len(got), len(s.resources[t])), nil
		}
		for name, want := range s.resources[t] {
			e := got[name]
			if e.Accepted == nil {
				return name, nil
			}
			m, err := e.Accepted.Message()
			if err != nil || !proto.Equal(m, want) {
				return name, nil //nolint:nilerr // what cannot be read is not what the control plane holds
			}
		}
	}
	return "", nil
}
