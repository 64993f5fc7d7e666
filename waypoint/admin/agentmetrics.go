package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// registerAgentMetrics registers what pilot-agent says of itself on 15020 (contract E3); the registry adds the prefix istio_agent_.
func (s *Server) registerAgentMetrics() {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	c := &agentMetrics{
		s:         s,
		startup:   desc("startup_duration_seconds", "The time from the process starting to being marked ready."),
		expiry:    desc("cert_expiry_seconds", "The time remaining, in seconds, before the certificate chain will expire. A negative value indicates the cert is expired.", "resource_name"),
		failures:  desc("istiod_connection_failures", "The total number of connection failures to Istiod."),
		responses: desc("xds_proxy_responses", "The total number of xDS responses received."),
	}
	s.src.Registry.Agent.MustRegister(c)
}

// agentMetrics asks the sources when it is scraped.
type agentMetrics struct {
	s                                    *Server
	startup, expiry, failures, responses *prometheus.Desc
}

func (c *agentMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.startup, c.expiry, c.failures, c.responses} {
		ch <- d
	}
}

func (c *agentMetrics) Collect(ch chan<- prometheus.Metric) {
	if took, ok := c.s.startup(); ok {
		ch <- prometheus.MustNewConstMetric(c.startup, prometheus.GaugeValue, took.Seconds())
	}
	for _, sec := range c.s.src.Secrets() {
		end := time.Time{}
		if len(sec.Chain) > 0 {
			end = sec.Chain[0].NotAfter
		}
		for _, a := range sec.Anchors {
			if end.IsZero() || a.NotAfter.Before(end) {
				end = a.NotAfter
			}
		}
		if !end.IsZero() {
			ch <- prometheus.MustNewConstMetric(c.expiry, prometheus.GaugeValue, time.Until(end).Seconds(), sec.Name)
		}
	}
	st := c.s.src.XDS.Status()
	ch <- prometheus.MustNewConstMetric(c.failures, prometheus.CounterValue, float64(st.Failures))
	ch <- prometheus.MustNewConstMetric(c.responses, prometheus.CounterValue, float64(st.Responses))
}
