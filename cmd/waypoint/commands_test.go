package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/bootstrap"
)

func TestRequest(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/missing":
			http.Error(w, "not here", http.StatusNotFound)
		case "/broken":
			http.Error(w, "broken", http.StatusInternalServerError)
		default:
			_, _ = io.WriteString(w, r.Method+" "+r.URL.String()+" "+string(b))
		}
	}))
	defer s.Close()
	for _, c := range []struct{ method, path, body, want, err string }{
		{"GET", "stats?filter=x", "", "GET /stats?filter=x", ""},
		{"post", "/logging", "level=debug", "POST /logging level=debug", ""},
		{"GET", "missing", "", "not here", ""},
		{"GET", "broken", "", "", "received unsuccessful status code 500"},
	} {
		var out bytes.Buffer
		err := request(context.Background(), &out, s.URL, c.method, c.path, c.body)
		if c.err == "" && (err != nil || !strings.Contains(out.String(), c.want)) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s %s: %q, %v", c.method, c.path, out.String(), err)
		}
	}
	cmd := command()
	cmd.SetArgs([]string{"request", "GET", "/", "--debug-port", "22"})
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("port 22: %v", err)
	}
}

func TestWait(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := wait(ctx, s.Client(), s.URL, time.Millisecond); err != nil {
		t.Error(err)
	}
	asked.Store(-1 << 30)
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := wait(short, s.Client(), s.URL, time.Millisecond); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("never ready: %v", err)
	}
}

func TestVersion(t *testing.T) {
	for args, want := range map[string]string{"version": "speaks Istio ", "version -s": version, "version -o json": `"version":"` + version} {
		var out bytes.Buffer
		cmd := command()
		cmd.SetOut(&out)
		cmd.SetArgs(strings.Fields(args))
		if err := cmd.Execute(); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %q, %v", args, out.String(), err)
		}
	}
}

func TestLogLevel(t *testing.T) {
	for in, want := range map[string]slog.Level{
		"": slog.LevelInfo, "default:info": slog.LevelInfo, "all:debug": slog.LevelDebug, "ads:debug,default:warn": slog.LevelWarn,
		"error": slog.LevelError, "ads:debug": slog.LevelInfo, "default:none": slog.LevelError + 100,
	} {
		if got := logLevel(in); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

// A role that is not ours, and labels without the gateway's name, end the process before anything is served.
func TestProxyRefusesToStart(t *testing.T) {
	if err := proxy(context.Background(), []string{"sidecar", "--domain", "default.svc.cluster.local"}); err == nil {
		t.Error("role sidecar was taken")
	}
}

// What the bootstrap reads and nobody acts on is said, and what is at its default is not.
func TestSettingsLeftOut(t *testing.T) {
	b := &bootstrap.Bootstrap{}
	b.Discovery.KeepaliveInterval, b.Discovery.KeepaliveTimeout = 30*time.Second, 10*time.Second
	if got := leftOut(b); len(got) != 0 {
		t.Errorf("nothing is set: %v", got)
	}
	b.CompliancePolicy, b.Discovery.SendTokenInPlaintext = "pqc", true
	b.Discovery.KeepaliveInterval, b.Stats.ExtraTags = time.Second, []string{"x"}
	if got := leftOut(b); len(got) != 4 {
		t.Errorf("four settings: %v", got)
	}
}
