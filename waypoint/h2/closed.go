package h2

// endedHow is what the rules for late frames depend on (RFC 9113, 5.1, "closed").
type endedHow uint8

const (
	endedLongAgo endedHow = iota // forgotten
	endedWhole                   // END_STREAM both ways
	endedByPeer                  // RST_STREAM came
	endedByUs                    // RST_STREAM was sent: frames that the peer sent before it saw that are ignored
)

// closedStreams remembers how the last streams ended. What this side has reset is kept apart, so that streams which end as
// they should do not push it out: frames of a reset stream must not be taken for an error.
type closedStreams struct {
	ours, others idRing
}

// idRing holds as many numbers as two connections' worth of streams; that is the number that may have frames under way.
type idRing struct {
	ids  []uint32
	next int
}

const idRingSize = 256

// The lowest bit of a stream number that a client opened is 1 and says nothing; in the ring it tells endedByPeer.
func (r *idRing) add(id uint32) {
	if len(r.ids) < idRingSize {
		r.ids = append(r.ids, id)
		return
	}
	r.ids[r.next] = id
	r.next = (r.next + 1) % idRingSize
}

func (r *idRing) has(id uint32) bool {
	for _, e := range r.ids {
		if e == id {
			return true
		}
	}
	return false
}

func (c *closedStreams) add(id uint32, how endedHow) {
	switch how {
	case endedByUs:
		c.ours.add(id)
	case endedByPeer:
		c.others.add(id &^ 1)
	default:
		c.others.add(id)
	}
}

func (c *closedStreams) how(id uint32) endedHow {
	switch {
	case c.ours.has(id):
		return endedByUs
	case c.others.has(id &^ 1):
		return endedByPeer
	case c.others.has(id):
		return endedWhole
	}
	return endedLongAgo
}
