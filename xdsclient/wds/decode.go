package wds

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of istio.workload.Workload and Locality.
const (
	fieldName              = 1
	fieldNamespace         = 2
	fieldAddresses         = 3
	fieldNetwork           = 4
	fieldTrustDomain       = 6
	fieldServiceAccount    = 7
	fieldNode              = 9
	fieldCanonicalName     = 10
	fieldCanonicalRevision = 11
	fieldWorkloadType      = 12
	fieldWorkloadName      = 13
	fieldStatus            = 17
	fieldClusterID         = 18
	fieldUID               = 20
	fieldLocality          = 24
	fieldNetworkMode       = 25

	fieldRegion  = 1
	fieldZone    = 2
	fieldSubzone = 3
)

// What an elided field means.
const (
	defaultName        = "default"
	defaultTrustDomain = "cluster.local"
)

// Decode reads a serialised istio.workload.Workload. It follows the rules of protobuf: unknown fields are skipped, the last value of
// a field that occurs twice holds, a field of the wrong wire type is unknown. It does not keep b. The error names the field.
func Decode(b []byte) (*Workload, error) {
	w := &Workload{Healthy: true}
	var text texts
	if err := decodeWorkload(b, w, &text); err != nil {
		return nil, err
	}
	text.settle()
	if w.UID == "" {
		return nil, errors.New("uid: empty; it is the key of a workload")
	}
	for field, value := range map[*string]string{
		&w.Namespace:      defaultName,
		&w.ServiceAccount: defaultName,
		&w.TrustDomain:    defaultTrustDomain,
	} {
		if *field == "" {
			*field = value
		}
	}
	return w, nil
}

func decodeWorkload(b []byte, w *Workload, text *texts) error {
	return eachField(b, func(num protowire.Number, typ protowire.Type, bytes []byte, varint uint64) error {
		switch typ {
		case protowire.BytesType:
			switch num {
			case fieldUID:
				return text.add("uid", &w.UID, bytes)
			case fieldName:
				return text.add("name", &w.Name, bytes)
			case fieldNamespace:
				return text.add("namespace", &w.Namespace, bytes)
			case fieldAddresses:
				addr, ok := netip.AddrFromSlice(bytes)
				if !ok {
					return fmt.Errorf("addresses: %d bytes; an address has 4 or 16", len(bytes))
				}
				if addr = addr.Unmap(); !slices.Contains(w.Addresses, addr) {
					w.Addresses = append(w.Addresses, addr)
				}
			case fieldNetwork:
				return text.add("network", &w.Network, bytes)
			case fieldTrustDomain:
				return text.add("trust_domain", &w.TrustDomain, bytes)
			case fieldServiceAccount:
				return text.add("service_account", &w.ServiceAccount, bytes)
			case fieldNode:
				return text.add("node", &w.Node, bytes)
			case fieldCanonicalName:
				return text.add("canonical_name", &w.CanonicalName, bytes)
			case fieldCanonicalRevision:
				return text.add("canonical_revision", &w.CanonicalRevision, bytes)
			case fieldWorkloadName:
				return text.add("workload_name", &w.WorkloadName, bytes)
			case fieldClusterID:
				return text.add("cluster_id", &w.ClusterID, bytes)
			case fieldLocality:
				return decodeLocality(bytes, w, text)
			}
		case protowire.VarintType:
			switch num {
			case fieldWorkloadType:
				w.WorkloadType = Type(int32(varint))
			case fieldStatus:
				w.Healthy = int32(varint) == 0 // an enum has 32 bits
			case fieldNetworkMode:
				w.HostNetwork = int32(varint) == 1
			}
		}
		return nil
	})
}

func decodeLocality(b []byte, w *Workload, text *texts) error {
	err := eachField(b, func(num protowire.Number, typ protowire.Type, bytes []byte, _ uint64) error {
		if typ != protowire.BytesType {
			return nil
		}
		switch num {
		case fieldRegion:
			return text.add("region", &w.Region, bytes)
		case fieldZone:
			return text.add("zone", &w.Zone, bytes)
		case fieldSubzone:
			return text.add("subzone", &w.Subzone, bytes)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("locality: %w", err)
	}
	return nil
}

// eachField calls f for each field of a message: with bytes if it is length-delimited, with varint if it is that; other fields are
// passed over.
func eachField(b []byte, f func(num protowire.Number, typ protowire.Type, bytes []byte, varint uint64) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("truncated or malformed: %w", protowire.ParseError(n))
		}
		b = b[n:]
		var bytes []byte
		var varint uint64
		switch typ {
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			varint, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return fmt.Errorf("field %d: truncated or malformed: %w", num, protowire.ParseError(n))
		}
		b = b[n:]
		if err := f(num, typ, bytes, varint); err != nil {
			return err
		}
	}
	return nil
}

// texts collects the strings of a workload in order to allocate them as one. A mesh has many thousands of workloads with a dozen
// strings each, most of them shorter than the overhead of an allocation.
type texts struct {
	parts [16]struct {
		field *string
		value []byte
	}
	n int
}

func (t *texts) add(name string, field *string, value []byte) error {
	if !utf8.Valid(value) {
		return fmt.Errorf("%s: not UTF-8", name)
	}
	for i := range t.parts[:t.n] {
		if t.parts[i].field == field {
			t.parts[i].value = value // the last one holds
			return nil
		}
	}
	t.parts[t.n].field, t.parts[t.n].value = field, value
	t.n++
	return nil
}

func (t *texts) settle() {
	parts := t.parts[:t.n]
	size := 0
	for _, p := range parts {
		size += len(p.value)
	}
	var b strings.Builder
	b.Grow(size)
	for _, p := range parts {
		b.Write(p.value)
	}
	all := b.String()
	for _, p := range parts {
		*p.field, all = all[:len(p.value)], all[len(p.value):]
	}
}
