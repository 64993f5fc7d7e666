package lab

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestProgramsFolder(t *testing.T) {
	temp := t.TempDir()
	left := filepath.Join(temp, programsPrefix+"1") // of a run that was killed
	if err := os.MkdirAll(filepath.Join(left, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	first, err := programsFolder(temp)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was left is still there: %v", err)
	}
	second, err := programsFolder(temp) // while the first one runs
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*folder{first, second} {
		if _, err := os.Stat(f.dir); err != nil {
			t.Error(err)
		}
		if err := f.remove(); err != nil {
			t.Error(err)
		}
	}
}
