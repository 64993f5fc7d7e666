package main

import (
	"io"
	"log/slog"
	"strings"
)

// newLogger writes text, or JSON for --log_as_json, to w.
func newLogger(w io.Writer, asJSON bool, level *slog.LevelVar) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if asJSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// logLevel reads --log_output_level: "scope:level,…", of which the default scope's counts ("default" or "all", or a level alone).
func logLevel(s string) slog.Level {
	level := slog.LevelInfo // Istio's default
	for _, item := range strings.Split(s, ",") {
		scope, name, ok := strings.Cut(item, ":")
		if !ok {
			scope, name = "default", item
		}
		if scope != "default" && scope != "all" {
			continue
		}
		switch name {
		case "debug":
			level = slog.LevelDebug
		case "info":
			level = slog.LevelInfo
		case "warn":
			level = slog.LevelWarn
		case "error", "fatal":
			level = slog.LevelError
		case "none":
			level = slog.LevelError + 100
		}
	}
	return level
}
