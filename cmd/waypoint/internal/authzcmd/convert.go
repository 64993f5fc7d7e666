package authzcmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

// converter is the verb convert.
type converter struct {
	input
	choice
	chain  string
	output string
}

func convertCommand() *cobra.Command {
	var v converter
	c := &cobra.Command{
		Use:   "convert -f <files>",
		Short: "Turn policies into Envoy's filters, and Envoy's filters back into policies",
		Long: `Turn policies into Envoy's filters, and Envoy's filters back into policies.

With AuthorizationPolicy and RequestAuthentication objects as input: the filters that istiod makes of them for each target (or
the one that --for names), as JSON, or with -o yaml as YAML, for an HTTP chain, or with --tcp for a TCP chain.

With Envoy's config_dump or istioctl proxy-config listener -o json as input, or what convert printed: the AuthorizationPolicy
objects that the RBAC filters were made of, as YAML, or with -o json as a List. Each is converted once more, and only printed
as an object if that gives the same RBAC. What cannot be a policy is printed as a comment. RBAC does not tell what a policy was
attached to: targetRefs are those of the Service whose filter chain it stands in.`,
		Example: `  waypoint authz convert -f policies/ --for Service/shop/cart
  waypoint authz convert -f policies/ --tcp -o yaml
  istioctl proxy-config listener deploy/waypoint -n shop -o json | waypoint authz convert -f -`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			v.also(args)
			return v.run(cmd)
		},
	}
	v.input.flags(c)
	v.choice.flags(c)
	c.Flags().StringVar(&v.chain, "chain", "", "one filter chain of a config_dump, by its name or a part of it")
	c.Flags().StringVarP(&v.output, "output", "o", "", "json (default for filters) or yaml (default for policies)")
	return c
}

func (v *converter) run(cmd *cobra.Command) error {
	if v.output != "" && v.output != "json" && v.output != "yaml" {
		return fmt.Errorf("--output: %q; want json or yaml", v.output)
	}
	if err := v.read(); err != nil {
		return err
	}
	set, err := v.load(cmd)
	if err != nil {
		return err
	}
	if len(set.Chains) > 0 {
		return v.back(cmd, set)
	}
	if v.chain != "" {
		return errors.New("--chain: the input has no filter chains")
	}
	if len(set.Policies)+len(set.Authentications) == 0 {
		return errors.New("the input has neither AuthorizationPolicy, nor RequestAuthentication, nor filter chains")
	}
	out, err := v.forward(cmd, set)
	if err != nil {
		return err
	}
	text, err := indent(out)
	if err == nil && v.output == "yaml" {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(text)
	return err
}

// converted is the filters for one target. It can be read again as input.
type converted struct {
	Name     string            `json:"name"` // of the target; a name of a filter chain for whoever reads it as one
	Waypoint string            `json:"waypoint,omitempty"`
	Protocol string            `json:"protocol"`
	Filters  []json.RawMessage `json:"filters"`
	// Skipped are the policies, or parts of them, that do not apply.
	Skipped []string `json:"skipped,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

func (v *converter) forward(cmd *cobra.Command, set *manifest.Set) ([]converted, error) {
	var choices []manifest.Choice
	if v.For == "" {
		for _, o := range set.Candidates() {
			c := v.Choice
			c.For = manifest.ObjectName(o)
			choices = append(choices, c)
		}
	}
	if choices == nil {
		choices = []manifest.Choice{v.Choice}
	}
	var out []converted
	for _, c := range choices {
		one := choice{Choice: c}
		target, err := one.target(cmd, set)
		if err != nil {
			return nil, err
		}
		filters, err := v.filters(set, &target)
		if err != nil {
			return nil, err
		}
		out = append(out, *filters)
	}
	return out, nil
}

func (v *converter) filters(set *manifest.Set, target *manifest.Target) (*converted, error) {
	out := &converted{Name: manifest.ObjectName(target.Object), Protocol: "HTTP"}
	if target.TCP {
		out.Protocol = "TCP"
	}
	if g := target.Gateway; g.Name != "" {
		out.Waypoint = g.Namespace + "/" + g.Name
	}
	rules, err := istio.Compile(set.IstioPolicies(), target.Target)
	if err != nil {
		return nil, set.Locate(err)
	}
	tokens := target.Target
	tokens.JWKSFetch = istio.FetchByEnvoy // there is nobody here to fetch keys
	jwt, err := istio.Authenticate(set.IstioAuthentications(), tokens)
	if err != nil {
		return nil, set.Locate(err)
	}
	var messages []proto.Message
	if target.TCP {
		for _, f := range rules.NetworkFilters() {
			messages = append(messages, f)
		}
	} else {
		var between []*hcmv3.HttpFilter
		if f := jwt.HTTPFilter(); f != nil {
			between = append(between, f)
			for _, p := range jwt.Config.GetProviders() {
				if p.GetRemoteJwks() != nil {
					out.Notes = []string{"keys at a jwksUri are left to Envoy to fetch; istiod fetches them itself unless it is told otherwise, and sends them along"}
				}
			}
		}
		for _, f := range rules.HTTPFilters(between...) {
			messages = append(messages, f)
		}
	}
	for _, m := range messages {
		raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			return nil, err
		}
		out.Filters = append(out.Filters, raw)
	}
	for _, s := range append(rules.Skipped, jwt.Skipped...) {
		out.Skipped = append(out.Skipped, s.String())
	}
	for _, n := range append(rules.Notes, jwt.Notes...) {
		out.Notes = append(out.Notes, n.String())
	}
	return out, nil
}

// indent writes JSON with the spaces that everybody uses; protojson's own vary from run to run.
func indent(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err := json.Indent(&out, bytes.TrimSpace(b.Bytes()), "", "  ")
	out.WriteByte('\n')
	return out.Bytes(), err
}
