package h2

import (
	"log/slog"
	"time"
)

// Options of a connection. The zero value is usable: each field that is zero takes its default.
type Options struct {
	// MaxConcurrentStreams is what a server advertises and enforces. Default 100: istiod's waypoint listener says so, and
	// ztunnel opens up to 100 whatever it is told.
	MaxConcurrentStreams uint32

	// PeerMaxStreams is what a client assumes of the server until its SETTINGS have come. Default 100 (RFC 9113, 6.5.2
	// recommends servers to allow no fewer).
	PeerMaxStreams uint32

	// InitialWindow is the receive window of a new stream in bytes. Default 64 KiB: enough for most messages in one go,
	// little enough for thousands of streams. The window of a stream that uses it up grows; see MaxWindow.
	InitialWindow uint32

	// MaxWindow is how far a stream's receive window may grow, in bytes. Default 4 MiB: 10 Gb/s at 3 ms.
	MaxWindow uint32

	// ConnWindow is the connection's receive window in bytes. Default 16 MiB, as ztunnel. It does not bound memory (it is
	// given back as bytes arrive), only bytes in flight.
	ConnWindow uint32

	// MaxFrameSize is what we accept, in bytes; 16384 to 16777215. Default 16384: a TLS record.
	MaxFrameSize uint32

	// MaxHeaderListSize is the largest head or trailers that we accept, in bytes as RFC 9113, 6.5.2 counts them. Default
	// 60 KiB, as Envoy.
	MaxHeaderListSize uint32

	// EnableConnectProtocol lets clients of a server use extended CONNECT (RFC 8441). Default off: such a request is
	// malformed.
	EnableConnectProtocol bool

	// KeepaliveInterval is the time between PINGs; 0: none are sent (xDS connection_keepalive.interval; istiod: 10 s).
	KeepaliveInterval time.Duration

	// KeepaliveTimeout is how long an answer to such a PING may take before the connection is closed. Default 20 s (istiod).
	KeepaliveTimeout time.Duration

	// IdleTimeout closes a connection that had no stream for so long; 0: never.
	IdleTimeout time.Duration

	// PrefaceTimeout is how long the peer may take for its first SETTINGS. Default 10 s, as TCP and TLS set-up in ztunnel.
	PrefaceTimeout time.Duration

	// Limits against abuse.
	Limits Limits

	// Budget for receive windows, shared by the connections of a process; nil: each stream may grow to MaxWindow.
	Budget *Budget

	// OnGoAway is called once, from any goroutine, when the connection takes no new streams any more: the peer said so, this
	// side shuts down, or it ended. It must not block.
	OnGoAway func(*Conn)

	// OnIdle is called when the last stream has ended, by whoever ended it. It must not block. New streams may have been
	// opened in the meantime.
	OnIdle func(*Conn)

	// OnCapacity is called, from any goroutine, when a client that gave no stream may give one again: a stream ended, the peer
	// raised its limit, or the output drained. It must not block.
	OnCapacity func(*Conn)

	// Logger takes what went wrong with a stream (debug) and panics of handlers (error). Default: slog.Default().
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	setDefault(&o.MaxConcurrentStreams, 100)
	setDefault(&o.PeerMaxStreams, 100)
	setDefault(&o.InitialWindow, 1<<16)
	setDefault(&o.MaxWindow, 4<<20)
	setDefault(&o.ConnWindow, 16<<20)
	setDefault(&o.MaxFrameSize, defaultMaxFrameSize)
	setDefault(&o.MaxHeaderListSize, 60<<10)
	setDefault(&o.KeepaliveTimeout, 20*time.Second)
	setDefault(&o.PrefaceTimeout, 10*time.Second)
	o.InitialWindow = min(o.InitialWindow, maxWindow)
	o.MaxWindow = min(max(o.MaxWindow, o.InitialWindow), maxWindow)
	o.ConnWindow = min(max(o.ConnWindow, defaultWindow), maxWindow)
	o.MaxFrameSize = min(max(o.MaxFrameSize, defaultMaxFrameSize), maxFrameSize)
	o.Limits = o.Limits.withDefaults()
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
