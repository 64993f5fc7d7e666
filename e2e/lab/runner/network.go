package runner

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// bridge joins all pods and the node. There is one per network namespace, so
// the name needs no number.
const bridge = "mesh0"

// Network is a bridge with the node's address on it, and one network namespace
// per pod plugged into it. Safe for concurrent use.
type Network struct {
	prefix netip.Prefix // the node's address and the length of the subnet

	mu   sync.Mutex
	last netip.Addr
}

// NewNetwork makes the bridge in the current network namespace. The address of
// prefix becomes the node's own; pods get the ones that follow it.
func NewNetwork(prefix netip.Prefix) (*Network, error) {
	n := &Network{prefix: prefix, last: prefix.Addr()}
	return n, ip(
		"link add "+bridge+" type bridge",
		"addr add "+prefix.String()+" dev "+bridge,
		"link set "+bridge+" up",
	)
}

// Node is the address under which pods reach the node.
func (n *Network) Node() netip.Addr { return n.prefix.Addr() }

// Sandbox is the network namespace of one pod.
type Sandbox struct {
	IP   netip.Addr
	name string
	file *os.File // holds the namespace open
}

// Add makes a namespace with a free address. Addresses are never used twice:
// a late packet or a stale cache must not reach another pod.
func (n *Network) Add() (*Sandbox, error) {
	n.mu.Lock()
	n.last = n.last.Next()
	addr := n.last
	n.mu.Unlock()
	if !n.prefix.Contains(addr.Next()) { // the last one is the broadcast address
		return nil, fmt.Errorf("no address left in %s", n.prefix.Masked())
	}

	// Interface names have 15 bytes at most: take the address itself.
	name := "p" + strings.ReplaceAll(addr.String(), ".", "-")
	if err := ip(
		"netns add "+name,
		"link add "+name+" type veth peer name eth0 netns "+name,
		"link set "+name+" master "+bridge+" up",
	); err != nil {
		return nil, err
	}
	file, err := os.Open("/run/netns/" + name)
	if err != nil {
		return nil, err
	}
	s := &Sandbox{IP: addr, name: name, file: file}
	err = ip(
		"-n "+name+" link set lo up",
		fmt.Sprintf("-n %s addr add %s/%d dev eth0", name, addr, n.prefix.Bits()),
		"-n "+name+" link set eth0 up",
		"-n "+name+" route add default via "+n.Node().String(),
	)
	return s, err
}

// Remove takes the namespace away. Sockets that are open in it keep working
// among themselves but reach nobody.
func (s *Sandbox) Remove() error {
	_ = s.file.Close() // read-only
	return ip("link del "+s.name, "netns del "+s.name)
}

// Do calls f on a thread that is inside the namespace: sockets made and
// processes started by f itself (not by goroutines that it starts) belong to
// the pod.
func (s *Sandbox) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread is never unlocked: it ends with this goroutine, so
		// no other goroutine can find itself in the wrong namespace.
		runtime.LockOSThread()
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("entering the network of %s: %w", s.IP, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Listen opens a listening TCP socket of the pod.
func (s *Sandbox) Listen(address string) (l net.Listener, err error) {
	err = s.Do(func() error {
		l, err = net.Listen("tcp", address)
		return err
	})
	return l, err
}

// Dial connects from the pod. The address must hold an IP: names would be
// looked up on other goroutines, outside the pod.
func (s *Sandbox) Dial(ctx context.Context, address string) (c net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, err
	}
	err = s.Do(func() error {
		c, err = new(net.Dialer).DialContext(ctx, "tcp", address)
		return err
	})
	return c, err
}

// ip runs iproute2 once for each command.
func ip(commands ...string) error {
	for _, c := range commands {
		var out bytes.Buffer
		cmd := exec.Command("ip", strings.Fields(c)...)
		cmd.Stderr = &out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", c, err, strings.TrimSpace(out.String()))
		}
	}
	return nil
}
