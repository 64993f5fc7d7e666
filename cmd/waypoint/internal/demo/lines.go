package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"
)

// exchange is one request, as the client saw it and as the waypoint logged it.
type exchange struct {
	at       time.Time
	as       *manifests.Pod
	service  *manifests.Service
	port     uint16
	method   string
	host     string
	uri      string
	header   map[string][]string
	id       string
	status   int
	instance string // that answered; "" when none did
	latency  time.Duration
	err      error
	log      logged
}

// logged are the fields of the access log that lines show.
type logged struct {
	ID      string `json:"request_id"`
	Details string `json:"details"`
	Flags   string `json:"flags"`
	Route   string `json:"route"`
}

// lines joins what the client saw with what the waypoint's access log says, by x-request-id, and hands complete exchanges on.
type lines struct {
	file *os.File
	quit chan struct{}
	done chan struct{}

	mu       sync.Mutex
	waiting  map[string]*exchange    // seen by the client, not yet in the log
	logged   map[string]logged       // the other way round
	watchers map[chan *exchange]bool // who wants complete exchanges
}

// logEvery is how often the log is looked into. The waypoint writes it once a second.
const logEvery = 50 * time.Millisecond

func newLines(path string) (*lines, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, err
	}
	l := &lines{file: f, quit: make(chan struct{}), done: make(chan struct{}),
		waiting: map[string]*exchange{}, logged: map[string]logged{}, watchers: map[chan *exchange]bool{}}
	go l.follow()
	return l, nil
}

func (l *lines) close() {
	close(l.quit)
	<-l.done
	_ = l.file.Close()
}

func (l *lines) follow() {
	defer close(l.done)
	var rest []byte
	for {
		b, err := io.ReadAll(l.file) // from where the last read ended
		if err != nil {
			return
		}
		rest = append(rest, b...)
		for {
			line, after, ok := bytes.Cut(rest, []byte("\n"))
			if !ok {
				break
			}
			rest = after
			var e logged
			if json.Unmarshal(line, &e) == nil && e.ID != "" {
				l.came(e)
			}
		}
		select {
		case <-l.quit:
			return
		case <-time.After(logEvery):
		}
	}
}

// sameID leaves out the digit of a request id in which the tracing decision is kept.
func sameID(id string) string {
	if len(id) == 36 {
		return id[:14] + id[15:]
	}
	return id
}

func (l *lines) came(e logged) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := sameID(e.ID)
	if x := l.waiting[key]; x != nil {
		delete(l.waiting, key)
		x.log = e
		l.complete(x)
		return
	}
	if len(l.logged) > 1000 { // nobody asked for these
		clear(l.logged)
	}
	l.logged[key] = e
}

// add takes what the client saw.
func (l *lines) add(x *exchange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := sameID(x.id)
	if e, ok := l.logged[key]; ok {
		delete(l.logged, key)
		x.log = e
		l.complete(x)
		return
	}
	if x.err != nil {
		l.complete(x) // it may never have reached the waypoint
		return
	}
	l.waiting[key] = x
}

func (l *lines) complete(x *exchange) {
	for w := range l.watchers {
		select {
		case w <- x:
		default: // nobody reads: a line is not worth waiting for
		}
	}
}

// watch returns a channel of complete exchanges.
func (l *lines) watch() chan *exchange {
	c := make(chan *exchange, 1000)
	l.mu.Lock()
	l.watchers[c] = true
	l.mu.Unlock()
	return c
}

// text is the line for an exchange, with the reasons below it.
func (x *exchange) text(why string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  %s %s:%d%s  ", x.at.Format("15:04:05"), x.as.Account.Name, x.method, x.service.Name, x.port, x.uri)
	switch {
	case x.err != nil:
		fmt.Fprintf(&b, "→ failed: %v", x.err)
	case strings.HasPrefix(x.log.Details, "rbac_access_denied"):
		fmt.Fprintf(&b, "→ %d REFUSED  %s", x.status, x.log.Details)
	default:
		fmt.Fprintf(&b, "→ %d", x.status)
		if x.instance != "" {
			fmt.Fprintf(&b, " from %s", x.instance)
		}
		fmt.Fprintf(&b, "  %s", x.log.Details)
		if x.log.Flags != "" && x.log.Flags != "-" {
			fmt.Fprintf(&b, " (%s)", x.log.Flags)
		}
		if x.log.Route != "" && x.log.Route != "default" {
			fmt.Fprintf(&b, "  route %s", x.log.Route)
		}
	}
	fmt.Fprintf(&b, "  %s\n", x.latency.Round(10*time.Microsecond))
	for line := range strings.Lines(why) {
		b.WriteString("          " + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}
