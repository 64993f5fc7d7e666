//go:build envoy

package differential

import (
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

// TestRegexInLatin1 compares what Go's regexp and Envoy's RE2 would differ in: characters above ASCII, and (?i) about them.
func TestRegexInLatin1(t *testing.T) {
	exprs := []string{
		`(?i)\xe9`, `(?i)é`, `(?i)日`, `(?i)[\xe9]`, `(?i)[^\xe9]`, `(?i)[\xe0-\xfe]`, `(?i)[\xc0-\xd6]`, `(?i)(\xe9|a)+`, `(?i)a|\xe9?`, `\xe9|\xc9`,
		`\pL`, `\PL`, `(?i)\p{Lu}`, `(?i)\P{Lu}`, `(?i)[\P{Lu}]`, `(?i)[[:^upper:]]`, `\p{Greek}`, `(?i)\p{Greek}`, `(?i)k`, `(?i)[^k]`, `(?i)[r-t]`,
		`(?i)\xb5`, `(?i)[\xdf\xff]`, `\W`, `(?i)[^a-z]`, `(?s).`, `[\x{80}-\x{ff}]+`, `(?i)\Q\xe9\E`, `(?i:\xe9)K`, `(?i)(?-i)K`,
	}
	values := []string{"\xe9", "\xc9", "é", "É", "日", "\xc6\x97\xa5", "k", "K", "s", "a", "\xb5", "\xff", "\xdf", "\xe5", "\xd7", "_", "\xe9K", `\xE9`}
	conn := connTo("base")
	for _, expr := range exprs {
		text := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: expr}}}
		header := &routev3.HeaderMatcher{Name: "x-a", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: text}}
		s := &pair.Set{Filters: []pair.Filter{{Rules: &rbacv3.RBAC{Policies: map[string]*rbacv3.Policy{"p": {
			Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Any{Any: true}}},
			Principals:  []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Header{Header: header}}},
		}}}}}}
		compiled, err := s.Compile()
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			request := &pair.Request{HTTP: true, Method: "GET", Target: "/", Host: "h", Lines: []pair.Line{{Name: "x-a", Value: v}}}
			envoy := ask(t, s, conn, request)
			view, _ := request.View(conn, 0)
			if ours, err := compiled.Decide(view, true); err != nil || ours != envoy {
				t.Errorf("%s on %q: envoy says %+v, authz %+v, %v", expr, v, envoy, ours, err)
			}
		}
	}
}
