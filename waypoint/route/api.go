package route

import (
	"math/rand/v2"

	"github.com/gowaypoint/gowaypoint/waypoint/message"

	"google.golang.org/protobuf/types/known/structpb"
)

// Request is what routes match on.
type Request struct {
	Head *message.Head
	// Metadata reads the request's dynamic metadata (JWT claims); nil: there is none.
	Metadata func(namespace string, path []string) *structpb.Value
	// ClientCert: the connection that carries the request is TLS and its client has shown a certificate that was verified.
	// Inside a tunnel it never is, for Envoy neither: there the tunnel is the connection.
	ClientCert bool
	// Random decides about runtime_fraction, for all routes of a request alike, as in Envoy. 0: it is drawn when first needed.
	Random uint64
}

// Match finds the request's route: its virtual host by authority, then the first route that matches. nil: there is none, which
// is a 404. It does not allocate, but for header matches on fields that came in several lines.
func (c *Config) Match(r *Request) *Route {
	v := c.hosts.find(r.Head)
	if v == nil {
		return nil
	}
	if v.toTLS != nil && v.wantsTLS(r.Head) {
		return v.toTLS
	}
	path := beforeQuery(r.Head.Path, c.ignoreParameters)
	for _, candidate := range v.Routes {
		if candidate.Match.matches(r, path) {
			return candidate
		}
	}
	return nil
}

// wantsTLS applies require_tls, which looks at x-forwarded-proto.
func (v *VirtualHost) wantsTLS(h *message.Head) bool {
	if proto, _ := h.Get("x-forwarded-proto"); proto == "https" {
		return false
	}
	if v.externalOnly {
		internal, _ := h.Get("x-envoy-internal")
		return internal != "true"
	}
	return true
}

// draw returns the request's random number.
func (r *Request) draw() uint64 {
	for r.Random == 0 {
		r.Random = rand.Uint64()
	}
	return r.Random
}

// Choose picks a destination by weight; one of weight zero is never picked. random is evenly distributed. There must be
// Clusters.
func (f *Forward) Choose(random uint64) *WeightedCluster {
	if len(f.Clusters) == 1 {
		return &f.Clusters[0]
	}
	at := uint32(random % uint64(f.TotalWeight))
	for i := range f.Clusters {
		if w := f.Clusters[i].Weight; at < w {
			return &f.Clusters[i]
		}
		at -= f.Clusters[i].Weight
	}
	panic("route: TotalWeight is not the sum of the weights")
}
