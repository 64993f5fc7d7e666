// Package pair holds what authz and Envoy are both asked: a [Set] of policies and a [Request] on a [Conn].
//
// A request has two forms. [Request.AppendWire] writes the bytes that are sent to Envoy; [Request.View] gives the
// attributes that Envoy's filters see of them, as an authz.Request. What lies between, path normalisation and the trust in
// x-forwarded-for, is set by the [Listener].
package pair
