//go:build envoy

package differential

import (
	"context"
	"errors"
	"testing"
	"time"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
	"github.com/gowaypoint/gowaypoint/e2e/differential/reference"
)

// refusal is who refuses a configuration.
type refusal uint8

const (
	nobody refusal = iota
	both
	onlyUs // and that is named in authz
)

// TestAcceptance compares which configurations are taken at all. What Envoy refuses, authz refuses too.
func TestAcceptance(t *testing.T) {
	header := func(match string) string { return `{"header": {"name": "x-a", ` + match + `}}` }
	regex := func(expr string) string { return header(`"string_match": {"safe_regex": {"regex": "` + expr + `"}}`) }
	template := func(text string) string {
		return `{"uri_template": {"name": "t", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig", "path_template": "` + text + `"}}}`
	}
	for permission, who := range map[string]refusal{
		regex(`a|b`): nobody, regex(`(`): both, regex(`\\x{ff}`): nobody, regex(`\\x{100}`): both, regex(`a**`): both, regex(`(?=a)`): both,
		regex(`a{1001}`): both, regex(`\\pN`): nobody, regex(`\\C`): onlyUs, regex(`a)|(b`): both, regex(`\\Q\\x{100}\\E`): nobody,
		header(`"string_match": {"safe_regex": {"regex": "a"}, "ignore_case": true}`): both,
		header(`"string_match": {"exact": "a", "ignore_case": true}`):                 nobody,
		header(`"string_match": {"prefix": ""}`):                                      both,
		header(`"string_match": {"exact": ""}`):                                       nobody,
		header(`"range_match": {"start": 5, "end": 1}`):                               nobody,
		`{"destination_port_range": {"start": 5, "end": 5}}`:                          both,
		`{"destination_port_range": {"start": -1, "end": 5}}`:                         both,
		`{"destination_port_range": {"start": 0, "end": 65537}}`:                      both,
		`{"destination_port": 65535}`:                                                 nobody,
		`{"destination_port": 65536}`:                                                 both,
		`{"destination_ip": {"address_prefix": "10.0.0.300", "prefix_len": 8}}`:       both,
		`{"destination_ip": {"address_prefix": "10.0.0.1", "prefix_len": 129}}`:       both,
		`{"destination_ip": {"address_prefix": "10.0.0.1", "prefix_len": 33}}`:        nobody,
		`{"any": false}`:   both,
		template("/a=b/*"): nobody, template("/a*b"): nobody, template("/{a=**}.html"): nobody, template("/a b"): both, template("/é"): both,
		template("a"): both, template("/a//b"): both, template("/{a=}"): both, template("/{1a}"): both, template("/**/*"): both,
		template("/{a}/{a}"): both, template("/{a}/{b}/{c}/{d}/{e}/{f}"): both, template("/{abcdefghijklmnopq}"): both, template("/{*}"): both,
		template("/{a=/b}"): both, template("/{a}.{b}"): both, template("/*a/b"): both, template("/a|b"): both,
		template("/a{b}"): onlyUs, template("/***"): onlyUs,
	} {
		rules := &rbacv3.RBAC{}
		if err := protojson.Unmarshal([]byte(`{"policies": {"p": {"principals": [{"any": true}], "permissions": [`+permission+`]}}}`), rules); err != nil {
			t.Fatalf("%s: %v", permission, err)
		}
		s := &pair.Set{Filters: []pair.Filter{{Rules: rules}}}
		_, ours := s.Compile()
		taken, reason := takes(t, s)
		if (ours == nil) != (who == nobody) || taken != (who != both) {
			t.Errorf("%s: envoy takes it: %v (%s); authz: %v", permission, taken, reason, ours)
		}
	}
}

// takes reports whether Envoy takes a set. Some refusals it only logs when it has not logged too many of late: then the time that
// it takes to load any other is waited for.
func takes(t *testing.T, s *pair.Set) (bool, string) {
	t.Helper()
	e := shared(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := e.Load(ctx, []*pair.Set{s})
	var refused *reference.RefusedError
	switch {
	case err == nil:
		return true, ""
	case !errors.As(err, &refused) && ctx.Err() == nil:
		t.Fatal(err)
	}
	if err := e.Load(context.Background(), nil); err != nil { // it goes on with others
		t.Fatal(err)
	}
	return false, err.Error()
}
