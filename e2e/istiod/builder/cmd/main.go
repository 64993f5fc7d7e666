// Command cmd answers a list of builder.Request in JSON, given on its standard input, with a list of builder.Response on its
// standard output: it is how a test asks a line of Istio that cannot be linked beside another.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/gowaypoint/gowaypoint/e2e/istiod/builder"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var requests []*builder.Request
	if err := json.NewDecoder(os.Stdin).Decode(&requests); err != nil {
		return err
	}
	responses, err := builder.BuildAll(requests)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(responses)
}
