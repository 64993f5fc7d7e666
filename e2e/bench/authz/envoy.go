package authzbench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/e2e/bench/subject"
	"github.com/gowaypoint/gowaypoint/e2e/envoy"
)

// principalHeader is where a test's request has its principal; Envoy copies it into filter state, where a waypoint has it.
const principalHeader = "x-principal"

// connections are as many as keep one worker busy.
const connections = 8

// Envoy is a running Envoy with a listener for each number of policies, and one without RBAC.
type Envoy struct {
	process *envoy.Process
	address map[int]string
}

// NoRBAC stands for the listener without RBAC, where others have a number of policies.
const NoRBAC = 0

// StartEnvoy runs an Envoy with one worker.
func StartEnvoy(ctx context.Context, sizes []int) (*Envoy, error) {
	var listeners []any
	for _, n := range append([]int{NoRBAC}, sizes...) {
		l, err := listener(n)
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, l)
	}
	bootstrap, err := json.Marshal(map[string]any{"static_resources": map[string]any{"listeners": listeners}})
	if err != nil {
		return nil, err
	}
	p, err := envoy.Start(ctx, envoy.Config{Bootstrap: bootstrap})
	if err != nil {
		return nil, err
	}
	e := &Envoy{process: p, address: map[int]string{}}
	for _, n := range append([]int{NoRBAC}, sizes...) {
		if e.address[n], err = p.ListenerAddress(ctx, listenerName(n)); err != nil {
			return nil, errors.Join(err, p.Stop())
		}
	}
	return e, nil
}

// Stop ends it.
func (e *Envoy) Stop() error { return e.process.Stop() }

func listenerName(n int) string { return fmt.Sprintf("policies-%d", n) }

func listener(n int) (any, error) {
	type object = map[string]any
	typed := func(name, typ string, config object) object {
		config["@type"] = "type.googleapis.com/" + typ
		return object{"name": name, "typed_config": config}
	}
	filters := []object{typed("principal", "envoy.extensions.filters.http.set_filter_state.v3.Config", object{
		"on_request_headers": []object{{
			"object_key": authz.PeerPrincipal, "factory_key": "envoy.string",
			"format_string": object{"text_format_source": object{"inline_string": "%REQ(" + principalHeader + ")%"}},
		}},
	})}
	if n != NoRBAC {
		rules, err := toJSON(RBAC(Rules(n)))
		if err != nil {
			return nil, err
		}
		filters = append(filters, typed("rbac", "envoy.extensions.filters.http.rbac.v3.RBAC", object{"rules": rules}))
	}
	filters = append(filters, typed("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", object{}))
	return object{
		"name":    listenerName(n),
		"address": object{"socket_address": object{"address": "127.0.0.1", "port_value": 0}},
		"filter_chains": []object{{"filters": []object{typed("hcm", "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", object{
			"stat_prefix": listenerName(n), "http_filters": filters,
			"route_config": object{"virtual_hosts": []object{{"name": "all", "domains": []string{"*"}, "routes": []object{{
				"match": object{"prefix": "/"}, "direct_response": object{"status": http.StatusOK, "body": object{"inline_string": "ok"}},
			}}}}},
		})}}},
	}, nil
}

func toJSON(rules *rbacv3.RBAC) (json.RawMessage, error) { return protojson.Marshal(rules) }

// Decide asks the listener with n policies.
func (e *Envoy) Decide(n int, r Request) (bool, error) {
	c, err := dial(e.address[n], r)
	if err != nil {
		return false, err
	}
	defer c.close()
	return c.ask()
}

// Cost is what requests cost Envoy.
type Cost struct {
	Requests int64
	CPU      time.Duration // of the process, user and system
}

// PerRequest is the processor time of one.
func (c Cost) PerRequest() time.Duration { return c.CPU / time.Duration(max(c.Requests, 1)) }

// Measure asks for Match in a closed loop during the window, after a fifth of it for warming up.
func (e *Envoy) Measure(ctx context.Context, n int, window time.Duration) (Cost, error) {
	var requests atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	errs := make(chan error, connections)
	for range connections {
		c, err := dial(e.address[n], Match)
		if err != nil {
			return Cost{}, err
		}
		defer c.close()
		wg.Go(func() {
			for !stop.Load() {
				if allowed, err := c.ask(); err != nil || !allowed {
					errs <- fmt.Errorf("envoy with %d policies: allowed %v, %w", n, allowed, err)
					return
				}
				requests.Add(1)
			}
		})
	}
	wait := func(d time.Duration) (int64, time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		cpu, err := subject.CPU(e.process.PID())
		if err != nil {
			errs <- err
		}
		return requests.Load(), cpu
	}
	began, cpuBegan := wait(window / 5)
	ended, cpuEnded := wait(window)
	stop.Store(true)
	wg.Wait()
	select {
	case err := <-errs:
		return Cost{}, err
	default:
	}
	return Cost{ended - began, cpuEnded - cpuBegan}, context.Cause(ctx)
}

// client is one kept connection, and the request that it repeats.
type client struct {
	conn net.Conn
	r    *bufio.Reader
	text []byte
}

// answerTimeout is far more than any answer takes, 10,000 policies on a loaded machine included.
const answerTimeout = 30 * time.Second

func dial(address string, r Request) (*client, error) {
	conn, err := net.DialTimeout("tcp", address, answerTimeout)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: shop:8080\r\n", r.Method, r.Path)
	if r.Principal != "" {
		text += principalHeader + ": " + r.Principal + "\r\n"
	}
	return &client{conn, bufio.NewReader(conn), []byte(text + "\r\n")}, nil
}

func (c *client) close() { _ = c.conn.Close() } // nothing is under way

func (c *client) ask() (allowed bool, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return false, err
	}
	if _, err := c.conn.Write(c.text); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return false, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close() // read to its end
	switch resp.StatusCode {
	case http.StatusOK:
		return true, err
	case http.StatusForbidden:
		return false, err
	}
	return false, errors.Join(err, fmt.Errorf("status %d", resp.StatusCode))
}
