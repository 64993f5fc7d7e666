package wds

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/gowaypoint/gowaypoint/xdsclient"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func pod(uid string, addresses ...string) *Workload {
	w := &Workload{UID: uid}
	for _, a := range addresses {
		w.Addresses = append(w.Addresses, addr(a))
	}
	return w
}

func on(network string, w *Workload) *Workload { w.Network = network; return w }
func host(w *Workload) *Workload               { w.HostNetwork = true; return w }

func TestTableByAddr(t *testing.T) {
	for _, c := range []struct {
		name string
		all  []*Workload
		ask  string
		want string
	}{
		{"unknown", nil, "10.0.0.1", ""},
		{"one", []*Workload{pod("a", "10.0.0.1")}, "10.0.0.1", "a"},
		{"IPv4 in IPv6 form", []*Workload{pod("a", "10.0.0.1")}, "::ffff:10.0.0.1", "a"},
		{"the second address", []*Workload{pod("a", "10.0.0.1", "fd00::1")}, "fd00::1", "a"},
		{"an address given anew", []*Workload{pod("old", "10.0.0.1"), pod("new", "10.0.0.1")}, "10.0.0.1", "new"},
		{"alone on its node's address", []*Workload{host(pod("a", "10.0.0.1"))}, "10.0.0.1", "a"},
		{"two on their node's address", []*Workload{host(pod("a", "10.0.0.1")), host(pod("b", "10.0.0.1"))}, "10.0.0.1", ""},
		{"an own address goes first", []*Workload{pod("a", "10.0.0.1"), host(pod("b", "10.0.0.1")), host(pod("c", "10.0.0.1"))}, "10.0.0.1", "a"},
		{"our network goes first", []*Workload{on("ours", pod("a", "10.0.0.1")), on("theirs", pod("b", "10.0.0.1"))}, "10.0.0.1", "a"},
		{"another network alone", []*Workload{on("theirs", pod("b", "10.0.0.1"))}, "10.0.0.1", "b"},
	} {
		table := NewTable("ours")
		table.Update(c.all, nil)
		got := ""
		if w := table.ByAddr(addr(c.ask)); w != nil {
			got = w.UID
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestTableUpdate(t *testing.T) {
	table := NewTable("")
	table.Update([]*Workload{pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), host(pod("c", "10.0.0.9")), host(pod("d", "10.0.0.9"))}, nil)
	if table.Len() != 4 || table.ByAddr(addr("10.0.0.9")) != nil {
		t.Fatal("first update")
	}
	// a moves to another address, b and d go.
	table.Update([]*Workload{pod("a", "10.0.0.3")}, []string{"b", "d", "unknown"})
	for ask, want := range map[string]*Workload{
		"10.0.0.1": nil, "10.0.0.2": nil, "10.0.0.3": table.ByUID("a"), "10.0.0.9": table.ByUID("c"),
	} {
		if got := table.ByAddr(addr(ask)); got != want {
			t.Errorf("%s: %v, want %v", ask, got, want)
		}
	}
	if table.ByUID("b") != nil || table.ByUID("a") == nil || table.Len() != 2 {
		t.Error("uids")
	}
}

func TestTableApply(t *testing.T) {
	table := NewTable("")
	resource := func(name string, value []byte) *xdsclient.Resource {
		return &xdsclient.Resource{TypeURL: xdsclient.TypeWorkload, Name: name, Value: value}
	}
	rejected := table.Apply(&xdsclient.Update{TypeURL: xdsclient.TypeWorkload, Changed: []*xdsclient.Resource{
		resource("a", encode(t, map[string]any{"uid": "a", "addresses": [][]byte{{10, 0, 0, 1}}})),
		resource("b", encode(t, map[string]any{"uid": "other"})),
		resource("c", []byte{0x0a, 99}),
	}})
	var text []string
	for _, r := range rejected {
		text = append(text, r.String())
	}
	want := "b: uid: is \"other\", not the resource's name\nc: field 1: truncated or malformed: unexpected EOF"
	if got := strings.Join(text, "\n"); got != want {
		t.Errorf("rejected:\n%s\nwant:\n%s", got, want)
	}
	if w := table.ByAddr(addr("10.0.0.1")); w == nil || w.UID != "a" {
		t.Errorf("the good one: %v", w)
	}
	table.Apply(&xdsclient.Update{TypeURL: xdsclient.TypeWorkload, Removed: []string{"a"}})
	if table.Len() != 0 {
		t.Error("not removed")
	}
}

// TestTableConcurrent reads while workloads come and go; the race detector looks on. A reader must always find the one that stays.
func TestTableConcurrent(t *testing.T) {
	table := NewTable("")
	table.Update([]*Workload{pod("stays", "10.255.0.1")}, nil)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if w := table.ByAddr(addr("10.255.0.1")); w == nil || w.UID != "stays" {
					t.Error("lost")
					return
				}
			}
		})
	}
	for i := range 2000 {
		uid := fmt.Sprint(i % 300)
		table.Update([]*Workload{pod(uid, fmt.Sprintf("10.0.%d.1", i%300/2))}, []string{fmt.Sprint((i + 7) % 300)})
	}
	close(done)
	readers.Wait()
}

func BenchmarkByAddr(b *testing.B) {
	table, a := NewTable(""), addr("10.0.77.1")
	var all []*Workload
	for i := range 10_000 {
		all = append(all, pod(fmt.Sprint(i), fmt.Sprintf("10.%d.%d.1", i/256, i%256)))
	}
	table.Update(all, nil)
	b.ReportAllocs()
	for b.Loop() {
		if table.ByAddr(a) == nil {
			b.Fatal("not found")
		}
	}
}

// BenchmarkUpdate changes one workload of 100,000.
func BenchmarkUpdate(b *testing.B) {
	table := NewTable("")
	var all []*Workload
	for i := range 100_000 {
		all = append(all, pod(fmt.Sprint(i), fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)))
	}
	table.Update(all, nil)
	b.ReportAllocs()
	for b.Loop() {
		table.Update([]*Workload{pod("7", "10.0.0.7")}, nil)
	}
}
