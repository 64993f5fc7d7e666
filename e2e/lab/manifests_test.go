package lab

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	objects, err := parse([]byte(`
# only a comment
---
apiVersion: v1
kind: Namespace
metadata: {name: a}
---
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: a}
`))
	if err != nil || len(objects) != 2 || objects[0].GetName() != "a" || objects[1].GetNamespace() != "a" {
		t.Errorf("parsed %v, %v", objects, err)
	}
	if _, err := parse([]byte("kind: [")); err == nil {
		t.Error("broken YAML was parsed")
	}
}

func TestPoll(t *testing.T) {
	calls := 0
	if err := poll(context.Background(), time.Minute, func() error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	}); err != nil || calls != 3 {
		t.Errorf("%d calls, %v", calls, err)
	}
	last := errors.New("never")
	if err := poll(context.Background(), 0, func() error { return last }); !errors.Is(err, last) {
		t.Errorf("after the time is over: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := poll(ctx, time.Minute, func() error { return last }); !errors.Is(err, last) || !errors.Is(err, context.Canceled) {
		t.Errorf("after the context: %v", err)
	}
}
