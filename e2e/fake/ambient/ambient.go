// Package ambient switches istiod's ambient mode on for the process that imports it.
//
// istiod reads its feature flags from the environment while its packages are initialised, and several depend on
// PILOT_ENABLE_AMBIENT at that moment. Go initialises packages in the order of their import paths as far as dependencies allow
// (The Go Programming Language Specification, "Program initialization"): this one needs only os and sorts before istio.io, so
// the variable is there in time. Start checks that it was.
package ambient

import "os"

// Set is the error of setting the environment, nil for success.
var Set = os.Setenv("PILOT_ENABLE_AMBIENT", "true")
