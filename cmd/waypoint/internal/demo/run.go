package demo

import (
	"context"
	"fmt"
	"io"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"
)

// Run starts the demo and serves until ctx ends: it prints a line for each request and takes changes of the manifests.
func Run(ctx context.Context, o Options) error {
	files, err := readFiles(o.Dir)
	if err != nil {
		return err
	}
	s, err := start(ctx, o, files)
	if err != nil {
		return err
	}
	defer s.Close()
	s.greet(o.Out)
	changed := make(chan struct{}, 1)
	if o.Dir != "" {
		stop, err := watch(o.Dir, changed)
		if err != nil {
			return err
		}
		defer stop()
	}
	seen := s.lines.watch()
	for {
		select {
		case <-ctx.Done():
			fmt.Fprintln(o.Out)
			return nil
		case x := <-seen:
			why := ""
			if x.err == nil {
				why = s.explain(x)
			}
			fmt.Fprint(o.Out, x.text(why))
		case <-changed:
			s.reload(ctx)
		}
	}
}

// reload takes the manifests as they are now. What is wrong with them is printed, and the former ones stay in force.
func (s *stack) reload(ctx context.Context) {
	files, err := manifests.ReadDir(s.o.Dir)
	if err == nil {
		err = s.apply(ctx, files)
	}
	if err != nil {
		fmt.Fprintf(s.o.Out, "manifests not taken, the former ones stay in force:\n%v\n", err)
		return
	}
	m := s.mesh.Load()
	fmt.Fprintf(s.o.Out, "manifests in force: %d services, %d policies, %d routes\n", len(m.Services), len(m.Policies), len(m.Routes))
}

// greet says what there is and where.
func (s *stack) greet(out io.Writer) {
	m := s.mesh.Load()
	from := "the embedded manifests (use -f dir for your own)"
	if s.o.Dir != "" {
		from = s.o.Dir + " (reloaded when it changes)"
	}
	fmt.Fprintf(out, "waypoint %s/%s is ready, configured from %s\n\n", m.Waypoint.Namespace, m.Waypoint.Name, from)
	for _, svc := range m.Services {
		fmt.Fprintf(out, "  service  %s.%s  %s", svc.Name, svc.Namespace, svc.VIP)
		for _, p := range svc.Ports {
			fmt.Fprintf(out, " :%d", p.Number)
		}
		fmt.Fprintf(out, "  (%d pods)\n", len(m.Endpoints(svc)))
	}
	for _, p := range m.Policies {
		fmt.Fprintf(out, "  policy   %s/%s  %s\n", p.Namespace, p.Name, p.Spec.GetAction())
	}
	in := "http://" + s.entry.addr()
	fmt.Fprintf(out, "\n  way in   %s    curl %s/hello\n", in, in)
	fmt.Fprintf(out, "           as another service account:   curl -X POST -H 'x-demo-as: admin' %s/hello\n", in)
	fmt.Fprintf(out, "           to another service:           curl -H 'x-demo-to: helloworld-v2' %s/hello\n", in)
	fmt.Fprintf(out, "  metrics  http://%s/stats/prometheus\n", s.admin.PrometheusAddr())
	fmt.Fprintf(out, "  admin    http://%s/config_dump, /clusters, /listeners\n", s.admin.AdminAddr())
	fmt.Fprintf(out, "  census   http://%s/census\n", s.admin.AdminAddr())
	fmt.Fprintf(out, "  traces   OTLP/gRPC, every request, to a collector of the demo at %s\n", s.spans.addr())
	fmt.Fprintf(out, "  log      %s\n\n", s.logFile)
}
