// Command bench-authz measures the policy library beside a real Envoy, cedar-go and OPA, and writes the report; see package
// authzbench. With -check it fails if a target is missed.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/bench"
	authzbench "github.com/gowaypoint/gowaypoint/e2e/bench/authz"
	"github.com/gowaypoint/gowaypoint/e2e/envoy"
)

// options are the flags.
type options struct {
	check     bool
	out       string
	count     int
	benchtime time.Duration
	rounds    int
	window    time.Duration
	timeout   time.Duration
}

func main() {
	var o options
	flag.BoolVar(&o.check, "check", false, "exit with 1 if a target is missed")
	flag.StringVar(&o.out, "out", "", "the file to write; \"\": BENCHMARKS-authz.md beside the library's go.mod")
	flag.IntVar(&o.count, "count", 6, "how often each benchmark runs; benchstat wants 6 at least")
	flag.DurationVar(&o.benchtime, "benchtime", 100*time.Millisecond, "how long one run of a benchmark takes")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each listener of Envoy is measured")
	flag.DurationVar(&o.window, "window", 2*time.Second, "how long one round takes")
	flag.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long the whole may take; on two idle processors it is two minutes")
	flag.Parse()
	if err := bounded(&o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-authz:", err)
		os.Exit(1)
	}
}

// bounded runs until the time is up, or somebody interrupts it.
func bounded(o *options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("it took longer than %v; see -timeout", o.timeout))
	defer cancel()
	return run(ctx, o)
}

// libraryBenchmarks are those of packages authz and authz/rbac that are shown: what a decision and a push cost. The others there
// are for whoever works on the index.
const libraryBenchmarks = "^(BenchmarkDecide|BenchmarkPrincipalRegex|BenchmarkCompile)$/^([^n].*)$"

func run(ctx context.Context, o *options) error {
	r := &authzbench.Report{Machine: bench.ThisMachine(), Command: "make bench-authz", Envoy: map[int][]authzbench.Cost{}}
	r.Machine.Envoy = envoy.Version
	own, err := moduleDir(ctx, "github.com/gowaypoint/gowaypoint/e2e/bench/authz")
	if err != nil {
		return err
	}
	library, err := moduleDir(ctx, "github.com/gowaypoint/gowaypoint")
	if err != nil {
		return err
	}
	if err := measureEnvoy(ctx, o, r); err != nil {
		return err
	}
	args := []string{"test", "-run", "^$", "-count", strconv.Itoa(o.count), "-benchtime", o.benchtime.String()}
	if r.Own, err = goCommand(ctx, own, append(args, "-bench", ".", ".")...); err != nil {
		return err
	}
	if r.Library, err = goCommand(ctx, library, append(args, "-bench", libraryBenchmarks, "./authz", "./authz/rbac")...); err != nil {
		return err
	}
	if r.OwnStat, err = benchstat(ctx, own, r.Own); err != nil {
		return err
	}
	if r.LibraryStat, err = benchstat(ctx, own, r.Library); err != nil {
		return err
	}
	if o.out == "" {
		o.out = filepath.Join(library, "BENCHMARKS-authz.md")
	}
	return report(o, r)
}

func report(o *options, r *authzbench.Report) error {
	var text bytes.Buffer
	if err := r.Write(&text); err != nil {
		return err
	}
	if _, err := os.Stdout.Write(text.Bytes()); err != nil {
		return err
	}
	if err := os.WriteFile(o.out, text.Bytes(), 0o644); err != nil { //nolint:gosec // a report that everybody may read
		return err
	}
	results, err := r.Check()
	if err != nil || !o.check {
		return err
	}
	var missed []error
	for _, x := range results {
		if !x.Met {
			missed = append(missed, fmt.Errorf("missed: %s, %s: %s, want %s", x.Benchmark, x.Unit, strconv.FormatFloat(x.Got, 'g', 3, 64), x.Shown))
		}
	}
	return errors.Join(missed...)
}

// measureEnvoy runs the rounds, one listener after the other in each, so that a disturbance falls on all of them.
func measureEnvoy(ctx context.Context, o *options, r *authzbench.Report) error {
	e, err := authzbench.StartEnvoy(ctx, authzbench.Sizes)
	if err != nil {
		return err
	}
	for _, n := range authzbench.Sizes {
		for request, want := range authzbench.Sample(n) {
			if got, err := e.Decide(n, request); err != nil || got != want {
				return errors.Join(fmt.Errorf("envoy with %d policies, %+v: allowed %v, %w; want %v", n, request, got, err, want), e.Stop())
			}
		}
	}
	for i := range o.rounds {
		for _, n := range append([]int{authzbench.NoRBAC}, authzbench.Sizes...) {
			cost, err := e.Measure(ctx, n, o.window)
			if err != nil {
				return errors.Join(err, e.Stop())
			}
			fmt.Fprintf(os.Stderr, "round %d: Envoy with %d policies: %v per request\n", i+1, n, cost.PerRequest())
			r.Envoy[n] = append(r.Envoy[n], cost)
		}
	}
	return e.Stop()
}

// moduleDir finds the sources of a module.
func moduleDir(ctx context.Context, path string) (string, error) {
	out, err := goCommand(ctx, ".", "list", "-m", "-f", "{{.Dir}}", path)
	return strings.TrimSpace(string(out)), err
}

// goCommand runs go, and shows what it prints on standard error.
func goCommand(ctx context.Context, dir string, args ...string) ([]byte, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // our own arguments
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	// go test leaves the test that it has started behind when it is killed, with its output open.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	cmd.Stdout = &out
	if args[0] == "test" {
		cmd.Stdout = io.MultiWriter(&out, os.Stderr)
	}
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), errors.Join(err, context.Cause(ctx)), out.Bytes())
	}
	return out.Bytes(), nil
}

func benchstat(ctx context.Context, dir string, results []byte) (string, error) {
	file, err := os.CreateTemp("", "bench-authz-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(file.Name()) }() // the system cleans its temporary directory
	_, err = file.Write(results)
	if err := errors.Join(err, file.Close()); err != nil {
		return "", err
	}
	out, err := goCommand(ctx, dir, "tool", "benchstat", file.Name())
	// The name of the temporary file is the head of its column, and says nothing.
	return strings.ReplaceAll(string(out), file.Name(), strings.Repeat(" ", len(file.Name()))), err
}
