package accesslog

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	grpcv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

// alsSink logs to an access log service (envoy.service.accesslog.v3).
type alsSink struct {
	to     *queued
	config *grpcv3.HttpGrpcAccessLogConfig // of TCP: only its common_config
	tcp    bool
}

func (a *alsSink) log(r *telemetry.Record) {
	if a.tcp {
		a.to.put(tcpEntry(r, a.config.GetCommonConfig()))
		return
	}
	a.to.put(httpEntry(r, a.config))
}

// als compiles an http_grpc or a tcp_grpc logger.
func (s *Services) als(config *grpcv3.HttpGrpcAccessLogConfig, tcp bool, report func(string, ...any)) (sink, error) {
	common := config.GetCommonConfig()
	if len(common.GetCustomTags()) > 0 {
		report("common_config.custom_tags are not sent")
	}
	if common.GetGrpcStreamRetryPolicy() != nil {
		report("common_config.grpc_stream_retry_policy has no effect: the next batch opens the stream again")
	}
	c, err := s.connector(common.GetGrpcService())
	if err != nil {
		return nil, fmt.Errorf("common_config.grpc_service: %w", err)
	}
	// Services are told apart by what the stream is: entries of several loggers may share it.
	svc, err := s.get(common, func() (*queued, error) {
		out := &alsOutput{connector: c, node: s.opts.Node, logName: common.GetLogName()}
		return s.newService(c.authority, out, c.timeout, common.GetBufferFlushInterval(), common.GetBufferSizeBytes()), nil
	})
	if err != nil {
		return nil, err
	}
	return &alsSink{to: svc, config: config, tcp: tcp}, nil
}

// alsOutput is one stream to an access log service.
type alsOutput struct {
	*connector
	node    *corev3.Node
	logName string

	conn     *grpc.ClientConn
	stream   alsv3.AccessLogService_StreamAccessLogsClient
	cancel   context.CancelFunc
	received <-chan struct{} // closed when the service has ended the stream
	tcp      bool            // what kind of entries the stream carries: a service may refuse both on one
}

func (o *alsOutput) send(ctx context.Context, batch []proto.Message) error {
	for len(batch) > 0 {
		_, tcp := batch[0].(*datav3.TCPAccessLogEntry)
		n := 1
		for n < len(batch) {
			if _, other := batch[n].(*datav3.TCPAccessLogEntry); other != tcp {
				break
			}
			n++
		}
		if err := o.sendKind(ctx, batch[:n], tcp); err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

func (o *alsOutput) sendKind(ctx context.Context, batch []proto.Message, tcp bool) error {
	m := &alsv3.StreamAccessLogsMessage{}
	if o.stream != nil && (o.tcp != tcp || o.ended()) {
		o.drop()
	}
	if o.stream == nil {
		if err := o.open(ctx); err != nil {
			return err
		}
		o.tcp = tcp
		m.Identifier = &alsv3.StreamAccessLogsMessage_Identifier{Node: o.node, LogName: o.logName}
	}
	if tcp {
		list := &alsv3.StreamAccessLogsMessage_TCPAccessLogEntries{}
		for _, e := range batch {
			list.LogEntry = append(list.LogEntry, e.(*datav3.TCPAccessLogEntry))
		}
		m.LogEntries = &alsv3.StreamAccessLogsMessage_TcpLogs{TcpLogs: list}
	} else {
		list := &alsv3.StreamAccessLogsMessage_HTTPAccessLogEntries{}
		for _, e := range batch {
			list.LogEntry = append(list.LogEntry, e.(*datav3.HTTPAccessLogEntry))
		}
		m.LogEntries = &alsv3.StreamAccessLogsMessage_HttpLogs{HttpLogs: list}
	}
	stop := context.AfterFunc(ctx, o.cancel) // a service that does not read blocks Send
	err := o.stream.Send(m)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		o.drop()
	}
	return err
}

// ended tells whether the service has ended the stream since the last batch: Send would only learn it one batch later.
func (o *alsOutput) ended() bool { return o.stream.Context().Err() != nil }

func (o *alsOutput) open(ctx context.Context) error {
	if o.conn == nil {
		conn, err := o.connect()
		if err != nil {
			return err
		}
		o.conn = conn
	}
	streamCtx, cancel := context.WithCancel(metadata.NewOutgoingContext(context.Background(), o.headers))
	stop := context.AfterFunc(ctx, cancel)
	stream, err := alsv3.NewAccessLogServiceClient(o.conn).StreamAccessLogs(streamCtx, grpc.WaitForReady(true))
	if !stop() || err != nil {
		cancel()
		if err == nil {
			err = ctx.Err()
		}
		return err
	}
	o.stream, o.cancel = stream, cancel
	ended := make(chan struct{})
	o.received = ended
	go func() { // the service answers nothing until it ends the stream
		defer close(ended)
		_ = stream.RecvMsg(&alsv3.StreamAccessLogsResponse{})
		cancel()
	}()
	return nil
}

func (o *alsOutput) drop() {
	o.cancel()
	o.stream = nil
}

// farewell is how long a service may take to read the rest of a stream that ends.
const farewell = time.Second

func (o *alsOutput) close() {
	if o.stream != nil {
		_ = o.stream.CloseSend() // what was sent is on its way; the service ends the stream when it has read it
		select {
		case <-o.received:
		case <-time.After(farewell):
		}
		o.drop()
	}
	if o.conn != nil {
		_ = o.conn.Close() // nothing is on it any more
		o.conn = nil
	}
}

// methodOf is the request method as an enumerator; METHOD_UNSPECIFIED for one that has none.
func methodOf(method string) corev3.RequestMethod {
	return corev3.RequestMethod(corev3.RequestMethod_value[strings.ToUpper(method)])
}
