package telemetry

import "time"

// Moment is a point in the life of an exchange: the time since Record.Start, plus one nanosecond, so that the zero value is not
// known.
type Moment time.Duration

// At is the moment d after the start.
func At(d time.Duration) Moment { return Moment(max(d, 0) + 1) }

// SinceStart is how long after the start the moment was; absent if it is not known.
func (m Moment) SinceStart() Millis { return m.After(begin) }

// After is how long after the moment since m was; absent if either is not known, or they are in the wrong order.
func (m Moment) After(since Moment) Millis {
	if m == 0 || since == 0 || m < since {
		return Millis{}
	}
	return Took(time.Duration(m - since))
}

// Timing are the moments of an exchange. Names in parentheses are those of Envoy's %COMMON_DURATION(from:to)%; the first byte
// received from the client (DS_RX_BEG) is Record.Start. What is retried has the moments of the last attempt.
type Timing struct {
	// DownstreamLastRx is the last byte of the request (DS_RX_END).
	DownstreamLastRx Moment
	// PoolWait is when the request began to wait for a connection, PoolReady when it had one.
	PoolWait, PoolReady Moment
	// ConnectStart (US_CX_BEG) and ConnectEnd (US_CX_END) are those of a connection that was made for this very exchange; Envoy
	// repeats them for all exchanges of a connection. Connecting goes through all hops, TLS included: US_HS_END is not told apart.
	ConnectStart, ConnectEnd Moment
	// UpstreamFirstTx (US_TX_BEG) and UpstreamLastTx (US_TX_END) are the first and the last byte sent to the endpoint.
	UpstreamFirstTx, UpstreamLastTx Moment
	// UpstreamFirstRx (US_RX_BEG), UpstreamFirstBody (US_RX_BODY_BEG) and UpstreamLastRx (US_RX_END) are what came back.
	UpstreamFirstRx, UpstreamFirstBody, UpstreamLastRx Moment
	// DownstreamFirstTx (DS_TX_BEG) and DownstreamLastTx (DS_TX_END) are the answer's first and last byte to the client.
	DownstreamFirstTx, DownstreamLastTx Moment
}

// begin is Record.Start as a Moment.
const begin Moment = 1

// moments are Envoy's names.
var moments = []struct {
	name string
	get  func(*Timing) Moment
}{
	{"DS_RX_BEG", func(*Timing) Moment { return begin }},
	{"DS_RX_END", func(t *Timing) Moment { return t.DownstreamLastRx }},
	{"US_CX_BEG", func(t *Timing) Moment { return t.ConnectStart }},
	{"US_CX_END", func(t *Timing) Moment { return t.ConnectEnd }},
	{"US_TX_BEG", func(t *Timing) Moment { return t.UpstreamFirstTx }},
	{"US_TX_END", func(t *Timing) Moment { return t.UpstreamLastTx }},
	{"US_RX_BEG", func(t *Timing) Moment { return t.UpstreamFirstRx }},
	{"US_RX_BODY_BEG", func(t *Timing) Moment { return t.UpstreamFirstBody }},
	{"US_RX_END", func(t *Timing) Moment { return t.UpstreamLastRx }},
	{"DS_TX_BEG", func(t *Timing) Moment { return t.DownstreamFirstTx }},
	{"DS_TX_END", func(t *Timing) Moment { return t.DownstreamLastTx }},
}

// MomentGetter finds a moment by Envoy's name, once, when a format is compiled.
func MomentGetter(name string) (get func(*Timing) Moment, ok bool) {
	for _, m := range moments {
		if m.name == name {
			return m.get, true
		}
	}
	return nil, false
}

// PoolReady is how long the request waited for a connection (%UPSTREAM_CONNECTION_POOL_READY_DURATION%).
func (r *Record) PoolReady() Millis { return r.Timing.PoolReady.After(r.Timing.PoolWait) }

// BackendLatency is from the first byte sent to the endpoint to the last one received from it.
func (r *Record) BackendLatency() Millis {
	return r.Timing.UpstreamLastRx.After(r.Timing.UpstreamFirstTx)
}
