package telemetry

import "fmt"

// Flag is one of Envoy's response flags: why a response is not simply what the upstream sent.
// Names and meanings: Envoy access log, %RESPONSE_FLAGS%. The zero value is no flag.
type Flag uint8

// The response flags, in the order in which Envoy numbers them.
const (
	FlagNone                             Flag = iota
	FlagFailedLocalHealthCheck                // LH
	FlagNoHealthyUpstream                     // UH: 503, no host could be picked
	FlagUpstreamRequestTimeout                // UT: 504
	FlagLocalReset                            // LR: we reset the stream
	FlagUpstreamRemoteReset                   // UR: the upstream reset the stream
	FlagUpstreamConnectionFailure             // UF: no connection to the upstream
	FlagUpstreamConnectionTermination         // UC: the upstream closed the connection
	FlagUpstreamOverflow                      // UO: a circuit breaker refused
	FlagNoRouteFound                          // NR: 404, or no filter chain
	FlagDelayInjected                         // DI
	FlagFaultInjected                         // FI
	FlagRateLimited                           // RL: 429
	FlagUnauthorizedExternalService           // UAEX: ext_authz denied
	FlagRateLimitServiceError                 // RLSE
	FlagDownstreamConnectionTermination       // DC: the client went away
	FlagUpstreamRetryLimitExceeded            // URX: retries (or TCP connect attempts) used up
	FlagStreamIdleTimeout                     // SI
	FlagInvalidEnvoyRequestHeaders            // IH
	FlagDownstreamProtocolError               // DPE
	FlagUpstreamMaxStreamDurationReached      // UMSDR
	FlagResponseFromCacheFilter               // RFCF
	FlagNoFilterConfigFound                   // NFCF
	FlagDurationTimeout                       // DT: a connection reached its longest life
	FlagUpstreamProtocolError                 // UPE
	FlagNoClusterFound                        // NC: the route names a cluster that is not there
	FlagOverloadManagerTerminated             // OM
	FlagDNSResolutionFailed                   // DF
	FlagDropOverload                          // DO
	FlagDownstreamRemoteReset                 // DR: the client reset the stream
	FlagUnconditionalDropOverload             // UDO
	flagEnd
)

var flagNames = [flagEnd]struct{ short, long string }{
	FlagFailedLocalHealthCheck:           {"LH", "FailedLocalHealthCheck"},
	FlagNoHealthyUpstream:                {"UH", "NoHealthyUpstream"},
	FlagUpstreamRequestTimeout:           {"UT", "UpstreamRequestTimeout"},
	FlagLocalReset:                       {"LR", "LocalReset"},
	FlagUpstreamRemoteReset:              {"UR", "UpstreamRemoteReset"},
	FlagUpstreamConnectionFailure:        {"UF", "UpstreamConnectionFailure"},
	FlagUpstreamConnectionTermination:    {"UC", "UpstreamConnectionTermination"},
	FlagUpstreamOverflow:                 {"UO", "UpstreamOverflow"},
	FlagNoRouteFound:                     {"NR", "NoRouteFound"},
	FlagDelayInjected:                    {"DI", "DelayInjected"},
	FlagFaultInjected:                    {"FI", "FaultInjected"},
	FlagRateLimited:                      {"RL", "RateLimited"},
	FlagUnauthorizedExternalService:      {"UAEX", "UnauthorizedExternalService"},
	FlagRateLimitServiceError:            {"RLSE", "RateLimitServiceError"},
	FlagDownstreamConnectionTermination:  {"DC", "DownstreamConnectionTermination"},
	FlagUpstreamRetryLimitExceeded:       {"URX", "UpstreamRetryLimitExceeded"},
	FlagStreamIdleTimeout:                {"SI", "StreamIdleTimeout"},
	FlagInvalidEnvoyRequestHeaders:       {"IH", "InvalidEnvoyRequestHeaders"},
	FlagDownstreamProtocolError:          {"DPE", "DownstreamProtocolError"},
	FlagUpstreamMaxStreamDurationReached: {"UMSDR", "UpstreamMaxStreamDurationReached"},
	FlagResponseFromCacheFilter:          {"RFCF", "ResponseFromCacheFilter"},
	FlagNoFilterConfigFound:              {"NFCF", "NoFilterConfigFound"},
	FlagDurationTimeout:                  {"DT", "DurationTimeout"},
	FlagUpstreamProtocolError:            {"UPE", "UpstreamProtocolError"},
	FlagNoClusterFound:                   {"NC", "NoClusterFound"},
	FlagOverloadManagerTerminated:        {"OM", "OverloadManagerTerminated"},
	FlagDNSResolutionFailed:              {"DF", "DnsResolutionFailed"},
	FlagDropOverload:                     {"DO", "DropOverload"},
	FlagDownstreamRemoteReset:            {"DR", "DownstreamRemoteReset"},
	FlagUnconditionalDropOverload:        {"UDO", "UnconditionalDropOverload"},
}

// String is the short name (UH), as in access logs and metric labels; "-" for FlagNone.
func (f Flag) String() string {
	if f == FlagNone || f >= flagEnd {
		return "-"
	}
	return flagNames[f].short
}

// Long is the long name (NoHealthyUpstream), as %RESPONSE_FLAGS_LONG% prints it; "-" for FlagNone.
func (f Flag) Long() string {
	if f == FlagNone || f >= flagEnd {
		return "-"
	}
	return flagNames[f].long
}

// ParseFlag finds a flag by its short name.
func ParseFlag(short string) (Flag, error) {
	for f := FlagNone + 1; f < flagEnd; f++ {
		if flagNames[f].short == short {
			return f, nil
		}
	}
	return FlagNone, fmt.Errorf("response flag %q is unknown", short)
}

// Flags is the set of response flags of one exchange. It remembers the order in which they were set, because that is the
// order in which Envoy prints them. It is a comparable value, so that it can be part of a map key.
//
// It holds the first eight flags; a ninth different one is not kept. No path through the proxy sets more than four, and
// eight bytes fit one machine word.
type Flags uint64

const flagsCap = 8

// FlagsOf is the set of the given flags, in that order.
func FlagsOf(list ...Flag) Flags {
	var s Flags
	for _, f := range list {
		s.Set(f)
	}
	return s
}

// Set adds f, unless it is there already.
func (s *Flags) Set(f Flag) {
	if f == FlagNone || f >= flagEnd {
		return
	}
	for i := range flagsCap {
		switch s.at(i) {
		case f:
			return
		case FlagNone:
			*s |= Flags(f) << (8 * i)
			return
		}
	}
}

// Has tells whether f is set.
func (s Flags) Has(f Flag) bool {
	for i := range flagsCap {
		switch s.at(i) {
		case FlagNone:
			return false
		case f:
			return true
		}
	}
	return false
}

// Bits is the set as Envoy's bit vector, as the CEL attribute response.flags has it: the flags in the order in which Envoy numbers
// them, beginning with LH as the lowest bit.
func (s Flags) Bits() uint64 {
	var bits uint64
	for i := range flagsCap {
		if f := s.at(i); f != FlagNone {
			bits |= 1 << (f - 1)
		}
	}
	return bits
}

func (s Flags) at(i int) Flag { return Flag(s >> (8 * i)) }

// Append adds the short names, joined by commas, to dst; "-" for the empty set.
func (s Flags) Append(dst []byte) []byte { return s.append(dst, Flag.String) }

// AppendLong is Append with the long names.
func (s Flags) AppendLong(dst []byte) []byte { return s.append(dst, Flag.Long) }

func (s Flags) append(dst []byte, name func(Flag) string) []byte {
	if s == 0 {
		return append(dst, '-')
	}
	for i := 0; i < flagsCap && s.at(i) != FlagNone; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, name(s.at(i))...)
	}
	return dst
}

// String is the short names joined by commas; "-" for the empty set.
func (s Flags) String() string {
	switch {
	case s == 0:
		return "-"
	case s>>8 == 0:
		return s.at(0).String() // one flag: the common case, without an allocation
	}
	return string(s.Append(nil))
}
