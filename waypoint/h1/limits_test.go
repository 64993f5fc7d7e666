package h1

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

func readHeadOf(t testing.TB, in string, o Options) (*message.Head, error) {
	t.Helper()
	sc := NewServerConn(&tape{in: []byte(in)}, o)
	s, err := sc.Next()
	if err != nil {
		t.Fatal(err)
	}
	h := &message.Head{}
	_, err = s.ReadHead(h)
	return h, err
}

func wantStatus(t testing.TB, what string, err error, status int, details string) {
	t.Helper()
	m := message.AsMalformed(err)
	if status == 0 && err == nil || m != nil && m.Status == status && m.Details == details {
		return
	}
	t.Errorf("%s: %v (%+v), want %d %s", what, err, m, status, details)
}

func TestHeadLimits(t *testing.T) {
	lines := func(n, size int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "x-%03d: %s\r\n", i, strings.Repeat("v", size))
		}
		return b.String()
	}
	req := func(target, rest string) string { return "GET " + target + " HTTP/1.1\r\nHost: a\r\n" + rest + "\r\n" }
	for _, c := range []struct {
		name    string
		in      string
		o       Options
		status  int
		details string
	}{
		{name: "100 fields", in: req("/", lines(99, 1))},
		{name: "101 fields", in: req("/", lines(100, 1)), status: 431, details: detailTooManyHeaders},
		{name: "60 KiB", in: req("/", lines(60, 1024-5-1)+"y: "+strings.Repeat("v", 60-1-5-1)+"\r\n")},
		{name: "60 KiB and a byte", in: req("/", lines(60, 1024-5-1)+"y: "+strings.Repeat("v", 60-1-5)+"\r\n"),
			status: 431, details: detailHeadersTooLarge},
		{name: "one field of 61 KiB", in: req("/", "x: "+strings.Repeat("v", 61<<10)+"\r\n"), status: 431, details: detailHeadersTooLarge},
		{name: "a target of 59 KiB", in: req("/"+strings.Repeat("p", 59<<10), "")},
		{name: "a target of 61 KiB", in: req("/"+strings.Repeat("p", 61<<10), ""), status: 431, details: detailHeadersTooLarge},
		{name: "a head that never ends", in: "GET / HTTP/1.1\r\nx: " + strings.Repeat("v", 1<<20), status: 431, details: detailHeadersTooLarge},
		{name: "space that never ends", in: req("/", "x:"+strings.Repeat(" ", 1<<20)+"\r\n"), status: 431, details: detailHeadersTooLarge},
		{name: "own limits", in: req("/", lines(3, 1)), o: Options{MaxFields: 3}, status: 431, details: detailTooManyHeaders},
		{name: "own size", in: req("/", lines(3, 100)), o: Options{MaxHeadBytes: 200}, status: 431, details: detailHeadersTooLarge},
	} {
		_, err := readHeadOf(t, c.in, c.o)
		wantStatus(t, c.name, err, c.status, c.details)
	}
}

func TestBodyLimits(t *testing.T) {
	post := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, c := range []struct {
		name    string
		body    string
		status  int
		details string
	}{
		{name: "an extension of 1000 bytes", body: "1;" + strings.Repeat("e", 1000) + "\r\nx\r\n0\r\n\r\n"},
		{name: "an extension of 2000 bytes", body: "1;" + strings.Repeat("e", 2000) + "\r\nx\r\n0\r\n\r\n", status: 400, details: detailCodec},
		{name: "many chunks of one byte", body: strings.Repeat("1\r\nx\r\n", 5000) + "0\r\n\r\n"},
		{name: "many chunks of one byte with extensions", body: strings.Repeat("1;"+strings.Repeat("e", 500)+"\r\nx\r\n", 5000) + "0\r\n\r\n",
			status: 400, details: detailCodec},
		{name: "101 trailers", body: "0\r\n" + strings.Repeat("x: y\r\n", 101) + "\r\n", status: 431, details: detailTooManyHeaders},
		{name: "trailers of 61 KiB", body: "0\r\nx: " + strings.Repeat("v", 61<<10) + "\r\n\r\n", status: 431, details: detailHeadersTooLarge},
		{name: "trailers that never end", body: "0\r\nx: " + strings.Repeat("v", 1<<20), status: 431, details: detailHeadersTooLarge},
	} {
		for _, step := range []int{0, 1000} {
			wire := &tape{in: []byte(post + c.body), step: step}
			_, s, _ := exchangeOn(t, wire, Options{})
			_, err := io.Copy(io.Discard, readerOf(s))
			wantStatus(t, c.name, err, c.status, c.details)
		}
	}
}
