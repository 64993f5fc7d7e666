package h2

import "sync/atomic"

// Budget bounds the memory that peers can fill by sending more than is read, over all connections of a process. It is safe for
// concurrent use.
//
// Two things are counted: how far windows have grown beyond their initial size (what peers may send in the future), and the
// bytes that wait in receive queues (what they have sent). Windows grow while the former is below half the limit. While the
// latter is above half the limit, they shrink, by credit that is not given back; above the whole limit, new streams are
// refused (REFUSED_STREAM: the client may send them again). So queues hold at most
//
//	limit/2 + streams × InitialWindow
//
// and the second part is only ever reached by clients that fill every stream.
type Budget struct {
	limit  int64
	grown  atomic.Int64
	queued atomic.Int64
}

// NewBudget makes a budget of so many bytes; a quarter of the process's memory limit is a good measure, since the collector
// may need as much again.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Limit returns the budget in bytes.
func (b *Budget) Limit() int64 { return b.limit }

// Grown returns the bytes by which the windows of open streams exceed their initial size.
func (b *Budget) Grown() int64 { return b.grown.Load() }

// Queued returns the bytes that have been received and not been read.
func (b *Budget) Queued() int64 { return b.queued.Load() }

// grow reserves n bytes of window, or tells that there is no room.
func (b *Budget) grow(n int64) bool {
	if b == nil {
		return true
	}
	if b.grown.Add(n) > b.limit/2 {
		b.grown.Add(-n)
		return false
	}
	return true
}

func (b *Budget) shrink(n int64) {
	if b != nil && n != 0 {
		b.grown.Add(-n)
	}
}

func (b *Budget) queue(n int64) {
	if b != nil && n != 0 {
		b.queued.Add(n)
	}
}

// short tells whether windows have to shrink.
func (b *Budget) short() bool { return b != nil && b.queued.Load() > b.limit/2 }

// exhausted tells whether new streams have to be refused.
func (b *Budget) exhausted() bool { return b != nil && b.queued.Load() > b.limit }
