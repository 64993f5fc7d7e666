package exchange

import (
	"net/http"
	"sync/atomic"
	"time"
)

// dateCache keeps the text of the current second, so that a response does not format it anew.
type dateCache struct {
	last atomic.Pointer[dateText]
}

type dateText struct {
	second int64
	text   string
}

func (c *dateCache) get(t time.Time) string {
	s := t.Unix()
	if d := c.last.Load(); d != nil && d.second == s {
		return d.text
	}
	d := &dateText{s, t.UTC().Format(http.TimeFormat)}
	c.last.Store(d)
	return d.text
}
