// Package consoletest runs the examples of a Markdown file, and compares what they print.
//
// A fenced block with a file name after its language is a file, which the examples after it can read:
//
//	```yaml policies/cart.yaml
//	apiVersion: …
//	```
//
// A block of language console holds commands and what they print, standard output and standard error as they come:
//
//	```console
//	$ waypoint authz check -f policies/ --path /cart
//	ALLOW: …
//	$ echo $?
//	0
//	```
//
// Commands are run in the test's process, with the quoting of a shell but without its other powers: `cat <file> |` before a
// command is its standard input, and `echo $?` the exit code of the command before. A command without `echo $?` after it has to
// end with 0 or 1, which are verdicts. All blocks of a file share one directory.
package consoletest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Main runs the program with arguments (without its name), and returns its exit code.
type Main func(args []string, stdin io.Reader, stdout, stderr io.Writer) int

// Run runs the examples of a file, in a directory of their own. With update it rewrites the file with what they print.
func Run(t *testing.T, file, program string, main Main, update bool) {
	t.Helper()
	file, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	r := &runner{program: program, main: main}
	got, err := r.markdown(string(raw))
	if err != nil {
		t.Fatalf("%s: %v", filepath.Base(file), err)
	}
	switch {
	case got == string(raw):
	case update:
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s: the examples print something else; run with -update to see\n%s", filepath.Base(file), firstDifference(got, string(raw)))
	}
}

// firstDifference shows where two texts part.
func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d:\n got: %s\nwant: %s", i+1, strings.Join(a[i:min(i+8, len(a))], "\n      "), strings.Join(b[i:min(i+8, len(b))], "\n      "))
		}
	}
	return "one is longer than the other"
}

type runner struct {
	program string
	main    Main
	code    int
	unread  string // command of which the exit code has not been looked at
}

// markdown returns the text with what the commands print in place of what was there.
func (r *runner) markdown(text string) (string, error) {
	var out, block strings.Builder
	fence, info := "", ""
	for i, line := range strings.SplitAfter(text, "\n") {
		mark, rest, isFence := cutFence(line)
		switch {
		case fence == "" && isFence:
			fence, info = mark, rest
			out.WriteString(line)
		case fence != "" && isFence && rest == "" && mark == fence:
			body, err := r.block(info, block.String())
			if err != nil {
				return "", fmt.Errorf("block before line %d: %w", i+1, err)
			}
			out.WriteString(body + line)
			block.Reset()
			fence = ""
		case fence != "":
			block.WriteString(line)
		default:
			out.WriteString(line)
		}
	}
	if fence != "" {
		return "", errors.New("a block does not end")
	}
	return out.String(), r.settle()
}

func cutFence(line string) (mark, info string, ok bool) {
	for _, mark := range []string{"````", "```"} {
		if rest, found := strings.CutPrefix(line, mark); found {
			return mark, strings.TrimSpace(rest), true
		}
	}
	return "", "", false
}

func (r *runner) block(info, body string) (string, error) {
	language, name, named := strings.Cut(info, " ")
	switch {
	case language == "console":
		return r.console(body)
	case named:
		if !filepath.IsLocal(name) {
			return "", fmt.Errorf("file name %q leads elsewhere", name)
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return "", err
		}
		return body, os.WriteFile(name, []byte(body), 0o600)
	}
	return body, nil
}

// console runs the commands of a block.
func (r *runner) console(body string) (string, error) {
	var out strings.Builder
	lines := strings.SplitAfter(body, "\n")
	for i := 0; i < len(lines); i++ {
		command, ok := strings.CutPrefix(lines[i], "$ ")
		if !ok {
			continue // what was printed before
		}
		out.WriteString(lines[i])
		for strings.HasSuffix(command, "\\\n") && i+1 < len(lines) {
			i++
			out.WriteString(lines[i])
			command = strings.TrimSuffix(command, "\\\n") + lines[i]
		}
		printed, err := r.run(strings.TrimSpace(command))
		if err != nil {
			return "", fmt.Errorf("%s: %w", strings.TrimSpace(command), err)
		}
		if printed != "" && !strings.HasSuffix(printed, "\n") {
			printed += "\n"
		}
		out.WriteString(printed)
	}
	return out.String(), nil
}

// settle wants the exit code of the last command to be a verdict, if nobody looked at it.
func (r *runner) settle() error {
	if r.unread != "" && r.code > 1 {
		return fmt.Errorf("%s: exit code %d; write `$ echo $?` after it if that is meant", r.unread, r.code)
	}
	r.unread = ""
	return nil
}

func (r *runner) run(command string) (string, error) {
	if command == "echo $?" {
		r.unread = ""
		return fmt.Sprintln(r.code), nil
	}
	if err := r.settle(); err != nil {
		return "", err
	}
	words, err := split(command)
	if err != nil {
		return "", err
	}
	var stdin io.Reader = strings.NewReader("")
	if len(words) > 3 && words[0] == "cat" && words[2] == "|" {
		data, err := os.ReadFile(words[1])
		if err != nil {
			return "", err
		}
		stdin, words = bytes.NewReader(data), words[3:]
	}
	if len(words) == 0 || words[0] != r.program {
		return "", fmt.Errorf("not a command that can be run here; %s, `cat … | %s` and `echo $?` are", r.program, r.program)
	}
	var into string
	if n := len(words); n > 2 && words[n-2] == ">" {
		into, words = words[n-1], words[:n-2]
	}
	var out, file bytes.Buffer
	stdout := io.Writer(&out)
	if into != "" {
		stdout = &file
	}
	r.code, r.unread = r.main(words[1:], stdin, stdout, &out), command
	if into != "" {
		if err := os.WriteFile(into, file.Bytes(), 0o600); err != nil {
			return "", err
		}
	}
	return out.String(), nil
}

// split takes a command line apart as a shell does, as far as quotes go.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote := false, rune(0)
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case c == ' ' || c == '\t' || c == '\n':
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteRune(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote does not end")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
