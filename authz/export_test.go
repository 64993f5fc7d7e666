package authz

// DropIndex takes a set's indexes away: it is decided by the plain evaluator from then on.
func DropIndex(s *PolicySet) {
	s.index, s.attributes = nil, nil
	for i := range s.policies {
		s.policies[i].permissions, s.policies[i].principals = withoutIndex(s.policies[i].permissions), withoutIndex(s.policies[i].principals)
	}
}

func withoutIndex(c Clause) Clause {
	switch c := c.(type) {
	case And:
		for i := range c {
			c[i] = withoutIndex(c[i])
		}
	case Or:
		for i := range c {
			c[i] = withoutIndex(c[i])
		}
	case *indexedOr:
		return withoutIndex(c.Or)
	case *Not:
		c.Clause = withoutIndex(c.Clause)
	}
	return c
}
