package bench

import (
	"os"
	"runtime"
	"strings"
	"time"
)

// Machine says where and with what a report was made.
type Machine struct {
	At        time.Time `json:"at"`
	Processor string    `json:"processor"`
	CPUs      int       `json:"cpus"`
	ProxyCPUs []int     `json:"proxy_cpus"`
	LoadCPUs  []int     `json:"load_cpus"`
	Kernel    string    `json:"kernel"`
	Go        string    `json:"go"`
	Envoy     string    `json:"envoy"`
	Load      string    `json:"load_average"` // when it began: others that run disturb
}

// ThisMachine describes the machine; what cannot be found out is empty.
func ThisMachine() Machine {
	m := Machine{At: time.Now().UTC(), CPUs: runtime.NumCPU(), Go: runtime.Version()}
	read := func(path string) string {
		text, err := os.ReadFile(path) //nolint:gosec // of /proc
		if err != nil {
			return ""
		}
		return string(text)
	}
	for line := range strings.Lines(read("/proc/cpuinfo")) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.Processor = strings.TrimSpace(value)
			break
		}
	}
	m.Kernel = strings.TrimSpace(read("/proc/sys/kernel/osrelease"))
	m.Load = strings.TrimSpace(read("/proc/loadavg"))
	return m
}
