package subject

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is a subject that we build ourselves, in a directory of its own.
type process struct {
	name   string
	dir    string
	cmd    *exec.Cmd
	exited chan struct{}
	err    error
	onStop func()
}

// newProcess makes the directory and puts the files in it, by name.
func newProcess(name string, files map[string][]byte) (*process, error) {
	dir, err := os.MkdirTemp("", name+"-")
	if err != nil {
		return nil, err
	}
	p := &process{name: name, dir: dir, exited: make(chan struct{})}
	for file, content := range files {
		path := filepath.Join(dir, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
			p.removeDir()
			return nil, err
		}
	}
	return p, nil
}

// start runs the command in the directory and waits until ready returns nil.
func (p *process) start(ctx context.Context, s Setup, cmd *exec.Cmd, ready func(context.Context) error) error {
	log, err := os.Create(p.logFile())
	if err != nil {
		p.removeDir()
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own
	p.cmd = cmd
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it does not outlive a run that was killed
	if err := s.run(cmd); err != nil {
		p.removeDir()
		return fmt.Errorf("%s: %w", p.name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := p.awaitReady(ctx, ready); err != nil {
		err = fmt.Errorf("%s: %w\n%s", p.name, err, p.Log())
		p.kill()
		return err
	}
	return nil
}

func (p *process) awaitReady(ctx context.Context, ready func(context.Context) error) error {
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("it has ended: %w", endError(p.err))
		case <-ctx.Done():
			return fmt.Errorf("it is not ready: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func endError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

func (p *process) PID() int                { return p.cmd.Process.Pid }
func (p *process) Exited() <-chan struct{} { return p.exited }
func (p *process) logFile() string         { return filepath.Join(p.dir, p.name+".log") }
func (p *process) removeDir()              { _ = os.RemoveAll(p.dir) } // the system cleans its temporary directory

func (p *process) Log() string {
	text, err := os.ReadFile(p.logFile())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Stop ends the process at once: what happens to connections on SIGTERM is none of a measurement's business.
func (p *process) Stop() error {
	var err error
	select {
	case <-p.exited:
		err = fmt.Errorf("%s had ended: %w\n%s", p.name, endError(p.err), p.Log())
	default:
	}
	p.kill()
	return err
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails if it has ended
	<-p.exited
	if p.onStop != nil {
		p.onStop()
	}
	p.removeDir()
}
