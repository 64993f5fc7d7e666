package waypoint

import (
	"crypto/tls"
	"sync"

	"github.com/gowaypoint/gowaypoint/waypoint/identity"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// contexts compiles TLS contexts over the store, once per content. A context that cannot be compiled stays an error: its
// listener accepts nobody, its cluster connects to nobody.
type contexts struct {
	store *identity.Store

	mu      sync.Mutex
	clients map[string]*identity.ClientContext
	servers map[string]*identity.ServerContext
}

func newContexts(s *identity.Store) *contexts {
	return &contexts{store: s, clients: map[string]*identity.ClientContext{}, servers: map[string]*identity.ServerContext{}}
}

func (c *contexts) client(t *program.ClientTLS) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx := c.clients[t.Key]
	if ctx == nil {
		var err error
		if ctx, err = c.store.ClientTLS(t.Context, identity.ClientOptions{}); err != nil {
			return nil, err
		}
		c.clients[t.Key] = ctx
	}
	if err := ctx.Ready(); err != nil {
		return nil, err
	}
	return ctx.Config(identity.ConnectionOptions{}), nil
}

// server returns the context of the HBONE port. What xDS does not say but HBONE needs: h2 by ALPN, and one SPIFFE identity.
func (c *contexts) server(t *program.ServerTLS) (*identity.ServerContext, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx := c.servers[t.Key]
	if ctx == nil {
		var err error
		if ctx, err = c.store.ServerTLS(t.Context, identity.ServerOptions{RequireALPN: "h2", RequireSPIFFE: true}); err != nil {
			return nil, err
		}
		c.servers[t.Key] = ctx
	}
	return ctx, nil
}

// keep forgets contexts that the Program does not use any more.
func (c *contexts) keep(p *program.Program) {
	clients, servers := map[string]bool{}, map[string]bool{}
	for _, cl := range p.Clusters {
		for _, ep := range cl.Endpoints {
			for i := range ep.Hops {
				if t := ep.Hops[i].TLS; t != nil {
					clients[t.Key] = true
				}
			}
		}
	}
	for _, l := range p.Listeners {
		if l.TLS != nil {
			servers[l.TLS.Key] = true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.clients) > 2*len(clients)+64 { // original-destination hops are not in the list: be slow to forget
		for k := range c.clients {
			if !clients[k] {
				delete(c.clients, k)
			}
		}
	}
	for k := range c.servers {
		if !servers[k] {
			delete(c.servers, k)
		}
	}
}
