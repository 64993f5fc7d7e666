package authzcmd

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

// subject is what a request is decided with: the policies that apply to a target, or a filter chain as it was dumped.
type subject struct {
	set    *manifest.Set
	chain  authz.Chain
	tcp    bool
	port   uint16 // that is dialled: what was asked for, else the Service's only one, else 0
	paths  pathnorm.Options
	mode   string           // name of paths
	target *manifest.Target // nil for a dumped chain
	rules  *istio.Rules     // nil for a dumped chain
	dumped *manifest.Chain  // nil for policies
	notes  []string
}

// subjectFlags are the flags that choose it.
type subjectFlags struct {
	choice
	chainName string
	mode      string
	http      bool // the request is an HTTP one for sure
}

func (f *subjectFlags) flags(cmd *cobra.Command) {
	f.choice.flags(cmd)
	cmd.Flags().StringVar(&f.chainName, "chain", "", "filter chain of a config_dump, by its name or a part of it")
	cmd.Flags().StringVar(&f.mode, "path-normalization", "", modeHelp)
}

// find makes the subject. Port is the port that is asked for, 0 if it does not matter.
func (f *subjectFlags) find(set *manifest.Set, port uint16) (*subject, error) {
	s := &subject{set: set, tcp: f.TCP, port: port}
	err := f.choice.read()
	if err != nil {
		return nil, err
	}
	switch {
	case len(set.Chains) > 0:
		err = f.fromDump(s, port)
	case f.chainName != "":
		err = errors.New("--chain: the input has no filter chains; it is for a config_dump or istioctl proxy-config listener -o json")
	default:
		err = f.fromPolicies(s)
	}
	if err != nil {
		return nil, err
	}
	if f.mode != "" {
		s.mode = strings.ToUpper(f.mode)
		if s.paths, err = manifest.Normalization(s.mode); err != nil {
			return nil, fmt.Errorf("--path-normalization: %w", err)
		}
	}
	return s, nil
}

func (f *subjectFlags) fromPolicies(s *subject) error {
	target, err := s.set.Target(f.Choice)
	if err != nil {
		return err
	}
	s.notes = target.Notes
	if s.port == 0 {
		if s.port = onlyPort(s.set, target.Object); s.port != 0 {
			s.notes = append(s.notes, fmt.Sprintf("taking port %d, the only one of %s", s.port, manifest.ObjectName(target.Object)))
		}
	}
	if !target.TCP && s.port != 0 {
		if p, known := portOf(s.set, target.Object, s.port); known && !p.HTTP {
			s.notes = append(s.notes, fmt.Sprintf("port %d of %s is not declared as HTTP: a waypoint sees no method, path, host or header there", s.port, manifest.ObjectName(target.Object)))
			target.TCP, s.tcp = true, true
		}
	}
	s.target, s.mode = &target, s.set.PathNormalization()
	if s.paths, err = manifest.Normalization(s.mode); err != nil {
		return err
	}
	if s.rules, err = istio.Compile(s.set.IstioPolicies(), target.Target); err != nil {
		return s.set.Locate(err)
	}
	for _, n := range s.rules.Notes {
		s.notes = append(s.notes, s.policyName(n.Namespace, n.Name)+": "+n.Text)
	}
	tokens := target.Target
	tokens.JWKSFetch = istio.FetchByEnvoy // keys do not matter here
	if _, err := istio.Authenticate(s.set.IstioAuthentications(), tokens); err != nil {
		return s.set.Locate(err)
	}
	s.chain, err = s.rules.Chain()
	return err
}

// normalization is the mode that is asked for, else MeshConfig's.
func normalization(set *manifest.Set, mode string) (pathnorm.Options, error) {
	if mode == "" {
		return manifest.Normalization(set.PathNormalization())
	}
	o, err := manifest.Normalization(strings.ToUpper(mode))
	if err != nil {
		return o, fmt.Errorf("--path-normalization: %w", err)
	}
	return o, nil
}

// portOf finds a port of a Service of the input.
func portOf(set *manifest.Set, o istio.Object, port uint16) (istio.Port, bool) {
	for _, svc := range set.Mesh.Services {
		if svc.Object != o {
			continue
		}
		for _, p := range svc.Ports {
			if p.Number == port {
				return p, true
			}
		}
	}
	return istio.Port{}, false
}

// onlyPort is the port of a Service that has one, else 0.
func onlyPort(set *manifest.Set, o istio.Object) uint16 {
	for _, svc := range set.Mesh.Services {
		if svc.Object == o && len(svc.Ports) == 1 {
			return svc.Ports[0].Number
		}
	}
	return 0
}

func (f *subjectFlags) fromDump(s *subject, port uint16) error {
	c, err := f.pick(s.set, port)
	if err != nil {
		return err
	}
	s.dumped, s.tcp, s.paths, s.mode = c, !c.HTTP, c.Path, modeName(c.Path)
	if f.TCP && c.HTTP {
		return fmt.Errorf("--tcp: chain %s is for HTTP", c)
	}
	for _, filter := range c.Filters {
		if filter.HTTP == nil && filter.Network == nil && !isHarmless(filter.Type) {
			s.notes = append(s.notes, fmt.Sprintf("filter %s of the chain is not evaluated here: it may refuse requests too", filter.Name))
		}
	}
	s.chain, err = c.Compile()
	return err
}

// isHarmless knows the filters that refuse no request for reasons of authorization.
func isHarmless(filterType string) bool {
	return slices.ContainsFunc([]string{
		".HttpConnectionManager", ".tcp_proxy.v3.TcpProxy", ".router.v3.Router", ".cors.v3.Cors", ".fault.v3.HTTPFault", ".grpc_stats.v3.FilterConfig",
		".grpc_web.v3.GrpcWeb", ".set_filter_state.v3.Config", "io.istio.http.peer_metadata.Config", "MetadataExchange", "stats.PluginConfig",
		".alpn.v2alpha1.FilterConfig", ".sni_cluster.v3.SniCluster",
	}, func(known string) bool { return strings.HasSuffix(filterType, known) })
}

func modeName(o pathnorm.Options) string {
	for _, mode := range modes {
		if known, err := manifest.Normalization(mode); err == nil && known == o {
			return mode
		}
	}
	return fmt.Sprintf("%+v", o)
}

var modes = []string{"NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"}

// pick finds the chain that is asked for.
func (f *subjectFlags) pick(set *manifest.Set, port uint16) (*manifest.Chain, error) {
	var exact, fit []*manifest.Chain
	for i := range set.Chains {
		c := &set.Chains[i]
		switch {
		case f.chainName != "" && (c.Name == f.chainName || c.String() == f.chainName):
			exact = append(exact, c)
		case f.chainName != "" && strings.Contains(c.String(), f.chainName), f.chainName == "" && c.Enforces() && f.fits(c, port):
			fit = append(fit, c)
		}
	}
	if len(exact) > 0 {
		fit = exact
	}
	if f.chainName == "" && len(fit) == 0 && !slices.ContainsFunc(set.Chains, func(c manifest.Chain) bool { return c.Enforces() }) {
		return nil, errors.New("no filter chain of the input has an RBAC filter: no policy is in force there; choose one nonetheless with --chain")
	}
	if len(fit) == 1 {
		return fit[0], nil
	}
	var names []string
	for _, c := range fit {
		names = append(names, fmt.Sprintf("%s (%s)", c, c.Where))
	}
	if len(fit) == 0 {
		for i := range set.Chains {
			names = append(names, set.Chains[i].String())
		}
		return nil, fmt.Errorf("no filter chain fits; there are:\n  %s", strings.Join(names, "\n  "))
	}
	return nil, fmt.Errorf("several filter chains fit; choose with --chain one of:\n  %s", strings.Join(names, "\n  "))
}

// fits compares with the name that istiod gives a chain, inbound-vip|<port>|<http or tcp>|<host>.
func (f *subjectFlags) fits(c *manifest.Chain, port uint16) bool {
	if f.TCP && c.HTTP || f.http && !c.HTTP {
		return false
	}
	parts := strings.Split(c.Name, "|")
	if len(parts) != 4 {
		return true
	}
	if port != 0 && parts[1] != strconv.Itoa(int(port)) {
		return false
	}
	if f.For != "" {
		if o, err := manifest.ParseObject(f.For); err == nil && o.Kind == "Service" {
			return strings.HasPrefix(parts[3], o.Name+"."+o.Namespace+".")
		}
	}
	return true
}
