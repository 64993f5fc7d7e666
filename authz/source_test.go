package authz

import "testing"

func TestParseSource(t *testing.T) {
	for name, want := range map[string]Source{
		"ns[shop]-policy[read.only]-rule[0]":                                      {Namespace: "shop", Name: "read.only"},
		"ns[shop]-policy[x]-rule[12]":                                             {Namespace: "shop", Name: "x", Rule: 12},
		"istio-ext-authz-my-provider-ns[shop]-policy[x]-rule[1]":                  {Namespace: "shop", Name: "x", Rule: 1, Provider: "my-provider"},
		"istio-ext-authz-p-ns[a]-policy[x]-rule[1]-deny-due-to-bad-CUSTOM-action": {Namespace: "a", Name: "x", Rule: 1, Provider: "p"},
		"istio-ext-authz-ns[shop]-policy[x]-rule[1]":                              {Namespace: "shop", Name: "x", Rule: 1},
		"ns[a]-policy[x]-rule[1]-deny-due-to-bad-CUSTOM-action":                   {Namespace: "a", Name: "x", Rule: 1},
	} {
		if got, ok := ParseSource(name); !ok || got != want {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
	for _, name := range []string{
		"", "custom", "ns[a]", "ns[a]-policy[b]", "ns[a]-policy[b]-rule[]", "ns[a]-policy[b]-rule[x]", "ns[a]-policy[b]-rule[-1]",
		"ns[a]-policy[b]-rule[+1]", "ns[a]-policy[b]-rule[01]", "ns[a]-policy[b]-rule[1]x", "istio-ext-authz-p", "xns[a]-policy[b]-rule[1]",
	} {
		if got, ok := ParseSource(name); ok || !got.IsZero() {
			t.Errorf("%q is read as %+v", name, got)
		}
	}
}
