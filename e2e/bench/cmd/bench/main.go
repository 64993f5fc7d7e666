// Command bench measures this project's waypoint beside a real Envoy; see package bench.
//
//	go run ./bench/cmd/bench                         # all rows, three rounds
//	go run ./bench/cmd/bench -rows 4x99 -seconds 5   # one row
//	go run ./bench/cmd/bench -check                  # fails when a limit is broken
//	go run ./bench/cmd/bench -subjects envoy,nethttp,waypoint
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/bench"
	"github.com/gowaypoint/gowaypoint/e2e/bench/subject"
	"github.com/gowaypoint/gowaypoint/e2e/envoy"
)

type options struct {
	rows, subjects, out, waypoint string
	proxyCPUs, loadCPUs, profiles string
	seconds, warm                 float64
	rounds                        int
	check, list, debug            bool
}

func main() {
	var o options
	flag.StringVar(&o.rows, "rows", "", "rows to measure, separated by commas; empty: all but the extra ones")
	flag.StringVar(&o.subjects, "subjects", "envoy,waypoint", "what to measure, in this order: envoy, waypoint, nethttp; ratios are to the first")
	flag.Float64Var(&o.seconds, "seconds", 5, "length of a measurement, in seconds")
	flag.Float64Var(&o.warm, "warm", 1, "load before a measurement, in seconds")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds; medians are taken over them")
	flag.StringVar(&o.proxyCPUs, "proxy-cpus", "1", "processors of the proxy; empty: all")
	flag.StringVar(&o.loadCPUs, "load-cpus", "0", "processors of load and backend; empty: all")
	flag.StringVar(&o.waypoint, "waypoint", "", "waypoint binary to measure; empty: build it from this checkout")
	flag.StringVar(&o.out, "json", "", "file for the raw data; empty: .cache/bench/<time>.json in the project")
	flag.StringVar(&o.profiles, "profiles", "", "directory for CPU and heap profiles of the waypoint; empty: none, as for figures to keep")
	flag.BoolVar(&o.check, "check", false, "exit with 1 if the waypoint breaks a limit")
	flag.BoolVar(&o.list, "list", false, "list the rows and end")
	flag.BoolVar(&o.debug, "debug", false, "log what the connections of load and backend have to say")
	flag.Parse()
	if o.debug {
		slog.SetLogLoggerLevel(slog.LevelDebug)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.list {
		for _, r := range bench.Rows() {
			extra := ""
			if r.Extra {
				extra = " (extra)"
			}
			fmt.Printf("%-15s %s%s\n", r.Name, r.What, extra)
		}
		return nil
	}
	rows, err := bench.SelectRows(o.rows)
	if err != nil {
		return err
	}
	lab, report, err := prepare(o)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // the system cleans its temporary directory
	root, err := subject.Root(ctx)
	if err != nil {
		return err
	}
	subjects, err := makeSubjects(ctx, o, root, tmp)
	if err != nil {
		return err
	}
	for _, s := range subjects {
		report.Subjects = append(report.Subjects, s.Name)
	}
	report.Reference = report.Subjects[0]

	measured := measure(ctx, lab, rows, subjects, o.rounds, report)
	report.Summarise()
	kept := keep(report, o.out, root)
	if err := errors.Join(measured, kept, report.Print(os.Stdout)); err != nil || !o.check {
		return err
	}
	if bad := report.Check("waypoint"); len(bad) > 0 {
		return errors.New("beyond the limits:\n" + strings.Join(bad, "\n"))
	}
	fmt.Println("within the limits")
	return nil
}

// prepare makes the lab, and a report without samples.
func prepare(o options) (*bench.Lab, *bench.Report, error) {
	lab, err := bench.NewLab()
	if err != nil {
		return nil, nil, err
	}
	lab.Window = time.Duration(o.seconds * float64(time.Second))
	lab.Warm = time.Duration(o.warm * float64(time.Second))
	if lab.Profiles = o.profiles; lab.Profiles != "" {
		if err := os.MkdirAll(lab.Profiles, 0o755); err != nil { //nolint:gosec // nothing secret
			return nil, nil, err
		}
	}
	report := &bench.Report{Machine: bench.ThisMachine()}
	report.Machine.Envoy = envoy.Version
	if lab.ProxyCPUs, err = processors(o.proxyCPUs); err != nil {
		return nil, nil, fmt.Errorf("-proxy-cpus: %w", err)
	}
	own, err := processors(o.loadCPUs)
	if err != nil {
		return nil, nil, fmt.Errorf("-load-cpus: %w", err)
	}
	report.Machine.ProxyCPUs, report.Machine.LoadCPUs = lab.ProxyCPUs, own
	debug.SetGCPercent(400) // memory of the load costs nothing, its collector's time takes from the load
	return lab, report, nil
}

func processors(list string) ([]int, error) {
	if list == "" {
		return nil, nil
	}
	var out []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%q: want numbers of processors, separated by commas", list)
		}
		out = append(out, n)
	}
	return out, nil
}

func makeSubjects(ctx context.Context, o options, root, tmp string) ([]subject.Subject, error) {
	var out []subject.Subject
	for name := range strings.SplitSeq(o.subjects, ",") {
		switch name {
		case "envoy":
			binary, err := envoy.Binary(ctx)
			if err != nil {
				return nil, err
			}
			out = append(out, subject.Envoy(binary))
		case "waypoint":
			binary := o.waypoint
			if binary == "" {
				binary = filepath.Join(tmp, "waypoint")
				if err := subject.Build(ctx, root, "./cmd/waypoint", binary); err != nil {
					return nil, err
				}
			}
			out = append(out, subject.Waypoint(binary))
		case "nethttp":
			binary := filepath.Join(tmp, "nethttp")
			if err := subject.Build(ctx, filepath.Join(root, "e2e"), "./bench/cmd/nethttp", binary); err != nil {
				return nil, err
			}
			out = append(out, subject.NetHTTP(binary))
		default:
			return nil, fmt.Errorf("-subjects: %q is none of envoy, waypoint, nethttp", name)
		}
	}
	return out, nil
}

// measure takes the samples. Subjects take turns within a round, so that what changes on the machine meets all of them.
func measure(ctx context.Context, lab *bench.Lab, rows []bench.Row, subjects []subject.Subject, rounds int, report *bench.Report) error {
	if own := report.Machine.LoadCPUs; len(own) > 0 {
		if err := subject.StayOn(own); err != nil {
			return err
		}
	}
	for _, row := range rows {
		for round := range rounds {
			for _, s := range subjects {
				sample, err := lab.Measure(ctx, s, row)
				if err != nil {
					return fmt.Errorf("row %s, %s, round %d: %w", row.Name, s.Name, round+1, err)
				}
				sample.Round = round + 1
				report.Samples = append(report.Samples, sample)
				fmt.Fprintf(os.Stderr, "%s %s, round %d: %.2f µs/request, %.0f requests/s, p99 %.3f ms, %.1f MB\n", row.Name, s.Name, round+1,
					sample.CPUMicrosPerReq, sample.RequestsPerSec, sample.P99Micros/1000, float64(sample.Memory.Resident)/1e6)
			}
		}
	}
	return nil
}

// keep writes the raw data, also of a run that failed half-way.
func keep(report *bench.Report, path, root string) error {
	if len(report.Samples) == 0 {
		return nil
	}
	if path == "" {
		path = filepath.Join(root, ".cache", "bench", report.Machine.At.Format("20060102T150405Z")+".json")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // nothing secret
			return err
		}
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil { //nolint:gosec // nothing secret
		return err
	}
	fmt.Fprintln(os.Stderr, "raw data:", path)
	return nil
}
