package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// programsPrefix begins the names of the folders that [Main] builds into. They
// are all that a lab puts outside of its namespaces and its cache.
const programsPrefix = "gowaypoint-lab-"

// folder is one of them. As long as its owner lives, it is locked.
type folder struct {
	dir  string
	lock *os.File
}

// programsFolder makes a folder in temp, and takes away those whose owners were
// killed before they could.
func programsFolder(temp string) (*folder, error) {
	left, err := filepath.Glob(filepath.Join(temp, programsPrefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, dir := range left {
		old, err := lockFolder(dir)
		if err != nil {
			continue // its owner lives, or has just removed it
		}
		if err := old.remove(); err != nil {
			return nil, fmt.Errorf("removing what an earlier run has left: %w", err)
		}
	}
	for {
		dir, err := os.MkdirTemp(temp, programsPrefix)
		if err != nil {
			return nil, err
		}
		// A lab that starts right now may have taken it for a leftover. Once
		// it is locked, and there, it is ours.
		if made, err := lockFolder(dir); err == nil {
			if _, err := os.Stat(dir); err == nil {
				return made, nil
			}
			_ = made.remove() // it is gone
		}
	}
}

func lockFolder(dir string) (*folder, error) {
	lock, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &folder{dir, lock}, nil
}

func (f *folder) remove() error {
	return errors.Join(os.RemoveAll(f.dir), f.lock.Close())
}
