//go:build pin

// Package pin keeps the module's requirements in go.mod while the packages that use them are being written.
package pin

import (
	_ "github.com/KimMachineGun/automemlimit/memlimit"
	_ "github.com/cncf/xds/go/udpa/type/v1"
	_ "github.com/cncf/xds/go/xds/type/matcher/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	_ "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	_ "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	_ "github.com/fsnotify/fsnotify"
	_ "github.com/openzipkin/zipkin-go/model"
	_ "github.com/openzipkin/zipkin-go/reporter/http"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/prometheus/common/expfmt"
	_ "github.com/spf13/cobra"
	_ "go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	_ "go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	_ "go.opentelemetry.io/otel/sdk/trace"
	_ "golang.org/x/net/http2"
	_ "golang.org/x/net/http2/hpack"
	_ "golang.org/x/sync/singleflight"
	_ "google.golang.org/grpc"
	_ "google.golang.org/grpc/interop"
	_ "google.golang.org/protobuf/proto"
	_ "istio.io/api/envoy/extensions/stats"
	_ "istio.io/api/security/v1alpha1"
	_ "istio.io/api/security/v1beta1"
	_ "istio.io/api/mesh/v1alpha1"
	_ "sigs.k8s.io/yaml"
)
