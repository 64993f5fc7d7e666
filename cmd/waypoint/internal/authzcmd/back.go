package authzcmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	typev1beta1 "istio.io/api/type/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
	"github.com/gowaypoint/gowaypoint/authz/x/reverse"
)

// recovered is a policy that was found in one or several filter chains.
type recovered struct {
	reverse.Policy
	chains []*manifest.Chain
	other  []string // chains in which the policy of this name is another
}

// back prints the policies that filter chains were made of.
func (v *converter) back(cmd *cobra.Command, set *manifest.Set) error {
	var chains []*manifest.Chain
	for i := range set.Chains {
		if c := &set.Chains[i]; strings.Contains(c.String(), v.chain) && (v.chain != "" || c.Enforces()) {
			chains = append(chains, c)
		}
	}
	if len(chains) == 0 {
		return errors.New("no filter chain with an RBAC filter fits: there is no policy in it")
	}
	all := recoverPolicies(chains)
	if v.output == "json" {
		return writeRecoveredJSON(cmd.OutOrStdout(), all)
	}
	writeChains(cmd.OutOrStdout(), chains)
	for _, r := range all {
		fmt.Fprintln(cmd.OutOrStdout(), "---")
		if err := r.write(cmd.OutOrStdout()); err != nil {
			return err
		}
	}
	return nil
}

// recoverPolicies reads every chain. A policy that stands in several is told once: as an HTTP chain has it, since the HTTP
// attributes are gone from TCP chains.
func recoverPolicies(chains []*manifest.Chain) []*recovered {
	var out []*recovered
	for _, c := range chains {
		for _, p := range reverse.Policies(rbacFilters(c)) {
			i := slices.IndexFunc(out, func(r *recovered) bool {
				return r.Namespace == p.Namespace && r.Name == p.Name && r.Spec.GetAction() == p.Spec.GetAction()
			})
			if i < 0 {
				out = append(out, &recovered{Policy: p, chains: []*manifest.Chain{c}})
				continue
			}
			r := out[i]
			switch better := r.TCP && !p.TCP; {
			case better:
				r.Policy = p
			case r.TCP == p.TCP && !sameRules(r.RBAC, p.RBAC):
				r.other = append(r.other, c.String())
			}
			r.chains = append(r.chains, c)
		}
	}
	return out
}

func sameRules(a, b map[string]*rbacv3.Policy) bool {
	if len(a) != len(b) {
		return false
	}
	for name := range a {
		if !proto.Equal(a[name], b[name]) {
			return false
		}
	}
	return true
}

func rbacFilters(c *manifest.Chain) []reverse.Filter {
	var out []reverse.Filter
	for _, f := range c.Filters {
		switch {
		case f.HTTP != nil:
			out = append(out, reverse.Filter{Rules: f.HTTP.GetRules(), Shadow: f.HTTP.GetShadowRules(), Custom: f.HTTP.GetShadowRulesStatPrefix() == customStats})
		case f.Network != nil:
			out = append(out, reverse.Filter{
				Rules: f.Network.GetRules(), Shadow: f.Network.GetShadowRules(), Custom: f.Network.GetShadowRulesStatPrefix() == customStats, TCP: true,
			})
		}
	}
	return out
}

// customStats is istiod's prefix for the shadow rules of action CUSTOM.
const customStats = "istio_ext_authz_"

// writeChains says in comments what was read.
func writeChains(w io.Writer, chains []*manifest.Chain) {
	fmt.Fprintln(w, "# Filter chains with policies:")
	for _, c := range chains {
		fmt.Fprintf(w, "#   %s\n", c)
		for _, f := range c.Filters {
			switch {
			case f.HTTP != nil && f.HTTP.GetRules() != nil && len(f.HTTP.GetRules().GetPolicies()) == 0,
				f.Network != nil && f.Network.GetRules() != nil && len(f.Network.GetRules().GetPolicies()) == 0:
				if rules := append(rbacFilters(c), reverse.Filter{}); rules[0].Rules.GetAction() == rbacv3.RBAC_ALLOW {
					fmt.Fprintln(w, "#     everything is denied: there is an ALLOW policy, and none of its rules can match TCP")
				}
			case strings.HasSuffix(f.Type, ".ext_authz.v3.ExtAuthz"):
				fmt.Fprintln(w, "#     has external authorization, which comes from MeshConfig.extensionProviders")
			case strings.HasSuffix(f.Type, ".jwt_authn.v3.JwtAuthentication"):
				fmt.Fprintln(w, "#     checks JSON web tokens, which comes from RequestAuthentication (not converted)")
			}
		}
	}
}

// write prints a policy as YAML, or as a comment with its RBAC.
func (r *recovered) write(w io.Writer) error {
	var names []string
	for _, c := range r.chains {
		names = append(names, c.String())
	}
	fmt.Fprintf(w, "# From %s\n", strings.Join(names, "\n#  and "))
	if len(r.other) > 0 {
		fmt.Fprintf(w, "# In these it has other rules, as if it had been changed between pushes: %s\n", strings.Join(r.other, ", "))
	}
	if r.Problem != "" {
		return r.writeComment(w)
	}
	if r.TCP {
		fmt.Fprintln(w, "# It comes from TCP chains alone: what it says of HTTP is not in them.")
	}
	object, err := r.object()
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(object)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func (r *recovered) writeComment(w io.Writer) error {
	name := strings.TrimPrefix(r.Namespace+"/"+r.Name, "/")
	fmt.Fprintf(w, "# %s (%s) cannot be written as an AuthorizationPolicy: %s. Its rules:\n", name, r.Spec.GetAction(), r.Problem)
	rules := map[string]json.RawMessage{}
	for name, p := range r.RBAC {
		raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(p)
		if err != nil {
			return err
		}
		rules[name] = raw
	}
	text, err := yaml.Marshal(rules)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		fmt.Fprint(w, "#   ", line)
	}
	return nil
}

// object is the policy as kubectl takes it.
func (r *recovered) object() (map[string]any, error) {
	spec := proto.CloneOf(r.Spec)
	spec.TargetRefs = r.targets()
	raw, err := protojson.Marshal(spec)
	if err != nil {
		return nil, err
	}
	metadata := map[string]any{"name": r.Name, "namespace": r.Namespace}
	if len(r.Annotations) > 0 {
		metadata["annotations"] = r.Annotations
	}
	return map[string]any{
		"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": json.RawMessage(raw),
	}, nil
}

// targets are the Services of the policy's own namespace in whose chains it stands. One that stands elsewhere too was attached to
// the waypoint, of which a chain does not tell the name.
func (r *recovered) targets() []*typev1beta1.PolicyTargetReference {
	var out []*typev1beta1.PolicyTargetReference
	for _, c := range r.chains {
		o := targetOf(c)
		if o.Namespace != r.Namespace || o.Kind == "Gateway" {
			class := &typev1beta1.PolicyTargetReference{Group: "gateway.networking.k8s.io", Kind: "GatewayClass", Name: "istio-waypoint"}
			if r.Namespace != "istio-system" {
				class.Kind, class.Name = "Gateway", "waypoint"
			}
			if o.Kind == "Gateway" && o.Namespace == r.Namespace {
				class.Name = o.Name
			}
			return []*typev1beta1.PolicyTargetReference{class}
		}
		ref := &typev1beta1.PolicyTargetReference{Group: o.Group, Kind: o.Kind, Name: o.Name}
		if !slices.ContainsFunc(out, func(x *typev1beta1.PolicyTargetReference) bool { return proto.Equal(x, ref) }) {
			out = append(out, ref)
		}
	}
	return out
}

// targetOf reads the name that istiod gives a chain, or convert.
func targetOf(c *manifest.Chain) istio.Object {
	if o, err := manifest.ParseObject(c.Name); err == nil {
		return o
	}
	if parts := strings.Split(c.Name, "|"); len(parts) == 4 {
		name, rest, _ := strings.Cut(parts[3], ".")
		namespace, domain, _ := strings.Cut(rest, ".")
		if strings.HasPrefix(domain, "svc.") {
			return istio.Object{Kind: "Service", Namespace: namespace, Name: name}
		}
	}
	return istio.Object{}
}

// writeRecoveredJSON prints a List. What is no policy cannot be in it, and is an error.
func writeRecoveredJSON(w io.Writer, all []*recovered) error {
	items := []any{}
	var problems []error
	for _, r := range all {
		if r.Problem != "" {
			problems = append(problems, fmt.Errorf("%s/%s cannot be written as an AuthorizationPolicy: %s (-o yaml shows its rules)", r.Namespace, r.Name, r.Problem))
			continue
		}
		object, err := r.object()
		if err != nil {
			return err
		}
		items = append(items, object)
	}
	text, err := indent(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	return errors.Join(problems...)
}
