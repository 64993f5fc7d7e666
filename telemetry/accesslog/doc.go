// Package accesslog writes one line per request or connection, in the format and under the filters that came over xDS
// (envoy.config.accesslog.v3.AccessLog).
//
//	files := accesslog.NewFiles(accesslog.FileOptions{})        // one per process
//	logs, unhonoured, err := accesslog.Compile(cfg, files, format.Options{…}) // one per HCM, tcp_proxy or listener
//	logs.Log(&record)
//
// Log never blocks on a disk or a pipe: lines go to a bounded buffer that a goroutine of the file's empties once a second
// and when it is half full; lines that do not fit are dropped and counted.
//
// What is not honoured is returned by name. A filter that is not honoured lets everything through: a line too many is better
// than a line that an auditor misses. Loggers other than files (gRPC ALS, OpenTelemetry) are reported and write nothing.
package accesslog
