package demo

// step is a set of manifests, the default ones without one file and with others, and what is asked while it is in force.
type step struct {
	title   string
	without string
	with    []string
	probes  []probe
}

// probe is a request and the answer that it has to get. The expectations follow from the manifests by the documentation of
// AuthorizationPolicy and HTTPRoute; nothing of them is computed from what the waypoint answers.
type probe struct {
	method, path string
	as           string // "" : curl
	header       map[string]string

	wantStatus  int
	wantBody    string
	anyOf       bool // wantBody is one of the answers that load balancing gives
	wantDetails string
}

const (
	denied   = "RBAC: access denied"
	noAllow  = "rbac_access_denied_matched_policy[none]"
	upstream = "via_upstream"
)

func get(version string) probe {
	return probe{method: "GET", path: "/hello", wantStatus: 200, wantBody: "Hello version: " + version, anyOf: true, wantDetails: upstream}
}

func refused(method string) probe {
	return probe{method: method, path: "/hello", wantStatus: 403, wantBody: denied, wantDetails: noAllow}
}

func passes(method string) probe {
	return probe{method: method, path: "/hello", wantStatus: 200, wantBody: "Hello version: v", wantDetails: upstream}
}

func by(as string, p probe) probe {
	p.as = as
	return p
}

var scenario = []step{
	{title: "everybody may GET (policy.yaml)", probes: []probe{
		get("v1"), get("v2"), refused("POST"), refused("PUT"), refused("DELETE"), refused("PATCH"), refused("HEAD"),
	}},
	{title: "no policy", without: "policy.yaml", probes: []probe{
		get("v1"), get("v2"), passes("POST"), passes("PUT"), passes("DELETE"), passes("HEAD"),
	}},
	{title: "admin may POST too (admin-may-post.yaml)", with: []string{"admin-may-post.yaml"}, probes: []probe{
		get("v1"), refused("POST"), by("admin", passes("POST")), by("admin", refused("DELETE")), by("admin", passes("GET")),
	}},
	{title: "nobody but admin sees /internal (deny-internal.yaml)", with: []string{"deny-internal.yaml"}, probes: []probe{
		get("v1"),
		{method: "GET", path: "/internal/x", wantStatus: 403, wantBody: denied,
			wantDetails: "rbac_access_denied_matched_policy[ns[default]-policy[deny-internal]-rule[0]]"},
		{method: "GET", path: "/a/../internal/x", wantStatus: 403, wantBody: denied,
			wantDetails: "rbac_access_denied_matched_policy[ns[default]-policy[deny-internal]-rule[0]]"},
		{method: "GET", path: "/internal/x", as: "admin", wantStatus: 200, wantBody: "GET /internal/x", wantDetails: upstream},
	}},
	{title: "routes by header and path (route-by-header.yaml)", with: []string{"route-by-header.yaml"}, probes: []probe{
		{method: "GET", path: "/hello", wantStatus: 200, wantBody: "Hello version: v1", wantDetails: upstream},
		{method: "GET", path: "/hello", header: map[string]string{"x-version": "v2"}, wantStatus: 200, wantBody: "Hello version: v2", wantDetails: upstream},
		{method: "GET", path: "/hello", header: map[string]string{"x-version": "v3"}, wantStatus: 200, wantBody: "Hello version: v1", wantDetails: upstream},
		{method: "GET", path: "/api/users", wantStatus: 200, wantBody: "GET /users", wantDetails: upstream},
		{method: "GET", path: "/old/page", wantStatus: 301, wantBody: "/hello", wantDetails: "direct_response"},
		{method: "POST", path: "/old/page", wantStatus: 403, wantBody: denied, wantDetails: noAllow},
	}},
	{title: "only from addresses of pods (deny-strangers.yaml)", with: []string{"deny-strangers.yaml"}, probes: []probe{
		passes("GET"), refused("POST"),
	}},
	{title: "everybody may GET, again", probes: []probe{get("v1"), get("v2"), refused("POST")}},
}
