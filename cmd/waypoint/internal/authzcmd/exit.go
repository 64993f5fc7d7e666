package authzcmd

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Exit codes of all verbs.
const (
	exitOK     = 0
	exitDenied = 1 // denied, a failed case, a difference, a finding
	exitError  = 2 // nothing could be said
)

// exit ends the command with a code after it has said all there is to say.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// ExitCode is the code that the process ends with.
func (e exit) ExitCode() int { return int(e) }

// Owns tells whether a command is one of this package, of which errors end with code 2: also those that cobra finds in flags.
func Owns(c *cobra.Command) bool {
	for ; c != nil; c = c.Parent() {
		if c.Name() == "authz" && c.HasParent() && !c.Parent().HasParent() {
			return true
		}
	}
	return false
}
