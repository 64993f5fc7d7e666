package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// What the outer process tells the inner one.
const (
	envInside   = "GOWAYPOINT_LAB_INSIDE"   // set: we are the inner one
	envTools    = "GOWAYPOINT_LAB_TOOLS"    // folder that build.sh made
	envPrograms = "GOWAYPOINT_LAB_PROGRAMS" // folder with waypoint and helloworld, ours to remove
)

// envWaypoint, if set by the user, is the absolute path of a static waypoint
// binary to be used instead of building cmd/waypoint.
const envWaypoint = "GOWAYPOINT_LAB_WAYPOINT"

// envArtifacts, if set by the user, is a folder that gets a copy of all logs.
const envArtifacts = "GOWAYPOINT_LAB_ARTIFACTS"

// state is where the inner process keeps everything. /run is its own, in memory.
const state = "/run/lab"

// Main runs the tests of m inside namespaces of their own and returns the exit
// code for TestMain. Without root nothing can run: outside CI it says so and
// passes, in CI (CI=true) it fails.
func Main(m interface{ Run() int }) int {
	if os.Getenv(envInside) != "" {
		if err := settleIn(); err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
			return 1
		}
		return m.Run()
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "lab: NOT RUN: making network namespaces needs root (sudo make lab)")
		if os.Getenv("CI") == "true" {
			return 1
		}
		return 0
	}
	code, err := enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	return code
}

// enter builds what the lab runs and starts this binary again in new namespaces.
func enter() (code int, err error) {
	programs, err := programsFolder(os.TempDir())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, programs.remove()) }()
	tools, err := build(programs.dir)
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}

	// The kernel sends the death signal when the thread that started the
	// child ends, so this one has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), envInside+"=1", envTools+"="+tools, envPrograms+"="+programs.dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// build makes the control plane (cached) and the programs of this repository,
// and returns the folder of the former.
func build(programs string) (tools string, err error) {
	script := exec.Command("./build.sh")
	script.Stderr = os.Stderr
	out, err := script.Output()
	if err != nil {
		return "", fmt.Errorf("building the control plane: %w", err)
	}
	targets := []struct{ name, dir, pkg string }{{"helloworld", "..", "./lab/helloworld"}}
	if ready := os.Getenv(envWaypoint); ready != "" {
		if err := os.Symlink(ready, filepath.Join(programs, "waypoint")); err != nil {
			return "", err
		}
	} else {
		targets = append(targets, struct{ name, dir, pkg string }{"waypoint", "../..", "./cmd/waypoint"})
	}
	for _, target := range targets {
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(programs, target.name), target.pkg)
		cmd.Dir = target.dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // a pod has no libc
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("building %s: %w", target.pkg, err)
		}
	}
	return strings.TrimSpace(string(out)), nil
}

// settleIn prepares the namespaces that enter made.
func settleIn() error {
	// Nothing that is mounted here may show outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	if err := os.MkdirAll(state, 0o755); err != nil {
		return err
	}
	if err := takeOver(os.Getenv(envPrograms)); err != nil {
		return err
	}
	return nil
}

// programs is where the inner process has the programs of this repository.
var programs = filepath.Join(state, "programs")

// takeOver moves the programs into our own /run, so that not even the outer
// process's sudden end leaves anything behind.
func takeOver(from string) error {
	if err := copyFiles(from, programs, 0o755); err != nil {
		return err
	}
	return os.RemoveAll(from)
}
