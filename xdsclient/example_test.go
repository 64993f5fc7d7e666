package xdsclient_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"os/signal"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/gowaypoint/gowaypoint/xdsclient"
	"github.com/gowaypoint/gowaypoint/xdsclient/wds"
)

// config is the smallest useful consumer: workloads go into a table, and for each cluster the endpoints are asked for.
type config struct {
	client   *xdsclient.Client
	peers    *wds.Table
	clusters map[string]*clusterv3.Cluster
}

func (c *config) Apply(u *xdsclient.Update) (rejected []xdsclient.Rejection) {
	switch u.TypeURL {
	case xdsclient.TypeWorkload:
		return c.peers.Apply(u)
	case xdsclient.TypeCluster:
		for _, r := range u.Changed {
			m, err := r.Message()
			if err != nil {
				rejected = append(rejected, r.Reject("", err.Error()))
				continue
			}
			c.clusters[r.Name] = m.(*clusterv3.Cluster)
		}
		var names []string
		for name := range c.clusters {
			names = append(names, name)
		}
		c.client.SetNames(xdsclient.TypeEndpoint, names...) // leaves right after the ACK
	}
	return rejected
}

// A client that talks to istiod with a token, until interrupted.
func Example() {
	handler := &config{peers: wds.NewTable("network1"), clusters: make(map[string]*clusterv3.Cluster)}
	client, err := xdsclient.New(xdsclient.Config{
		Target: "istiod.istio-system.svc:15012",
		RootCAs: func() (*x509.CertPool, error) {
			pem, err := os.ReadFile("/var/run/secrets/istio/root-cert.pem")
			if err != nil {
				return nil, err
			}
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("no certificate in root-cert.pem")
			}
			return pool, nil
		},
		Token: func() (string, error) {
			token, err := os.ReadFile("/var/run/secrets/tokens/istio-token")
			return string(token), err
		},
		Metadata:   map[string]string{"ClusterID": "Kubernetes"},
		Node:       &corev3.Node{Id: "waypoint~10.0.0.1~waypoint-1.shop~shop.svc.cluster.local"},
		Wildcard:   []string{xdsclient.TypeCluster, xdsclient.TypeListener, xdsclient.TypeWorkload},
		DigestOnly: []string{xdsclient.TypeWorkload},
	}, handler)
	if err != nil {
		fmt.Println(err)
		return
	}
	handler.client = client // before Run, which is the first to call Apply

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	fmt.Println(client.Run(ctx))
}
