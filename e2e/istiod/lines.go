package istiod

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/e2e/istiod/builder"
)

// Line is a line of Istio.
type Line struct {
	Name string
	// Version selects it in authz/istio.
	Version istio.Version
	// modfile holds its requirements and tag is its build constraint; both are empty for the line that is linked here.
	modfile, tag string
}

// Lines are those that are compared.
var Lines = []Line{
	{Name: "master", Version: istio.V132},
	{Name: "1.27", Version: istio.V127, modfile: "istio-1.27.mod", tag: "istio127"},
	{Name: "1.24", Version: istio.V124, modfile: "istio-1.24.mod", tag: "istio124"},
}

// Ask has the line's istiod answer requests, in one go.
func (l Line) Ask(ctx context.Context, requests ...*builder.Request) ([]*builder.Response, error) {
	if l.modfile == "" {
		return builder.BuildAll(requests)
	}
	in, err := json.Marshal(requests)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "run", "-modfile="+l.modfile, "-tags="+l.tag, "./builder/cmd") //nolint:gosec // fixed arguments
	// The pins alone decide what is built: flags and workspaces of the caller do not.
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	cmd.Stdin = bytes.NewReader(in)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("istiod %s: %w\n%s", l.Name, err, log.Bytes())
	}
	var responses []*builder.Response
	return responses, json.Unmarshal(out.Bytes(), &responses)
}
