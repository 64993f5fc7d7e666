package admin

import (
	"fmt"
	"net/http"
	"runtime/metrics"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
)

// memoryPage answers /memory: envoy.admin.v3.Memory, with what the Go runtime has that corresponds.
func (s *Server) memoryPage(w http.ResponseWriter, _ *http.Request) {
	m := readMemory()
	s.writeJSON(w, &adminv3.Memory{
		Allocated: m.objects, HeapSize: m.heap(), PageheapUnmapped: m.released, PageheapFree: m.free,
		TotalPhysicalBytes: m.total - m.released,
	})
}

// memory is what runtime/metrics says, without stopping the world. All in bytes.
type memory struct {
	objects  uint64 // live objects and those not collected yet
	unused   uint64 // reserved for objects and empty
	free     uint64 // free, and could be given back
	released uint64 // given back to the operating system
	total    uint64 // mapped by the runtime
}

// heap is what the heap holds from the operating system.
func (m memory) heap() uint64 { return m.objects + m.unused + m.free }

func readMemory() memory {
	v := readMetrics("/memory/classes/heap/objects:bytes", "/memory/classes/heap/unused:bytes", "/memory/classes/heap/free:bytes",
		"/memory/classes/heap/released:bytes", "/memory/classes/total:bytes")
	return memory{v[0].Uint64(), v[1].Uint64(), v[2].Uint64(), v[3].Uint64(), v[4].Uint64()}
}

func readMetrics(names ...string) []metrics.Value {
	samples := make([]metrics.Sample, len(names))
	for i, n := range names {
		samples[i].Name = n
	}
	metrics.Read(samples)
	out := make([]metrics.Value, len(names))
	for i := range samples {
		out[i] = samples[i].Value
	}
	return out
}

// contentionPage answers /contention. Envoy counts cycles there; Go knows the time.
func (s *Server) contentionPage(w http.ResponseWriter, _ *http.Request) {
	v := readMetrics("/sync/mutex/wait/total:seconds")
	w.Header().Set("Content-Type", plainText)
	_, _ = fmt.Fprintf(w, "all goroutines together waited %.6f s for locks; by place: /debug/pprof/mutex\n", v[0].Float64())
}

// profilerElsewhere: Envoy writes a file, which a read-only root has no place for.
func (s *Server) profilerElsewhere(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "no file is written here: GET /debug/pprof/profile?seconds=30 or /debug/pprof/heap", http.StatusNotImplemented)
}
