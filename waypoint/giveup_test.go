package waypoint_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint"
)

// Clients that give up at any moment, and backends that answer early, late, in pieces or not at all, do no harm to those who
// behave: each of their requests gets its own answer. (The connection to a pod is shared, and pods count resets.)
func TestOthersGivingUpHarmsNobody(t *testing.T) {
	m := sampleMesh(t, withoutPolicy, withoutTimeouts)
	backend := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Id")
		switch r.Header.Get("X-Mode") {
		case "early": // before the request's body
			w.WriteHeader(http.StatusOK)
			fmt.Fprint(w, id)
			return
		case "late":
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		case "pieces":
			f := w.(http.Flusher)
			for i := 0; i < 5; i++ {
				fmt.Fprint(w, strings.Repeat("x", rand.IntN(5000)))
				f.Flush()
			}
			fmt.Fprint(w, id)
			return
		case "hints":
			w.WriteHeader(http.StatusEarlyHints)
		case "abort":
			panic(http.ErrAbortHandler)
		}
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s:%s", id, b)
	})
	m.hbonePod(podV1, httpApp(backend))
	m.hbonePod(podV2, httpApp(backend))
	m.endpoints(httpCluster, podV1+":5000", podV2+":5000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	var n, good, bad atomic.Int64
	end := time.Now().Add(3 * time.Second)
	var wg sync.WaitGroup
	polite := func(c *http.Client) {
		defer wg.Done()
		for time.Now().Before(end) {
			id := fmt.Sprintf("id%d", n.Add(1))
			mode := []string{"", "late", "hints"}[rand.IntN(3)]
			body := strings.Repeat("b", rand.IntN(3)*rand.IntN(3000))
			req, _ := http.NewRequest(http.MethodGet, "http://helloworld:5000/hello", strings.NewReader(body))
			if body != "" && rand.IntN(2) == 0 {
				req.Body = io.NopCloser(io.MultiReader(strings.NewReader(body[:len(body)/2]), strings.NewReader(body[len(body)/2:])))
				req.ContentLength = -1
			}
			req.Header.Set("X-Id", id)
			req.Header.Set("X-Mode", mode)
			resp, err := c.Do(req)
			if err != nil {
				bad.Add(1)
				t.Errorf("%s %s: %v", id, mode, err)
				return
			}
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK || string(b) != id+":"+body {
				bad.Add(1)
				t.Errorf("%s %s: %d %v %.400q", id, mode, resp.StatusCode, err, b)
				if bad.Load() > 5 {
					return
				}
				continue
			}
			good.Add(1)
		}
	}
	rude := func(c *http.Client) {
		defer wg.Done()
		for time.Now().Before(end) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(2500))*time.Microsecond)
			mode := []string{"", "late", "hints", "early", "pieces", "abort"}[rand.IntN(6)]
			pr, pw := io.Pipe()
			go func() {
				_, _ = pw.Write(bytes.Repeat([]byte("r"), rand.IntN(40000)))
				time.Sleep(time.Duration(rand.IntN(1500)) * time.Microsecond)
				_ = pw.Close()
			}()
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://helloworld:5000/hello", pr)
			req.Header.Set("X-Id", "rude")
			req.Header.Set("X-Mode", mode)
			if resp, err := c.Do(req); err == nil {
				_, _ = io.CopyN(io.Discard, resp.Body, int64(rand.IntN(3000)))
				_ = resp.Body.Close()
			}
			_ = pr.Close()
			cancel()
		}
	}
	for i := range 4 {
		cl := m.client(fmt.Sprintf("polite%d", i))
		wg.Add(2)
		go polite(cl.http(httpVIP))
		go polite(cl.http2(httpVIP))
		rc := m.client(fmt.Sprintf("rude%d", i))
		wg.Add(2)
		go rude(rc.http(httpVIP))
		go rude(rc.http2(httpVIP))
	}
	wg.Wait()
	if good.Load() == 0 {
		t.Error("nothing was tried")
	}
}
