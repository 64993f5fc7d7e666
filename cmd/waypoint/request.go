package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// requestPorts are those that pilot-agent allows.
var requestPorts = map[int]bool{15000: true, 15020: true, 15021: true, 15004: true}

func requestCommand() *cobra.Command {
	var port int
	c := &cobra.Command{
		Use:   "request METHOD PATH [BODY]",
		Short: "Make an HTTP request to the waypoint's admin port",
		Args:  cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !requestPorts[port] {
				return fmt.Errorf("debug port %d is not allowed; use 15000, 15020, 15021 or 15004", port)
			}
			body := ""
			if len(args) == 3 {
				body = args[2]
			}
			return request(cmd.Context(), cmd.OutOrStdout(), fmt.Sprintf("http://localhost:%d", port), args[0], args[1], body)
		},
	}
	c.Flags().IntVar(&port, "debug-port", 15000, "the port to ask")
	return c
}

// requestTimeout is pilot-agent's.
const requestTimeout = 60 * time.Second

// request prints what base+path answers. A status above 399 is an error, save 404, as with pilot-agent.
func request(ctx context.Context, out io.Writer, base, method, path, body string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, strings.ToUpper(method), base+"/"+strings.TrimPrefix(path, "/"), strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("command failed: is the waypoint running here? %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode > 399 && resp.StatusCode != http.StatusNotFound {
		return fmt.Errorf("received unsuccessful status code %v: %v", resp.StatusCode, string(b))
	}
	_, err = fmt.Fprintln(out, string(b))
	return err
}
