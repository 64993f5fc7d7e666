// Package builder asks istiod's own code what it makes of policies for a waypoint.
//
// Nothing of istiod is imitated: the objects go through its decoder and its validation into its configuration store, a push
// context selects among them, and the builders that its listeners use ([authz.NewBuilderForService],
// [authn.NewBuilderForService]) make the filters. What is left out is everything around: services are those that the question
// names, and no API server and no proxy is involved.
//
// The package and its command (builder/cmd) compile with each line of Istio that the comparison covers: see ../lines.go. Only
// what is spelled alike in all of them is used here; the rest is in the files with a build constraint.
package builder

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/config/memory"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/networking"
	"istio.io/istio/pilot/pkg/networking/plugin/authn"
	"istio.io/istio/pilot/pkg/networking/plugin/authz"
	"istio.io/istio/pilot/pkg/serviceregistry/provider"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/host"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/kind"
	"istio.io/istio/pkg/config/schema/resource"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/util/protomarshal"
	"istio.io/istio/pkg/util/sets"
	"sigs.k8s.io/yaml"
)

// Providers are the services that extension providers of a [Case.Mesh] may name, by hostname and namespace.
var Providers = []Service{
	{Namespace: "foo", Name: "ext-authz", Hostname: "ext-authz.foo.svc.cluster.local"},
	{Namespace: "bar", Name: "grpc-authz", Hostname: "grpc-authz.bar.svc.cluster.local"},
	{Namespace: "foo", Name: "twice", Hostname: "twice.example.com", External: true},
	{Namespace: "bar", Name: "twice", Hostname: "twice.example.com", External: true},
}

// BuildAll answers several requests.
func BuildAll(requests []*Request) ([]*Response, error) {
	var out []*Response
	for i, r := range requests {
		response, err := Build(r)
		if err != nil {
			return nil, fmt.Errorf("request %d: %w", i, err)
		}
		out = append(out, response)
	}
	return out, nil
}

// Build answers a request. An error is one of the question, such as a MeshConfig that cannot be read.
func Build(r *Request) (*Response, error) {
	quiet()
	// Keys that a rule does not hold itself are fetched, once; a host that cannot be reached is given up at once.
	keys := model.NewJwksResolver(time.Hour, time.Hour, time.Hour, time.Millisecond)
	defer keys.Close()
	out := &Response{Refused: map[int]string{}, Chains: make([]Chain, len(r.Cases))}
	configs := make([]config.Config, len(r.Objects))
	for i, text := range r.Objects {
		c, err := read(text, r.Unvalidated)
		if err != nil {
			out.Refused[i] = err.Error()
			continue
		}
		c.CreationTimestamp = time.Unix(int64(i), 0)
		configs[i] = c
	}
	meshes := map[string]*meshconfig.MeshConfig{}
	for i, c := range r.Cases {
		if meshes[c.Mesh] == nil {
			m := mesh.DefaultMeshConfig()
			if err := protomarshal.ApplyYAML(c.Mesh, m); err != nil {
				return nil, fmt.Errorf("case %d: %w", i, err)
			}
			meshes[c.Mesh] = m
		}
		var objects []config.Config
		for _, o := range c.Objects {
			if out.Refused[o] == "" {
				objects = append(objects, configs[o])
			}
		}
		if len(objects) < len(c.Objects) {
			continue
		}
		chain, err := build(c, meshes[c.Mesh], objects, keys)
		if err != nil {
			return nil, fmt.Errorf("case %d: %w", i, err)
		}
		out.Chains[i] = chain
	}
	return out, nil
}

// read takes an object as the API server and istiod do together: the one knows the fields, the other validates.
func read(text string, unvalidated bool) (config.Config, error) {
	var object crd.IstioKind
	if err := yaml.Unmarshal([]byte(text), &object); err != nil {
		return config.Config{}, err
	}
	gvk := object.GroupVersionKind()
	schema, known := collections.Pilot.FindByGroupVersionAliasesKind(resource.FromKubernetesGVK(&gvk))
	if !known {
		return config.Config{}, fmt.Errorf("%s is not a kind of Istio", gvk)
	}
	c, err := crd.ConvertObject(schema, &object, "cluster.local")
	if err != nil {
		return config.Config{}, err
	}
	if len(object.Spec) > 0 {
		spec := proto.Clone(c.Spec.(proto.Message))
		proto.Reset(spec)
		if err := config.ApplyJSONStrict(spec, string(object.Spec)); err != nil {
			return config.Config{}, fmt.Errorf("a field that this line of Istio does not have: %w", err)
		}
	}
	if _, err := schema.ValidateConfig(*c); err != nil && !unvalidated {
		return config.Config{}, err
	}
	return *c, nil
}

func build(c Case, m *meshconfig.MeshConfig, objects []config.Config, keys *model.JwksResolver) (out Chain, err error) {
	defer func() {
		if died := recover(); died != nil {
			out = Chain{Panic: fmt.Sprint(died)}
		}
	}()
	multipleProviders(c.MultipleProviders)
	store := memory.MakeSkipValidation(collections.Pilot)
	for _, o := range objects {
		if _, err := store.Create(o); err != nil {
			return Chain{}, err
		}
	}
	push, err := newPush(store, m, keys)
	if err != nil {
		return Chain{}, err
	}
	labels := map[string]string{
		"gateway.networking.k8s.io/gateway-name": c.Gateway.Name,
		"gateway.istio.io/managed":               "istio.io-mesh-controller",
	}
	proxy := &model.Proxy{
		ID: c.Gateway.Name, Type: model.Waypoint, ConfigNamespace: c.Gateway.Namespace, Labels: labels,
		Metadata: &model.NodeMetadata{Namespace: c.Gateway.Namespace, Labels: labels},
	}
	var service *model.Service
	if c.Service != nil {
		service = c.Service.model()
	}
	// As in the listeners of a waypoint: what CUSTOM policies ask for, the tokens, and then the waypoint's own verdict.
	custom := authz.NewBuilderForService(authz.Custom, push, proxy, true, service)
	tokens := authn.NewBuilderForService(push, proxy, service)
	local := authz.NewBuilderForService(authz.Local, push, proxy, true, service)
	const class = networking.ListenerClassSidecarInbound
	for _, f := range custom.BuildHTTP(class) {
		out.HTTP = append(out.HTTP, filter(f.GetName(), f.GetTypedConfig()))
	}
	for _, f := range tokens.BuildHTTP(class) {
		out.HTTP = append(out.HTTP, filter(f.GetName(), f.GetTypedConfig()))
	}
	for _, f := range local.BuildHTTP(class) {
		out.HTTP = append(out.HTTP, filter(f.GetName(), f.GetTypedConfig()))
	}
	for _, f := range custom.BuildTCP() {
		out.TCP = append(out.TCP, filter(f.GetName(), f.GetTypedConfig()))
	}
	for _, f := range local.BuildTCP() {
		out.TCP = append(out.TCP, filter(f.GetName(), f.GetTypedConfig()))
	}
	return out, nil
}

// newPush makes the push context of an incremental push in which policies have changed: what it is made of without that
// takes controllers that have no say here.
func newPush(store model.ConfigStore, m *meshconfig.MeshConfig, keys *model.JwksResolver) (*model.PushContext, error) {
	env := &model.Environment{ConfigStore: store, Watcher: fixedMesh{mesh: m}}
	env.Init()
	before := model.NewPushContext()
	before.Mesh = m
	for _, s := range Providers {
		byNamespace := before.ServiceIndex.HostnameAndNamespace[host.Name(s.Hostname)]
		if byNamespace == nil {
			byNamespace = map[string]*model.Service{}
			before.ServiceIndex.HostnameAndNamespace[host.Name(s.Hostname)] = byNamespace
		}
		byNamespace[s.Namespace] = s.model()
	}
	before.InitDone.Store(true)
	push := model.NewPushContext()
	push.JwtKeyResolver = keys
	push.InitContext(env, before, &model.PushRequest{ConfigsUpdated: sets.New(
		model.ConfigKey{Kind: kind.AuthorizationPolicy}, model.ConfigKey{Kind: kind.RequestAuthentication})})
	if !push.InitDone.Load() {
		return nil, errors.New("istiod has not initialised the push context")
	}
	return push, nil
}

func (s Service) model() *model.Service {
	registry := provider.Kubernetes
	if s.External {
		registry = provider.External
	}
	return &model.Service{
		Hostname:   host.Name(s.Hostname),
		Attributes: model.ServiceAttributes{Name: s.Name, Namespace: s.Namespace, ServiceRegistry: registry},
	}
}

// quiet keeps istiod from logging each policy that it translates in part: there are thousands of them.
var quiet = sync.OnceFunc(func() {
	for _, scope := range log.Scopes() {
		scope.SetOutputLevel(log.NoneLevel)
	}
})

func filter(name string, config *anypb.Any) Filter {
	raw, err := proto.Marshal(config)
	if err != nil {
		panic(err) // istiod has marshalled what is in it a moment ago
	}
	return Filter{Name: name, Config: raw}
}

// fixedMesh is a MeshConfig that never changes.
type fixedMesh struct {
	watcher
	mesh *meshconfig.MeshConfig
}

func (f fixedMesh) Mesh() *meshconfig.MeshConfig { return f.mesh }

func (f fixedMesh) AddMeshHandler(func()) *mesh.WatcherHandlerRegistration { return nil }
