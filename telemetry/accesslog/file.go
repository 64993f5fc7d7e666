package accesslog

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// FileOptions configure [NewFiles]. The zero value is usable.
type FileOptions struct {
	// Buffer bounds the bytes that wait for one file. Default 4 MiB: some seconds of a busy proxy at 400 bytes a line,
	// and little beside its memory.
	Buffer int
	// FlushInterval is how long a line may wait. Default 1 s: people follow logs with their eyes.
	FlushInterval time.Duration
	// Stdout and Stderr stand for /dev/stdout and /dev/stderr. Default: those of the process, which are used as they are
	// rather than opened anew, since opening /dev/stdout fails when it is a socket.
	Stdout, Stderr io.Writer
}

// Files is the set of log files of a process, one per path, whatever number of configurations write to it. A file stays
// open until Close: configurations come and go, and their lines with them.
type Files struct {
	opts    FileOptions
	mu      sync.Mutex
	open    map[string]*File
	closed  bool
	dropped atomic.Uint64
	failed  atomic.Uint64
}

// NewFiles returns an empty set.
func NewFiles(o FileOptions) *Files {
	if o.Buffer <= 0 {
		o.Buffer = 4 << 20
	}
	if o.FlushInterval <= 0 {
		o.FlushInterval = time.Second
	}
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	return &Files{opts: o, open: map[string]*File{}}
}

// Dropped counts the lines that were lost because a file's buffer was full.
func (f *Files) Dropped() uint64 { return f.dropped.Load() }

// WriteErrors counts the writes that failed.
func (f *Files) WriteErrors() uint64 { return f.failed.Load() }

// Open returns the file of that path, opened for appending at the first call.
func (f *Files) Open(path string) (*File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, fmt.Errorf("%s: log files are closed", path)
	}
	if file := f.open[path]; file != nil {
		return file, nil
	}
	file := &File{set: f, path: path, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	if err := file.reopen(); err != nil {
		return nil, err
	}
	f.open[path] = file
	go file.run()
	return file, nil
}

// Stdout returns a writer to /dev/stdout for whoever has whole lines to write, one in each Write. It never waits: a line that
// there is no room for is dropped and counted. The file is opened at the first line.
func (f *Files) Stdout() io.Writer { return stdout{f} }

type stdout struct{ set *Files }

func (s stdout) Write(line []byte) (int, error) {
	file, err := s.set.Open("/dev/stdout")
	if err != nil {
		return 0, err
	}
	file.write(line)
	return len(line), nil
}

// Reopen opens every file anew, after logrotate has moved it away (admin POST /reopen_logs).
func (f *Files) Reopen() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, file := range f.open {
		if err := file.reopen(); err != nil {
			return err
		}
	}
	return nil
}

// Close writes what is buffered and closes the files. Lines that come later are dropped and counted.
func (f *Files) Close() {
	f.mu.Lock()
	f.closed = true
	files := f.open
	f.open = map[string]*File{}
	f.mu.Unlock()
	for _, file := range files {
		close(file.quit)
		<-file.done
	}
}

// File is one log file.
type File struct {
	set  *Files
	path string

	mu     sync.Mutex
	buf    []byte // what waits
	closed bool

	outMu sync.Mutex // held while writing; never together with mu
	out   io.Writer
	own   *os.File // to be closed; nil for stdout and stderr

	wake       chan struct{}
	quit, done chan struct{}
}

// write takes a line over. It copies and returns.
func (f *File) write(line []byte) {
	f.mu.Lock()
	if f.closed || len(f.buf)+len(line) > f.set.opts.Buffer {
		f.mu.Unlock()
		f.set.dropped.Add(1)
		return
	}
	f.buf = append(f.buf, line...)
	half := len(f.buf) > f.set.opts.Buffer/2 || len(f.buf) > 64<<10
	f.mu.Unlock()
	if half {
		select {
		case f.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// run is the file's own goroutine: the only one that waits for the disk.
func (f *File) run() {
	defer close(f.done)
	tick := time.NewTicker(f.set.opts.FlushInterval)
	defer tick.Stop()
	var spare []byte
	for {
		select {
		case <-tick.C:
		case <-f.wake:
		case <-f.quit:
			f.mu.Lock()
			f.closed = true
			f.mu.Unlock()
			f.flush(spare)
			f.outMu.Lock()
			if f.own != nil {
				_ = f.own.Close() // all is written; there is nobody to tell
			}
			f.outMu.Unlock()
			return
		}
		spare = f.flush(spare)
	}
}

// flush swaps the buffers and writes the full one. It returns a buffer to be used next time.
func (f *File) flush(spare []byte) []byte {
	f.mu.Lock()
	full := f.buf
	f.buf = spare[:0]
	f.mu.Unlock()
	if len(full) > 0 {
		f.outMu.Lock()
		if _, err := f.out.Write(full); err != nil {
			f.set.failed.Add(1) // a full disk: the lines are lost, the proxy goes on
		}
		f.outMu.Unlock()
	}
	if cap(full) > 1<<20 {
		return nil // after a burst, give the memory back
	}
	return full
}

func (f *File) reopen() error {
	f.outMu.Lock()
	defer f.outMu.Unlock()
	switch f.path {
	case "/dev/stdout":
		f.out = f.set.opts.Stdout
		return nil
	case "/dev/stderr":
		f.out = f.set.opts.Stderr
		return nil
	}
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if f.own != nil {
		_ = f.own.Close() // the old one has been moved away
	}
	f.own, f.out = file, file
	return nil
}
