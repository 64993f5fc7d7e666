package hbone

import (
	"context"
	"fmt"

	"github.com/gowaypoint/gowaypoint/waypoint/h2"
	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// StatusError is an answer to CONNECT that is not a success. ztunnel: 401 denied by its L4 policy, 400 not its workload,
// 503 no such port.
type StatusError struct{ Status int }

func (e *StatusError) Error() string { return fmt.Sprintf("CONNECT answered with status %d", e.Status) }

// Connect asks for a tunnel on an HTTP/2 stream and waits for the answer. Nothing is sent into the tunnel before the 2xx
// (CVE-2025-64763). It sends :method and :authority and the given headers, as Envoy's tcp_proxy does. When ctx ends first, the
// stream is reset: the peer has no timeout of its own.
func Connect(ctx context.Context, s *h2.Stream, authority string, headers []header.Field, usePost bool) (message.Conn, error) {
	head := message.Head{Method: "CONNECT", Authority: authority}
	if usePost {
		head.Method, head.Path, head.Scheme = "POST", "/", "http"
	}
	for _, f := range headers {
		head.Fields.Append(f.Name, f.Value)
	}
	stop := context.AfterFunc(ctx, func() { s.Reset(message.Cancel) })
	defer stop()
	// An answer may be there before everything is sent, with a reset behind it (RFC 9113, 8.1): what counts is what is read.
	if err := s.WriteHead(&head, false); err == nil {
		_ = s.Flush()
	}
	for {
		end, err := s.ReadHead(&head)
		if err != nil {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("no answer to CONNECT: %w", context.Cause(ctx))
			}
			return nil, err
		}
		if head.Informational() {
			continue
		}
		if head.Status/100 != 2 {
			s.Reset(message.Cancel)
			return nil, &StatusError{head.Status}
		}
		if end {
			s.Reset(message.Cancel)
			return nil, fmt.Errorf("the tunnel was closed with its 200")
		}
		return s.Tunnel(), nil
	}
}
