package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gowaypoint/gowaypoint/e2e/lab/runner"
	"github.com/gowaypoint/gowaypoint/e2e/lab/ztun"
)

// Labels and annotations of ambient mode.
const (
	dataplaneMode   = "istio.io/dataplane-mode"              // label of namespaces and pods: ambient, none
	redirection     = "ambient.istio.io/redirection"         // annotation that Istio's CNI puts on pods it has taken in
	serviceLabel    = discoveryv1.LabelServiceName           // of EndpointSlices
	trustDomain     = "cluster.local"                        // Istio's default
	audience        = "istio-ca"                             // of tokens that istiod takes
	certificate     = 24 * time.Hour                         // validity that ztunnel asks for
	annotationPatch = `{"metadata":{"annotations":{%q:%q}}}` // a merge patch
)

// ztunnels are the HBONE servers of ambient pods, by pod address.
type ztunnels struct {
	mu      sync.Mutex
	servers map[string]*ztun.Server
}

// SPIFFE returns the identity of a service account.
func SPIFFE(namespace, serviceAccount string) string {
	return fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", trustDomain, namespace, serviceAccount)
}

// attach does for a new pod what CNI and ztunnel do on a node in ambient mode:
// if pod and namespace are in the mesh, it gets an HBONE server, and the
// annotation that tells istiod about it.
func (l *Lab) attach(ctx context.Context, pod *corev1.Pod, sandbox *runner.Sandbox) (detach func(), err error) {
	namespace, err := l.Kube.CoreV1().Namespaces().Get(ctx, pod.Namespace, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	mode, ok := pod.Labels[dataplaneMode]
	if !ok {
		mode = namespace.Labels[dataplaneMode]
	}
	if mode != "ambient" {
		return nil, nil
	}
	identity, err := l.Identity(ctx, pod.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return nil, err
	}
	if _, err := l.Kube.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType,
		fmt.Appendf(nil, annotationPatch, redirection, "enabled"), metav1.PatchOptions{}); err != nil {
		return nil, err
	}
	listener, err := sandbox.Listen(net.JoinHostPort(sandbox.IP.String(), strconv.Itoa(ztun.HBONEPort)))
	if err != nil {
		return nil, err
	}
	server := &ztun.Server{IP: sandbox.IP.String(), Identity: identity, Dial: sandbox.Dial}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(listener); err != nil {
			l.logf("HBONE server of pod %s/%s: %v", pod.Namespace, pod.Name, err)
		}
	}()
	l.ztunnels.put(server)
	return func() {
		_ = listener.Close() // ends Serve
		<-served
		l.ztunnels.remove(server)
	}, nil
}

func (z *ztunnels) put(s *ztun.Server) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.servers == nil {
		z.servers = map[string]*ztun.Server{}
	}
	z.servers[s.IP] = s
}

func (z *ztunnels) remove(s *ztun.Server) {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.servers, s.IP)
}

// Peers returns the identities that have opened tunnels to the pod at ip.
func (l *Lab) Peers(ip string) []string {
	l.ztunnels.mu.Lock()
	s := l.ztunnels.servers[ip]
	l.ztunnels.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.Peers()
}

// Identity gets a certificate for a service account from istiod.
func (l *Lab) Identity(ctx context.Context, namespace, serviceAccount string) (*ztun.Identity, error) {
	root, err := l.meshRoot(ctx, namespace)
	if err != nil {
		return nil, err
	}
	token, err := l.Kube.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, serviceAccount,
		&authnv1.TokenRequest{Spec: authnv1.TokenRequestSpec{Audiences: []string{audience}}}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	ca := ztun.CA{
		Address: net.JoinHostPort(nodeIP, "15012"), ServerName: "istiod.istio-system.svc",
		RootPEM: root, Cluster: cluster,
	}
	return ca.Fetch(ctx, SPIFFE(namespace, serviceAccount), token.Status.Token, certificate)
}

// Via returns tunnels from a running pod, under that pod's identity, through
// the ready pods of a service (a waypoint's): the client's side of ztunnel.
func (l *Lab) Via(ctx context.Context, namespace, pod, waypoint string) (*ztun.Pool, error) {
	return l.tunnels(ctx, namespace, pod, SPIFFE(namespace, waypoint), func(ctx context.Context) (string, error) {
		ips, err := l.Endpoints(ctx, namespace, waypoint)
		if err != nil {
			return "", err
		}
		if len(ips) == 0 {
			return "", fmt.Errorf("service %s/%s has no ready endpoint", namespace, waypoint)
		}
		return ips[0], nil
	})
}

// Direct returns tunnels from a running pod to the HBONE server of the pod at
// ip, without a waypoint.
func (l *Lab) Direct(ctx context.Context, namespace, pod, ip string) (*ztun.Pool, error) {
	return l.tunnels(ctx, namespace, pod, "", func(context.Context) (string, error) { return ip, nil })
}

func (l *Lab) tunnels(ctx context.Context, namespace, name, peer string, address func(context.Context) (string, error)) (*ztun.Pool, error) {
	pod, err := l.Kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	sandbox, err := l.Runner.Sandbox(namespace, name)
	if err != nil {
		return nil, err
	}
	identity, err := l.Identity(ctx, namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return nil, err
	}
	return &ztun.Pool{
		Identity: identity, Peer: peer, Dial: sandbox.Dial,
		Address: func(ctx context.Context) (string, error) {
			ip, err := address(ctx)
			return net.JoinHostPort(ip, strconv.Itoa(ztun.HBONEPort)), err
		},
	}, nil
}

// Endpoints returns the addresses of a service's ready pods.
func (l *Lab) Endpoints(ctx context.Context, namespace, service string) ([]string, error) {
	slices, err := l.Kube.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{
		LabelSelector: serviceLabel + "=" + service,
	})
	if err != nil {
		return nil, err
	}
	var ips []string
	for _, slice := range slices.Items {
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready != nil && !*endpoint.Conditions.Ready {
				continue
			}
			ips = append(ips, endpoint.Addresses...)
		}
	}
	return ips, nil
}

// VIP returns ClusterIP:port of a service.
func (l *Lab) VIP(ctx context.Context, namespace, service string, port uint16) (string, error) {
	object, err := l.Kube.CoreV1().Services(namespace).Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	ip, err := netip.ParseAddr(object.Spec.ClusterIP)
	return netip.AddrPortFrom(ip, port).String(), err
}

// WaitReady waits until exactly n pods match the selector, all of them ready,
// and returns them.
func (l *Lab) WaitReady(ctx context.Context, namespace, selector string, n int, limit time.Duration) (pods []corev1.Pod, err error) {
	err = poll(ctx, limit, func() error {
		list, err := l.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return err
		}
		pods = list.Items
		var states []error
		for _, p := range pods {
			if !ready(&p) {
				states = append(states, fmt.Errorf("pod %s is %s, not ready: %s", p.Name, p.Status.Phase, p.Status.Message))
			}
		}
		if len(pods) != n {
			states = append(states, fmt.Errorf("%d pods match %s in %s, want %d", len(pods), selector, namespace, n))
		}
		return errors.Join(states...)
	})
	return pods, err
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil
		}
	}
	return false
}
