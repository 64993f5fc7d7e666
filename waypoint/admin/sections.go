package admin

import (
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gowaypoint/gowaypoint/xdsclient"
)

// keep tells whether a resource of that name is wanted (name_regex).
type keep func(name string) bool

// section is a part of the dump that is built when it is wanted: that of the clusters alone takes half a second for ten thousand.
type section struct {
	kind  protoreflect.MessageDescriptor
	build func() proto.Message
}

// sections lists every section of the dump, in Envoy's order. Each is there whether it has anything in it or not: istioctl fails on
// one that is missing.
func (s *Server) sections(names keep, endpoints bool) []section {
	of := func(kind proto.Message, build func(keep) proto.Message) section {
		return section{kind.ProtoReflect().Descriptor(), func() proto.Message { return build(names) }}
	}
	all := []section{
		of(&adminv3.BootstrapConfigDump{}, func(keep) proto.Message { return s.bootstrapSection() }),
		of(&adminv3.ClustersConfigDump{}, s.clusterSection),
		of(&adminv3.EcdsConfigDump{}, s.extensionSection),
	}
	if endpoints {
		all = append(all, of(&adminv3.EndpointsConfigDump{}, s.endpointSection))
	}
	return append(all,
		of(&adminv3.ListenersConfigDump{}, s.listenerSection),
		of(&adminv3.ScopedRoutesConfigDump{}, func(keep) proto.Message { return &adminv3.ScopedRoutesConfigDump{} }),
		of(&adminv3.RoutesConfigDump{}, s.routeSection),
		of(&adminv3.SecretsConfigDump{}, s.secretSection),
	)
}

func (s *Server) bootstrapSection() proto.Message {
	b := s.src.Bootstrap
	if b == nil {
		b = s.defaultBootstrap()
	}
	b = proto.Clone(b).(*bootstrapv3.Bootstrap)
	redactMessage(b.ProtoReflect(), false)
	return &adminv3.BootstrapConfigDump{Bootstrap: b, LastUpdated: timestamppb.New(s.src.Started)}
}

// defaultBootstrap says in Envoy's words what this program does: everything by delta ADS.
func (s *Server) defaultBootstrap() *bootstrapv3.Bootstrap {
	ads := &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}, ResourceApiVersion: corev3.ApiVersion_V3}
	b := &bootstrapv3.Bootstrap{
		Node: s.src.Node,
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			LdsConfig: ads, CdsConfig: ads,
			AdsConfig: &corev3.ApiConfigSource{ApiType: corev3.ApiConfigSource_DELTA_GRPC, TransportApiVersion: corev3.ApiVersion_V3},
		},
	}
	if a := s.AdminAddr(); a != nil {
		b.Admin = &bootstrapv3.Admin{Address: parseAddress(a.String())}
	}
	return b
}

func (s *Server) clusterSection(names keep) proto.Message {
	snap := s.src.XDS.Snapshot(xdsclient.TypeCluster)
	d := &adminv3.ClustersConfigDump{VersionInfo: snap.SystemVersion}
	for _, e := range kept(snap, names) {
		c := &adminv3.ClustersConfigDump_DynamicCluster{ErrorState: errorState(e.Failure), LastUpdated: timestamp(e.LastUpdated)}
		if e.Accepted != nil {
			c.VersionInfo, c.Cluster = e.Accepted.Version, redact(e.Accepted.Any())
		}
		// istioctl takes for granted that an active cluster has its resource.
		if e.Accepted == nil || s.warming(e.Name) {
			d.DynamicWarmingClusters = append(d.DynamicWarmingClusters, c)
		} else {
			d.DynamicActiveClusters = append(d.DynamicActiveClusters, c)
		}
	}
	return d
}

// warming tells whether a cluster has been accepted and does not serve yet.
func (s *Server) warming(name string) bool {
	c := s.src.Clusters()[name]
	return c == nil || !c.Config().Warm
}

func (s *Server) extensionSection(names keep) proto.Message {
	d := &adminv3.EcdsConfigDump{}
	for _, e := range kept(s.src.XDS.Snapshot(xdsclient.TypeExtensionConfig), names) {
		f := &adminv3.EcdsConfigDump_EcdsFilterConfig{ErrorState: errorState(e.Failure), LastUpdated: timestamp(e.LastUpdated)}
		if e.Accepted != nil {
			f.VersionInfo, f.EcdsFilter = e.Accepted.Version, redact(e.Accepted.Any())
		}
		d.EcdsFilters = append(d.EcdsFilters, f)
	}
	return d
}

// endpointSection lists what came by EDS, and the endpoints that clusters carry themselves.
func (s *Server) endpointSection(names keep) proto.Message {
	d := &adminv3.EndpointsConfigDump{}
	for _, e := range kept(s.src.XDS.Snapshot(xdsclient.TypeEndpoint), names) {
		c := &adminv3.EndpointsConfigDump_DynamicEndpointConfig{ErrorState: errorState(e.Failure), LastUpdated: timestamp(e.LastUpdated)}
		if e.Accepted != nil {
			c.VersionInfo, c.EndpointConfig = e.Accepted.Version, redact(e.Accepted.Any())
		}
		d.DynamicEndpointConfigs = append(d.DynamicEndpointConfigs, c)
	}
	for _, e := range kept(s.src.XDS.Snapshot(xdsclient.TypeCluster), names) {
		c := &clusterv3.Cluster{}
		if e.Accepted == nil || proto.Unmarshal(e.Accepted.Value, c) != nil || c.GetLoadAssignment() == nil {
			continue
		}
		a, err := anypb.New(c.GetLoadAssignment())
		if err != nil {
			continue // it was decoded a line ago
		}
		d.DynamicEndpointConfigs = append(d.DynamicEndpointConfigs, &adminv3.EndpointsConfigDump_DynamicEndpointConfig{
			EndpointConfig: redact(a), LastUpdated: timestamp(e.LastUpdated),
		})
	}
	return d
}

func (s *Server) listenerSection(names keep) proto.Message {
	snap := s.src.XDS.Snapshot(xdsclient.TypeListener)
	d := &adminv3.ListenersConfigDump{VersionInfo: snap.SystemVersion}
	for _, e := range kept(snap, names) {
		l := &adminv3.ListenersConfigDump_DynamicListener{Name: e.Name, ErrorState: errorState(e.Failure)}
		if e.Accepted != nil {
			l.ActiveState = &adminv3.ListenersConfigDump_DynamicListenerState{
				VersionInfo: e.Accepted.Version, Listener: redact(e.Accepted.Any()), LastUpdated: timestamp(e.LastUpdated),
			}
		}
		d.DynamicListeners = append(d.DynamicListeners, l)
	}
	return d
}

func (s *Server) secretSection(names keep) proto.Message {
	d := &adminv3.SecretsConfigDump{}
	for _, sec := range s.src.Secrets() {
		if !names(sec.Name) {
			continue
		}
		a, err := anypb.New(sec.Secret)
		if err != nil {
			continue // nothing in it can fail to be encoded
		}
		out := &adminv3.SecretsConfigDump_DynamicSecret{
			Name: sec.Name, VersionInfo: sec.Version, LastUpdated: timestamp(sec.LastUpdated), Secret: redact(a),
		}
		if sec.Warming {
			if sec.Why != nil {
				out.ErrorState = &adminv3.UpdateFailureState{Details: sec.Why.Error()}
			}
			d.DynamicWarmingSecrets = append(d.DynamicWarmingSecrets, out)
		} else {
			d.DynamicActiveSecrets = append(d.DynamicActiveSecrets, out)
		}
	}
	return d
}

func kept(snap xdsclient.TypeSnapshot, names keep) []xdsclient.Entry {
	out := make([]xdsclient.Entry, 0, len(snap.Entries))
	for _, e := range snap.Entries {
		if names(e.Name) {
			out = append(out, e)
		}
	}
	return out
}

// errorState shows the version that was rejected.
func errorState(f *xdsclient.Failure) *adminv3.UpdateFailureState {
	if f == nil {
		return nil
	}
	out := &adminv3.UpdateFailureState{Details: f.Details, LastUpdateAttempt: timestamp(f.Time)}
	if f.Resource != nil {
		out.VersionInfo, out.FailedConfiguration = f.Resource.Version, redact(f.Resource.Any())
	}
	return out
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
