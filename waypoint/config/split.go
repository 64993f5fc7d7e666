package config

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
)

// chainsField is the number of Listener.filter_chains.
var chainsField = (&listenerv3.Listener{}).ProtoReflect().Descriptor().Fields().ByName("filter_chains").Number()

// splitListener takes the filter chains out of a serialised listener without decoding them: at 10,000 services one listener
// holds 10,000 chains, of which a push changes one. The slices are parts of raw.
func splitListener(raw []byte) (*listenerv3.Listener, [][]byte, error) {
	var chains [][]byte
	rest := make([]byte, 0, 512)
	for b := raw; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, nil, errors.New("not a valid Listener: " + protowire.ParseError(n).Error())
		}
		if num == chainsField && typ == protowire.BytesType {
			v, m := protowire.ConsumeBytes(b[n:])
			if m < 0 {
				return nil, nil, errors.New("not a valid Listener: " + protowire.ParseError(m).Error())
			}
			chains = append(chains, v)
			b = b[n+m:]
			continue
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return nil, nil, errors.New("not a valid Listener: " + protowire.ParseError(m).Error())
		}
		rest = append(rest, b[:n+m]...)
		b = b[n+m:]
	}
	l := &listenerv3.Listener{}
	if err := proto.Unmarshal(rest, l); err != nil {
		return nil, nil, fmt.Errorf("not a valid Listener: %w", err)
	}
	return l, chains, nil
}

func decodeChain(raw []byte) (*listenerv3.FilterChain, error) {
	c := &listenerv3.FilterChain{}
	if err := proto.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("not a valid FilterChain: %w", err)
	}
	return c, nil
}
