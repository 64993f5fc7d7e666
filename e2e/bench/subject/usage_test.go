package subject_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/bench/subject"
)

func TestCPUOfThisProcess(t *testing.T) {
	before, err := subject.CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); n++ {
		if n%1000 != 0 {
			continue
		}
		now, err := subject.CPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if now-before >= 50*time.Millisecond {
			return
		}
	}
	t.Error("5 s of work are not seen as 50 ms of CPU time")
}

func TestPeakRemembersWhatWasGivenBack(t *testing.T) {
	const size = 64 << 20
	b := make([]byte, size)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	m, err := subject.MemoryOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if b[0] != 1 || m.Peak < size || m.Resident < size || m.Anonymous < size || m.Anonymous > m.Resident || m.Resident > m.Peak {
		t.Errorf("%+v with %d bytes in use", m, size)
	}
	if err := subject.ResetPeak(os.Getpid()); err != nil {
		t.Error(err)
	}
}

func TestBusyGoesOn(t *testing.T) {
	before, err := subject.Busy(nil)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if now, err := subject.Busy(nil); err != nil {
			t.Fatal(err)
		} else if now > before {
			return
		}
	}
	t.Error("5 s of work leave no trace in /proc/stat")
}

func TestStartOn(t *testing.T) {
	cmd := exec.Command("grep", "Cpus_allowed_list", "/proc/self/status")
	var out strings.Builder
	cmd.Stdout = &out
	if err := subject.StartOn([]int{0}, cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(strings.TrimPrefix(out.String(), "Cpus_allowed_list:")); got != "0" {
		t.Errorf("the child may run on %s, want 0", got)
	}
}
