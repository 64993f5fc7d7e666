package wds

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

var full = map[string]any{
	"uid": "Kubernetes//Pod/shop/cart-1", "name": "cart-1", "namespace": "shop", "network": "net1", "cluster_id": "Kubernetes",
	"trust_domain": "example.org", "service_account": "cart", "node": "node-a", "canonical_name": "cart", "canonical_revision": "v2",
	"workload_name": "cart", "workload_type": int32(1), "status": int32(1), "network_mode": int32(1),
	"region": "eu", "zone": "eu-1", "subzone": "rack",
	"addresses": [][]byte{{10, 0, 0, 1}, netip.MustParseAddr("fd00::1").AsSlice(), netip.MustParseAddr("::ffff:10.0.0.1").AsSlice()},
	// These are skipped.
	"hostname": []byte("cart.example"), "tunnel_protocol": int32(1), "native_tunnel": true,
	"authorization_policies": [][]byte{[]byte("a"), []byte("b")},
}

func TestDecode(t *testing.T) {
	got, err := Decode(encode(t, full))
	if err != nil {
		t.Fatal(err)
	}
	want := &Workload{
		UID: "Kubernetes//Pod/shop/cart-1", Name: "cart-1", Namespace: "shop", Network: "net1", ClusterID: "Kubernetes",
		TrustDomain: "example.org", ServiceAccount: "cart", Node: "node-a", CanonicalName: "cart", CanonicalRevision: "v2",
		WorkloadName: "cart", WorkloadType: CronJob, Healthy: false, HostNetwork: true,
		Region: "eu", Zone: "eu-1", Subzone: "rack",
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if id := got.Identity(); id != "spiffe://example.org/ns/shop/sa/cart" {
		t.Errorf("identity %s", id)
	}
	if s := got.WorkloadType.String(); s != "cronjob" {
		t.Errorf("type %s", s)
	}
}

func TestDecodeElided(t *testing.T) {
	got, err := Decode(encode(t, map[string]any{"uid": "u"}))
	if err != nil {
		t.Fatal(err)
	}
	if id := got.Identity(); id != "spiffe://cluster.local/ns/default/sa/default" {
		t.Errorf("identity %s", id)
	}
	if !got.Healthy || got.HostNetwork || got.WorkloadType != Deployment {
		t.Errorf("zero values mean something else: %+v", got)
	}
}

func TestDecodeErrors(t *testing.T) {
	good := encode(t, full)
	for _, c := range []struct {
		name, want string
		in         []byte
	}{
		{"empty", "uid: empty", nil},
		{"address of 5 bytes", "addresses: 5 bytes", encode(t, map[string]any{"uid": "u", "addresses": [][]byte{{1, 2, 3, 4, 5}}})},
		{"not UTF-8", "name: not UTF-8", protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte{0xff})},
		{"truncated", "truncated", append(good[:len(good):len(good)], protowire.AppendTag(nil, 1, protowire.BytesType)...)},
		{"garbage", "truncated or malformed", []byte("\x0f\xff\xff")},
		{"truncated locality", "locality: field 1: truncated", protowire.AppendBytes(protowire.AppendTag(nil, 24, protowire.BytesType), []byte{0x0a, 9})},
	} {
		if _, err := Decode(c.in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

// FuzzDecode compares with the protobuf library: the same bytes are accepted, save for our own two rules, and mean the same.
func FuzzDecode(f *testing.F) {
	good := encode(f, full)
	f.Add(good)
	f.Add(append(good, good...)) // fields that occur twice: the last one holds, messages merge
	f.Add(encode(f, map[string]any{"uid": "u"}))
	f.Add([]byte{0x0b, 0x0c}) // an empty group
	desc := schema(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Decode(b)
		m := dynamicpb.NewMessage(desc)
		if libErr := proto.Unmarshal(b, m); libErr != nil {
			if err == nil {
				t.Fatalf("accepted, but protobuf says: %v", libErr)
			}
			return
		}
		text := func(name protoreflect.Name) string { return m.Get(desc.Fields().ByName(name)).String() }
		if err != nil {
			if strings.HasPrefix(err.Error(), "uid: empty") && text("uid") == "" || strings.HasPrefix(err.Error(), "addresses: ") {
				return
			}
			t.Fatalf("refused: %v", err)
		}
		enum := func(name protoreflect.Name) int64 { return m.Get(desc.Fields().ByName(name)).Int() }
		locality := m.Get(desc.Fields().ByName("locality")).Message()
		zone := locality.Get(locality.Descriptor().Fields().ByName("zone")).String()
		or := func(s, elided string) string {
			if s == "" {
				return elided
			}
			return s
		}
		for name, pair := range map[string][2]any{
			"uid": {got.UID, text("uid")}, "name": {got.Name, text("name")}, "network": {got.Network, text("network")},
			"namespace":       {got.Namespace, or(text("namespace"), "default")},
			"service_account": {got.ServiceAccount, or(text("service_account"), "default")},
			"trust_domain":    {got.TrustDomain, or(text("trust_domain"), "cluster.local")},
			"workload_type":   {int64(got.WorkloadType), enum("workload_type")},
			"status":          {got.Healthy, enum("status") == 0},
			"network_mode":    {got.HostNetwork, enum("network_mode") == 1},
			"zone":            {got.Zone, zone},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s: %v, protobuf says %v", name, pair[0], pair[1])
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	in := encode(b, full)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(in); err != nil {
			b.Fatal(err)
		}
	}
}
