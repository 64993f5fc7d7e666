package identity

import (
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// resyncInterval is how often watched files are read again without any event. Directories that appear
// late, bind mounts and lost events are found this way; reading a few small files costs nothing.
const resyncInterval = 10 * time.Second

// fileWatcher calls functions after files have changed. It watches the directories: Kubernetes replaces
// mounted secrets by swapping a symbolic link beside them, which no watch of the file itself reports.
type fileWatcher struct {
	debounce time.Duration
	log      *slog.Logger
	done     chan struct{}

	mu      sync.Mutex
	inotify *fsnotify.Watcher // nil: not started, or the system refuses (then only resync works)
	started bool
	closed  bool
	dirs    map[string]bool // a set
	calls   []func()
}

func newFileWatcher(debounce time.Duration, log *slog.Logger) *fileWatcher {
	return &fileWatcher{debounce: debounce, log: log, done: make(chan struct{}), dirs: map[string]bool{}}
}

// watch calls fn, on the watcher's goroutine, after any change beside one of the paths, and at each
// resync. fn compares contents itself.
func (w *fileWatcher) watch(paths []string, fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.calls = append(w.calls, fn)
	for _, p := range paths {
		w.dirs[filepath.Dir(p)] = true
	}
	if !w.started {
		w.started = true
		var err error
		if w.inotify, err = fsnotify.NewWatcher(); err != nil {
			w.log.Warn("file changes are found by polling only", "interval", resyncInterval, "error", err)
		}
		go w.run(w.inotify)
	}
	w.addDirs()
}

// addDirs hands all directories to inotify. Adding one again is harmless, and needed when it did not exist
// before or was replaced; an error leaves that directory to the resync.
func (w *fileWatcher) addDirs() {
	if w.inotify == nil || w.closed {
		return
	}
	for dir := range w.dirs {
		_ = w.inotify.Add(dir)
	}
}

func (w *fileWatcher) run(inotify *fsnotify.Watcher) {
	var events chan fsnotify.Event
	var errs chan error
	if inotify != nil {
		defer func() { _ = inotify.Close() }() // nothing can be done about a failing close
		events, errs = inotify.Events, inotify.Errors
	}
	resync := time.NewTicker(resyncInterval)
	defer resync.Stop()
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	for {
		select {
		case <-w.done:
			return
		case _, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			quiet.Reset(w.debounce)
		case err, ok := <-errs:
			if !ok {
				errs = nil
				continue
			}
			w.log.Warn("watching files", "error", err)
			quiet.Reset(w.debounce)
		case <-quiet.C:
			w.callAll()
		case <-resync.C:
			w.callAll()
		}
	}
}

func (w *fileWatcher) callAll() {
	w.mu.Lock()
	w.addDirs()
	calls := w.calls[:len(w.calls):len(w.calls)]
	w.mu.Unlock()
	for _, fn := range calls {
		fn()
	}
}

func (w *fileWatcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.done)
	}
}
