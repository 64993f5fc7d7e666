package h2

// Readable tells whether Read would return at once: with bytes, the end or an error. An HTTP/1.1 connection inside the tunnel
// on which something came while nobody asked is of no use for another request.
func (t *tunnel) Readable() bool {
	r := &t.recv
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.data.n > 0 || r.end || r.err != nil || r.closed
}
