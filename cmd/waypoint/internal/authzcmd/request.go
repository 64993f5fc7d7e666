package authzcmd

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gowaypoint/gowaypoint/authz/x/query"
)

// requestFlags are the flags that say what is asked. They are those of query.Query.Args.
type requestFlags struct {
	query.Query
	headers                         []string
	metadata                        []string
	token                           string
	sourceIP, remoteIP, destination string
}

func (r *requestFlags) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&r.Source, "source", "", "identity of the client, such as spiffe://cluster.local/ns/shop/sa/web; without it a client without identity")
	f.StringVar(&r.Method, "method", "GET", "HTTP method")
	f.StringVar(&r.Path, "path", "/", "path as the client sends it, with its query")
	f.StringVar(&r.Host, "host", "", "Host header (:authority), with its port if it has one")
	f.StringVar(&r.Scheme, "scheme", "http", "http or https")
	f.StringArrayVar(&r.headers, "header", nil, `header line "name: value" (repeatable, also for one name)`)
	f.StringVar(&r.token, "jwt", "", "JSON web token: the token itself, its claims as JSON, or a file with either")
	f.Uint16Var(&r.Port, "port", 0, "port of the Service that the client dials")
	f.StringVar(&r.sourceIP, "source-ip", "", "address of the client")
	f.StringVar(&r.remoteIP, "remote-ip", "", "address of the client as trusted X-Forwarded-For says; by default --source-ip")
	f.StringVar(&r.destination, "destination-ip", "", "address of the Service that the client dials")
	f.StringVar(&r.ServerName, "sni", "", "server name of the client's TLS hello")
	f.StringArrayVar(&r.metadata, "metadata", nil, `metadata of an Envoy filter, "<filter>=<JSON object>" (for experimental.envoy.filters conditions)`)
}

// httpFlags are about an HTTP request.
var httpFlags = []string{"method", "path", "host", "scheme", "header", "jwt"}

// read checks the flags and fills in the query; the token is read later.
func (r *requestFlags) read(c *cobra.Command, tcp bool) error {
	var errs []error
	address := func(flag, text string, into *netip.Addr) {
		if text == "" {
			return
		}
		a, err := netip.ParseAddr(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %q is no IP address", flag, text))
		}
		*into = a
	}
	address("source-ip", r.sourceIP, &r.SourceIP)
	address("remote-ip", r.remoteIP, &r.RemoteIP)
	address("destination-ip", r.destination, &r.DestinationIP)
	for _, line := range r.headers {
		if err := r.header(line); err != nil {
			errs = append(errs, err)
		}
	}
	for _, text := range r.metadata {
		if err := r.filterMetadata(text); err != nil {
			errs = append(errs, err)
		}
	}
	if !strings.HasPrefix(r.Path, "/") && r.Path != "*" && r.Method != "CONNECT" {
		errs = append(errs, pathProblem(r.Path))
	}
	if tcp {
		for _, flag := range httpFlags {
			if c.Flags().Changed(flag) {
				errs = append(errs, fmt.Errorf("--%s: a TCP connection has none; leave it out, or leave out --tcp", flag))
			}
		}
	}
	return errors.Join(errs...)
}

// pathProblem says what is wrong with a path without a slash at its start, and what was probably meant.
func pathProblem(path string) error {
	if u, err := url.Parse(path); err == nil && u.Host != "" {
		return fmt.Errorf("--path: %q is a whole URL; say --host %s --path %s", path, u.Host, cmp.Or(u.RequestURI(), "/"))
	}
	return fmt.Errorf("--path: %q does not begin with a slash; say --path /%s", path, path)
}

// identityForm is that in which all identities of a mesh are.
var identityForm = regexp.MustCompile(`^[^/]+/ns/[^/]+/sa/[^/]+$`)

// oddities are about what was given and is probably not meant. Policies are asked with it all the same.
func (r *requestFlags) oddities() []string {
	var out []string
	if id := strings.TrimPrefix(r.Source, spiffe); id != "" && !identityForm.MatchString(id) {
		out = append(out, fmt.Sprintf("--source %s is not the identity of a workload, which is <trust domain>/ns/<namespace>/sa/<service account>, such as cluster.local/ns/shop/sa/web", r.Source))
	}
	if strings.ContainsAny(r.Host, "/ ") {
		out = append(out, fmt.Sprintf("--host %s is not a host, which is a name or an address, with a port where it is not the usual one", r.Host))
	}
	return out
}

func (r *requestFlags) header(line string) error {
	name, value, ok := strings.Cut(strings.TrimPrefix(line, ":"), ":")
	if !ok || strings.TrimSpace(name) == "" {
		return fmt.Errorf(`--header: %q; want "name: value"`, line)
	}
	name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
	pseudo := strings.HasPrefix(line, ":")
	switch {
	case name == "host" || pseudo && name == "authority":
		if r.Host != "" && r.Host != value {
			return fmt.Errorf("--header: a second host, %q; a request has one", value)
		}
		r.Host = value
	case pseudo:
		return fmt.Errorf("--header: :%s; say it with --%s", name, name)
	default:
		r.Headers = append(r.Headers, query.Header{Name: name, Value: value})
	}
	return nil
}

func (r *requestFlags) filterMetadata(text string) error {
	filter, value, ok := strings.Cut(text, "=")
	object, err := jsonObject(value)
	if !ok || err != nil {
		return fmt.Errorf(`--metadata: %q; want "<filter>={…}"`, text)
	}
	if r.Metadata == nil {
		r.Metadata = map[string]map[string]any{}
	}
	r.Metadata[filter] = object
	return nil
}
