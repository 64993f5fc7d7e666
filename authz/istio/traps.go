package istio

import (
	"fmt"
	"slices"
	"strings"
)

// trapKind is a trap of the table below.
type trapKind uint8

// The traps, the gravest first: those after which nobody enforces the policy, then those after which it is enforced in
// another way than it reads, then those that leave a way around.
const (
	trapServiceMissing trapKind = iota
	trapServiceElsewhere
	trapGatewayMissing
	trapGatewayElsewhere
	trapTargetKind
	trapTargetNamespace
	trapClassOutsideRoot
	trapClassName
	trapClassVersion
	trapNoWaypoint
	trapNoWaypointSidecars
	trapWaypointMissing
	trapNotAWaypoint
	trapWaypointFor
	trapWaypointForNone
	trapSelectsNothing
	trapEmptySelector
	trapSelectsWaypoint
	trapNotInMesh
	trapActionAtZtunnel
	trapDryRunNotSent
	trapDryRunEnforced
	trapDryRunCustom
	trapL7DenyNever
	trapTrustDomainNever
	trapWaypointDenied
	trapWaypointDeniedByRule
	trapClientHidden
	trapL7Allow
	trapL7Deny
	trapTrustDomain
	trapSelectorBehindWaypoint
	trapNamespaceWide
	trapIPDeny
	trapIPAllow
	trapSpiffe
	trapAddressAsPrincipal
	trapTCPPortAllow
	trapTCPPortDeny
	trapGatewaysToo
	trapSelectorAndTargetRefs
	trapHeadless
	trapAroundWaypoint
	trapWaypointUnused
	trapCount // keep last
)

// traps is what is said. {0}, {1} … are the arguments that the code which finds the trap gives.
var traps = [trapCount]struct{ id, text, fix string }{
	trapServiceMissing: {"target-missing",
		"There is no {0}, so nobody enforces this policy.",
		"Correct the name. A policy can only name objects of its own namespace."},
	trapServiceElsewhere: {"target-other-namespace",
		"There is no {0}, only {1}. A policy can only name objects of its own namespace, so nobody enforces this one.",
		"Move the policy to namespace {2}."},
	trapGatewayMissing: {"gateway-missing",
		"There is no {0}, so nobody enforces this policy.",
		"Correct the name, or create the waypoint: istioctl waypoint apply."},
	trapGatewayElsewhere: {"gateway-other-namespace",
		"There is no {0}, only {1}. A policy for a Gateway has to be in the Gateway's namespace, so nobody enforces this one.",
		"Move the policy to namespace {2}, where it holds for everything behind that Gateway; or name the Service in targetRefs instead."},
	trapTargetKind: {"target-kind",
		"A policy cannot be attached to kind {0} of group {1}, so nobody enforces it there.",
		"Name a Service (group \"\"), a ServiceEntry (group networking.istio.io), a Gateway or a GatewayClass (group gateway.networking.k8s.io)."},
	trapTargetNamespace: {"target-namespace",
		"The target is in namespace {0} and the policy in {1}. That is not supported: the reference matches nothing.",
		"Move the policy to namespace {0} and leave out the namespace in targetRefs."},
	trapClassOutsideRoot: {"gatewayclass-outside-root",
		"A policy for all waypoints counts in the root namespace only, which is {1}; this one is in {0}, so nobody enforces it.",
		"Move the policy to namespace {1}; or name a Gateway of namespace {0}."},
	trapClassName: {"gatewayclass-name",
		"Istio knows policies for GatewayClass istio-waypoint only; nobody enforces one for {0}.",
		"Write istio-waypoint, or name the Gateways one by one."},
	trapClassVersion: {"gatewayclass-version",
		"Istio {0} does not know policies for a GatewayClass; nobody enforces this one. They came with 1.25.",
		"Name the Gateways one by one."},
	trapNoWaypoint: {"target-without-waypoint",
		"No traffic to {0} is led through a waypoint, and only a waypoint looks at a policy with targetRefs. Nobody enforces this one.",
		"Label the Service or its namespace istio.io/use-waypoint: <name of the waypoint>. If the policy needs no HTTP attributes, select the pods with a selector instead."},
	trapNoWaypointSidecars: {"target-without-waypoint",
		"The pods of {0} have sidecars, and a sidecar does not look at policies with targetRefs. Nobody enforces this one.",
		"Select the pods with a selector instead of targetRefs."},
	trapWaypointMissing: {"waypoint-missing",
		"{0} is to use waypoint {1}, which does not exist. Traffic goes to the pods without one, and nobody enforces this policy.",
		"Create the waypoint, or correct the label istio.io/use-waypoint."},
	trapNotAWaypoint: {"waypoint-missing",
		"{0} is to use {1} as its waypoint, which is of class {2} and none. Traffic goes to the pods without a waypoint, and nobody enforces this policy.",
		"Correct the label istio.io/use-waypoint, or make a Gateway of class istio-waypoint."},
	trapWaypointFor: {"waypoint-for",
		"{1} is labelled istio.io/waypoint-for: {2}, so traffic to {0} does not go through it, and nobody enforces this policy.",
		"Label the waypoint istio.io/waypoint-for: service, or all."},
	trapWaypointForNone: {"waypoint-for",
		"{0} is labelled istio.io/waypoint-for: none, so nothing goes through it, and nobody enforces this policy.",
		"Label the waypoint istio.io/waypoint-for: service, workload or all."},
	trapSelectsNothing: {"selects-nothing",
		"The selector matches no pod of namespace {0}, so nobody enforces this policy.",
		"Correct the labels. They are those of the pods, not those of the Service or the Deployment."},
	trapEmptySelector: {"empty-selector",
		"A selector without labels selects no pod in ambient mode: no ztunnel enforces this policy. (Sidecars take it for all pods.)",
		"Leave out the selector: then the policy is for the whole namespace."},
	trapSelectsWaypoint: {"selects-waypoint",
		"The selector matches the pods of waypoint {0}. A waypoint does not look at selectors, so it does not enforce this policy.",
		"Write targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: {1}}]."},
	trapNotInMesh: {"not-in-mesh",
		"Not in the mesh: {0}, without a sidecar and outside of ambient mode. Nobody enforces the policy there.",
		"Label the namespace istio.io/dataplane-mode: ambient."},
	trapActionAtZtunnel: {"action-at-ztunnel",
		"ztunnel knows ALLOW and DENY only. It does not get this policy with action {0}, which is enforced nowhere for {1}.",
		"Let a waypoint enforce it: name the Service in targetRefs instead of the selector."},
	trapDryRunNotSent: {"dry-run-at-ztunnel",
		"istiod does not send dry-run policies to ztunnel unless AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY is set (and ztunnel is 1.29 or newer). Nothing is denied, and nothing is reported either.",
		"Set that on istiod; or name the Service in targetRefs, and read the waypoint's metrics."},
	trapDryRunEnforced: {"dry-run-enforced",
		"With Istio {0} ztunnel enforces this policy although it is marked as a dry run: the annotation is not looked at before 1.29.",
		"Do not try out policies by selector in ambient mode; name the Service in targetRefs, where the waypoint honours the annotation."},
	trapDryRunCustom: {"dry-run-enforced",
		"A dry run of action CUSTOM is enforced as a DENY rule by the waypoint: what it matches is refused.",
		"Remove the policy, or the annotation."},
	trapL7DenyNever: {"l7-at-ztunnel",
		"The rule needs HTTP ({0}), and only ztunnel enforces this policy for {1}. Without HTTP nothing is left of that part of the rule, and such a rule matches no connection: it denies nothing. (istiod's status message may say that it denies more.)",
		"Let a waypoint enforce it: name the Service in targetRefs instead of the selector."},
	trapTrustDomainNever: {"trust-domains-at-ztunnel",
		"ztunnel does not know trust domains. Without them nothing is left in that part of the rule, and such a rule matches no connection.",
		"Name principals, such as example.org/ns/<namespace>/sa/<account>; or let a waypoint enforce the policy: name the Service in targetRefs."},
	trapWaypointDenied: {"waypoint-denied",
		"Behind {0} the pods' ztunnels see the waypoint as the client, not the one who called. No ALLOW rule here is for {1}, so everything that comes through the waypoint is denied.",
		"Add principal {1} to an ALLOW policy for these pods, and move the rules about clients to a policy with targetRefs, which the waypoint enforces."},
	trapWaypointDeniedByRule: {"waypoint-denied",
		"Behind {0} the pods' ztunnels see the waypoint as the client, not the one who called. This DENY rule is also for {1}, so everything that comes through the waypoint is denied.",
		"Except {1} (notPrincipals), and move the rules about clients to a policy with targetRefs, which the waypoint enforces."},
	trapClientHidden: {"sees-waypoint-identity",
		"Behind {0} the pods' ztunnels see the waypoint as the client, not the one who called. This rule does not match what comes through the waypoint: whom it is to keep out gets in that way.",
		"Put the rule into a policy with targetRefs (the Service, or Gateway {1}), which the waypoint enforces with the real client's identity. Keep this one for connections that do not go through the waypoint."},
	trapL7Allow: {"l7-at-ztunnel",
		"The rule needs HTTP ({0}), and only ztunnel enforces this policy for {1}. istiod leaves the rule out: it allows nothing. With no other ALLOW rule every connection is denied.",
		"Let a waypoint enforce it: name the Service in targetRefs instead of the selector. For ztunnel, write an ALLOW policy without HTTP attributes, such as one for the waypoint's principal."},
	trapL7Deny: {"l7-at-ztunnel",
		"The rule needs HTTP ({0}), and only ztunnel enforces this policy for {1}. It enforces the rest of the rule, and so denies more than is written: every connection, whatever its requests.",
		"Let a waypoint enforce it: name the Service in targetRefs instead of the selector."},
	trapTrustDomain: {"trust-domains-at-ztunnel",
		"ztunnel does not know trust domains, and istiod sends the rule without them: it is for identities of every trust domain.",
		"Name principals, such as example.org/ns/<namespace>/sa/<account>; or let a waypoint enforce the policy: name the Service in targetRefs."},
	trapSelectorBehindWaypoint: {"selector-behind-waypoint",
		"Traffic to {1} goes through {0}, which does not look at selectors. The pods' own proxies enforce this policy, without HTTP attributes, on what the waypoint sends on to them.",
		"For rules about clients or HTTP, name the Service in targetRefs instead of the selector. Keep a policy by selector only to say who may connect to the pods: the waypoint."},
	trapNamespaceWide: {"namespace-wide-not-at-waypoint",
		"Traffic to {1} goes through {0}, which enforces no policy of a whole namespace or mesh. Only the pods' own proxies do, without HTTP attributes, on what the waypoint sends on to them.",
		"Write a policy with targetRefs: the Services; Gateway {2}, which holds for all that use that waypoint, whatever their namespace; or, in the root namespace, GatewayClass istio-waypoint."},
	trapIPDeny: {"ip-at-waypoint",
		"The rule is about the address of the connection ({0}). With Envoy as the waypoint that is an address inside the proxy, so the rule denies nobody. gowaypoint compares with the address of the client's pod.",
		"Name principals or namespaces, which cannot be borrowed as addresses can."},
	trapIPAllow: {"ip-at-waypoint",
		"The rule is about the address of the connection ({0}). With Envoy as the waypoint that is an address inside the proxy, so the rule allows nobody. gowaypoint compares with the address of the client's pod.",
		"Name principals or namespaces, which cannot be borrowed as addresses can."},
	trapSpiffe: {"spiffe-prefix",
		"{0} never matches: a principal is written without spiffe://.",
		"Write {1}."},
	trapAddressAsPrincipal: {"address-as-principal",
		"{0} is an address, and no certificate has such a principal: it never matches.",
		"Write it under ipBlocks."},
	trapTCPPortAllow: {"l7-on-tcp-port",
		"The rule needs HTTP ({0}), and {1} has ports that are not declared as HTTP: {2}. There the rule allows nothing, and with no other ALLOW rule every connection is denied.",
		"Declare the protocol (appProtocol: http, or a port name such as http-web), or write a rule without HTTP attributes for these ports."},
	trapTCPPortDeny: {"l7-on-tcp-port",
		"The rule needs HTTP ({0}), and {1} has ports that are not declared as HTTP: {2}. There the rule holds without it and denies more than is written.",
		"Declare the protocol (appProtocol: http, or a port name such as http-web), or add the HTTP ports to the rule: ports."},
	trapGatewaysToo: {"gateways-too",
		"{0} enforces this policy too, since it has no selector. Clients from outside of the mesh have no identity there, and an ALLOW rule about clients lets none of them in.",
		"Add an ALLOW policy with targetRefs: [Gateway {1}] for what may come from outside; or select the workloads that are meant."},
	trapSelectorAndTargetRefs: {"selector-and-targetrefs",
		"The policy has targetRefs, so nobody looks at its selector. The API server refuses such a policy now.",
		"Leave out one of the two. To guard pods twice, write two policies."},
	trapHeadless: {"headless",
		"{0} is headless: its clients dial the pods' own addresses, and such traffic does not go through a waypoint for services.",
		"Label the waypoint istio.io/waypoint-for: all and the pods istio.io/use-waypoint, and name the Gateway in targetRefs; or give the Service an address."},
	trapAroundWaypoint: {"around-waypoint",
		"Who does not go through the waypoint meets no policy with targetRefs: who dials a pod of {0} by its own address, a client with a sidecar, an ingress gateway (unless the Service is labelled istio.io/ingress-use-waypoint: true). No ALLOW policy for these pods keeps them out.",
		"Add an ALLOW policy with a selector for these pods and principals: [{1}]."},
	trapWaypointUnused: {"waypoint-unused",
		"No Service and no workload is led through {0}, so there is nothing yet that this policy guards.",
		"Label Services or their namespace istio.io/use-waypoint: {1}."},
}

// gravity is the order of traps in an answer.
var gravity = func() (out []string) {
	for _, t := range traps {
		if !slices.Contains(out, t.id) {
			out = append(out, t.id)
		}
	}
	return out
}()

// TrapIDs lists what Trap.ID can be, the gravest first.
func TrapIDs() []string { return slices.Clone(gravity) }

// trap records a trap once. Field is where in the policy.
func (e *enquiry) trap(kind trapKind, field string, args ...any) {
	var pairs []string
	for i, a := range args {
		pairs = append(pairs, fmt.Sprintf("{%d}", i), fmt.Sprint(a))
	}
	r := strings.NewReplacer(pairs...)
	t := Trap{ID: traps[kind].id, Field: field, Text: r.Replace(traps[kind].text), Fix: r.Replace(traps[kind].fix)}
	if !slices.Contains(e.out.Traps, t) {
		e.out.Traps = append(e.out.Traps, t)
	}
}

// mentioned is how many names a sentence bears.
const mentioned = 4

func joinNames(names []string) string {
	if len(names) > mentioned {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:mentioned], ", "), len(names)-mentioned)
	}
	return strings.Join(names, ", ")
}

func joinTargets(objects []Object) string {
	var names []string
	for _, o := range objects {
		names = append(names, o.String())
	}
	return joinNames(names)
}

func joinObjects(workloads []*Workload) string {
	var objects []Object
	for _, w := range workloads {
		objects = append(objects, w.object())
	}
	return joinTargets(objects)
}

func joinPorts(ports []uint16) string {
	var names []string
	for _, p := range ports {
		names = append(names, fmt.Sprint(p))
	}
	return joinNames(names)
}
