//go:build lab

package lab

import (
	"context"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// TestWaypoint is one story told in steps. The first ones build the mesh, and
// nothing can be told without them; the others leave it as they found it.
func TestWaypoint(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Minute)
	defer cancel()
	l, err := Start(ctx, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	s := &scenario{Lab: l}
	defer func() {
		if t.Failed() {
			s.explain(t)
		}
	}()

	type step struct {
		name string
		run  func(context.Context, *testing.T)
	}
	for _, step := range []step{
		{"an ambient namespace with helloworld v1 and v2", s.deploysHelloworld},
		{"pods of the mesh answer over HBONE", s.reachesPodsDirectly},
		{"tools look into pods through the API server", s.looksIntoPods},
		{"istioctl waypoint apply makes a waypoint", s.appliesWaypoint},
		{"the proxyImage annotation swaps the proxy", s.swapsImage},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(ctx, t) }) {
			return
		}
	}
	defer s.tunnels.Close()
	for _, step := range []step{
		{"istioctl sees the proxy in sync", s.isInSync},
		{"istioctl shows its configuration", s.showsItsConfiguration},
		{"istioctl shows its policies", s.showsPolicies},
		{"pilot-agent request works in the pod", s.answersPilotAgentRequest},
		{"without a policy everything passes", s.passesEverything},
		{"a pod address through the waypoint", s.reachesPodsThroughWaypoint},
		{"an HTTPRoute steers requests", s.routes},
		{"a GET-only policy on the service", s.enforcesServicePolicy},
		{"a GET-only policy on the waypoint", s.enforcesGatewayPolicy},
		{"a policy on a service account", s.enforcesPrincipal},
		{"WebSocket messages pass", s.echoesWebSocket},
		{"gRPC calls pass, and are denied in its own terms", s.callsGRPC},
		{"TCP passes, and a policy ends what it forbids", s.echoesTCP},
		{"Prometheus finds Istio's metrics", s.countsRequests},
		{"nothing of the configuration is without effect", s.honoursAll},
		{"policies and endpoints change while requests flow", s.changesUnderLoad},
		{"istiod dies and comes back", s.survivesIstiod},
		{"the waypoint crashes and is restarted", s.restarts},
		{"the waypoint is replaced while requests flow", s.rollsOut},
		{"certificates rotate while requests flow", s.rotatesCertificates},
		{"the access logs tell of no error", s.answersNoErrors},
	} {
		t.Run(step.name, func(t *testing.T) { step.run(ctx, t) })
	}
}
