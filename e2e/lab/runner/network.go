package runner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
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
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}
	if err := netlink.LinkAdd(link); err != nil {
		return nil, fmt.Errorf("making the bridge %s: %w", bridge, err)
	}
	return n, errors.Join(up("lo"), address(bridge, prefix), up(bridge))
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

	file, err := newNamespace()
	if err != nil {
		return nil, fmt.Errorf("making a network namespace: %w", err)
	}
	// Interface names have 15 bytes at most: take the address itself.
	s := &Sandbox{IP: addr, name: "p" + strings.ReplaceAll(addr.String(), ".", "-"), file: file}
	if err := s.plugIn(netip.PrefixFrom(addr, n.prefix.Bits()), n.Node()); err != nil {
		return nil, errors.Join(fmt.Errorf("network of %s: %w", addr, err), file.Close())
	}
	return s, nil
}

// plugIn joins the namespace to the bridge by a pair of interfaces.
func (s *Sandbox) plugIn(addr netip.Prefix, node netip.Addr) error {
	master, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	if err := netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: s.name, MasterIndex: master.Attrs().Index},
		PeerName:  "eth0", PeerNamespace: netlink.NsFd(int(s.file.Fd())),
	}); err != nil {
		return err
	}
	if err := up(s.name); err != nil {
		return err
	}
	return s.Do(func() error {
		if err := errors.Join(up("lo"), address("eth0", addr), up("eth0")); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Gw: node.AsSlice()})
	})
}

// newNamespace makes a network namespace, which lasts as long as the file is
// open or a process is in it.
func newNamespace() (file *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever, as in Do
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			file, err = os.Open("/proc/thread-self/ns/net")
		}
	}()
	<-done
	return file, err
}

// Remove takes the namespace away. Sockets that are open in it keep working
// among themselves but reach nobody.
func (s *Sandbox) Remove() error {
	link, err := netlink.LinkByName(s.name)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	return errors.Join(err, s.file.Close())
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

// up switches an interface of the current namespace on.
func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	return err
}

// address gives an interface of the current namespace its address.
func address(name string, prefix netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{
		IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
	}})
}
