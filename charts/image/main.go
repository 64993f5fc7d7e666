package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"
)

// systemCA is where Debian, Alpine and their derivatives keep the CA bundle; the image has it at the same place, where Go looks first.
const systemCA = "/etc/ssl/certs/ca-certificates.crt"

func main() {
	if err := run(os.Args[1:], os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string, epoch string) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	binary := flags.String("binary", "", "static Linux binary that becomes /usr/local/bin/pilot-agent and /usr/local/bin/waypoint")
	tag := flags.String("tag", "", "name of the image with its tag, e.g. registry.example/gowaypoint/waypoint:0.1.0")
	out := flags.String("out", "", "tarball to write")
	platform := flags.String("platform", "", "linux/amd64 or linux/arm64, to be sure that the binary is for it; empty takes what the binary is for")
	ca := flags.String("ca", systemCA, "CA bundle for servers outside the mesh; empty for none")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	for name, value := range map[string]string{"binary": *binary, "tag": *tag, "out": *out} {
		if value == "" {
			return fmt.Errorf("-%s is needed; see -help", name)
		}
	}
	o := options{tag: *tag, platform: *platform}
	if epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil || seconds < 0 {
			return fmt.Errorf("SOURCE_DATE_EPOCH is %q: want seconds since 1970", epoch)
		}
		o.created = time.Unix(seconds, 0)
	} else {
		o.created = time.Unix(0, 0)
	}
	var err error
	if o.binary, err = os.ReadFile(*binary); err != nil {
		return err
	}
	if *ca != "" {
		o.ca, err = os.ReadFile(*ca)
		switch {
		case errors.Is(err, fs.ErrNotExist) && *ca == systemCA:
			fmt.Fprintf(os.Stderr, "image: there is no %s here: the image has no CA bundle, and XDS_ROOT_CA=SYSTEM will trust nobody\n", systemCA)
		case err != nil:
			return err
		}
	}
	tarball, err := build(o)
	if err != nil {
		return err
	}
	return os.WriteFile(*out, tarball, 0o644) //nolint:gosec // an image is no secret
}
