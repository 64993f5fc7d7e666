package rbac

import (
	"errors"
	"fmt"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/rbac/audit_loggers/stream/v3"

	"github.com/gowaypoint/gowaypoint/authz"
)

// Audit is the audit_logging_options of a set of rules: which decisions to write down, and where. This package writes
// nothing. Envoy 1.40 ignores the field, even a logger that it does not know; gRPC honours it.
type Audit struct {
	// OnDeny and OnAllow are audit_condition.
	OnDeny, OnAllow bool
	// Stdout asks for a line on standard output: logger envoy.extensions.rbac.audit_loggers.stream.v3.StdoutAuditLog.
	Stdout bool
	// Unknown are the types of loggers that are optional and that this build does not have; to be reported.
	Unknown []string
}

// AuditOf returns the audit options of rules, nil if there are none. A logger that is unknown and not optional is an error
// that names it.
func AuditOf(rules *rbacv3.RBAC) (*Audit, error) {
	a, err := audit(rules.GetAuditLoggingOptions())
	return a, at("audit_logging_options", err)
}

// Wants reports whether a decision is to be written down. A nil Audit wants none.
func (a *Audit) Wants(d authz.Decision) bool {
	if a == nil {
		return false
	}
	if d.Allowed {
		return a.OnAllow
	}
	return a.OnDeny
}

func audit(options *rbacv3.RBAC_AuditLoggingOptions) (*Audit, error) {
	if options == nil {
		return nil, nil
	}
	a := &Audit{}
	switch options.GetAuditCondition() {
	case rbacv3.RBAC_AuditLoggingOptions_NONE:
	case rbacv3.RBAC_AuditLoggingOptions_ON_DENY:
		a.OnDeny = true
	case rbacv3.RBAC_AuditLoggingOptions_ON_ALLOW:
		a.OnAllow = true
	case rbacv3.RBAC_AuditLoggingOptions_ON_DENY_AND_ALLOW:
		a.OnDeny, a.OnAllow = true, true
	default:
		return nil, at("audit_condition", fmt.Errorf("unknown value %d", options.GetAuditCondition()))
	}
	for i, logger := range options.GetLoggerConfigs() {
		field := fmt.Sprintf("logger_configs[%d].audit_logger", i)
		config := logger.GetAuditLogger().GetTypedConfig()
		var stdout streamv3.StdoutAuditLog
		switch {
		case config == nil:
			return nil, at(field, errors.New("not set"))
		case config.MessageIs(&stdout):
			if err := unpack(config, &stdout); err != nil {
				return nil, at(field, err)
			}
			a.Stdout = true
		case logger.GetIsOptional():
			a.Unknown = append(a.Unknown, config.GetTypeUrl())
		default:
			return nil, at(field, unknownExtension(config))
		}
	}
	return a, nil
}
