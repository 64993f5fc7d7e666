// Package chart renders the Helm chart charts/waypoint as Helm does, for tests and for the lab.
//
// It promises what `helm template` would give: the chart's schema is applied to the values, and templates are run by Helm's own engine. [Decode]
// then reads the objects as an API server with strict field validation would: an unknown or repeated field is an error.
package chart
