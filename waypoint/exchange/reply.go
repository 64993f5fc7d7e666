package exchange

import (
	"net/http"
	"strconv"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// reply answers without an upstream, as Envoy's sendLocalReply: a gRPC request gets HTTP 200 with grpc-status and
// grpc-message and no body, everybody else the status and a text/plain body. The answer runs through the response filters.
// After the response's head has gone out it can only reset.
func (e *exchange) reply(r filter.Reply) {
	e.env.Stats.LocalReplies.Add(1)
	if r.Details != "" {
		e.rec.ResponseCodeDetails = r.Details
	}
	if r.Flag != telemetry.FlagNone {
		e.rec.Flags.Set(r.Flag)
	}
	if e.headSent {
		e.down.Reset(message.InternalError)
		return
	}
	h := &e.resp
	h.Reset()
	h.Status = r.Status
	body := r.Body
	for i := 0; i+1 < len(r.Headers); i += 2 {
		h.Fields.Append(r.Headers[i], r.Headers[i+1])
	}
	if e.grpc {
		code, ok := r.GRPC.Code()
		if !ok {
			code = grpcCode(r.Status)
		}
		h.Status = http.StatusOK
		h.Fields.Set(header.ContentType, "application/grpc")
		h.Fields.Set(header.GRPCStatus, strconv.Itoa(code))
		if body != "" {
			h.Fields.Set(header.GRPCMessage, percentEncode(body))
		}
		e.rec.GRPCStatus, e.rec.GRPCMessage = telemetry.GRPC(uint32(code)), body
		body = ""
	} else if body != "" {
		h.Fields.Set(header.ContentLength, strconv.Itoa(len(body)))
		if !h.Fields.Has(header.ContentType) {
			h.Fields.AppendID(header.ContentType, "text/plain")
		}
	} else if r.Status >= 200 && r.Status != http.StatusNoContent && r.Status != http.StatusNotModified {
		h.Fields.Set(header.ContentLength, "0")
	}
	if e.head {
		body = ""
	}
	if e.forwarding && e.route != nil {
		e.route.ApplyResponse(h, e.choice, &e.rec)
	}
	e.responseFilters(h)
	e.decorate(h)
	if e.writeHead(h, body == "") != nil || body == "" {
		return
	}
	if n, err := e.down.Write([]byte(body)); err == nil {
		e.rec.BytesSent += uint64(n)
		if e.down.CloseWrite(nil) == nil {
			e.ended = true
		}
	}
}

// refuse answers 500: the configuration holds something that may not be passed over.
func (e *exchange) refuse(err error) {
	e.env.Stats.Refused.Add(1)
	e.env.Logger.Warn("request refused: the configuration cannot be honoured", "error", err)
	e.reply(filter.Reply{
		Status: http.StatusInternalServerError, Details: "config_refused", Flag: telemetry.FlagNoFilterConfigFound,
		Body: "this waypoint cannot honour its configuration; see its log and /census",
	})
}

// malformed answers a head that broke the rules of its protocol. Filters did not see it.
func (e *exchange) malformed(m *message.Malformed) {
	e.env.Stats.Malformed.Add(1)
	body := http.StatusText(m.Status)
	if m.Status == http.StatusNotFound {
		body = ""
	}
	e.reply(filter.Reply{Status: m.Status, Body: body, Details: m.Details, Flag: telemetry.FlagDownstreamProtocolError})
}

// writeHead sends a response's head and notes it.
func (e *exchange) writeHead(h *message.Head, end bool) error {
	if !h.Informational() {
		e.headSent = true
		e.rec.ResponseCode = h.Status
		e.rec.ResponseHeaders = (*joined)(h)
		all, fields := wireSize(h)
		e.rec.WireBytesSent += all
		e.rec.HeaderBytesSent = fields
		e.rec.Timing.DownstreamFirstTx = telemetry.At(time.Since(e.rec.Start))
	}
	err := e.down.WriteHead(h, end)
	if err == nil && end {
		err = e.down.Flush()
		e.ended = err == nil
	}
	return err
}

// decorate adds what every response of the connection manager carries: server, date, and the operation's name.
func (e *exchange) decorate(h *message.Head) {
	e.serverHeader(h)
	if !h.Fields.Has(header.Date) {
		now := e.rec.Start
		if d, ok := e.rec.Timing.UpstreamFirstRx.SinceStart().Get(); ok { // the clock was read when the endpoint's answer came
			now = now.Add(d)
		} else {
			now = time.Now()
		}
		h.Fields.AppendID(header.Date, e.env.date.get(now))
	}
	if r := e.route; r != nil && e.http.Tracer != nil && r.Operation != "" && r.PropagateOperation {
		h.Fields.Set(header.XEnvoyDecoratorOperation, r.Operation)
	}
}

// grpcCode is Envoy's mapping of an HTTP status that has no gRPC status beside it.
func grpcCode(status int) int {
	switch status {
	case 400:
		return 13 // INTERNAL
	case 401:
		return 16 // UNAUTHENTICATED
	case 403:
		return 7 // PERMISSION_DENIED
	case 404:
		return 12 // UNIMPLEMENTED
	case 429, 502, 503, 504:
		return 14 // UNAVAILABLE
	default:
		return 2 // UNKNOWN
	}
}

// percentEncode is gRPC's encoding of grpc-message: printable ASCII save "%" as it is, other bytes as %XX.
func percentEncode(s string) string {
	const hex = "0123456789ABCDEF"
	var b []byte
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= ' ' && c <= '~' && c != '%' {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}
