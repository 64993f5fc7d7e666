//go:build envoy

package envoy_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/envoy"
)

const hello = `{"static_resources": {"listeners": [{
	"name": "hello",
	"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
	"filter_chains": [{"filters": [{
		"name": "envoy.filters.network.http_connection_manager",
		"typed_config": {
			"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
			"stat_prefix": "hello",
			"http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
			"route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"],
				"routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "hello"}}}]}]}
		}
	}]}]
}]}}`

func TestStartServesAndStops(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	p, err := envoy.Start(ctx, envoy.Config{Bootstrap: []byte(hello)})
	if err != nil {
		t.Fatal(err)
	}
	addr, err := p.ListenerAddress(ctx, "hello")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || string(body) != "hello" {
		t.Errorf("answer %q, error %v; want hello", body, err)
	}
	info, err := p.Admin(ctx, "GET", "/server_info")
	if err != nil || !strings.Contains(string(info), "/"+envoy.Version+"/") {
		t.Errorf("server_info does not name version %s: %s, error %v", envoy.Version, info, err)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if resp, err := http.Get("http://" + addr + "/"); err == nil {
		_ = resp.Body.Close()
		t.Error("it still serves after Stop")
	}
}

func TestBadBootstrapIsReportedWithEnvoysReason(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_, err := envoy.Start(ctx, envoy.Config{Bootstrap: []byte(strings.Replace(hello, `"status": 200`, `"no_such_field": 200`, 1))})
	if err == nil || !strings.Contains(err.Error(), "no_such_field") {
		t.Errorf("error %v; want one that names no_such_field", err)
	}
}
