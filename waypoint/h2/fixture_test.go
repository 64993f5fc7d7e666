package h2

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

var update = flag.Bool("update", false, "rewrite the expected lines of testdata/*.txt")

// TestFixtures plays testdata/*.txt. Each section that begins with "#" is one connection, made by a server or client of this
// package ("role"), with a peer that sends what the lines with ">" say. Lines with "!" are what our side does (a client's
// requests). After each group of those, lines with "<" are the frames that our side has sent, and lines with "=" what its
// user has seen. DATA frames are joined and END_STREAM stands in a line of its own, since the writer may cut or join them.
func TestFixtures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got := playFile(t, file, string(text))
		if got == string(text) {
			continue
		}
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		t.Errorf("%s: %s", file, firstDifference(string(text), got))
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	title := ""
	for i := range min(len(w), len(g)) {
		if strings.HasPrefix(w[i], "#") {
			title = w[i]
		}
		if w[i] != g[i] {
			return fmt.Sprintf("line %d, in %q\nwant %s\ngot  %s", i+1, title, w[i], g[i])
		}
	}
	return "one is longer than the other"
}

// playFile returns the file with the lines that came out.
func playFile(t *testing.T, file, text string) string {
	var out strings.Builder
	role := "server"
	var f *fixture
	pending := false
	finish := func() {
		if f != nil && pending {
			out.WriteString(f.outcome())
		}
		pending = false
	}
	sc := bufio.NewScanner(strings.NewReader(text))
	for sc.Scan() {
		line := sc.Text()
		switch {
		case strings.HasPrefix(line, "<"), strings.HasPrefix(line, "="):
			continue
		case strings.HasPrefix(line, ">"), strings.HasPrefix(line, "!"):
			if f == nil {
				f = newFixture(t, file, role, "")
			}
			f.do(line)
			pending = true
			out.WriteString(line + "\n")
			continue
		}
		finish()
		if strings.HasPrefix(line, "#") && f != nil {
			f.close()
			f = nil
		}
		if v, ok := strings.CutPrefix(line, "role "); ok {
			role = v
		}
		if v, ok := strings.CutPrefix(line, "options "); ok {
			f = newFixture(t, file, role, v)
		}
		out.WriteString(line + "\n")
	}
	finish()
	if f != nil {
		f.close()
	}
	return out.String()
}

type fixture struct {
	t      *testing.T
	where  string
	nc     net.Conn
	c      *Conn
	fr     *http2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder
	frames chan string // what our side sends; closed at its end
	role   string

	parked  atomic.Int64 // handlers that may wait for what the peer sends next
	reading atomic.Int64 // responses that have not come to an end

	mu   sync.Mutex
	seen []string
}

func newFixture(t *testing.T, file, role, options string) *fixture {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, where: file, nc: theirs, role: role, frames: make(chan string, 10000)}
	f.enc = hpack.NewEncoder(&f.block)
	f.fr = http2.NewFramer(theirs, bufio.NewReader(theirs))
	f.fr.AllowIllegalWrites = true
	f.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	o := Options{MaxConcurrentStreams: 3, MaxHeaderListSize: 1000, InitialWindow: 100, Logger: slog.New(slog.DiscardHandler)}
	raw := false
	for _, opt := range strings.Fields(options) {
		k, v, _ := strings.Cut(opt, "=")
		n, _ := strconv.Atoi(v)
		switch k {
		case "connect-protocol":
			o.EnableConnectProtocol = true
		case "raw":
			raw = true
		case "resets":
			o.Limits.ResetBurst, o.Limits.ResetsPerSecond = n, 1
		case "controls":
			o.Limits.ControlBurst, o.Limits.ControlsPerSecond = n, 1
		case "continuations":
			o.Limits.MaxContinuations = n
		case "informational":
			o.Limits.MaxInformational = n
		default:
			t.Fatal("unknown option ", opt)
		}
	}
	if role == "server" {
		f.c = NewServer(ours, o, f.handle)
	} else {
		f.c = NewClient(ours, o)
		first := make([]byte, len(preface))
		go func() { _ = f.c.Serve() }()
		if _, err := io.ReadFull(theirs, first); err != nil || string(first) != preface {
			t.Fatal("preface", err)
		}
	}
	if role == "server" {
		go func() { _ = f.c.Serve() }()
	}
	go f.collect()
	if !raw {
		if role == "server" {
			_, _ = io.WriteString(theirs, preface)
		}
		_ = f.fr.WriteSettings()
		_ = f.fr.WriteSettingsAck()
		f.sync() // and away with the greeting
	}
	return f
}

func (f *fixture) close() {
	_ = f.nc.Close()
	f.c.Close(nil)
}

func (f *fixture) do(line string) {
	words := fields(line)
	if words[0] == "!" {
		f.request(words[1:])
		return
	}
	typ, id := words[1], uint32(0)
	words = words[2:]
	if len(words) > 0 {
		if n, err := strconv.ParseUint(words[0], 10, 32); err == nil {
			id, words = uint32(n), words[1:]
		}
	}
	end, more, pad, repeat := false, false, -1, 1
	var rest []string
	for _, w := range words {
		switch {
		case w == "end":
			end = true
		case w == "more": // no END_HEADERS
			more = true
		case strings.HasPrefix(w, "pad="):
			pad, _ = strconv.Atoi(w[4:])
		case strings.HasPrefix(w, "times="):
			repeat, _ = strconv.Atoi(w[6:])
		default:
			rest = append(rest, w)
		}
	}
	for range repeat {
		f.send(typ, id, end, more, pad, rest)
	}
}

func (f *fixture) send(typ string, id uint32, end, more bool, pad int, rest []string) {
	arg := strings.Join(rest, " ")
	n, _ := strconv.ParseInt(arg, 10, 64)
	switch typ {
	case "HEADERS", "CONTINUATION":
		f.block.Reset()
		priority := http2.PriorityParam{}
		for _, kv := range rest {
			i := strings.Index(kv[1:], "=") + 1
			name, value := kv[:i], kv[i+1:]
			if name == "depends" {
				on, _ := strconv.Atoi(value)
				priority.StreamDep = uint32(on)
				continue
			}
			if k, ok := strings.CutPrefix(value, "x*"); ok {
				count, _ := strconv.Atoi(k)
				value = strings.Repeat("x", count)
			}
			_ = f.enc.WriteField(hpack.HeaderField{Name: name, Value: value})
		}
		if typ == "CONTINUATION" {
			_ = f.fr.WriteContinuation(id, !more, f.block.Bytes())
			return
		}
		_ = f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.block.Bytes(), EndStream: end, EndHeaders: !more,
			PadLength: uint8(max(pad, 0)), Priority: priority})
	case "DATA":
		data := []byte(arg)
		if strings.HasPrefix(arg, "x*") {
			n, _ = strconv.ParseInt(arg[2:], 10, 64)
			data = bytes.Repeat([]byte("x"), int(n))
		}
		if pad >= 0 {
			_ = f.fr.WriteDataPadded(id, end, data, make([]byte, pad))
		} else {
			_ = f.fr.WriteData(id, end, data)
		}
	case "RST_STREAM":
		_ = f.fr.WriteRSTStream(id, http2.ErrCode(n))
	case "PRIORITY":
		_ = f.fr.WritePriority(id, http2.PriorityParam{StreamDep: uint32(n)})
	case "PING":
		_ = f.fr.WritePing(false, [8]byte{1})
	case "SETTINGS":
		var list []http2.Setting
		for _, kv := range rest {
			k, v, _ := strings.Cut(kv, "=")
			key, _ := strconv.Atoi(k)
			value, _ := strconv.ParseUint(v, 10, 32)
			list = append(list, http2.Setting{ID: http2.SettingID(key), Val: uint32(value)})
		}
		_ = f.fr.WriteSettings(list...)
	case "WINDOW_UPDATE":
		_ = f.fr.WriteWindowUpdate(id, uint32(n))
	case "GOAWAY":
		_ = f.fr.WriteGoAway(id, http2.ErrCode(n), nil)
	case "RAW": // type flags length payload(hex): may lie about its length
		typ, _ := strconv.Atoi(rest[0])
		flags, _ := strconv.Atoi(rest[1])
		length, _ := strconv.Atoi(rest[2])
		payload := []byte{}
		if len(rest) > 3 {
			payload, _ = hex.DecodeString(rest[3])
		}
		b := appendFrameHeader(nil, length, frameType(typ), uint8(flags), id)
		_, _ = f.nc.Write(append(b, payload...))
	case "TEXT":
		_, _ = io.WriteString(f.nc, strings.ReplaceAll(arg, `\r\n`, "\r\n"))
	default:
		f.t.Fatal("unknown line: ", typ)
	}
}

// fields splits at spaces outside of quotes.
func fields(line string) []string {
	var out []string
	quoted := false
	for _, w := range strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	}) {
		w = strings.ReplaceAll(w, `"`, "")
		out = append(out, strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\0`, "\x00", `\t`, "\t").Replace(w))
	}
	return out
}

// request is what our client does: METHOD path-or-authority, or a thing to do with the connection.
func (f *fixture) request(words []string) {
	if words[0] == "shutdown" {
		f.c.Shutdown(0)
		return
	}
	h := &message.Head{Method: words[0], Scheme: "http", Authority: "a", Path: words[1]}
	if words[0] == "CONNECT" {
		h.Authority, h.Path = words[1], ""
	}
	end := true
	for _, w := range words[2:] {
		switch k, v, _ := strings.Cut(w, "="); k {
		case "open":
			end = false
		case "upgrade":
			h.Upgrade, end = v, false
		default:
			h.Fields.Append(k, v)
		}
	}
	s, err := f.c.Open()
	if err == nil {
		err = s.WriteHead(h, end)
	}
	if err != nil {
		f.saw("= " + err.Error())
		return
	}
	f.reading.Add(1)
	go f.readResponse(s)
}

func (f *fixture) readResponse(s *Stream) {
	start := fmt.Sprintf("= %d:", s.ID())
	line := start
	defer func() { f.saw(line); f.reading.Add(-1) }()
	for {
		var h message.Head
		end, err := s.ReadHead(&h)
		if err != nil {
			line = start + explain(err)
			return
		}
		line += fmt.Sprintf(" %d", h.Status)
		for _, e := range h.Fields.All() {
			line += " " + e.Name + "=" + e.Value
		}
		if end {
			line += " end"
			return
		}
		if !h.Informational() {
			break
		}
	}
	body, err := io.ReadAll(s)
	if err != nil {
		line = start + explain(err) // how much came before is a matter of time
		return
	}
	line += fmt.Sprintf(" %q", body)
	var none header.Fields
	trailer := s.Trailer()
	if trailer == nil {
		trailer = &none
	}
	for _, e := range trailer.All() {
		line += " " + e.Name + "=" + e.Value
	}
}

func explain(err error) string {
	var e *message.ResetError
	if errors.As(err, &e) && e.Refused() {
		return " refused, may be sent again"
	}
	return " " + err.Error()
}

func (f *fixture) saw(line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, line)
}

var marker = [8]byte{'m', 'a', 'r', 'k'}

// sync returns the frames that our side sent up to now; it gives streams a moment to do what they will.
func (f *fixture) sync() []string {
	var lines []string
	for round := range 2 {
		marker[7] = byte(round)
		if err := f.fr.WritePing(false, marker); err != nil {
			_ = err // our side may have closed; what it sent is still read
		}
		timeout := time.After(2 * time.Second)
	reading:
		for {
			select {
			case line, ok := <-f.frames:
				if !ok {
					// Nothing can wait for the peer now.
					for end := time.Now().Add(2 * time.Second); f.reading.Load() > 0 && time.Now().Before(end); {
						time.Sleep(time.Millisecond)
					}
					return append(lines, "< closed")
				}
				if line == fmt.Sprintf("< PING ack %x", marker) {
					break reading
				}
				lines = append(lines, line)
			case <-timeout:
				return append(lines, "< silence")
			}
		}
		if round == 0 {
			f.settle()
		}
	}
	return lines
}

// settle waits until handlers and readers have said what they have to say: until all have finished, or, if some may be waiting
// for the peer, for a while that is long enough on a busy machine.
func (f *fixture) settle() {
	start := time.Now()
	for {
		parked := f.parked.Load() + f.reading.Load()
		f.c.mu.Lock()
		unfinished := int64(f.c.handlers) - f.parked.Load()
		f.c.mu.Unlock()
		passed := time.Since(start)
		if unfinished <= 0 && (parked == 0 || passed > 40*time.Millisecond) || passed > 2*time.Second {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (f *fixture) outcome() string {
	var out []string
	for _, line := range inOrder(f.sync()) {
		// DATA of one stream is joined, what repeats is counted.
		if n := len(out) - 1; n >= 0 && repeats(&out[n], line) {
			continue
		}
		if n := len(out) - 1; n >= 0 && strings.HasPrefix(line, "< DATA") && sameStart(out[n], line) {
			out[n] += strings.SplitN(line, " ", 4)[3]
			continue
		}
		out = append(out, line)
	}
	f.mu.Lock()
	out = append(out, inOrder(f.seen)...)
	f.seen = nil
	f.mu.Unlock()
	if len(out) == 0 {
		return ""
	}
	return strings.Join(out, "\n") + "\n"
}

// inOrder sorts lines by stream, since streams run side by side; what belongs to no stream comes last.
func inOrder(lines []string) []string {
	stream := func(line string) int {
		for _, w := range strings.Fields(line)[1:] {
			if n, err := strconv.Atoi(strings.TrimSuffix(w, ":")); err == nil && n > 0 {
				return n
			}
			if w == "GOAWAY" || w == "PING" || w == "SETTINGS" {
				break
			}
		}
		return maxWindow
	}
	slices.SortStableFunc(lines, func(a, b string) int { return stream(a) - stream(b) })
	return lines
}

func repeats(last *string, line string) bool {
	text, times, found := strings.Cut(*last, "  times ")
	if text != line || !strings.HasPrefix(line, "< PING") {
		return false
	}
	n := 1
	if found {
		n, _ = strconv.Atoi(times)
	}
	*last = fmt.Sprintf("%s  times %d", line, n+1)
	return true
}

func sameStart(a, b string) bool {
	x, y := strings.SplitN(a, " ", 4), strings.SplitN(b, " ", 4)
	return len(x) == 4 && len(y) == 4 && x[1] == y[1] && x[2] == y[2]
}

// collect renders what our side sends.
func (f *fixture) collect() {
	defer close(f.frames)
	for {
		frame, err := f.fr.ReadFrame()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) {
				f.frames <- "< unreadable: " + err.Error()
			}
			return
		}
		id := frame.Header().StreamID
		ended := false
		switch fr := frame.(type) {
		case *http2.MetaHeadersFrame:
			line := fmt.Sprintf("< HEADERS %d", id)
			for _, e := range fr.Fields {
				line += " " + e.Name + "=" + e.Value
			}
			f.frames <- line
			ended = fr.StreamEnded()
		case *http2.DataFrame:
			if len(fr.Data()) > 0 {
				f.frames <- fmt.Sprintf("< DATA %d %s", id, fr.Data())
			}
			ended = fr.StreamEnded()
		case *http2.RSTStreamFrame:
			f.frames <- fmt.Sprintf("< RST_STREAM %d %s", id, codeName(message.ResetCode(fr.ErrCode)))
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				line := "< SETTINGS"
				_ = fr.ForeachSetting(func(s http2.Setting) error { line += fmt.Sprintf(" %d=%d", s.ID, s.Val); return nil })
				f.frames <- line
			} else {
				f.frames <- "< SETTINGS ack"
			}
		case *http2.PingFrame:
			if fr.IsAck() {
				f.frames <- fmt.Sprintf("< PING ack %x", fr.Data)
			} else {
				f.frames <- "< PING"
				_ = f.fr.WritePing(true, fr.Data)
			}
		case *http2.GoAwayFrame:
			f.frames <- fmt.Sprintf("< GOAWAY last=%d %s %s", fr.LastStreamID, codeName(message.ResetCode(fr.ErrCode)), fr.DebugData())
		case *http2.WindowUpdateFrame:
			f.frames <- fmt.Sprintf("< WINDOW_UPDATE %d %d", id, fr.Increment)
		default:
			f.frames <- "< " + frame.Header().String()
		}
		if ended {
			f.frames <- fmt.Sprintf("< END %d", id)
		}
	}
}
