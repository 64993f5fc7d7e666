package waypoint_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint"
	"github.com/gowaypoint/gowaypoint/waypoint/h2"
)

// SIGTERM: not ready and GOAWAY at once; what is in flight finishes; new tunnels on the old connection are not taken; then the
// server ends by itself.
func TestDrain(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	release := make(chan struct{})
	m.hbonePod(podV1, httpApp(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hello/slow" {
			<-release
		}
		fmt.Fprint(w, "done")
	})))
	m.endpoints(httpCluster, podV1+":5000")
	m.start(waypoint.Drain{Grace: 3 * time.Second})
	cl := m.client("sleep")
	c := cl.http(httpVIP)
	type answer struct {
		status int
		body   string
		err    error
	}
	slow := make(chan answer, 1)
	go func() {
		resp, err := c.Get("http://helloworld:5000/hello/slow")
		if err != nil {
			slow <- answer{err: err}
			return
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		slow <- answer{resp.StatusCode, string(b), err}
	}()
	eventually(t, "the slow request is under way", func() error {
		if cl.conn.ActiveStreams() == 0 {
			return errNotYet
		}
		return nil
	})
	time.Sleep(50 * time.Millisecond)

	began := time.Now()
	m.stop()
	eventually(t, "GOAWAY", func() error {
		if cl.conn.CanOpen() {
			return errNotYet
		}
		return nil
	})
	if d := time.Since(began); d > time.Second {
		t.Errorf("GOAWAY came after %v", d)
	}
	if m.server.Ready() == nil {
		t.Error("still ready")
	}
	if _, err := cl.conn.Open(); !errors.Is(err, h2.ErrGoAway) {
		t.Errorf("a new tunnel: %v", err)
	}
	// Clients that have not heard of it yet are still served, on a new connection.
	if s, b := do(t, m.client("late").http(httpVIP), "GET", "http://helloworld:5000/hello", ""); s != 200 || b != "done" {
		t.Errorf("a late client: %d %q", s, b)
	}
	close(release)
	if a := <-slow; a.err != nil || a.status != 200 || a.body != "done" {
		t.Errorf("the request in flight: %+v", a)
	}
	select {
	case err := <-m.ended:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
		m.ended <- nil
	case <-time.After(8 * time.Second):
		t.Error("the server does not end")
	}
}

// istiod goes away: traffic goes on with the last configuration; and what changes after its return arrives.
func TestControlPlaneAway(t *testing.T) {
	m := sampleMesh(t)
	m.helloPods()
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	c := m.client("sleep").http(httpVIP)
	m.ads.stop()
	for range 20 {
		if s, _ := do(t, c, "GET", "http://helloworld:5000/hello", ""); s != 200 {
			t.Fatalf("while istiod is away: %d", s)
		}
	}
	if err := m.server.Ready(); err != nil {
		t.Errorf("not ready while istiod is away: %v", err)
	}
	m.editMain(withoutPolicy)
	m.ads.restart()
	eventually(t, "the change that came with its return", func() error {
		if s, _ := do(t, c, "POST", "http://helloworld:5000/hello", ""); s != 200 {
			return fmt.Errorf("POST: %d", s)
		}
		return nil
	})
}
