package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Source obtains the workload certificate and the trust bundle and keeps them current in a Store.
type Source interface {
	// Run fills the store and renews until ctx ends, whose error it returns. It does not give up: when a
	// renewal fails the old certificate stays and the attempt is repeated.
	Run(ctx context.Context, store *Store) error
	// String says where the certificate comes from, for the start-up log.
	String() string
}

// Paths at which Istio's agent looks, relative to the root directory.
const (
	credentialDir    = "var/run/secrets/workload-spiffe-credentials"
	fileMountedDir   = "etc/certs"
	sdsSocketDir     = "var/run/secrets/workload-spiffe-uds"
	defaultSDSSocket = "socket"
	istiodRootFile   = "var/run/secrets/istio/root-cert.pem"
	istiodCRLFile    = "var/run/secrets/istio/crl/ca-crl.pem"
	provRootFile     = "etc/certs/root-cert.pem"
	tokenFile        = "var/run/secrets/tokens/istio-token"
	systemRootsValue = "SYSTEM"
)

// SourceConfig says how the workload gets its certificate.
type SourceConfig struct {
	// Root is the directory that relative paths start from; "" means ".".
	Root string
	Log  *slog.Logger // nil discards

	// FileMounted (FILE_MOUNTED_CERTS) takes the certificate from ./etc/certs.
	FileMounted bool
	// SDSSocket (WORKLOAD_IDENTITY_SOCKET_FILE) is the file name of an external SDS server's socket in
	// ./var/run/secrets/workload-spiffe-uds; "" means "socket".
	SDSSocket string
	// OutputDir (OUTPUT_CERTS) is where key.pem, cert-chain.pem and root-cert.pem are written after each
	// issue; "" writes nothing.
	OutputDir string

	// CSR configures the request to the CA, used unless certificates are mounted.
	CSR CSRConfig
}

// ErrExternalSDS is wrapped by the error of [NewSource] when an SDS server such as SPIRE's agent offers
// the workload's identity on a socket. Requesting a certificate from istiod instead would give the
// workload another identity than its operator chose.
var ErrExternalSDS = errors.New("certificates from an external SDS server are not supported")

// NewSource picks the source as Istio's agent does: FILE_MOUNTED_CERTS, then mounted
// workload-spiffe-credentials when all three files exist, then a CSR to the CA. A live socket of an SDS
// server is an error, see [ErrExternalSDS].
func NewSource(c SourceConfig) (Source, error) {
	if c.Root == "" {
		c.Root = "."
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if err := refuseSDSSocket(c); err != nil {
		return nil, err
	}
	if c.FileMounted {
		return newFileSource(c, fileMountedDir), nil
	}
	if dir := filepath.Join(c.Root, credentialDir); filesExist(dir, certChainFile, keyFile, rootCertFile) {
		return newFileSource(c, credentialDir), nil
	}
	return newCSRSource(c)
}

func refuseSDSSocket(c SourceConfig) error {
	name := c.SDSSocket
	if name == "" {
		name = defaultSDSSocket
	}
	if filepath.Base(name) != name {
		return fmt.Errorf("WORKLOAD_IDENTITY_SOCKET_FILE is %q: it must be a bare file name in ./%s", name, sdsSocketDir)
	}
	path := filepath.Join(c.Root, sdsSocketDir, name)
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if name != defaultSDSSocket {
			return fmt.Errorf("%w: WORKLOAD_IDENTITY_SOCKET_FILE names %s, which does not exist; unset it to get the certificate from istiod", ErrExternalSDS, path)
		}
		return nil
	}
	// A socket file that nobody listens on is a leftover, as Istio's agent sees it too.
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		if name != defaultSDSSocket {
			return fmt.Errorf("%w: WORKLOAD_IDENTITY_SOCKET_FILE names %s, which does not answer: %w", ErrExternalSDS, path, err)
		}
		return nil
	}
	_ = conn.Close() // only the answer mattered
	return fmt.Errorf("%w: a server listens on %s (SPIRE?); remove that volume to get the certificate from istiod, or mount certificates in ./%s",
		ErrExternalSDS, path, credentialDir)
}

func filesExist(dir string, names ...string) bool {
	for _, n := range names {
		if st, err := os.Stat(filepath.Join(dir, n)); err != nil || st.IsDir() {
			return false
		}
	}
	return true
}

// Names of the three files, both where they are mounted and where OUTPUT_CERTS writes them.
const (
	certChainFile = "cert-chain.pem"
	keyFile       = "key.pem"
	rootCertFile  = "root-cert.pem"
)

// writeCertificates dumps the credentials for OUTPUT_CERTS, each file replaced atomically and readable by
// the owner only.
func writeCertificates(dir string, chain, key, root []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{keyFile, key}, {certChainFile, chain}, {rootCertFile, root}} {
		path := filepath.Join(dir, f.name)
		tmp := path + ".tmp"
		if err := os.WriteFile(tmp, f.data, 0o600); err != nil {
			return err
		}
		if err := os.Rename(tmp, path); err != nil {
			return err
		}
	}
	return nil
}

// watchCRL keeps the revocation lists that istiod distributes in the store, when the file is there.
func watchCRL(root string, log *slog.Logger, store *Store) {
	path := filepath.Join(root, istiodCRLFile)
	load := func() {
		pem, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return // the normal case; a file that vanishes does not un-revoke anybody
		}
		if err == nil {
			err = store.SetCRL(pem)
		}
		if err != nil {
			log.Error("revocation list not applied, the former one stays", "file", path, "error", err)
		}
	}
	load()
	store.files.watch([]string{path}, load)
}
