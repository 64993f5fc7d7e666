package xdsclient

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Client is one delta ADS stream, renewed for ever, and the cache of what came over it. All methods may be called from any
// goroutine, also from within [Handler.Apply]; only Run may be called once.
type Client struct {
	cfg     Config
	handler Handler
	bytes   byteCounter
	running atomic.Bool

	// wake tells the sender of the present stream that the machine may have requests. One token is enough: the sender takes
	// all there are.
	wake chan struct{}

	mu      sync.Mutex // guards what follows; never held while calling out
	machine *machine
	status  Status
}

// Status is the state of the connection. The counters cover the life of the client.
type Status struct {
	// Connected is true from the first response of a stream to the stream's end. (A stream that is open but unanswered may yet turn
	// out to be refused.)
	Connected bool
	// Since is when Connected last changed; zero if it never did.
	Since time.Time
	// ControlPlane is the identifier that the last response carried; istiod puts its pod's name into it.
	ControlPlane string

	Streams       uint64 // streams opened
	Failures      uint64 // attempts that ended without any response, opened or not
	Responses     uint64 // messages received
	BytesReceived uint64 // of messages, uncompressed
	BytesSent     uint64 // likewise

	// LastError says why the last attempt or stream ended; empty while none has. It does not go away on success.
	LastError     string
	LastErrorTime time.Time
}

// New returns a client that is not connected yet; [Client.Run] connects. Names may be subscribed before that. The error says
// which field of cfg is wrong.
func New(cfg Config, handler Handler) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if handler == nil {
		return nil, errors.New("xdsclient: the handler is nil")
	}
	return &Client{
		cfg:     cfg,
		handler: handler,
		wake:    make(chan struct{}, 1),
		machine: newMachine(cfg.Node, cfg.Wildcard, cfg.DigestOnly),
	}, nil
}

// Run connects, and connects again whenever the stream ends, whatever the reason: UNAUTHENTICATED and PERMISSION_DENIED too may be
// over once a token or a pod is known to istiod. It returns ctx's error when ctx ends, and by then nothing of it is running.
func (c *Client) Run(ctx context.Context) error {
	if c.running.Swap(true) {
		return errors.New("xdsclient: Run was called twice")
	}
	if c.cfg.Plaintext && c.cfg.Token != nil {
		c.cfg.Logger.Warn("xds: the token is not sent, since the connection has no TLS", "target", c.cfg.Target)
	}
	var reasons reasons
	for failed := 0; ; failed++ {
		began := time.Now()
		answered, err := c.stream(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if answered && time.Since(began) >= c.cfg.Backoff.Max {
			failed = 0
		}
		wait := c.cfg.Backoff.next(failed)
		reasons.log(&c.cfg, answered, err, wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stream opens one stream and serves it until it ends. answered tells whether any response came.
func (c *Client) stream(ctx context.Context) (answered bool, err error) {
	defer func() { c.ended(answered, err) }()
	conn, err := c.cfg.dial(&c.bytes)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }() // it fails only if it is closed already

	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(ctx, metadata.New(c.cfg.Metadata)))
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		cancel()
		return false, err
	}
	c.mu.Lock()
	c.machine.connect()
	c.status.Streams++
	c.mu.Unlock()

	// The sender is a goroutine of its own: a server that does not read must not keep us from reading, or both would wait.
	var sender sync.WaitGroup
	sender.Go(func() { c.send(ctx, stream) })
	defer sender.Wait()
	defer cancel() // runs before Wait

	for {
		resp, err := stream.Recv()
		if err != nil {
			return answered, err
		}
		if !answered {
			answered = true
			c.cfg.Logger.Info("xds: connected", "target", c.cfg.Target, "controlPlane", resp.GetControlPlane().GetIdentifier())
		}
		c.receive(resp)
	}
}

// receive takes one response through machine, handler and machine.
func (c *Client) receive(resp *discoveryv3.DeltaDiscoveryResponse) {
	c.mu.Lock()
	if !c.status.Connected {
		c.status.Connected, c.status.Since = true, time.Now()
	}
	c.status.Responses++
	c.status.ControlPlane = resp.GetControlPlane().GetIdentifier()
	update := c.machine.receive(resp)
	c.mu.Unlock()

	var rejected []Rejection
	if update != nil {
		rejected = c.handler.Apply(update)
	}

	c.mu.Lock()
	c.machine.finish(rejected, time.Now())
	c.unlockAndWake()
}

// send sends what the machine has to say until ctx ends or the stream breaks; the reader learns why it broke.
func (c *Client) send(ctx context.Context, stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient) {
	for {
		c.mu.Lock()
		requests := c.machine.ready()
		c.mu.Unlock()
		for _, r := range requests {
			if stream.Send(r) != nil {
				return
			}
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
	}
}

// ended records the end of a stream, or of an attempt to open one.
func (c *Client) ended(answered bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.machine.disconnect()
	if c.status.Connected {
		c.status.Connected, c.status.Since = false, now
	}
	if !answered {
		c.status.Failures++
	}
	c.status.LastError, c.status.LastErrorTime = describe(err), now
}

// SetNames makes names the whole subscription of a type that is subscribed by name, and forgets what is held of other names. The
// names "" and "*", which have a meaning of their own in the protocol, are left out and logged. It panics if the type is in
// [Config].Wildcard.
func (c *Client) SetNames(typeURL string, names ...string) {
	c.mu.Lock()
	c.machine.setNames(typeURL, names)
	c.unlockAndWake()
}

// Subscribe adds names to a type's subscription; see SetNames. Names that are subscribed already change nothing.
func (c *Client) Subscribe(typeURL string, names ...string) {
	c.mu.Lock()
	c.machine.subscribe(typeURL, names)
	c.unlockAndWake()
}

// Unsubscribe takes names from a type's subscription and forgets what is held of them; see SetNames.
func (c *Client) Unsubscribe(typeURL string, names ...string) {
	c.mu.Lock()
	c.machine.unsubscribe(typeURL, names)
	c.unlockAndWake()
}

// Get returns the version of a resource that is in force.
func (c *Client) Get(typeURL, name string) (*Resource, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.machine.get(typeURL, name)
}

// Snapshot returns the state of one type. It costs time in proportion to the number of its resources; Stats does not.
func (c *Client) Snapshot(typeURL string) TypeSnapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.machine.typeSnapshot(typeURL)
}

// Stats returns the counters of one type; zero if it was never subscribed.
func (c *Client) Stats(typeURL string) TypeStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.machine.types[typeURL]; s != nil {
		return s.stats
	}
	return TypeStats{}
}

// Types returns the type URLs that are or were subscribed, in the order in which istiod pushes them.
func (c *Client) Types() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]string, 0, len(c.machine.order))
	for _, s := range c.machine.order {
		out = append(out, s.typeURL)
	}
	return out
}

// Status returns the state of the connection.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.BytesReceived, s.BytesSent = c.bytes.received.Load(), c.bytes.sent.Load()
	return s
}

// unlockAndWake ends a change of the machine: it releases the lock, logs what the machine has to say and wakes the sender.
func (c *Client) unlockAndWake() {
	notes := c.machine.notes
	c.machine.notes = nil
	c.mu.Unlock()
	for _, n := range notes {
		c.cfg.Logger.Warn("xds: " + n)
	}
	select {
	case c.wake <- struct{}{}:
	default: // a token is there already
	}
}

// reasons remembers why the last attempt failed, so that an outage of an hour is one record and not a thousand.
type reasons struct{ last string }

// log reports why a stream or an attempt ended. The end of a stream that worked is always reported, and as a matter of course:
// istiod recycles its connections.
func (r *reasons) log(cfg *Config, answered bool, err error, wait time.Duration) {
	why := describe(err)
	if answered {
		r.last = ""
		cfg.Logger.Info("xds: stream ended, reconnecting; the configuration held stays in force", "target", cfg.Target, "reason", why, "wait", wait)
		return
	}
	if key := withoutNumbers(why); key != r.last {
		r.last = key
		cfg.Logger.Warn("xds: cannot get configuration, retrying; repetitions of this reason are not logged", "target", cfg.Target, "reason", why, "wait", wait)
	}
}

// describe returns an error in words, with the gRPC code first if there is one.
func describe(err error) string {
	if errors.Is(err, io.EOF) {
		return "the control plane ended the stream"
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.OK {
		return s.Code().String() + ": " + s.Message()
	}
	return err.Error()
}

// withoutNumbers makes equal two reasons that differ in a port or an address only.
func withoutNumbers(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, s)
}
