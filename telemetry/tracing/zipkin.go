package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	"github.com/openzipkin/zipkin-go/model"
	"github.com/openzipkin/zipkin-go/reporter"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/format"
)

// collectorTimeout is how long a collector may take for a batch when the configuration does not say: Envoy's 5 s.
const collectorTimeout = 5 * time.Second

// collector is where an HTTP exporter posts to.
type collector struct {
	client  *http.Client
	url     string // http://host/path: the dialer does TLS
	host    string // the Host header
	headers http.Header
	timeout time.Duration
}

// newCollector finds its way from an HttpService.
func newCollector(s *corev3.HttpService, o *Options) (*collector, error) {
	u := s.GetHttpUri()
	if u.GetCluster() == "" {
		return nil, errors.New("http_uri.cluster is empty; name the collector's cluster")
	}
	host, path, err := splitURI(u.GetUri(), u.GetCluster())
	if err != nil {
		return nil, fmt.Errorf("http_uri.uri: %w", err)
	}
	c, err := dialCollector(u.GetCluster(), host, path, o)
	if err != nil {
		return nil, err
	}
	if d := u.GetTimeout().AsDuration(); d > 0 {
		c.timeout = d
	}
	for _, h := range s.GetRequestHeadersToAdd() {
		f, err := format.Compile(h.GetHeader().GetValue(), o.Format)
		if err != nil {
			return nil, fmt.Errorf("request_headers_to_add[%s]: %w", h.GetHeader().GetKey(), err)
		}
		if v, ok := f.Value(&telemetry.Record{}); ok { // no request: only environment and constants have a value
			c.headers.Add(h.GetHeader().GetKey(), v)
		}
	}
	return c, nil
}

func dialCollector(cluster, host, path string, o *Options) (*collector, error) {
	if o.Dial == nil {
		return nil, errors.New("no dialer for collectors")
	}
	dial, err := o.Dial(cluster)
	if err != nil {
		return nil, fmt.Errorf("cluster %q: %w", cluster, err)
	}
	return &collector{
		client: &http.Client{
			Transport: &http.Transport{
				DialContext:  func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
				MaxIdleConns: 2, IdleConnTimeout: time.Minute, // one request at a time; do not keep a connection for nothing
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		url: "http://collector" + path, host: host, headers: http.Header{}, timeout: collectorTimeout,
	}, nil
}

// splitURI takes host and path from a full URI or a path alone, for which the cluster's name stands in as host. A name that
// is no host name (istiod's have "|") is not sent: Go servers answer it with 400. "localhost" then is.
func splitURI(uri, cluster string) (host, path string, err error) {
	host, path = cluster, uri
	if strings.Contains(uri, "://") {
		u, err := url.Parse(uri)
		if err != nil {
			return "", "", err
		}
		host, path = u.Host, u.RequestURI()
	}
	if path == "" {
		path = "/"
	}
	if !strings.HasPrefix(path, "/") {
		return "", "", fmt.Errorf("%q is neither a path nor a URI", uri)
	}
	return hostOr(host), path, nil
}

func hostOr(host string) string {
	if strings.ContainsAny(host, "|;,_ /") || host == "" {
		if p := strings.Split(host, "|"); len(p) == 4 { // outbound|9411||zipkin.istio-system.svc.cluster.local
			return p[3] + ":" + p[1]
		}
		return "localhost"
	}
	return host
}

func (c *collector) post(ctx context.Context, contentType string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Host = c.host
	req.Header = c.headers.Clone()
	req.Header.Set("Content-Type", contentType)
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	_ = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("collector answered %s", resp.Status)
	}
	return nil
}

// zipkinExporter posts spans in the JSON of Zipkin's API v2.
type zipkinExporter struct {
	collector *collector
	json      reporter.JSONSerializer
	local     localEndpoint
}

func newZipkin(z *tracev3.ZipkinConfig, o *Options) (exporter, error) {
	if s := z.GetCollectorService(); s == nil {
		switch v := z.GetCollectorEndpointVersion(); v {
		case tracev3.ZipkinConfig_HTTP_JSON, tracev3.ZipkinConfig_DEPRECATED_AND_UNAVAILABLE_DO_NOT_USE:
			// The zero value was API v1, which is gone; what collectors take today is v2 JSON.
		default:
			return nil, fmt.Errorf("collector_endpoint_version %v is not supported; use HTTP_JSON", v)
		}
	}
	var c *collector
	var err error
	if s := z.GetCollectorService(); s != nil {
		if c, err = newCollector(s, o); err != nil {
			return nil, fmt.Errorf("collector_service.%w", err)
		}
	} else {
		cluster := z.GetCollectorCluster()
		if cluster == "" {
			return nil, errors.New("collector_cluster is empty")
		}
		host, path, err := splitURI(z.GetCollectorEndpoint(), cluster)
		if err != nil {
			return nil, fmt.Errorf("collector_endpoint: %w", err)
		}
		if h := z.GetCollectorHostname(); h != "" {
			host = h
		}
		if c, err = dialCollector(cluster, host, path, o); err != nil {
			return nil, fmt.Errorf("collector_cluster: %w", err)
		}
	}
	return &zipkinExporter{collector: c, local: localEndpoint{o.ServiceName, o.LocalAddress}}, nil
}

func (z *zipkinExporter) export(ctx context.Context, batch []finished) error {
	spans := make([]*model.SpanModel, 0, len(batch))
	for i := range batch {
		spans = append(spans, z.span(&batch[i]))
	}
	body, err := z.json.Serialize(spans)
	if err != nil {
		return err
	}
	return z.collector.post(ctx, z.json.ContentType(), body)
}

func (z *zipkinExporter) span(f *finished) *model.SpanModel {
	s := &model.SpanModel{
		SpanContext: model.SpanContext{TraceID: model.TraceID{High: f.ctx.traceHigh, Low: f.ctx.traceLow}, ID: model.ID(f.ctx.span)},
		Name:        f.name, Kind: model.Server, Shared: f.ctx.shared,
		Duration: max(f.duration, time.Microsecond), // Zipkin takes zero for "not finished"
		Tags:     make(map[string]string, len(f.tags)),
	}
	if f.start.Unix() > 0 {
		s.Timestamp = f.start // one that Zipkin cannot take would cost the whole batch
	}
	if f.ctx.parent != 0 {
		parent := model.ID(f.ctx.parent)
		s.ParentID = &parent
	}
	s.LocalEndpoint = &model.Endpoint{ServiceName: z.local.service}
	if a := z.local.addr.Unmap(); a.Is4() {
		s.LocalEndpoint.IPv4 = net.IP(a.AsSlice())
	} else if a.Is6() {
		s.LocalEndpoint.IPv6 = net.IP(a.AsSlice())
	}
	for _, t := range f.tags {
		s.Tags[t.name] = t.value
	}
	return s
}

func (z *zipkinExporter) close(context.Context) { z.collector.client.CloseIdleConnections() }
