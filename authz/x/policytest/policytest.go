// Package policytest runs tables of cases against policies: who asks for what, and what is to come of it.
//
//	defaults: {for: Service/shop/cart, host: cart}
//	clients:
//	  web: cluster.local/ns/shop/sa/web
//	cases:
//	- name: shoppers read their cart
//	  from: [web]
//	  to: [GET /cart, HEAD /cart]
//	  expect: allow
//	  by: shop/readers
//	- name: the rest of the table
//	  to:            [GET /cart, POST /cart]
//	  expect:
//	    web:         [allow,     deny]
//	    nobody:      deny
//
// [Parse] reads a table, [Run] asks, and [Result] tells what went wrong, with the nearest reason, and which rules no case has
// hit. The fields are explained on [Parse].
package policytest

import (
	"fmt"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz/x/query"
)

// Case is one request with what is expected of it.
type Case struct {
	Name string // with the client and the operation, if the table has several under one name
	File string
	Line int
	// For is the target, such as Service/shop/cart; "" for the one that the caller chooses.
	For    string
	Query  query.Query
	Expect Expectation
}

// Where is the case's place, for an editor.
func (c *Case) Where() string { return fmt.Sprintf("%s:%d", c.File, c.Line) }

// Expectation is a verdict, and optionally who gives it.
type Expectation struct {
	Verdict Verdict
	// By is <namespace>/<name> of a policy, optionally with a rule in brackets; "none" for no policy; "" for any.
	By string
}

func (e Expectation) String() string {
	if e.By == "" {
		return string(e.Verdict)
	}
	return string(e.Verdict) + " by " + e.By
}

// Verdict is what becomes of a request.
type Verdict string

// The verdicts.
const (
	Allowed Verdict = "ALLOWED"
	Denied  Verdict = "DENIED"
	Asked   Verdict = "ASKED" // it passes if an extension provider (action CUSTOM) agrees
)

func parseVerdict(s string) (Verdict, bool) {
	switch strings.ToLower(s) {
	case "allow", "allowed":
		return Allowed, true
	case "deny", "denied":
		return Denied, true
	case "ask", "asked":
		return Asked, true
	}
	return "", false
}
