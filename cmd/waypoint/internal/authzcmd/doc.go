// Package authzcmd is the command waypoint authz: the policy library for people. One file per verb; what all of them share is
// the input (input.go) and the exit codes (exit.go).
//
// Verdicts and findings go to standard output; notes and errors to standard error. What is wrong with the input is told all at
// once, with file, line and field.
package authzcmd
