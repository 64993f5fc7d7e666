package admin

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
)

// logLevel is a level by Envoy's name.
type logLevel struct {
	name string
	slog slog.Level
}

// logLevels are Envoy's, finest first, on slog's scale, which has room between its own four.
var logLevels = []logLevel{
	{"trace", slog.LevelDebug - 4}, {"debug", slog.LevelDebug}, {"info", slog.LevelInfo}, {"warning", slog.LevelWarn},
	{"error", slog.LevelError}, {"critical", slog.LevelError + 4}, {"off", math.MaxInt32},
}

// loggerNames are Envoy's loggers. istioctl looks a name up in the list before it sets its level.
var loggerNames = strings.Fields(`admin alternate_protocols_cache assert aws backtrace basic_auth cache_filter client compression
config conn_handler connection credential_injector decompression dns dynamic_forward_proxy envoy_bug ext_authz ext_proc file filter
forward_proxy geolocation golang grpc happy_eyeballs hc health_checker http http2 hystrix init io jwt kafka key_value_store lua main
matcher misc mongo multi_connection oauth2 pool quic quic_stream rate_limit_quota rbac rds redis rocketmq router runtime secret stats
tap tcp testing thrift tracing udp upstream wasm websocket`)

// mainLogger stands for all in /server_info.
const mainLogger = "main"

// loggers are the levels by logger. This program's log is not divided like Envoy's: a line appears if any logger's level lets it.
// So to set one logger to debug shows what it has to say, and what the others have as well; the levels that are shown are those
// that were set.
type loggers struct {
	mu     sync.Mutex
	out    *slog.LevelVar
	levels map[string]logLevel
}

func newLoggers(out *slog.LevelVar) *loggers {
	l := &loggers{out: out, levels: make(map[string]logLevel, len(loggerNames))}
	at := logLevels[len(logLevels)-1]
	for _, level := range slices.Backward(logLevels) {
		if level.slog >= out.Level() {
			at = level
		}
	}
	for _, name := range loggerNames {
		l.levels[name] = at
	}
	return l
}

// setting is one change; an empty logger means all of them.
type setting struct{ logger, level string }

// set makes the changes, all of them or none.
func (l *loggers) set(changes []setting) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	levels := make([]logLevel, len(changes))
	for i, c := range changes {
		level, err := levelByName(c.level)
		if err != nil {
			return err
		}
		if _, known := l.levels[c.logger]; !known && c.logger != "" {
			return fmt.Errorf("unknown logger %q", c.logger)
		}
		levels[i] = level
	}
	for i, c := range changes {
		if c.logger != "" {
			l.levels[c.logger] = levels[i]
			continue
		}
		for name := range l.levels {
			l.levels[name] = levels[i]
		}
	}
	if len(changes) > 0 {
		finest := logLevels[len(logLevels)-1].slog
		for _, level := range l.levels {
			finest = min(finest, level.slog)
		}
		l.out.Set(finest)
	}
	return nil
}

func (l *loggers) level(logger string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.levels[logger].name
}

// String lists the levels as POST /logging answers.
func (l *loggers) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	b.WriteString("active loggers:\n")
	for _, name := range loggerNames {
		b.WriteString("  " + name + ": " + l.levels[name].name + "\n")
	}
	b.WriteString("\n")
	return b.String()
}

func levelByName(name string) (logLevel, error) {
	if name == "warn" {
		name = "warning" // Istio's spelling
	}
	for _, l := range logLevels {
		if l.name == name {
			return l, nil
		}
	}
	return logLevel{}, fmt.Errorf("unknown level %q", name)
}
