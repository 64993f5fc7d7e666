package waypoint_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint"
)

// Tunnels whose clients have nothing to say give their goroutines back, and serve the next request all the same.
func TestIdleTunnelsHoldNoGoroutine(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	m.hbonePod(podV1, httpApp(hello("v1")))
	m.endpoints(httpCluster, podV1+":5000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	c := m.client("sleep")
	const n = 50
	var clients []*http.Client
	for range n {
		h := c.http(httpVIP)
		clients = append(clients, h)
		if s, _ := do(t, h, "GET", "http://helloworld:5000/hello", ""); s != 200 {
			t.Fatal(s)
		}
	}
	waiting := func() int {
		buf := make([]byte, 16<<20)
		return strings.Count(string(buf[:runtime.Stack(buf, true)]), "exchange.(*loop1).run")
	}
	if got := waiting(); got != n {
		t.Errorf("%d goroutines wait for requests in %d tunnels", got, n)
	}
	eventually(t, "idle tunnels without goroutines", func() error {
		if got := waiting(); got != 0 {
			return fmt.Errorf("%d are still there", got)
		}
		return nil
	})
	for round := range 3 {
		for _, h := range clients {
			if s, body := do(t, h, "GET", "http://helloworld:5000/hello", ""); s != 200 || !strings.HasPrefix(body, "Hello") {
				t.Fatalf("round %d: %d %q", round, s, body)
			}
		}
		if round == 1 {
			eventually(t, "idle again", func() error {
				if got := waiting(); got != 0 {
					return fmt.Errorf("%d are still there", got)
				}
				return nil
			})
		}
	}
}

// A parked tunnel notices that its client leaves, in order or not.
func TestParkedTunnelEnds(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	m.helloPods()
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	c := m.client("sleep")
	for _, leave := range []func(io.Closer){
		func(conn io.Closer) { _ = conn.(interface{ CloseWrite() error }).CloseWrite() },
		func(conn io.Closer) { _ = conn.Close() },
	} {
		conn, err := c.tunnel(httpVIP)
		must(t, err)
		fmt.Fprint(conn, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
		_, err = conn.Read(make([]byte, 1<<10))
		must(t, err)
		time.Sleep(2500 * time.Millisecond) // parked by now
		leave(conn)
		eventually(t, "the stream's end", func() error {
			if n := c.conn.ActiveStreams(); n != 0 {
				return fmt.Errorf("%d streams are open", n)
			}
			return nil
		})
	}
}
