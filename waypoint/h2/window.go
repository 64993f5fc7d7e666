package h2

import "time"

// window is a stream's receive window. recvState.mu guards it.
type window struct {
	size    int64 // what the peer may have outstanding: sent and not yet read here
	avail   int64 // what it may still send
	updated int64 // when credit was last given, in ns since the connection began
}

// smallWindow is what windows shrink to when the budget is short: one full frame.
const smallWindow = defaultMaxFrameSize

// minRTT stands in for shorter round trips: below it, it is the scheduling of goroutines that decides when credit is given.
const minRTT = 500 * time.Microsecond

// taken is called when bytes have been read and queued bytes still wait. It returns the credit to give: nothing until it is
// half the window, so that a peer always has the other half and updates are few.
func (w *window) taken(queued int, c *Conn) uint32 {
	if w.size-w.avail-int64(queued) < w.size/2 {
		return 0
	}
	w.adapt(c)
	credit := w.size - w.avail - int64(queued)
	if credit <= 0 {
		return 0 // the window has shrunk: the peer uses up what it has
	}
	w.avail += credit
	return uint32(credit)
}

// adapt doubles the window if half of it went through in less than a round trip: then it is the window that limits the
// sender, and twice the bandwidth-delay product has not been reached. A reader that is slow takes longer, so it never
// makes a window grow.
func (w *window) adapt(c *Conn) {
	now := int64(time.Since(c.began))
	fast := w.updated > 0 && now-w.updated < max(c.rtt.Load(), int64(minRTT))
	w.updated = now
	initial := int64(c.opts.InitialWindow)
	switch {
	case c.opts.Budget.short():
		smaller := max(w.size/2, min(initial, smallWindow))
		if smaller < w.size {
			c.opts.Budget.shrink(beyond(w.size, initial) - beyond(smaller, initial))
			w.size = smaller
		}
	case fast && w.size < int64(c.opts.MaxWindow):
		larger := min(w.size*2, int64(c.opts.MaxWindow))
		if c.opts.Budget.grow(beyond(larger, initial) - beyond(w.size, initial)) {
			w.size = larger
		}
	}
}

// release gives back what the window took from the budget, at the stream's end.
func (w *window) release(c *Conn) {
	initial := int64(c.opts.InitialWindow)
	c.opts.Budget.shrink(beyond(w.size, initial))
	w.size = min(w.size, initial)
}

func beyond(size, initial int64) int64 { return max(size-initial, 0) }
