//go:build envoy

package differential

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"

	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
	"github.com/gowaypoint/gowaypoint/e2e/differential/reference"
)

// modes are the listeners with Istio's four settings of pathNormalization.
var modes = map[string]string{"none": "NONE", "base": "BASE", "merge": "MERGE_SLASHES", "decode": "DECODE_AND_MERGE_SLASHES"}

// TestPathNormalization asks Envoy for the path that its filters see, in all modes of Istio, and holds authz/pathnorm against it.
func TestPathNormalization(t *testing.T) {
	ctx := context.Background()
	e := shared(t)
	nothing := &pair.Set{Filters: []pair.Filter{{Rules: &rbacv3.RBAC{Action: rbacv3.RBAC_DENY}}}}
	if err := e.Load(ctx, []*pair.Set{nothing}); err != nil {
		t.Fatal(err)
	}
	loopback := netip.MustParseAddr("127.0.0.1")
	for i := range pair.Listeners {
		l := &pair.Listeners[i]
		mode, ok := modes[l.Name]
		if !ok {
			continue
		}
		t.Run(mode, func(t *testing.T) {
			c := &pair.Conn{Listener: l, Source: loopback, Destination: loopback}
			var questions []reference.Question
			for _, target := range targets() {
				questions = append(questions, reference.Question{Request: &pair.Request{HTTP: true, Method: "GET", Target: target, Host: "h"}})
			}
			seen, refused := 0, map[string]int{}
			err := e.Ask(ctx, c, questions, func(q reference.Question, reply *reference.Reply) {
				view, ok := q.Request.View(c, e.Port(l))
				why := reply.Malformed()
				switch {
				case why == "":
					seen++
					if !ok {
						t.Errorf("%q: envoy sees %s, pathnorm refuses it", q.Request.Target, reply.Unlike(view))
					} else if unlike := reply.Unlike(view); unlike != "" {
						t.Errorf("%q: %s", q.Request.Target, unlike)
					}
				case strings.Contains(why, "path_normalization_failed"):
					refused[why]++
					if ok {
						t.Errorf("%q: envoy cannot normalise it, pathnorm says %q", q.Request.Target, view.Path)
					}
				default: // refused by the parser, whatever the mode: not a path
					refused[why]++
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d paths seen alike; refused: %v", seen, refused)
			if seen < 2000 {
				t.Errorf("only %d paths came to the filters", seen)
			}
		})
	}
}

// targets are every byte, as it is and escaped in both spellings, in the places where it may matter, and all the ways in which
// dots, slashes, escapes, parameters, fragments and queries may stand together.
func targets() []string {
	var all []string
	for b := range 256 {
		for _, escape := range []string{"%%%02x", "%%%02X"} {
			s := fmt.Sprintf(escape, b)
			all = append(all, "/x"+s+"y", "/"+s, "/a/"+s+"/b", "/a"+s+"../b", "/%"+s, "/%4"+s, "/?"+s)
		}
		if b > 0x20 && b != 0x7f {
			all = append(all, "/x"+string([]byte{byte(b)})+"y")
		}
	}
	pieces := []string{"/", "//", ".", "..", "%2e", "%2E%2e", "a", "%2f", "%5C", `\`, ";", "%3b", "?", "#", "%", "%2", "%zz", "%25", "%00"}
	for _, a := range pieces {
		for _, b := range pieces {
			for _, c := range pieces {
				all = append(all, "/"+a+b+c, "/a/"+a+b+c+"/d")
			}
		}
	}
	return append(all, "/%/..%41", "/%/../bc%41", "/x%/../y%4%31", "/a/%/../..;/%%34e", "/a/..;x/b%2%36", "*", "/%252e%252e/", "/%252f", "/..;x/..;/b", "/a/../../../b", "/.../a", "/a?b/../c//d%2f#e", "/a/b/..?..", "/a b")
}
