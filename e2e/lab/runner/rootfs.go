package runner

import (
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"golang.org/x/sys/unix"
)

// Image says what stands in for a container image on this machine.
type Image struct {
	// Files maps absolute paths inside the image to files of this machine.
	// They are the only ones in it, so programs must be static binaries.
	Files map[string]string
	// Entrypoint and Env are as in an image's config; the pod's command and
	// env come on top. The first word of the entrypoint is an absolute path.
	Entrypoint []string
	Env        []string
}

// defaultPath is what images usually set.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// devices are bound from the machine into each root folder.
var devices = []string{"null", "zero", "full", "random", "urandom"}

// mountRoot builds the root folder of a container at dir: image files, /dev,
// /proc, name resolution, and the pod's volumes where the container wants
// them. Undo with unmountRoot.
func mountRoot(dir string, image Image, c *corev1.Container, volumes map[string]string, hosts string) error {
	// First everything that is a plain file or a place to mount something
	// on: after the remount below nothing can be added.
	targets := map[string]string{} // absolute path inside -> source
	for inside, source := range image.Files {
		targets[inside] = source
	}
	for _, d := range devices {
		targets["/dev/"+d] = "/dev/" + d
	}
	for inside := range targets {
		if err := touch(filepath.Join(dir, inside)); err != nil {
			return err
		}
	}
	targets["/proc"] = "/proc"
	for _, m := range c.VolumeMounts {
		source, ok := volumes[m.Name]
		if !ok || m.SubPathExpr != "" {
			return fmt.Errorf("volumeMount %q: no such volume, or one that the pod runner does not know", m.Name)
		}
		targets[m.MountPath] = filepath.Join(source, m.SubPath)
	}
	for _, d := range append(mountPaths(c), "/proc", "/etc", "/tmp") {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky); err != nil {
		return err
	}
	for name, target := range map[string]string{"stdin": "0", "stdout": "1", "stderr": "2"} {
		if err := os.Symlink("/proc/self/fd/"+target, filepath.Join(dir, "dev", name)); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"hosts":       "127.0.0.1 localhost\n" + hosts,
		"resolv.conf": "", // nobody answers DNS here; the hosts file has all there is
		"passwd":      "root:x:0:0:root:/:/bin/false\nistio-proxy:x:1337:1337:istio-proxy:/:/bin/false\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o644); err != nil {
			return err
		}
	}

	if err := bind(dir, dir, 0); err != nil {
		return err
	}
	if s := c.SecurityContext; s != nil && s.ReadOnlyRootFilesystem != nil && *s.ReadOnlyRootFilesystem {
		if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("making %s read-only: %w", dir, err)
		}
	}
	for inside, source := range targets {
		if err := bind(source, filepath.Join(dir, inside), 0); err != nil {
			return err
		}
	}
	return nil
}

// unmountRoot takes away what mountRoot made. The mounts go as one tree, also
// when a process still has files open in it.
func unmountRoot(dir string) error {
	err := unix.Unmount(dir, unix.MNT_DETACH)
	if err != nil && err != unix.EINVAL && err != unix.ENOENT { // not mounted, not even made
		return fmt.Errorf("unmounting %s: %w", dir, err)
	}
	return os.RemoveAll(dir)
}

func bind(source, target string, flags uintptr) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|flags, ""); err != nil {
		return fmt.Errorf("binding %s to %s: %w", source, target, err)
	}
	return nil
}

func touch(name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	return f.Close()
}

func mountPaths(c *corev1.Container) []string {
	paths := make([]string, 0, len(c.VolumeMounts))
	for _, m := range c.VolumeMounts {
		paths = append(paths, m.MountPath)
	}
	return paths
}
