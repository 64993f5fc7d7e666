package config

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gowaypoint/gowaypoint/waypoint/program"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

func uint32or(w *wrapperspb.UInt32Value, def uint32) uint32 {
	if w == nil {
		return def
	}
	return w.GetValue()
}

// loadBalancing maps the legacy enum and its option messages, the only form that istiod sends.
func loadBalancing(c *clusterv3.Cluster) (program.LB, error) {
	lb := program.LB{
		ChoiceCount:    2,     // Envoy: power of two choices
		PanicThreshold: 50,    // Envoy; istiod sends 0
		MinRingSize:    1024,  // Envoy
		MaglevTable:    65537, // Envoy
	}
	if p := c.GetLoadBalancingPolicy(); p != nil {
		return lb, fmt.Errorf("load_balancing_policy: use lb_policy instead")
	}
	switch c.GetLbPolicy() {
	case clusterv3.Cluster_ROUND_ROBIN:
		lb.Policy = program.RoundRobin
	case clusterv3.Cluster_LEAST_REQUEST:
		lb.Policy = program.LeastRequest
	case clusterv3.Cluster_RANDOM:
		lb.Policy = program.Random
	case clusterv3.Cluster_RING_HASH:
		lb.Policy = program.RingHash
	case clusterv3.Cluster_MAGLEV:
		lb.Policy = program.Maglev
	case clusterv3.Cluster_CLUSTER_PROVIDED:
		lb.Policy = program.ClusterProvided
	default:
		return lb, fmt.Errorf("lb_policy: %v is not supported", c.GetLbPolicy())
	}
	lb.ChoiceCount = uint32or(c.GetLeastRequestLbConfig().GetChoiceCount(), lb.ChoiceCount)
	if w := c.GetRingHashLbConfig().GetMinimumRingSize(); w != nil {
		lb.MinRingSize = w.GetValue()
	}
	if w := c.GetMaglevLbConfig().GetTableSize(); w != nil {
		lb.MaglevTable = w.GetValue()
	}
	switch lb.Policy {
	case program.LeastRequest:
		lb.SlowStart = slowStart(c.GetLeastRequestLbConfig().GetSlowStartConfig())
	case program.RoundRobin:
		lb.SlowStart = slowStart(c.GetRoundRobinLbConfig().GetSlowStartConfig())
	}
	common := c.GetCommonLbConfig()
	if p := common.GetHealthyPanicThreshold(); p != nil {
		lb.PanicThreshold = p.GetValue()
	}
	lb.LocalityWeighted = common.GetLocalityWeightedLbConfig() != nil
	return lb, nil
}

// slowStart fills in Envoy's defaults.
func slowStart(c *clusterv3.Cluster_SlowStartConfig) *program.SlowStart {
	if c.GetSlowStartWindow().AsDuration() <= 0 {
		return nil
	}
	s := &program.SlowStart{Window: c.GetSlowStartWindow().AsDuration(), Aggression: 1, MinWeight: 0.1}
	if a := c.GetAggression().GetDefaultValue(); a > 0 {
		s.Aggression = a
	}
	if p := c.GetMinWeightPercent(); p != nil {
		s.MinWeight = min(max(p.GetValue()/100, 0), 1)
	}
	return s
}

// circuitBreakers reads the thresholds of default priority; no route of a waypoint has the other.
func circuitBreakers(c *clusterv3.CircuitBreakers) program.CircuitBreakers {
	out := program.CircuitBreakers{MaxConnections: 1024, MaxPending: 1024, MaxRequests: 1024, MaxRetries: 3} // Envoy's defaults
	for _, t := range c.GetThresholds() {
		if t.GetPriority() != corev3.RoutingPriority_DEFAULT {
			continue
		}
		out.MaxConnections = uint32or(t.GetMaxConnections(), out.MaxConnections)
		out.MaxPending = uint32or(t.GetMaxPendingRequests(), out.MaxPending)
		out.MaxRequests = uint32or(t.GetMaxRequests(), out.MaxRequests)
		out.MaxRetries = uint32or(t.GetMaxRetries(), out.MaxRetries)
		if b := t.GetRetryBudget(); b != nil {
			rb := &program.RetryBudget{Percent: 20, MinConcurrency: uint32or(b.GetMinRetryConcurrency(), 3)}
			if p := b.GetBudgetPercent(); p != nil {
				rb.Percent = p.GetValue()
			}
			out.RetryBudget = rb
		}
		break // Envoy takes the first of a priority
	}
	return out
}

// outlierDetection fills in Envoy's defaults: the message counts even if it is empty.
func outlierDetection(o *clusterv3.OutlierDetection) *program.OutlierDetection {
	if o == nil {
		return nil
	}
	out := &program.OutlierDetection{
		Consecutive5xx:                uint32or(o.GetConsecutive_5Xx(), 5),
		EnforceConsecutive5xx:         uint32or(o.GetEnforcingConsecutive_5Xx(), 100),
		ConsecutiveGatewayFailure:     uint32or(o.GetConsecutiveGatewayFailure(), 5),
		EnforceGatewayFailure:         uint32or(o.GetEnforcingConsecutiveGatewayFailure(), 0),
		SplitLocalOrigin:              o.GetSplitExternalLocalOriginErrors(),
		ConsecutiveLocalOriginFailure: uint32or(o.GetConsecutiveLocalOriginFailure(), 5),
		EnforceLocalOrigin:            uint32or(o.GetEnforcingConsecutiveLocalOriginFailure(), 100),
		Interval:                      duration(o.GetInterval(), 10*time.Second),
		BaseEjectionTime:              duration(o.GetBaseEjectionTime(), 30*time.Second),
		MaxEjectionPercent:            uint32or(o.GetMaxEjectionPercent(), 10),
	}
	// Envoy: max_ejection_time is 300 s, or base_ejection_time if that is longer.
	out.MaxEjectionTime = duration(o.GetMaxEjectionTime(), max(300*time.Second, out.BaseEjectionTime))
	return out
}
