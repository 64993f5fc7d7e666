package istio

import (
	"fmt"
	"strconv"
	"strings"
)

// Version is a release of istiod, whose output is made. The zero value is the newest that is known.
//
// Which release brought which difference was read off the sources of every release from 1.24.0 to 1.31.0-rc.0. Against
// the builders of V124, V127 and V132 themselves the output is tested, policy by policy.
type Version uint16

// The releases that the output is tested against: 1.24.0, 1.27.0, and the main branch of August 2026 (1.31, 1.32).
const (
	Newest Version = 0
	V124   Version = 24 << 8
	V127   Version = 27 << 8
	V132   Version = 32 << 8
)

// oldest is the first release with waypoints for services as they are today.
const oldest = V124

// ParseVersion reads a release such as "1.27.3", "v1.27" or "1.29.1-distroless"; "" is the newest. Without a patch level
// it is the first release of its line. A line newer than the newest known one is taken for that; one before 1.24 is an error.
func ParseVersion(s string) (Version, error) {
	if s == "" {
		return Newest, nil
	}
	number, _, _ := strings.Cut(strings.TrimPrefix(s, "v"), "-")
	parts := strings.Split(number, ".")
	bad := fmt.Errorf("version %q: want one such as 1.27.3", s)
	if len(parts) < 2 || len(parts) > 3 {
		return 0, bad
	}
	var n [3]uint64
	for i, p := range parts {
		var err error
		if n[i], err = strconv.ParseUint(p, 10, 16); err != nil {
			return 0, bad
		}
	}
	if n[0] != 1 {
		return 0, bad
	}
	v := Version(min(n[1], 255)<<8 | min(n[2], 255))
	if v < oldest {
		return 0, fmt.Errorf("version %q: istiod before 1.24 configures waypoints in another way, which is not known here", s)
	}
	return min(v, V132), nil
}

// String gives the release, such as 1.27.3.
func (v Version) String() string {
	v = v.resolve()
	return fmt.Sprintf("1.%d.%d", v>>8, v&0xff)
}

func (v Version) resolve() Version {
	if v == Newest {
		return V132
	}
	return v
}

// since tells whether a change that came with 1.minor.patch is in. Fixes that went into older lines as well are listed
// with each of them, the oldest first; a line after the last of them has it from the start.
func (v Version) since(releases ...Version) bool {
	v = v.resolve()
	for _, r := range releases {
		if v>>8 == r>>8 {
			return v >= r
		}
	}
	return v > releases[len(releases)-1]
}

func release(minor, patch Version) Version { return minor<<8 | patch }

// serviceAccounts tells whether a policy may name service accounts.
func (v Version) serviceAccounts() bool { return v.since(release(25, 0)) }

// trustDomains tells whether a policy may name trust domains.
func (v Version) trustDomains() bool { return v.since(release(30, 2)) }

// ownNamespaces tells whether a policy that names a Gateway has to be in the Gateway's namespace, and whether one in the
// root namespace may name the class. Before, a service's chains had the policies of the service's namespace alone, and a
// Gateway was looked for by its name, whatever its namespace.
func (v Version) ownNamespaces() bool { return v.since(release(25, 0)) }

// strictTemplates tells whether {**} has to come last in a path, and what stands between must be path characters.
func (v Version) strictTemplates() bool { return v.since(release(25, 0)) }

// quotesAccounts and quotesAll tell whether the names of a policy are quoted when they become part of a regular
// expression (CVE-2026-39350): first those of service accounts, then those of namespaces and principals.
func (v Version) quotesAccounts() bool {
	return v.since(release(27, 9), release(28, 6), release(29, 2))
}

// The releases that quote, for people.
const (
	quotesAccountsSince = "1.27.9, 1.28.6, 1.29.2, 1.30"
	quotesAllSince      = "1.28.7, 1.29.3, 1.30"
)

func (v Version) quotesAll() bool { return v.since(release(28, 7), release(29, 3)) }

// manyProviders tells whether the policies of action CUSTOM are grouped by their provider, whose name is in their keys.
func (v Version) manyProviders() bool { return v.since(release(30, 0)) }

// spaceDelimitedClaims tells whether a RequestAuthentication may name claims that are lists with spaces between.
func (v Version) spaceDelimitedClaims() bool { return v.since(release(28, 0)) }

// discardedKey tells whether the key set that stands in for one that istiod could not fetch has a private half which
// nobody has. Before, its private half stood in istiod's source.
func (v Version) discardedKey() bool {
	return v.since(release(27, 8), release(28, 5), release(29, 1))
}

// ztunnelDryRun tells whether istiod reads the dry-run annotation before it sends a policy to ztunnel.
func (v Version) ztunnelDryRun() bool { return v.since(release(29, 0)) }
