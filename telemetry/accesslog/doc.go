// Package accesslog writes one line per request or connection, in the format and under the filters that came over xDS
// (envoy.config.accesslog.v3.AccessLog).
//
//	out := accesslog.Outputs{Files: accesslog.NewFiles(…), Services: accesslog.NewServices(…)} // one per process
//	logs, unhonoured, err := accesslog.Compile(cfg, out, format.Options{…})                    // one per HCM, tcp_proxy or listener
//	logs.Log(&record)
//
// Log never blocks on a disk or a pipe: lines go to a bounded buffer that a goroutine of the file's empties once a second
// and when it is half full; lines that do not fit are dropped and counted. The same holds for log services: gRPC ALS
// (http_grpc, tcp_grpc) and OpenTelemetry collectors (open_telemetry, over gRPC), which are reached through the proxy's own
// clusters. A batch that a service does not take is lost and counted, as in Envoy: logs that pile up would be the next outage.
//
// What is not honoured is returned by name. A filter that is not honoured lets everything through: a line too many is better
// than a line that an auditor misses. Loggers of other kinds are reported and write nothing.
package accesslog
