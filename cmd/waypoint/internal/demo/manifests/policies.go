package manifests

import (
	"errors"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

// readPolicies reads the AuthorizationPolicies as waypoint authz does. What is wrong with a document as such is told already.
func (r *reader) readPolicies(files []File) []error {
	var sources []manifest.Source
	for _, f := range files {
		sources = append(sources, manifest.Source(f))
	}
	set, err := manifest.Read(sources, manifest.Options{Only: []string{"AuthorizationPolicy"}})
	if err == nil {
		r.policies, r.mesh.Policies = set, set.IstioPolicies()
		return nil
	}
	var all manifest.Errors
	if !errors.As(err, &all) {
		return []error{err}
	}
	var out []error
	for _, e := range all {
		if e.Object != "" && !strings.HasPrefix(e.Field, "metadata") {
			out = append(out, e)
		}
	}
	return out
}
