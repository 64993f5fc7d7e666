package hbone

import (
	"io"
	"testing"
	"time"
)

// Bytes that came unasked may wait in the TLS layer, where the socket does not show them: beside the answer in one record, or in
// a record that came with it. Taken for the answer to the next request, they would reach another client.
func TestReadableSeesWhatTLSHolds(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes []string
	}{
		{"in the answer's record", []string{"answerMORE"}},
		{"in the record behind", []string{"answer", "MORE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, client := tlsPair(t)
			conn := FromNetConn(client).(*netConn)
			if conn.Readable() {
				t.Error("nothing came")
			}
			for _, w := range c.writes {
				if _, err := server.Write([]byte(w)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(20 * time.Millisecond) // both records are there when the first is read
			if _, err := io.ReadFull(conn, make([]byte, len("answer"))); err != nil {
				t.Fatal(err)
			}
			if !conn.Readable() {
				t.Error("MORE is not noticed")
			}
		})
	}
}

// Asking does no harm to a connection that is fine.
func TestReadableLeavesTLSUsable(t *testing.T) {
	server, client := tlsPair(t)
	conn := FromNetConn(client).(*netConn)
	for range 3 {
		if conn.Readable() {
			t.Fatal("nothing came")
		}
		if _, err := conn.Write([]byte("ask")); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 6)
		if _, err := io.ReadFull(server, p[:3]); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Write([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, p); err != nil || string(p) != "answer" {
			t.Fatalf("%q %v", p, err)
		}
	}
	_ = server.Close()
	for end := time.Now().Add(2 * time.Second); !conn.Readable(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the end is not noticed")
		}
	}
}
