package istio

import "testing"

func TestParseVersion(t *testing.T) {
	for s, want := range map[string]Version{
		"": Newest, "1.24": V124, "1.24.0": V124, "v1.27": V127, "1.27.3": release(27, 3), "1.29.1-distroless": release(29, 1),
		"1.31.0-rc.0": release(31, 0), "1.32.0": V132, "1.40.2": V132,
	} {
		if got, err := ParseVersion(s); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"1.23.9", "1", "2.0", "1.x", "1.27.3.4", "latest"} {
		if got, err := ParseVersion(s); err == nil {
			t.Errorf("%q: %v, want an error", s, got)
		}
	}
	if got := release(27, 3).String(); got != "1.27.3" {
		t.Error(got)
	}
	if Newest.String() != V132.String() {
		t.Error(Newest)
	}
}

// What changed between releases, with the first release of each line that has it; "" for a line that never got it. The
// lines are those of 1.24 to 1.31.
func TestVersions(t *testing.T) {
	for name, change := range map[string]struct {
		has   func(Version) bool
		since string
	}{
		"service accounts":       {Version.serviceAccounts, "- 0 0 0 0 0 0 0"},
		"policies for a class":   {Version.ownNamespaces, "- 0 0 0 0 0 0 0"},
		"templates checked":      {Version.strictTemplates, "- 0 0 0 0 0 0 0"},
		"claims with spaces":     {Version.spaceDelimitedClaims, "- - - - 0 0 0 0"},
		"accounts quoted":        {Version.quotesAccounts, "- - - 9 6 2 0 0"},
		"names quoted":           {Version.quotesAll, "- - - - 7 3 0 0"},
		"discarded key":          {Version.discardedKey, "- - - 8 5 1 0 0"},
		"providers told apart":   {Version.manyProviders, "- - - - - - 0 0"},
		"trust domains":          {Version.trustDomains, "- - - - - - 2 0"},
		"dry run before ztunnel": {Version.ztunnelDryRun, "- - - - - 0 0 0"},
	} {
		for i := range 8 {
			first := change.since[2*i]
			for patch := range Version(12) {
				v := release(Version(24+i), patch)
				if want := first != '-' && patch >= Version(first-'0'); change.has(v) != want {
					t.Errorf("%s: %s: %v, want %v", name, v, !want, want)
				}
			}
		}
		if !change.has(Newest) || !change.has(V132) {
			t.Errorf("%s: not in the newest", name)
		}
	}
}
