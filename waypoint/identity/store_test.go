package identity

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
)

func TestXDSSecrets(t *testing.T) {
	ca := newTestCA(t, "web", nil)
	s := NewStore(StoreOptions{})
	var changes atomic.Int64
	cancel := s.Subscribe(func(name string) {
		if name != "kubernetes://ns/cred" {
			t.Errorf("told of %q", name)
		}
		changes.Add(1)
	})
	defer cancel()
	s.Require("kubernetes://ns/cred")
	s.Require("invalid://backend")
	if s.Ready("kubernetes://ns/cred") || s.Ready("invalid://backend") || s.Ready("never-heard-of") {
		t.Error("ready too early")
	}
	chain, key := ca.issue(t, leaf{dns: []string{"a"}})
	sec := certificateSecret("kubernetes://ns/cred", chain, key)
	for range 2 { // istiod re-sends what has not changed
		wantError(t, s.SetXDS("kubernetes://ns/cred", "v1", sec), "")
	}
	if changes.Load() != 1 {
		t.Errorf("%d notifications for one change", changes.Load())
	}
	if !s.Ready("kubernetes://ns/cred") {
		t.Error("not ready")
	}

	bad := certificateSecret("kubernetes://ns/cred", chain, []byte("no key"))
	wantError(t, s.SetXDS("kubernetes://ns/cred", "v2", bad), `secret "kubernetes://ns/cred": tls_certificate`)
	if !s.Ready("kubernetes://ns/cred") {
		t.Error("a refused update took the good version away")
	}
	wantError(t, s.SetXDS(TrustBundle, "v1", anchorSecret(TrustBundle, ca.pem, nil)), "served locally")
	wantError(t, s.SetXDS("x", "v1", &tlsv3.Secret{Type: &tlsv3.Secret_GenericSecret{GenericSecret: &tlsv3.GenericSecret{}}}), "generic_secret")

	text := protojson.Format(s.Secrets()[1].Secret)
	if strings.Contains(text, "PRIVATE KEY") || !strings.Contains(text, "W3JlZGFjdGVkXQ==") {
		t.Errorf("dump shows %s", text)
	}
	var rows []string
	for _, st := range s.Secrets() {
		rows = append(rows, st.Name+" "+st.Version)
	}
	if got := strings.Join(rows, ", "); got != "invalid://backend uninitialized, kubernetes://ns/cred v1" {
		t.Error(got)
	}
	if err := s.Missing()["invalid://backend"]; err == nil || !strings.Contains(err.Error(), "could not resolve the reference") {
		t.Errorf("missing: %v", err)
	}

	s.RemoveXDS("kubernetes://ns/cred")
	wantError(t, s.Err("kubernetes://ns/cred"), "removed by the control plane")
	if changes.Load() != 2 {
		t.Error("removal was not told")
	}
}

func TestPrivateKeyIsNotKeptInDump(t *testing.T) {
	s := newWorkload(t, newTestCA(t, "mesh", nil), waypointID)
	for _, st := range s.Secrets() {
		raw := st.Secret.String()
		if strings.Contains(raw, "PRIVATE") {
			t.Errorf("%s: %s", st.Name, raw)
		}
	}
}

func TestTrustBundleMerges(t *testing.T) {
	a, b := newTestCA(t, "a", nil), newTestCA(t, "b", nil)
	s := NewStore(StoreOptions{})
	if s.SetExtraAnchors([]string{"rubbish"}) == nil || s.SetCRL([]byte("rubbish")) == nil {
		t.Error("rubbish is found only when the issuer's roots arrive, and would keep them out")
	}
	wantError(t, s.SetExtraAnchors([]string{string(b.pem)}), "")
	if s.Ready(TrustBundle) {
		t.Error("extra anchors alone made a trust bundle")
	}
	wantError(t, s.SetAnchors(a.pem), "")
	if n := len(s.Secrets()[0].Anchors); n != 2 {
		t.Errorf("%d anchors", n)
	}
	wantError(t, s.SetExtraAnchors([]string{"rubbish"}), "caCertificatesPem[0]: no PEM certificate")
	if err := s.SetExtraAnchors([]string{"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}); err == nil {
		t.Error("a broken root was taken")
	}
	wantError(t, s.SetExtraAnchors(nil), "")
	if n := len(s.Secrets()[0].Anchors); n != 1 {
		t.Errorf("%d anchors", n)
	}
	if err := s.SetAnchors([]byte("rubbish")); err == nil || !s.Ready(TrustBundle) {
		t.Errorf("rubbish roots: %v", err)
	}
}

func TestFileSecretsReload(t *testing.T) {
	ca := newTestCA(t, "web", nil)
	dir := t.TempDir()
	s := NewStore(StoreOptions{Root: dir, Debounce: 20 * time.Millisecond})
	defer s.Close()
	if err := os.MkdirAll(filepath.Join(dir, "tls"), 0o755); err != nil {
		t.Fatal(err)
	}
	const name = "file-cert:tls/cert.pem~tls/key.pem"
	s.Require(name)
	wantError(t, s.Err(name), "no such file")
	chain, key := ca.issue(t, leaf{dns: []string{"a"}})
	writeFile(t, chain, dir, "tls/cert.pem")
	writeFile(t, key, dir, "tls/key.pem")
	eventually(t, "files appear", func() bool { return s.Ready(name) })
	first := s.Secrets()[0].Version

	// A new certificate with the old key is a state in between and must not be served.
	chain2, key2 := ca.issue(t, leaf{dns: []string{"b"}})
	writeFile(t, chain2, dir, "tls/cert.pem")
	time.Sleep(100 * time.Millisecond)
	if s.Secrets()[0].Version != first {
		t.Error("half an update was taken")
	}
	writeFile(t, key2, dir, "tls/key.pem")
	eventually(t, "files change", func() bool { return s.Secrets()[0].Version != first })

	s.Require("file-root:tls/ca.pem")
	writeFile(t, ca.pem, dir, "tls/ca.pem")
	eventually(t, "root appears", func() bool { return s.Ready("file-root:tls/ca.pem") })
	s.Require("file-cert:only")
	wantError(t, s.Err("file-cert:only"), "names no pair of files")
}

func TestSystemRoots(t *testing.T) {
	var present bool
	for _, p := range systemBundles {
		if _, err := os.Stat(p); err == nil {
			present = true
		}
	}
	s := NewStore(StoreOptions{})
	defer s.Close()
	s.Require(systemRoots)
	if s.Ready(systemRoots) != present {
		t.Errorf("ready is %v, a bundle is present: %v (%v)", s.Ready(systemRoots), present, s.Err(systemRoots))
	}
}

// Mounted certificates, replaced the way the kubelet does: by swapping a symbolic link.
func TestFileSourceFollowsSymlinkSwap(t *testing.T) {
	ca := newTestCA(t, "mesh", nil)
	dir := t.TempDir()
	mount := filepath.Join(dir, credentialDir)
	fill := func(version string) {
		chain, key := ca.issue(t, leaf{uris: []string{waypointID}})
		writeFile(t, chain, mount, version, certChainFile)
		writeFile(t, key, mount, version, keyFile)
		writeFile(t, ca.pem, mount, version, rootCertFile)
		tmp := filepath.Join(mount, "..data_tmp")
		if err := os.Symlink(version, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	fill("..v1")
	for _, f := range []string{certChainFile, keyFile, rootCertFile} {
		if err := os.Symlink(filepath.Join("..data", f), filepath.Join(mount, f)); err != nil {
			t.Fatal(err)
		}
	}
	store := runSource(t, SourceConfig{Root: dir})
	eventually(t, "mounted certificate", func() bool { return store.Ready(WorkloadCertificate) && store.Ready(TrustBundle) })
	first := serialOf(store)
	fill("..v2")
	eventually(t, "replaced certificate", func() bool { return serialOf(store) != first })
}
