package identity

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
)

// StoreOptions configures a [Store]. The zero value is usable.
type StoreOptions struct {
	// Root is the directory that relative paths start from; "" means ".". In the container it is "/",
	// the working directory of Istio's image.
	Root string
	// Log receives reloads and failures; nil discards them.
	Log *slog.Logger
	// Debounce is how long a change to files has to be quiet before they are read again; 0 means 100 ms,
	// Istio's FILE_DEBOUNCE_DURATION. A certificate and its key are seldom replaced in one step.
	Debounce time.Duration
	// Now replaces the clock in tests of expiry.
	Now func() time.Time
}

// Store keeps secrets by SDS name: `default` and `ROOTCA` (set by a [Source]), `file-cert:<cert>~<key>`,
// `file-root:<ca>` and `file-root:system` (read here), and those that xDS pushes (`kubernetes://…`).
//
// Reading a secret during a handshake takes no lock. A name that nobody has answered, `invalid://…`
// among them, stays not ready for ever, and handshakes that need it fail.
type Store struct {
	root  string
	log   *slog.Logger
	now   func() time.Time
	files *fileWatcher

	mu      sync.Mutex // serialises writers; readers use entry.current
	entries map[string]*entry
	subs    map[int]func(name string)
	nextSub int

	// Inputs of ROOTCA, merged by rebuildAnchors.
	anchors, crl []byte
	extra        []string
}

// entry is one name for as long as the Store lives; TLS contexts hold it.
type entry struct {
	name    string
	current atomic.Pointer[secret]
	wanted  atomic.Bool           // some context needs it
	why     atomic.Pointer[error] // why it is not ready
}

var errNeverArrived = errors.New("not received yet")

// NewStore returns an empty Store. Close it to stop watching files.
func NewStore(o StoreOptions) *Store {
	if o.Root == "" {
		o.Root = "."
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Debounce == 0 {
		o.Debounce = 100 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{
		root: o.Root, log: o.Log, now: o.Now,
		files:   newFileWatcher(o.Debounce, o.Log),
		entries: map[string]*entry{},
		subs:    map[int]func(string){},
	}
}

// Close stops watching files. Secrets stay readable.
func (s *Store) Close() { s.files.close() }

// lookup returns the entry of a name and makes it if need be. File names are loaded and watched the
// first time that somebody requires them.
func (s *Store) lookup(name string, required bool) *entry {
	s.mu.Lock()
	e := s.entryLocked(name)
	first := required && !e.wanted.Swap(true)
	s.mu.Unlock()
	if first && isFileName(name) {
		s.startFile(e)
	}
	return e
}

func (s *Store) entryLocked(name string) *entry {
	e := s.entries[name]
	if e == nil {
		e = &entry{name: name}
		s.entries[name] = e
	}
	return e
}

// Require declares that name is needed: files are loaded and watched, and the name is listed by
// [Store.Missing] until it arrives. Compiling a TLS context requires its names.
func (s *Store) Require(name string) { s.lookup(name, true) }

// Ready reports whether name can be used in a handshake now.
func (s *Store) Ready(name string) bool { return s.Err(name) == nil }

// Err returns nil when name is ready, else why it is not.
func (s *Store) Err(name string) error {
	s.mu.Lock()
	e := s.entries[name]
	s.mu.Unlock()
	if e == nil {
		e = &entry{name: name}
	}
	_, err := e.load()
	return err
}

func (e *entry) load() (*secret, error) {
	if sec := e.current.Load(); sec != nil {
		return sec, nil
	}
	why := errNeverArrived
	switch p := e.why.Load(); {
	case p != nil:
		why = *p
	case strings.HasPrefix(e.name, "invalid://"):
		why = errors.New("the control plane could not resolve the reference behind it; see the status of the BackendTLSPolicy or DestinationRule")
	}
	return nil, fmt.Errorf("secret %q is not ready: %w", e.name, why)
}

// Missing lists the required names that are not ready, sorted, with the reason.
func (s *Store) Missing() map[string]error {
	out := map[string]error{}
	for _, e := range s.all() {
		if _, err := e.load(); err != nil && e.wanted.Load() {
			out[e.name] = err
		}
	}
	return out
}

// Subscribe calls fn with a name after each change of that secret, its removal included, until cancel is
// called. fn runs on the goroutine that made the change, without locks held; it must not block.
func (s *Store) Subscribe(fn func(name string)) (cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.nextSub
	s.nextSub++
	s.subs[id] = fn
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subs, id)
	}
}

func (s *Store) notify(name string) {
	s.mu.Lock()
	fns := slices.Collect(maps.Values(s.subs))
	s.mu.Unlock()
	for _, fn := range fns {
		fn(name)
	}
}

// isLocal says whether a name is answered by this process rather than by xDS, as Istio's agent answers
// it from its own SDS socket.
func isLocal(name string) bool {
	return name == WorkloadCertificate || name == TrustBundle || isFileName(name)
}

// SetXDS stores a secret pushed by xDS. On error the former version stays in force and the caller NACKs;
// the error names the secret and the field. Names that this process answers itself are refused: a pushed
// `ROOTCA` must not replace the mesh's roots.
func (s *Store) SetXDS(name, version string, sec *tlsv3.Secret) error {
	if isLocal(name) {
		return fmt.Errorf("secret %q: this name is served locally and cannot be set over xDS", name)
	}
	parsed, err := newSecret(s.root, name, version, s.now(), sec)
	if err != nil {
		return err
	}
	s.put(s.lookup(name, false), parsed)
	return nil
}

// RemoveXDS forgets a secret that xDS has removed. New handshakes that need it fail from now on; open
// connections stay. istiod removes a secret when it is deleted or the right to read it is withdrawn.
func (s *Store) RemoveXDS(name string) {
	if isLocal(name) {
		return
	}
	e := s.lookup(name, false)
	gone := errors.New("removed by the control plane")
	e.why.Store(&gone)
	if e.current.Swap(nil) != nil {
		s.notify(name)
	}
}

// put makes sec the current version of e and tells subscribers, unless it was re-sent unchanged.
func (s *Store) put(e *entry, sec *secret) {
	if e.set(sec) {
		s.notify(e.name)
	}
}

func (e *entry) set(sec *secret) (changed bool) {
	old := e.current.Load()
	if old != nil && old.version == sec.version && old.digest == sec.digest && proto.Equal(old.proto, sec.proto) {
		return false
	}
	e.current.Store(sec)
	e.why.Store(nil)
	return true
}

// SetWorkload replaces the workload certificate (`default`): a PEM chain, leaf first, and its key. On
// error the old one stays.
func (s *Store) SetWorkload(chainPEM, keyPEM []byte) error {
	return s.setLocal(WorkloadCertificate, contentVersion(chainPEM), certificateSecret(WorkloadCertificate, chainPEM, keyPEM))
}

// SetAnchors replaces the roots that the certificate's issuer named (PEM). The trust bundle `ROOTCA` is
// these and the extra anchors. On error the old bundle stays.
func (s *Store) SetAnchors(pem []byte) error {
	return s.rebuildAnchors(func() { s.anchors = slices.Clone(pem) })
}

// SetExtraAnchors replaces the roots that the mesh configuration adds (ProxyConfig.caCertificatesPem).
// They are checked at once: found bad only when the issuer's roots arrive, they would keep these out too.
func (s *Store) SetExtraAnchors(pems []string) error {
	for i, p := range pems {
		if _, err := parseCertificates([]byte(p)); err != nil {
			return fmt.Errorf("caCertificatesPem[%d]: %w", i, err)
		}
	}
	return s.rebuildAnchors(func() { s.extra = slices.Clone(pems) })
}

// SetCRL replaces the revocation lists (PEM) that apply to `ROOTCA`; nil removes them.
func (s *Store) SetCRL(pem []byte) error {
	if len(pem) > 0 {
		if _, err := parseCRLs(pem); err != nil {
			return err
		}
	}
	return s.rebuildAnchors(func() { s.crl = slices.Clone(pem) })
}

// rebuildAnchors applies a change to the inputs of ROOTCA and undoes it when the result does not parse.
// The bundle comes into being with the issuer's roots: extra anchors alone are no mesh trust.
func (s *Store) rebuildAnchors(change func()) error {
	s.mu.Lock()
	anchors, crl, extra := s.anchors, s.crl, s.extra
	change()
	if len(s.anchors) == 0 {
		s.mu.Unlock()
		return nil
	}
	var b strings.Builder
	for _, p := range append([]string{string(s.anchors)}, s.extra...) {
		b.WriteString(strings.TrimRight(p, "\n"))
		b.WriteByte('\n')
	}
	pem := []byte(b.String())
	sec, err := newSecret(s.root, TrustBundle, contentVersion(pem, s.crl), s.now(), anchorSecret(TrustBundle, pem, s.crl))
	changed := false
	if err != nil {
		s.anchors, s.crl, s.extra = anchors, crl, extra
	} else {
		changed = s.entryLocked(TrustBundle).set(sec) // under the lock: of two changes the later one stays
	}
	s.mu.Unlock()
	if changed {
		s.notify(TrustBundle)
	}
	return err
}

func (s *Store) setLocal(name, version string, in *tlsv3.Secret) error {
	sec, err := newSecret(s.root, name, version, s.now(), in)
	if err != nil {
		return err
	}
	s.put(s.lookup(name, false), sec)
	return nil
}

// all returns the entries sorted by name.
func (s *Store) all() []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*entry, 0, len(s.entries))
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		out = append(out, s.entries[name])
	}
	return out
}
