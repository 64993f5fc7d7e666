package h2

// A handler that waits for a peer with nothing to say costs a goroutine and its stack, which a request has grown to 8 KiB.
// With ten thousand idle tunnels that is most of a proxy's memory, so such a handler can give its goroutine back: [Conn.ParkIdle],
// called every second or so, tells those that have waited since the call before, and when the peer speaks a new goroutine goes
// on where the old one stopped. A stream that is busy never notices.
type park struct {
	waiting   bool   // in AwaitOrPark
	marked    bool   // … since the last ParkIdle at least
	interrupt bool   // ParkIdle wants the goroutine back
	resume    func() // parked: goes on when there is something to read
	// parks and returns count goroutines that parked, and those that have left the handler: the last one finishes the stream.
	parks, returns int
}

// AwaitOrPark waits like Await until Read would not block, and returns false; or it returns true: then the caller must leave the
// stream's handler without touching the stream again, and resume will be called in a goroutine of its own when there is
// something to read (or the end, or an error). resume then stands for the handler: what holds for it holds for resume.
func (t *tunnel) AwaitOrPark(resume func()) (parked bool) {
	r := &t.recv
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.park
	p.waiting, p.marked, p.interrupt = true, false, false
	for r.data.n == 0 && !r.end && r.err == nil && !r.closed {
		if p.interrupt {
			p.waiting, p.resume = false, resume
			p.parks++
			r.parked.Store(true)
			return true
		}
		r.ready.Wait()
	}
	p.waiting = false
	return false
}

// ParkIdle takes the goroutines of streams that have waited in AwaitOrPark since the last call, and says how many.
func (c *Conn) ParkIdle() (parked int) {
	c.mu.Lock()
	list := make([]*Stream, 0, len(c.streams))
	for _, s := range c.streams {
		list = append(list, s)
	}
	c.mu.Unlock()
	for _, s := range list {
		r := &s.recv
		r.mu.Lock()
		if p := &r.park; p.waiting {
			if p.interrupt = p.marked; p.interrupt {
				parked++
				r.ready.Broadcast()
			}
			p.marked = true
		}
		r.mu.Unlock()
	}
	return parked
}

// wake tells whoever waits for the stream that there is something to read.
func (s *Stream) wake() {
	s.recv.ready.Broadcast()
	if s.recv.parked.Load() {
		s.unpark()
	}
}

func (s *Stream) unpark() {
	r := &s.recv
	r.mu.Lock()
	f := r.park.resume
	r.park.resume = nil
	r.parked.Store(false)
	r.mu.Unlock()
	if f != nil {
		go s.c.serve(s, f)
	}
}

// left notes that a goroutine has left the handler, and tells whether it was the last: the one that did not park, or an older
// one that was slower to leave.
func (s *Stream) left() (last bool) {
	r := &s.recv
	r.mu.Lock()
	defer r.mu.Unlock()
	r.park.returns++
	return r.park.returns > r.park.parks
}
