//go:build unix

package h1

import "syscall"

// Poll tells whether a read from a socket would return at once; it is [Poller]'s answer for a plain TCP connection. Over TLS
// it is not enough: the TLS layer may hold bytes of its own.
func Poll(c syscall.Conn) bool {
	rc, err := c.SyscallConn()
	if err != nil {
		return true // closed
	}
	ready := true
	err = rc.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, e := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		ready = e != syscall.EAGAIN && e != syscall.EINTR
		return true
	})
	return ready || err != nil
}
