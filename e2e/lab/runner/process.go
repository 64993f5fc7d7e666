package runner

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

// spec is a process to be started in a container.
type spec struct {
	root     string // the container's root folder
	argv     []string
	env      []string
	dir      string
	uid, gid uint32
}

// process is one that runs. Its output goes to a writer given at the start.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	code int // exit code once done is closed; 128+n for signal n, as a shell says it
}

// start runs s in the sandbox and copies what it prints to out.
func (s spec) start(sandbox *Sandbox, stdin io.Reader, stdout, stderr io.Writer) (*process, error) {
	path, err := s.lookPath()
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path: path, Args: s.argv, Env: s.env, Dir: s.dir, Stdin: stdin,
		SysProcAttr: &syscall.SysProcAttr{
			Chroot:     s.root,
			Credential: &syscall.Credential{Uid: s.uid, Gid: s.gid},
			Setpgid:    true, // so that the whole group can be killed
		},
	}
	outPipe, outDone, err := s.pipe(stdout)
	if err != nil {
		return nil, err
	}
	errPipe, errDone, err := s.pipe(stderr)
	if err != nil {
		_ = outPipe.Close() // gives up; the reason is err
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = outPipe, errPipe
	err = sandbox.Do(cmd.Start)
	_ = outPipe.Close() // the process has its own copies
	_ = errPipe.Close()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", strings.Join(s.argv, " "), err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the state below says all that its error would
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			p.code = 128 + int(status.Signal())
		} else {
			p.code = cmd.ProcessState.ExitCode()
		}
		p.kill() // children left behind would hold the output open
		<-outDone
		<-errDone
		close(p.done)
	}()
	return p, nil
}

// pipe returns the end that the process writes to. It belongs to the user of
// the process: programs such as Envoy open /dev/stdout, that is this pipe,
// anew, and that needs permission.
func (s spec) pipe(to io.Writer) (*os.File, <-chan struct{}, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	if err := w.Chown(int(s.uid), int(s.gid)); err != nil {
		return nil, nil, errors.Join(err, r.Close(), w.Close())
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(to, r) // a reader that has gone must not stop the process
		_, _ = io.Copy(io.Discard, r)
		_ = r.Close()
	}()
	return w, done, nil
}

// lookPath finds the program inside the root folder.
func (s spec) lookPath() (string, error) {
	name := s.argv[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, kv := range s.env {
		list, ok := strings.CutPrefix(kv, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(list) {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(filepath.Join(s.root, path)); err == nil && info.Mode()&0o111 != 0 {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%s: executable file not found in $PATH", name)
}

// signal reaches the main process only, as a container runtime does it.
func (p *process) signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s) // it may have gone: that is what done is for
}

// kill ends the process and its children.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // as above
}

// user is whom the container runs as; root if nobody says otherwise.
func user(pod *corev1.Pod, c *corev1.Container) (uid, gid uint32) {
	if s := pod.Spec.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			uid = uint32(*s.RunAsUser)
		}
		if s.RunAsGroup != nil {
			gid = uint32(*s.RunAsGroup)
		}
	}
	if s := c.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			uid = uint32(*s.RunAsUser)
		}
		if s.RunAsGroup != nil {
			gid = uint32(*s.RunAsGroup)
		}
	}
	return uid, gid
}
