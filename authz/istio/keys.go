package istio

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	securityv1beta1 "istio.io/api/security/v1beta1"
)

// remoteKeys has Envoy fetch the keys; nil where istiod does.
func (t *Target) remoteKeys(r *securityv1beta1.JWTRule) *jwtv3.RemoteJwks {
	if t.JWKSFetch == FetchByIstiod || r.GetJwksUri() == "" {
		return nil
	}
	host, port, err := keyServer(r.GetJwksUri())
	if err == nil {
		_, err = t.lookUp(host)
	}
	if err != nil && t.JWKSFetch == FetchHybrid {
		return nil
	}
	// With a host that is not of the mesh there is no such cluster, and every token is refused.
	timeout := r.GetTimeout()
	if timeout == nil {
		timeout = &durationpb.Duration{Seconds: 5}
	}
	return &jwtv3.RemoteJwks{
		HttpUri: &corev3.HttpUri{
			Uri: r.GetJwksUri(), HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: outboundCluster(host, uint32(port))}, Timeout: timeout,
		},
		CacheDuration: &durationpb.Duration{Seconds: 300},
	}
}

// keyServer reads host and port of a jwksUri.
func keyServer(uri string) (host string, port int, err error) {
	u, err := url.Parse(uri)
	if err != nil {
		return "", 0, err
	}
	switch u.Scheme {
	case "http":
		port = 80
	case "https":
		port = 443
	default:
		return "", 0, fmt.Errorf("%q is no http or https URL", uri)
	}
	if u.Port() != "" {
		if port, err = strconv.Atoi(u.Port()); err != nil {
			return "", 0, err
		}
	}
	return u.Hostname(), port, nil
}

// discardedKeys stands in for keys that istiod could not fetch. Nobody has the private half, so that no token is valid.
const discardedKeys = `{
  "keys": [
    {
      "kty": "RSA",
      "e": "AQAB",
      "n": "0xObjM0UvS_oaazjpEYlAbwctEJ4L8pH3OuTb7qth7gUwqet-EzQB4dgFdvSdMgrLnSncQGRjpEYz3F3viIbH-3EN3TxSlPNviHxeOdyiBVfumN8dMxbLvVJUpfNOnvmMxJcl-8NNjAwcOjk4otSALaYgYYyOPyvKtgVdrQr-FoubWX4yrjxW-MJ2-7OBeepUUNOsVwGV23YX03sVkkyvY3otRflkBcY3_HKpBxJl9wk2GyOShN4_PNUF9-vwfnvOXMbCDX-w4PTef4geeb_GiT40YCKHTKMSPVanGRn5GExIWmki-mmqh94-mPTJyBR74ShspL3BxPZitDL574T1w"
    }
  ]
}`

// keys are those of the rule itself, or what istiod fetches.
func (a *Authentication) keys(r tokenRule, t *Target) (string, error) {
	if keys := r.GetJwks(); keys != "" && (t.JWKSFetch == FetchByIstiod || r.GetJwksUri() == "") {
		return keys, nil
	}
	keys, err := t.fetchKeys(r.JWTRule)
	if err == nil {
		return keys, nil
	}
	if !t.Version.discardedKey() {
		return "", fmt.Errorf("jwksUri: %w; in their place istiod %s sends a key whose private half is published, with which anybody "+
			"can sign tokens; put the keys into jwks, or use istiod 1.27.8, 1.28.5, 1.29.1, 1.30 or later", err, t.Version)
	}
	a.Notes = append(a.Notes, Note{r.from.Namespace, r.from.Name, fmt.Sprintf("%s: every token of issuer %q is refused: %v", r.path, r.GetIssuer(), err)})
	return discardedKeys, nil
}

func (t *Target) fetchKeys(r *securityv1beta1.JWTRule) (string, error) {
	uri := r.GetJwksUri()
	if t.JWKS == nil {
		return "", errors.New("the keys have not been fetched")
	}
	if uri == "" {
		discovery := strings.TrimSuffix(r.GetIssuer(), "/") + "/.well-known/openid-configuration"
		body, err := t.JWKS(discovery)
		if err != nil {
			return "", fmt.Errorf("no jwksUri, and no OpenID discovery: %w", err)
		}
		var document struct {
			URI string `json:"jwks_uri"`
		}
		if err := json.Unmarshal([]byte(body), &document); err != nil || document.URI == "" {
			return "", fmt.Errorf("%s is no OpenID discovery document with a jwks_uri", discovery)
		}
		uri = document.URI
	}
	return t.JWKS(uri)
}
