package exchange

import (
	"context"
	"io"
	"math/rand/v2"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/cluster"
	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/route"
)

// mirrorTimeout bounds a copied request: nobody waits for it, so nothing else ends it. Envoy uses the route's timeout, which
// istiod leaves at none.
const mirrorTimeout = 15 * time.Second

// mirror sends copies of the request to the clusters that the route names, and forgets the answers. Copied are requests whose
// body is there already, up to what is kept for a retry; others are counted and not copied (Envoy streams those, too).
func (e *exchange) mirror(f *route.Forward) {
	for i := range f.Mirrors {
		m := &f.Mirrors[i]
		if !m.Picks(rand.Uint64()) {
			continue
		}
		c := e.env.Clusters.Get(m.Cluster)
		if c == nil || c.Config().Refused != nil || e.req.Upgrade != "" || !e.body.collect() {
			e.env.Stats.MirrorsLeftOut.Add(1)
			continue
		}
		head := &message.Head{}
		head.CopyFrom(&e.req)
		if m.HostSuffix {
			head.Authority += "-shadow"
		}
		head.Fields.Del(header.Expect)
		body := append([]byte(nil), e.body.kept...)
		e.env.Stats.Mirrors.Add(1)
		go e.env.sendMirror(c, cluster.PickContext{OriginalDst: e.x.Conn.Local}, head, body, e.down.Version())
	}
}

func (env *Env) sendMirror(c *cluster.Cluster, pick cluster.PickContext, head *message.Head, body []byte, v message.Version) {
	ctx, cancel := context.WithTimeout(context.Background(), mirrorTimeout)
	defer cancel()
	host, err := c.Pick(&pick)
	if err != nil {
		return
	}
	host.Begin()
	defer host.End()
	lease, ok := host.TryAcquire(v)
	if !ok {
		if lease, err = host.Acquire(ctx, v); err != nil {
			return
		}
	}
	defer lease.Release()
	up := lease.Stream
	stop := context.AfterFunc(ctx, func() { up.Reset(message.Cancel) })
	defer stop()
	if up.WriteHead(head, len(body) == 0) != nil {
		return
	}
	if len(body) > 0 {
		if _, err := up.Write(body); err != nil {
			return
		}
		if up.CloseWrite(nil) != nil {
			return
		}
	} else if up.Flush() != nil {
		return
	}
	for {
		end, err := up.ReadHead(head)
		if err != nil || end {
			return
		}
		if !head.Informational() {
			break
		}
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for {
		if _, err := up.Read(*buf); err != nil {
			if err != io.EOF {
				up.Reset(message.Cancel)
			}
			return
		}
	}
}
