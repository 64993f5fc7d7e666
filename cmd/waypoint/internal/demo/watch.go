package demo

import (
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"
)

// quiet is how long no file may have changed before the manifests are read: editors write in several steps.
const quiet = 100 * time.Millisecond

// watch tells changed when a manifest of a directory has changed.
func watch(dir string, changed chan<- struct{}) (stop func(), err error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watching %s: %w", dir, err)
	}
	if err := w.Add(dir); err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("watching %s: %w", dir, err)
	}
	go func() {
		var timer <-chan time.Time
		for {
			select {
			case e, ok := <-w.Events:
				if !ok {
					return
				}
				// A mounted ConfigMap changes by a symbolic link that is no manifest by its name.
				if manifests.IsManifest(e.Name) || e.Has(fsnotify.Create|fsnotify.Rename) {
					timer = time.After(quiet)
				}
			case _, ok := <-w.Errors:
				if !ok {
					return
				}
				timer = time.After(quiet) // events may be lost: look
			case <-timer:
				timer = nil
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		}
	}()
	return func() { _ = w.Close() }, nil
}
