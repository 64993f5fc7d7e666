package authzcmd

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

// token is a JSON web token as it was given: its claims, of which the signature was not verified.
type token struct {
	claims map[string]any
	signed bool  // it came as a token, not as claims
	bad    error // it cannot be decoded
}

// readToken takes claims as JSON, a token, or the name of a file with either.
func readToken(text string) (*token, error) {
	text = strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(text, "{"):
		claims, err := jsonObject(text)
		if err != nil {
			return nil, fmt.Errorf("--jwt: claims: %w", err)
		}
		return &token{claims: claims}, nil
	case looksLikeToken(text):
		claims, err := decodeToken(text)
		return &token{claims: claims, signed: true, bad: err}, nil
	}
	data, err := os.ReadFile(text)
	if err != nil {
		return nil, fmt.Errorf("--jwt: neither claims ({…}), nor a token (three parts with dots between), nor a file that can be read: %w", err)
	}
	content := strings.TrimSpace(string(data))
	if !strings.HasPrefix(content, "{") && !looksLikeToken(content) {
		return nil, fmt.Errorf("--jwt: %s holds neither claims ({…}) nor a token", text)
	}
	return readToken(content)
}

// looksLikeToken wants three parts of base64url; a file's name hardly has that form.
func looksLikeToken(s string) bool {
	return strings.Count(s, ".") == 2 && strings.HasPrefix(s, "eyJ") && !strings.ContainsAny(s, "/\\ ")
}

func decodeToken(s string) (map[string]any, error) {
	parts := strings.Split(s, ".")
	for i, name := range []string{"header", "payload"} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil, fmt.Errorf("its %s is not base64url: %w", name, err)
		}
		object, err := jsonObject(string(raw))
		if err != nil {
			return nil, fmt.Errorf("its %s is not JSON: %w", name, err)
		}
		if name == "payload" {
			return object, nil
		}
	}
	return nil, errors.New("no payload")
}

// jsonObject decodes one JSON object and nothing after it.
func jsonObject(text string) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	var out map[string]any
	if err := d.Decode(&out); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF || out == nil {
		return nil, errors.New("want one JSON object and nothing after it")
	}
	return out, nil
}

// skew is how far a token's times may be off: Envoy's jwt_authn default.
const skew = time.Minute

// authenticate does what the waypoint's JWT filter does with the token, save for the signature. Status is the answer's when the
// token is refused, which it is before any policy is asked; 0 when it goes on. Claims are as policies see them.
func authenticate(t *token, rules []jwtRule, now time.Time) (claims map[string]any, status int, why string) {
	if t.bad != nil {
		return nil, 401, "the token cannot be decoded: " + t.bad.Error()
	}
	claims = t.claims
	if len(rules) > 0 {
		rule, known := find(rules, claims["iss"])
		if !known {
			return nil, 401, fmt.Sprintf("no RequestAuthentication knows the token's issuer %s; known are %s", show(claims["iss"]), issuers(rules))
		}
		if !rule.accepts(claims["aud"]) {
			return nil, 403, fmt.Sprintf("the token's audience %s is none of %s's (%s)", show(claims["aud"]), rule.from, strings.Join(rule.audiences, ", "))
		}
	}
	if when, ok := claims["exp"].(float64); ok && now.After(seconds(when).Add(skew)) {
		return nil, 401, "the token expired at " + seconds(when).UTC().Format(time.RFC3339)
	}
	if when, ok := claims["nbf"].(float64); ok && now.Before(seconds(when).Add(-skew)) {
		return nil, 401, "the token is not valid before " + seconds(when).UTC().Format(time.RFC3339)
	}
	return spaceDelimited(claims, rules), 0, ""
}

func seconds(s float64) time.Time { return time.Unix(int64(s), 0) }

func show(v any) string {
	if v == nil {
		return "(none)"
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// jwtRule is what of a RequestAuthentication's rule matters without its keys.
type jwtRule struct {
	from      string // for messages
	issuer    string
	audiences []string
	lists     []string // claims that are lists with spaces between
	header    bool     // a claim is copied to a header
}

// jwtRules are those of the RequestAuthentications that apply to the target.
func jwtRules(set *manifest.Set, target *manifest.Target) []jwtRule {
	var out []jwtRule
	for i := range set.Authentications {
		a := &set.Authentications[i]
		if !target.Names(a.Namespace, a.Spec) {
			continue
		}
		for j, r := range a.Spec.GetJwtRules() {
			out = append(out, jwtRule{
				from:   fmt.Sprintf("RequestAuthentication %s/%s jwtRules[%d]", a.Namespace, a.Name, j),
				issuer: r.GetIssuer(), audiences: r.GetAudiences(), lists: r.GetSpaceDelimitedClaims(), header: len(r.GetOutputClaimToHeaders()) > 0,
			})
		}
	}
	return out
}

func find(rules []jwtRule, issuer any) (jwtRule, bool) {
	i := slices.IndexFunc(rules, func(r jwtRule) bool { return r.issuer == issuer })
	if i < 0 {
		return jwtRule{}, false
	}
	return rules[i], true
}

func issuers(rules []jwtRule) string {
	var out []string
	for _, r := range rules {
		out = append(out, fmt.Sprintf("%q", r.issuer))
	}
	return strings.Join(out, ", ")
}

// accepts compares audiences as Envoy does: without a scheme and a final slash.
func (r *jwtRule) accepts(aud any) bool {
	if len(r.audiences) == 0 {
		return true
	}
	list, ok := aud.([]any)
	if !ok {
		list = []any{aud}
	}
	return slices.ContainsFunc(list, func(one any) bool {
		text, ok := one.(string)
		return ok && slices.ContainsFunc(r.audiences, func(want string) bool { return plainAudience(want) == plainAudience(text) })
	})
}

func plainAudience(s string) string {
	for _, scheme := range []string{"http://", "https://"} {
		s = strings.TrimPrefix(s, scheme)
	}
	return strings.TrimSuffix(s, "/")
}

// spaceDelimited makes lists of the claims that istiod has Envoy read so: scope, permission, and what a rule names.
func spaceDelimited(claims map[string]any, rules []jwtRule) map[string]any {
	names := []string{"scope", "permission"}
	if rule, ok := find(rules, claims["iss"]); ok {
		names = append(names, rule.lists...)
	}
	out := map[string]any{}
	for name, value := range claims {
		if text, ok := value.(string); ok && slices.Contains(names, name) {
			list := []any{}
			for _, one := range strings.Fields(text) {
				list = append(list, one)
			}
			value = list
		}
		out[name] = value
	}
	return out
}
