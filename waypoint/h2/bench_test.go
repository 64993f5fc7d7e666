package h2

import (
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// The benchmarks chain load → proxy → backend over TLS on loopback: 2 connections with 50 streams each, closed loop, 200-byte
// requests and 500-byte answers. All three run in this process; each has two connection ends or one, all of this package. The
// proxy's share is what "proxy" costs more than "direct" (load → backend).

const (
	benchConns   = 2
	benchStreams = 50
	requestSize  = 200
	answerSize   = 500
)

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// run divides b.N requests among the streams and reports CPU per request.
func run(b *testing.B, addr string, o Options, worker func(c *Conn, next func() bool)) {
	conns := make([]*Conn, benchConns)
	for i := range conns {
		conns[i] = dialOurs(b, addr, o)
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	start := cpu()
	for i := range benchConns * benchStreams {
		all.Go(func() { worker(conns[i%benchConns], func() bool { return left.Add(-1) >= 0 }) })
	}
	all.Wait()
	b.ReportMetric(float64((cpu()-start).Nanoseconds())/1000/float64(b.N), "cpu-µs/req")
	b.StopTimer()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N), "allocs/req")
}

func readFull(s io.Reader, p []byte) bool {
	_, err := io.ReadFull(s, p)
	return err == nil
}

// BenchmarkTunnels sends the requests through tunnels that stay open, as HBONE with keep-alive does.
func BenchmarkTunnels(b *testing.B) {
	backend := serveOurs(b, func(s *Stream) {
		var h message.Head
		_, _ = s.ReadHead(&h)
		_ = s.WriteHead(ok(), false)
		request, answer := make([]byte, requestSize), make([]byte, answerSize)
		for readFull(s, request) {
			if _, err := s.Write(answer); err != nil {
				return
			}
		}
	})
	var upstream []*Conn
	for range benchConns {
		upstream = append(upstream, dialOurs(b, backend, Options{}))
	}
	var n atomic.Int64
	proxy := serveOurs(b, func(s *Stream) {
		var h message.Head
		_, _ = s.ReadHead(&h)
		up, err := upstream[n.Add(1)%benchConns].Open()
		if err != nil {
			b.Error(err)
			return
		}
		defer up.Reset(message.Cancel)
		_ = up.WriteHead(&h, false)
		_, _ = up.ReadHead(&h)
		_ = s.WriteHead(ok(), false)
		buf := make([]byte, 4096)
		for {
			n, err := s.Read(buf)
			if err != nil {
				return
			}
			if _, err = up.Write(buf[:n]); err != nil || !readFull(up, buf[:answerSize]) {
				return
			}
			if _, err := s.Write(buf[:answerSize]); err != nil {
				return
			}
		}
	})
	for _, to := range []struct{ name, addr string }{{"direct", backend}, {"proxy", proxy}} {
		b.Run(to.name, func(b *testing.B) {
			run(b, to.addr, Options{}, func(c *Conn, next func() bool) {
				s := open(b, c, &message.Head{Method: "CONNECT", Authority: "10.0.0.1:80"}, false)
				defer s.Reset(message.Cancel)
				readHead(b, s)
				request, answer := make([]byte, requestSize), make([]byte, answerSize)
				for next() {
					if _, err := s.Write(request); err != nil || !readFull(s, answer) {
						b.Error("lost")
						return
					}
				}
			})
		})
	}
}

// BenchmarkRequests opens a stream for each request, as HTTP/2 inside a tunnel does.
func BenchmarkRequests(b *testing.B) {
	backend := serveOurs(b, func(s *Stream) {
		var h message.Head
		_, _ = s.ReadHead(&h)
		h.Reset()
		h.Status = 200
		h.Fields.Append("content-type", "text/plain")
		h.Fields.Append("content-length", "500")
		_ = s.WriteHead(&h, false)
		var answer [answerSize]byte
		_, _ = s.Write(answer[:])
		_ = s.CloseWrite(nil)
	})
	var upstream []*Conn
	for range benchConns {
		upstream = append(upstream, dialOurs(b, backend, Options{}))
	}
	var n atomic.Int64
	heads := sync.Pool{New: func() any { return new(message.Head) }}
	proxy := serveOurs(b, func(s *Stream) {
		h := heads.Get().(*message.Head)
		defer heads.Put(h)
		_, _ = s.ReadHead(h)
		up, err := upstream[n.Add(1)%benchConns].Open()
		if err != nil {
			b.Error(err)
			return
		}
		if err := up.WriteHead(h, true); err != nil {
			b.Error(err)
		}
		if _, err := up.ReadHead(h); err != nil {
			b.Error(err)
		}
		if err := s.WriteHead(h, false); err != nil {
			b.Error(err)
		}
		var buf [4096]byte
		for {
			n, err := up.Read(buf[:])
			if n > 0 {
				_, _ = s.Write(buf[:n])
			}
			if err != nil {
				_ = s.CloseWrite(nil)
				return
			}
		}
	})
	for _, to := range []struct{ name, addr string }{{"direct", backend}, {"proxy", proxy}} {
		b.Run(to.name, func(b *testing.B) {
			run(b, to.addr, Options{}, func(c *Conn, next func() bool) {
				h := get("/api/v1/things")
				h.Fields.Append("user-agent", "bench/1.0")
				h.Fields.Append("accept", "*/*")
				h.Fields.Append("x-own", "value")
				in, answer := new(message.Head), make([]byte, answerSize+1)
				for next() {
					s, err := c.Open()
					if err != nil {
						b.Error(err)
						return
					}
					_ = s.WriteHead(h, true)
					if _, err := s.ReadHead(in); err != nil {
						b.Error(err)
						return
					}
					if n, err := io.ReadFull(s, answer); n != answerSize || err != io.ErrUnexpectedEOF {
						b.Error(n, err)
						return
					}
				}
			})
		})
	}
}
