package authzbench

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"

	"golang.org/x/sys/unix"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/rbac"
)

// BenchmarkEngines asks every engine for the request that the last policy allows.
func BenchmarkEngines(b *testing.B) {
	for _, name := range slices.Sorted(maps.Keys(Engines)) {
		for _, n := range Sizes {
			b.Run(fmt.Sprintf("engine=%s/policies=%d", name, n), func(b *testing.B) {
				engine := made(b, name, n)
				measure(b, func() {
					if allowed, err := engine.Decide(Match); err != nil || !allowed {
						b.Fatal(allowed, err)
					}
				})
			})
		}
	}
}

// engines are those made so far: with -count each benchmark runs several times, and some take seconds to be made.
var engines = map[string]Decider{}

func made(b *testing.B, name string, n int) Decider {
	key := engineName(name, n)
	if engines[key] == nil {
		engine, err := Engines[name](Rules(n))
		if err != nil {
			b.Fatal(err)
		}
		engines[key] = engine
	}
	return engines[key]
}

// exactSet is made once, too.
var exactSet = sync.OnceValues(func() (*rbacv3.RBAC, Request) { return Exact(10_000) })

// BenchmarkTarget is what the library has promised: see Targets.
func BenchmarkTarget(b *testing.B) {
	exactRules, match := exactSet()
	for _, c := range []struct {
		name  string
		rules *rbacv3.RBAC
		r     Request
	}{
		{"set=get-only", GetOnly(), Request{Method: "GET", Path: "/"}},
		{"set=exact-10000x10", exactRules, match},
	} {
		b.Run("decide/"+c.name, func(b *testing.B) {
			set, err := rbac.Compile(c.rules)
			if err != nil {
				b.Fatal(err)
			}
			state := principal(c.r.Principal)
			r := &authz.Request{HTTP: true, Method: c.r.Method, Path: c.r.Path, Authority: "shop:8080", FilterState: &state}
			measure(b, func() {
				if d := set.Decide(r); !d.Allowed {
					b.Fatal(d)
				}
			})
		})
	}
	b.Run("compile/set=exact-10000x10", func(b *testing.B) {
		before := heap()
		var set *authz.PolicySet
		measure(b, func() {
			var err error
			if set, err = rbac.Compile(exactRules); err != nil {
				b.Fatal(err)
			}
		})
		b.ReportMetric(float64(heap())-float64(before), "heap-bytes")
		runtime.KeepAlive(set)
		runtime.KeepAlive(exactRules)
	})
}

// measure runs what is measured. Beside the wall-clock time it reports the processor time, that of the garbage collector included,
// because that is what Envoy's is compared with, and because others on the machine disturb it less.
func measure(b *testing.B, run func()) {
	runtime.GC() // of what came before
	b.ReportAllocs()
	b.ResetTimer()
	began := processorTime(b)
	for b.Loop() {
		run()
	}
	b.ReportMetric((processorTime(b)-began).Seconds()*1e9/float64(b.N), CPUUnit)
}

// processorTime is that of this process, user and system.
func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// heap is what is reachable.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what has a finalizer or lies in a pool is gone after the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
