package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func waitCommand() *cobra.Command {
	var timeout, period, requestMillis int
	var url string
	c := &cobra.Command{
		Use:   "wait",
		Short: "Wait until the waypoint is ready",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Duration(timeout)*time.Second)
			defer cancel()
			client := &http.Client{Timeout: time.Duration(requestMillis) * time.Millisecond}
			return wait(ctx, client, url, time.Duration(period)*time.Millisecond)
		},
	}
	// pilot-agent's flags and defaults.
	c.Flags().IntVar(&timeout, "timeoutSeconds", 60, "how long to wait")
	c.Flags().IntVar(&requestMillis, "requestTimeoutMillis", 500, "how long one request may take")
	c.Flags().IntVar(&period, "periodMillis", 500, "how often to ask")
	c.Flags().StringVar(&url, "url", "http://localhost:15021/healthz/ready", "what to ask")
	return c
}

func wait(ctx context.Context, client *http.Client, url string, period time.Duration) error {
	var last string
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		switch {
		case err != nil:
			if ctx.Err() == nil { // else the time is up, and what was heard before says more
				last = err.Error()
			}
		case resp.StatusCode == http.StatusOK:
			_ = resp.Body.Close()
			return nil
		default:
			last = resp.Status
			_ = resp.Body.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the waypoint is not ready: %s", last)
		case <-time.After(period):
		}
	}
}
