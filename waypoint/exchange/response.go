package exchange

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/cluster"
	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// receive waits for the answer and hands it on; informational ones (100, 103) pass as they come.
func (e *exchange) receive(policy *retryState, attempt uint32, perTry *time.Timer) *failure {
	up := e.lease.Stream
	h := &e.resp
	var end bool
	for {
		var err error
		if end, err = up.ReadHead(h); err != nil {
			up.Reset(message.Cancel)
			f := e.resetFailure(err)
			e.reportReset(f)
			return f
		}
		if !h.Informational() {
			break
		}
		if e.writeHead(h, false) != nil || e.down.Flush() != nil { // the client has gone
			up.Reset(message.Cancel)
			return &failure{reason: "local reset"}
		}
	}
	if perTry != nil {
		perTry.Stop()
	}
	e.reportAnswer(h.Status)
	if policy.wantsAnswer(h) {
		switch {
		case attempt >= policy.max:
			if policy.max > 0 {
				e.rec.Flags.Set(telemetry.FlagUpstreamRetryLimitExceeded)
			}
		case e.body.replayable() && e.retryBudget():
			if !end {
				up.Reset(message.Cancel)
			}
			return &failure{answer: true}
		}
	}
	e.respond(up, end)
	return nil
}

// respond sends the endpoint's answer to the client.
func (e *exchange) respond(up message.Stream, end bool) {
	h := &e.resp
	since := time.Since(e.rec.Start)
	e.touch()
	e.noteAnswer(h, since, end)
	if e.rec.ResponseCodeDetails == "" {
		e.rec.ResponseCodeDetails = "via_upstream"
	}
	for _, c := range e.cookies {
		h.Fields.Append("set-cookie", c)
	}
	e.noteGRPC(&h.Fields)
	if !e.http.SuppressEnvoyHeaders {
		var took time.Duration
		if sent := e.sentAfter(); sent > 0 {
			took = max(since-sent, 0)
		}
		e.rec.UpstreamServiceTime = telemetry.Took(took)
		h.Fields.Set(header.XEnvoyUpstreamServiceTime, milliText(took))
	}
	if e.route != nil {
		e.route.ApplyResponse(h, e.choice, &e.rec)
	}
	e.responseFilters(h)
	e.decorate(h)
	if h.Status == http.StatusSwitchingProtocols {
		e.switchProtocols(up)
		return
	}
	if err := e.writeHead(h, end); err != nil {
		up.Reset(message.Cancel)
		return
	}
	if !end {
		e.copyResponse(up)
	}
}

// milliTexts are the texts of the usual service times, so that none is formatted.
var milliTexts = func() (t [100]string) {
	for i := range t {
		t[i] = strconv.Itoa(i)
	}
	return t
}()

func milliText(d time.Duration) string {
	if ms := d.Milliseconds(); ms < int64(len(milliTexts)) {
		return milliTexts[ms]
	}
	return strconv.FormatInt(d.Milliseconds(), 10)
}

func (e *exchange) sentAfter() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sent
}

// reportAnswer tells outlier detection and statistics of an endpoint's answer.
func (e *exchange) reportAnswer(status int) {
	h := e.lease.Host
	h.Report(cluster.OutcomeOf(status))
	if status >= 500 {
		h.Stats.RequestsError.Add(1)
	} else {
		h.Stats.RequestsSuccess.Add(1)
	}
}

// reportReset tells outlier detection of an attempt that got no answer; a client that left says nothing of the endpoint.
func (e *exchange) reportReset(f *failure) {
	h := e.lease.Host
	switch {
	case f.timeout != noTimeout:
		h.Report(cluster.TimedOut)
		h.Stats.RequestsTimeout.Add(1)
	case f.reset:
		h.Report(cluster.ConnectFailed)
		h.Stats.RequestsError.Add(1)
	}
}

func (e *exchange) noteGRPC(f *header.Fields) {
	if !e.grpc {
		return
	}
	if code, err := strconv.ParseUint(f.Value(header.GRPCStatus), 10, 31); err == nil {
		e.rec.GRPCStatus = telemetry.GRPC(uint32(code))
		e.rec.GRPCMessage = f.Value(header.GRPCMessage)
	}
}

// copyResponse sends the body and the trailers. While little moves it uses e's own small buffer, so that a stream that waits
// for hours holds no more.
func (e *exchange) copyResponse(up message.Stream) {
	buf := e.small[:]
	var big *[]byte
	for {
		if n, _ := up.Buffered(); n > len(buf) && big == nil {
			big = copyBuffers.Get().(*[]byte)
			buf = *big
		}
		n, err := up.Read(buf)
		if n > 0 {
			if e.rec.BytesSent == 0 {
				e.rec.Timing.UpstreamFirstBody = telemetry.At(time.Since(e.rec.Start))
			}
			e.rec.BytesSent += uint64(n)
			e.rec.UpstreamWireBytesReceived += uint64(n)
			e.touch()
			for _, f := range e.bodies {
				f.ResponseData(&e.x, buf[:n])
			}
			if _, werr := e.down.Write(buf[:n]); werr != nil {
				up.Reset(message.Cancel)
				break
			}
			if n == len(buf) && big == nil {
				big = copyBuffers.Get().(*[]byte)
				buf = *big
			}
		}
		if err == io.EOF {
			e.endResponse(up.Trailer())
			break
		}
		if err != nil {
			e.cutOff(err)
			break
		}
		if waiting, _ := up.Buffered(); waiting == 0 {
			if e.down.Flush() != nil {
				up.Reset(message.Cancel)
				break
			}
			if big != nil && n < len(e.small) {
				copyBuffers.Put(big)
				big, buf = nil, e.small[:]
			}
		}
	}
	if big != nil {
		copyBuffers.Put(big)
	}
}

// noteAnswer notes when the endpoint's answer came and what its head took.
func (e *exchange) noteAnswer(h *message.Head, since time.Duration, end bool) {
	r := &e.rec
	r.Timing.UpstreamFirstRx = telemetry.At(since)
	if end {
		r.Timing.UpstreamLastRx = r.Timing.UpstreamFirstRx
	}
	var fields uint64
	r.UpstreamWireBytesReceived, fields = wireSize(h)
	r.UpstreamHeaderBytesReceived = received(fields, h)
}

func (e *exchange) endResponse(trailer *header.Fields) {
	e.rec.Timing.UpstreamLastRx = telemetry.At(time.Since(e.rec.Start))
	if trailer != nil {
		e.noteGRPC(trailer)
		e.rec.ResponseTrailers = trailer
	}
	if e.down.CloseWrite(trailer) == nil {
		e.ended = true
	}
}

// cutOff is a response that ended before its end: the client must see that, so its stream is reset.
func (e *exchange) cutOff(err error) {
	if e.clientGone() {
		// One that asked for the connection to be closed leaves as soon as it has counted the last byte, which may be before we
		// have seen the end ourselves. That is an answer like any other.
		e.ended = e.sentAllAnnounced()
		return
	}
	f := e.resetFailure(err)
	if f.timeout != noTimeout {
		e.rec.Flags.Set(telemetry.FlagUpstreamRequestTimeout)
		e.rec.ResponseCodeDetails = "response_timeout"
	} else {
		e.rec.Flags.Set(f.flag)
		e.rec.ResponseCodeDetails = "upstream_reset_after_response_started{" + strings.ReplaceAll(f.reason, " ", "_") + "}"
	}
	e.lease.Stream.Reset(message.Cancel)
	e.down.Reset(message.InternalError)
}

// sentAllAnnounced tells whether the client has been sent as many bytes as the head's content-length says. Without one only the
// end of the message tells the client that it has all.
func (e *exchange) sentAllAnnounced() bool {
	length, err := strconv.ParseUint(e.resp.Fields.Value(header.ContentLength), 10, 63)
	return err == nil && e.rec.BytesSent == length
}

// switchProtocols carries bytes both ways after a 101, until both sides have ended or one of them breaks.
func (e *exchange) switchProtocols(up message.Stream) {
	e.stopTimeout() // the request has been answered; the connection may last
	if e.writeHead(&e.resp, false) != nil || e.down.Flush() != nil {
		up.Reset(message.Cancel)
		return
	}
	e.body.start(up)
	e.copyResponse(up)
}
