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

func TestAcceptProbe(t *testing.T) {
	ctx := context.Background()
	e, err := reference.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	for _, tpl := range []string{"/a=b", "/a=b/*", "/a*b", "/{a=**}.html", "/*.html", "/**.html", "/a%2f", "/a b", "/é", "/a{b}", "/{b}c", "/", "a", "/a//b", "/{a=}", "/{a=*}", "/{a_b}", "/{1a}", "/{a=b}", "/{a=b/**}", "/**/*", "/*/**/x", "/{a}/{a}", "/{a}/{b}/{c}/{d}/{e}/{f}", "/{abcdefghijklmnop}", "/{abcdefghijklmnopq}", "/a?b", "/a#b", "/***", "/{*}", "/a/{**}", "/*x*", "/**/a/b", "/a+b", "/{a=**}/b", "/{a=*/b}/c", "/{a=/b}", "/{a}.{b}", "/{a=x*}", "/a/", "//", "/{a=**/x}", "/*/", "/{a=*}{b=*}", "/**/", "/**a", "/**/{x}", "/[a]", "/a\\\\b", "/a|b", "/~", "/a;b", "/a@b:c", "/a'b(c)", "/a$b&c+d,e!", "/a^b", "/a%zz", "/*a/b", "/{x}/a*"} {
		rules := &rbacv3.RBAC{}
		if err := protojson.Unmarshal([]byte(`{"policies": {"p": {"principals": [{"any": true}], "permissions": [{"uri_template": {"name": "t", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig", "path_template": "`+tpl+`"}}}]}}}`), rules); err != nil {
			t.Fatal(err)
		}
		s := &pair.Set{Filters: []pair.Filter{{Rules: rules}}}
		_, ours := s.Compile()
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		err := e.Load(ctx, []*pair.Set{s})
		cancel()
		var refused *reference.RefusedError
		if (ours == nil) != (err == nil) {
			t.Logf("%s: ours %v, envoy %v (%v)", tpl, ours, err != nil, errors.As(err, &refused))
		}
		if e.Load(context.Background(), nil) != nil {
			t.Fatal("dead")
		}
	}
}
