package reference

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
	"github.com/gowaypoint/gowaypoint/e2e/envoy"
)

// Session is a TCP connection for one of the sets.
type Session struct {
	Set     int
	Conn    *pair.Conn // with a PROXY header; TCP replaces its source port, by which the filter chain is chosen
	Request *pair.Request
}

// firstPort is the source port in the PROXY header for set 0. No policy can ask for a source port.
const firstPort = 1000

// Fields of the PROXY header, which its listener filter turns into metadata.
const (
	principalField = 0xE0
	sessionField   = 0xE1
	fieldNamespace = "differential.proxy"
	sessionKey     = "session"
)

// atOnce is how many sessions are open together.
const atOnce = 16

// TCP runs an Envoy with a filter chain for each set, opens the sessions, and returns what Envoy said of each: whether the echo
// behind the policies answered and, from the access log, which policy decided and what shadow rules found.
func TCP(ctx context.Context, sets []*pair.Set, sessions []Session) (answers []pair.Answer, err error) {
	dir, err := os.MkdirTemp("", "differential-tcp-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // the system cleans its temporary directory
	log := filepath.Join(dir, "access.log")
	config, err := tcpBootstrap(sets, log)
	if err != nil {
		return nil, err
	}
	process, err := envoy.Start(ctx, envoy.Config{Bootstrap: config, ComponentLogLevel: "misc:error"})
	if err != nil {
		return nil, err
	}
	text, err := process.ListenerAddress(ctx, "tcp")
	if err != nil {
		return nil, errors.Join(err, process.Stop())
	}
	listener := netip.MustParseAddrPort(text)
	answers = make([]pair.Answer, len(sessions))
	group, _ := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, s := range sessions {
		group.Go(func() error {
			echoed, err := s.open(listener.Port(), i)
			answers[i].Allowed = echoed
			if err != nil {
				return fmt.Errorf("session %d on %v: %w", i, s.Conn, err)
			}
			return nil
		})
	}
	err = group.Wait()
	if err = errors.Join(err, process.Stop()); err != nil { // which writes the rest of the log
		return nil, err
	}
	return answers, readLog(log, answers)
}

// open sends a byte, and reports whether it came back.
func (s *Session) open(port uint16, id int) (bool, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(s.Conn.Source, 0)), Timeout: timeout}
	c, err := d.Dial("tcp", netip.AddrPortFrom(s.Conn.Destination, port).String())
	if err != nil {
		return false, err
	}
	defer func() { _ = c.Close() }() // all that was wanted has been read
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return false, err
	}
	fields := []tlv{{sessionField, strconv.Itoa(id)}}
	if s.Request.Principal != "" {
		fields = append(fields, tlv{principalField, s.Request.Principal})
	}
	source := netip.AddrPortFrom(s.Conn.ProxySource.Addr(), firstPort+uint16(s.Set)) //nolint:gosec // a few hundred sets
	if _, err := c.Write(append(proxyHeader(source, s.Conn.ProxyDestination, fields), 'x')); err != nil {
		return false, err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return err == nil, err
}

func tcpBootstrap(sets []*pair.Set, log string) ([]byte, error) {
	var chains list
	for i, s := range sets {
		filters := list{typed("state", "envoy.extensions.filters.network.set_filter_state.v3.Config", object{"on_new_connection": list{object{
			"object_key": authz.PeerPrincipal, "factory_key": "envoy.string", "skip_if_empty": true,
			"format_string": object{"omit_empty_values": true, "text_format_source": object{
				"inline_string": "%DYNAMIC_METADATA(" + fieldNamespace + ":" + authz.PeerPrincipal + ")%",
			}},
		}}})}
		for k := range s.Filters {
			b, err := protojson.Marshal(s.TCP(k))
			if err != nil {
				return nil, err
			}
			config := object{}
			if err := json.Unmarshal(b, &config); err != nil {
				return nil, err
			}
			filters = append(filters, typed(filterName(k), "envoy.extensions.filters.network.rbac.v3.RBAC", config))
		}
		filters = append(filters, typed("echo", "envoy.extensions.filters.network.echo.v3.Echo", nil))
		chains = append(chains, object{"name": strconv.Itoa(i), "filters": filters, "filter_chain_match": object{"source_ports": list{firstPort + i}}})
	}
	field := func(kind int, key string) object {
		return object{"tlv_type": kind, "on_tlv_present": object{"metadata_namespace": fieldNamespace, "key": key}}
	}
	return json.Marshal(object{
		"node": object{"id": "reference", "cluster": "differential"},
		"layered_runtime": object{"layers": list{object{"name": "static", "static_layer": object{
			"re2.max_program_size.error_level": 32768,
		}}}},
		"static_resources": object{"listeners": list{object{
			"name": "tcp", "address": anyAddress(), "filter_chains": chains,
			"listener_filters": list{proxyProtocol(list{field(principalField, authz.PeerPrincipal), field(sessionField, sessionKey)})},
			"access_log": list{typed("file", "envoy.extensions.access_loggers.file.v3.FileAccessLog", object{
				"path": log, "log_format": object{"json_format": object{
					"session": "%DYNAMIC_METADATA(" + fieldNamespace + ":" + sessionKey + ")%",
					"details": "%CONNECTION_TERMINATION_DETAILS%",
					"rbac":    "%DYNAMIC_METADATA(envoy.filters.network.rbac)%",
				}},
			})},
		}}},
	})
}

// readLog completes the answers. Each session has one line.
func readLog(path string, answers []pair.Answer) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	seen := make([]bool, len(answers))
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var line struct {
			Session string
			Details string
			RBAC    map[string]string
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("access log %q: %w", lines.Bytes(), err)
		}
		i, err := strconv.Atoi(line.Session)
		if err != nil || i >= len(answers) || seen[i] {
			return fmt.Errorf("access log %q: not one of the sessions, or twice", lines.Bytes())
		}
		seen[i], answers[i].Details = true, line.Details
		if err := fill(&answers[i], line.RBAC); err != nil {
			return err
		}
	}
	for i, ok := range seen {
		if !ok {
			return fmt.Errorf("session %d is not in the access log", i)
		}
	}
	return lines.Err()
}
