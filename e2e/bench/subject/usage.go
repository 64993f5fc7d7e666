package subject

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU times in /proc. It is USER_HZ, which is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// CPU is the processor time, user and system, that a process has used. The kernel gives it in steps of 10 ms.
func CPU(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field, the command's name, may hold anything, parentheses too: count from behind it.
	i := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[i+1:]))
	if i < 0 || len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	sum := time.Duration(0)
	for _, f := range fields[11:13] { // utime and stime, fields 14 and 15
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// Busy is the time in which any of the processors (all, if none is named) was busy, with whatever, added up.
func Busy(cpus []int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	wanted := map[string]bool{}
	for _, c := range cpus {
		wanted["cpu"+strconv.Itoa(c)] = true
	}
	if len(cpus) == 0 {
		wanted["cpu"] = true
	}
	sum := int64(0)
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 9 || !wanted[f[0]] {
			continue
		}
		for _, i := range []int{1, 2, 3, 6, 7, 8} { // user, nice, system, irq, softirq, steal; not idle, iowait; guest is in user
			n, err := strconv.ParseInt(f[i], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/stat: %w", err)
			}
			sum += n
		}
	}
	return time.Duration(sum) * tick, nil
}

// Memory of a process in bytes.
type Memory struct {
	Resident  int64 `json:"resident"`  // VmRSS, the binary's pages in use included
	Anonymous int64 `json:"anonymous"` // RssAnon: heap and stacks
	Peak      int64 `json:"peak"`      // VmHWM: the highest Resident since the start or ResetPeak
}

// MemoryOf reads a process's memory.
func MemoryOf(pid int) (Memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Memory{}, err
	}
	var m Memory
	for name, p := range map[string]*int64{"VmRSS": &m.Resident, "RssAnon": &m.Anonymous, "VmHWM": &m.Peak} {
		_, rest, ok := strings.Cut(string(text), "\n"+name+":")
		f := strings.Fields(rest)
		if !ok || len(f) < 2 || f[1] != "kB" {
			return Memory{}, fmt.Errorf("/proc/%d/status has no %s", pid, name)
		}
		n, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil {
			return Memory{}, fmt.Errorf("/proc/%d/status: %s: %w", pid, name, err)
		}
		*p = n << 10
	}
	return m, nil
}

// ResetPeak makes Memory.Peak begin anew.
func ResetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0) // 5: the high-water mark (proc(5))
}
