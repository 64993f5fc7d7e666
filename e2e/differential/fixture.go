package differential

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"sigs.k8s.io/yaml"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

// fixture writes a pair in the form of the text fixtures of authz/rbac, to be pasted there.
func fixture(s *pair.Set, r *pair.Request, view *authz.Request) string {
	var b strings.Builder
	for i, f := range s.Filters {
		if f.Rules != nil {
			fmt.Fprintf(&b, "Filter %d.\n\nrules:\n%s\n", i, indent(asYAML(f.Rules)))
		}
		if f.Shadow != nil {
			fmt.Fprintf(&b, "Filter %d, shadow.\n\nrules:\n%s\n", i, indent(asYAML(f.Shadow)))
		}
	}
	fmt.Fprintf(&b, "request: as Envoy's filters see it\n")
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %s: %q\n", name, value)
		}
	}
	line("method", view.Method)
	line("scheme", view.Scheme)
	line("authority", view.Authority)
	line("path", view.Path)
	if len(r.Lines) > 0 {
		b.WriteString("  headers:\n")
		for _, l := range r.Lines {
			fmt.Fprintf(&b, "  - %q\n", strings.ToLower(l.Name)+": "+l.Value)
		}
	}
	if r.Principal != "" || r.Address != "" {
		b.WriteString("  filterState:\n")
		if r.Principal != "" {
			fmt.Fprintf(&b, "    %s: %q\n", authz.PeerPrincipal, r.Principal)
		}
		if r.Address != "" {
			fmt.Fprintf(&b, "    %s: %q\n", pair.AddressKey, r.Address)
		}
	}
	line("source", view.SourceIP.String())
	line("direct", view.DirectRemoteIP.String())
	line("remote", view.RemoteIP.String())
	line("destination", view.Destination.String())
	line("sni", view.ServerName)
	if r.Claims != nil || r.Other != nil {
		b.WriteString("  metadata:\n")
		value := func(namespace, key string, v *structpb.Value) {
			if v != nil {
				fmt.Fprintf(&b, "    %s:\n      %s: %s\n", namespace, key, asJSON(v))
			}
		}
		value(pair.JWTNamespace, pair.JWTPayload, r.Claims)
		value(pair.OtherNamespace, pair.OtherKey, r.Other)
	}
	if view.Peer != nil {
		fmt.Fprintf(&b, "  peer: {URISANs: %q, DNSSANs: %q, Subject: %q}\n", view.Peer.URISANs, view.Peer.DNSSANs, view.Peer.Subject)
	}
	return b.String()
}

func asJSON(m proto.Message) string {
	b, err := protojson.Marshal(m)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func asYAML(m proto.Message) string {
	b, err := yaml.JSONToYAML([]byte(asJSON(m)))
	if err != nil { // YAML does not take every character
		return asJSON(m) + "\n"
	}
	return string(b)
}

func indent(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString("  " + line)
	}
	return b.String()
}
