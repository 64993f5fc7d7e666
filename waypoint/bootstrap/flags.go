package bootstrap

import (
	"fmt"
	"strconv"
	"strings"
)

// Flags are the command line of `proxy waypoint`, with pilot-agent's names and defaults.
type Flags struct {
	Role                   string // always "waypoint"
	Domain                 string // --domain, part of the node ID: <namespace>.svc.<cluster domain>
	MeshConfigFile         string // --meshConfig, default ./etc/istio/config/mesh
	ServiceCluster         string // --serviceCluster, default istio-proxy
	Concurrency            int    // --concurrency, 0: as ProxyConfig or the CPU limit says
	ProxyLogLevel          string // --proxyLogLevel, default warning; may carry scope:level items
	ProxyComponentLogLevel string // --proxyComponentLogLevel; the empty value is legal
	LogOutputLevel         string // --log_output_level scope:level,…
	LogAsJSON              bool   // --log_as_json
	OutlierLogPath         string // --outlierLogPath
}

// ParseFlags reads the arguments after the program name, with or without the leading `proxy`. Flags that
// are not known are reported and skipped, as pilot-agent skips them: charts pass what newer versions need.
func ParseFlags(args []string) (Flags, []Report, error) {
	f := Flags{MeshConfigFile: "./etc/istio/config/mesh", ServiceCluster: defaultServiceCluster, ProxyLogLevel: "warning"}
	var rep reports
	texts := map[string]*string{
		"domain": &f.Domain, "meshConfig": &f.MeshConfigFile, "serviceCluster": &f.ServiceCluster,
		"proxyLogLevel": &f.ProxyLogLevel, "proxyComponentLogLevel": &f.ProxyComponentLogLevel,
		"log_output_level": &f.LogOutputLevel, "outlierLogPath": &f.OutlierLogPath,
	}
	if len(args) > 0 && args[0] == "proxy" {
		args = args[1:]
	}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if !strings.HasPrefix(arg, "-") {
			if f.Role != "" {
				return f, nil, fmt.Errorf("unexpected argument %q after role %q", arg, f.Role)
			}
			f.Role = arg
			continue
		}
		name, value, inline := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		takesNext := !inline && len(args) > 0 && !strings.HasPrefix(args[0], "-")
		switch target, known := texts[name]; {
		case known, name == "concurrency":
			if !inline {
				if len(args) == 0 {
					return f, nil, fmt.Errorf("flag --%s needs a value", name)
				}
				value, args = args[0], args[1:]
			}
			if known {
				*target = value
			} else if n, err := strconv.Atoi(value); err != nil || n < 0 {
				return f, nil, fmt.Errorf("flag --concurrency=%q: want a number of threads, 0 for the default", value)
			} else {
				f.Concurrency = n
			}
		case name == "log_as_json", name == "profiling":
			on, err := true, error(nil)
			if inline {
				if on, err = strconv.ParseBool(value); err != nil {
					return f, nil, fmt.Errorf("flag --%s=%q: want true or false", name, value)
				}
			}
			if name == "log_as_json" {
				f.LogAsJSON = on
			} else if !on {
				rep.add(false, "flag --profiling", value, "profiles are always on the admin port, which listens on loopback only")
			}
		default:
			if takesNext {
				value, args = args[0], args[1:]
			}
			rep.add(false, "flag --"+name, value, "this flag has no effect here")
		}
	}
	if f.Role != "waypoint" {
		return f, nil, fmt.Errorf("role %q is not supported: this program is a waypoint; start it with `proxy waypoint`", f.Role)
	}
	return f, rep.list, nil
}
