package differential

import (
	"fmt"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/e2e/differential/oracle"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

// compare holds authz's answer against Envoy's. Where they differ for deliberate reasons it returns those. An empty
// difference means that all is well.
func compare(s *pair.Set, c *pair.Compiled, view *authz.Request, envoy pair.Answer, explain bool) (because oracle.Exception, difference string) {
	ours, err := c.Decide(view, explain)
	if err != nil {
		return 0, err.Error()
	}
	if ours == envoy {
		return 0, ""
	}
	because, ok := explained(s, view, ours, envoy)
	if !ok {
		return 0, fmt.Sprintf("authz: %+v\nenvoy: %+v", ours, envoy)
	}
	return because, ""
}

// explained finds the exceptions that make the difference: the oracle has to say what Envoy said without them, and what authz
// said with them, and each one that is named changes the answer.
func explained(s *pair.Set, view *authz.Request, ours, envoy pair.Answer) (oracle.Exception, bool) {
	if oracle.Decide(s, view, 0) != envoy || oracle.Decide(s, view, oracle.All) != ours {
		return 0, false
	}
	var because oracle.Exception
	for e := range oracle.Exceptions {
		if oracle.Decide(s, view, e) != envoy || oracle.Decide(s, view, oracle.All&^e) != ours {
			because |= e
		}
	}
	return because, because != 0
}
