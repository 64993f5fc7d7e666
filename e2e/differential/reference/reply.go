package reference

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

// Reply is Envoy's answer to a request.
type Reply struct {
	status  int
	closes  bool
	headers map[string]string // of the echo; by name
}

// read reads one response, of which the body is not wanted.
func (c *Conn) read(head bool) (*Reply, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	fields := bytes.Fields(line)
	if len(fields) < 2 {
		return nil, fmt.Errorf("status line %q", line)
	}
	r := &Reply{headers: make(map[string]string, len(echo))}
	if r.status, err = strconv.Atoi(string(fields[1])); err != nil {
		return nil, err
	}
	length := 0
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case string(name) == "content-length":
			if length, err = strconv.Atoi(string(value)); err != nil {
				return nil, err
			}
		case string(name) == "connection":
			r.closes = string(value) == "close"
		case len(name) == 1:
			r.headers[string(name)] = string(value)
		}
	}
	if !head {
		_, err = c.r.Discard(length)
	}
	return r, err
}

// Malformed is Envoy's reason for refusing to look at a request, "" when its filters saw it.
func (r *Reply) Malformed() string {
	if r.status == 200 || r.status == 403 && strings.HasPrefix(r.headers[detailsHeader], "rbac_") {
		return ""
	}
	return fmt.Sprintf("%d %s", r.status, r.headers[detailsHeader])
}

// Answer is what the chain's filters said.
func (r *Reply) Answer() (pair.Answer, error) {
	a := pair.Answer{Allowed: r.status == 200}
	if !a.Allowed {
		a.Details = r.headers[detailsHeader]
	}
	text := r.headers[rbacHeader]
	if text == "" || text == "-" {
		return a, nil
	}
	var fields map[string]string
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		return a, fmt.Errorf("metadata %q: %w", text, err)
	}
	err := fill(&a, fields)
	return a, err
}

// fill reads the metadata of the RBAC filters.
func fill(a *pair.Answer, fields map[string]string) error {
	for key, value := range fields {
		if len(key) < 3 || key[0] != 'f' || key[1]-'0' >= pair.MaxFilters {
			return fmt.Errorf("metadata has an unexpected key %q", key)
		}
		f := &a.Filters[key[1]-'0']
		switch key[3:] {
		case "enforced_effective_policy_id":
			f.Policy = value
		case "enforced_engine_result":
			f.Result = value
		case "shadow_effective_policy_id":
			f.ShadowPolicy = value
		case "shadow_engine_result":
			f.ShadowResult = value
		default:
			return fmt.Errorf("metadata has an unexpected key %q", key)
		}
	}
	return nil
}

// Unlike tells what Envoy's filters saw otherwise than the view says; "" is nothing.
func (r *Reply) Unlike(v *authz.Request) string {
	var diffs []string
	check := func(what, got, want string) {
		if got != want {
			diffs = append(diffs, fmt.Sprintf("%s: envoy has %q, we have %q", what, got, want))
		}
	}
	check("path", r.headers[pathHeader], ">"+v.Path)
	check("authority", r.headers[hostHeader], ">"+v.Authority)
	check("method", r.headers[methodHeader], ">"+v.Method)
	check("scheme", r.headers[schemeHeader], ">"+v.Scheme)
	if !v.DirectRemoteIP.IsValid() {
		return strings.Join(diffs, "; ") // a Unix socket, which Envoy names by its path
	}
	parts := strings.Split(r.headers[addressesEcho], "|")
	if len(parts) != 4 {
		return fmt.Sprintf("addresses: %q", r.headers[addressesEcho])
	}
	address := func(what, got string, want netip.Addr) {
		if addr, err := netip.ParseAddr(got); err != nil || addr != want {
			check(what, got, want.String())
		}
	}
	address("remote address", parts[0], v.RemoteIP)
	address("direct remote address", parts[1], v.DirectRemoteIP)
	check("destination", parts[2], v.Destination.String())
	check("server name", strings.TrimPrefix(parts[3], "-"), v.ServerName)
	return strings.Join(diffs, "; ")
}
