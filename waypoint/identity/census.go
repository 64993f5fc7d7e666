package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// fate is what happens to a field that is set.
type fate struct {
	kind fateKind
	why  string
}

type fateKind int

const (
	honoured fateKind = iota + 1
	inert             // has no effect here that anybody could observe
	reported          // not honoured, harmless: becomes a Note
	refused           // not honoured, and ignoring it could admit or trust somebody: an error
)

// fates decides each field of the TLS messages by its full name without the package. A field that is set
// and not listed is refused: in a TLS context a restriction that nobody knows must not be dropped.
var fates = map[string]fate{
	"Secret.name":               {honoured, ""},
	"Secret.tls_certificate":    {honoured, ""},
	"Secret.validation_context": {honoured, ""},

	"DownstreamTlsContext.common_tls_context":                    {honoured, ""},
	"DownstreamTlsContext.require_client_certificate":            {honoured, ""},
	"DownstreamTlsContext.require_sni":                           {honoured, ""},
	"DownstreamTlsContext.disable_stateful_session_resumption":   {inert, "sessions are never resumed"},
	"DownstreamTlsContext.disable_stateless_session_resumption":  {inert, "sessions are never resumed"},
	"DownstreamTlsContext.session_timeout":                       {inert, "sessions are never resumed"},
	"DownstreamTlsContext.session_ticket_keys":                   {reported, "sessions are never resumed: each connection proves its identity"},
	"DownstreamTlsContext.session_ticket_keys_sds_secret_config": {reported, "sessions are never resumed: each connection proves its identity"},
	"DownstreamTlsContext.ocsp_staple_policy":                    {reported, "OCSP responses are not stapled"},
	"DownstreamTlsContext.full_scan_certs_on_sni_mismatch":       {inert, "all certificates are always looked at"},
	"DownstreamTlsContext.prefer_client_ciphers":                 {reported, "crypto/tls orders cipher suites itself"},

	"UpstreamTlsContext.common_tls_context":      {honoured, ""},
	"UpstreamTlsContext.sni":                     {honoured, ""},
	"UpstreamTlsContext.auto_host_sni":           {honoured, ""},
	"UpstreamTlsContext.auto_sni_san_validation": {honoured, ""},
	"UpstreamTlsContext.allow_renegotiation":     {reported, "renegotiation is never allowed"},
	"UpstreamTlsContext.max_session_keys":        {inert, "sessions are never resumed"},
	"UpstreamTlsContext.enforce_rsa_key_usage":   {reported, "crypto/tls does not look at the key usage of RSA certificates in TLS 1.2"},

	"CommonTlsContext.tls_params":                           {honoured, ""},
	"CommonTlsContext.tls_certificates":                     {honoured, ""},
	"CommonTlsContext.tls_certificate_sds_secret_configs":   {honoured, ""},
	"CommonTlsContext.alpn_protocols":                       {honoured, ""},
	"CommonTlsContext.validation_context":                   {honoured, ""},
	"CommonTlsContext.validation_context_sds_secret_config": {honoured, ""},
	"CommonTlsContext.combined_validation_context":          {honoured, ""},
	"CommonTlsContext.key_log":                              {reported, "session keys are never written out"},
	"CommonTlsContext.custom_handshaker":                    {refused, "no custom handshaker is available"},
	"CommonTlsContext.custom_tls_certificate_selector":      {refused, "no certificate selector is available"},

	"CombinedCertificateValidationContext.default_validation_context":           {honoured, ""},
	"CombinedCertificateValidationContext.validation_context_sds_secret_config": {honoured, ""},

	"SdsSecretConfig.name":       {honoured, ""},
	"SdsSecretConfig.sds_config": {inert, "the name alone decides who answers"},

	"TlsParameters.tls_minimum_protocol_version": {honoured, ""},
	"TlsParameters.tls_maximum_protocol_version": {honoured, ""},
	"TlsParameters.cipher_suites":                {honoured, ""},
	"TlsParameters.ecdh_curves":                  {honoured, ""},
	"TlsParameters.compliance_policies":          {honoured, ""},
	"TlsParameters.signature_algorithms":         {reported, "crypto/tls offers its own list, which has no SHA-1 in TLS 1.3"},

	"TlsCertificate.certificate_chain":            {honoured, ""},
	"TlsCertificate.private_key":                  {honoured, ""},
	"TlsCertificate.private_key_provider":         {honoured, "refused unless fallback is set"},
	"TlsCertificate.pkcs12":                       {honoured, "refused by the parser with a hint"},
	"TlsCertificate.password":                     {honoured, "refused by the parser with a hint"},
	"TlsCertificate.watched_directory":            {reported, "files named by xDS are read once per push"},
	"TlsCertificate.ocsp_staple":                  {reported, "OCSP responses are not stapled"},
	"TlsCertificate.signed_certificate_timestamp": {reported, "not sent"},
	"PrivateKeyProvider.provider_name":            {honoured, ""},
	"PrivateKeyProvider.fallback":                 {honoured, ""},
	"PrivateKeyProvider.typed_config":             {honoured, ""},

	"CertificateValidationContext.trusted_ca":                           {honoured, ""},
	"CertificateValidationContext.system_root_certs":                    {honoured, ""},
	"CertificateValidationContext.match_typed_subject_alt_names":        {honoured, ""},
	"CertificateValidationContext.match_subject_alt_names":              {honoured, ""},
	"CertificateValidationContext.verify_certificate_spki":              {honoured, ""},
	"CertificateValidationContext.verify_certificate_hash":              {honoured, ""},
	"CertificateValidationContext.crl":                                  {honoured, ""},
	"CertificateValidationContext.only_verify_leaf_cert_crl":            {honoured, ""},
	"CertificateValidationContext.max_verify_depth":                     {honoured, ""},
	"CertificateValidationContext.suppress_client_ca_list":              {inert, "the list of acceptable CAs is never sent"},
	"CertificateValidationContext.allow_expired_certificate":            {reported, "expired certificates are refused all the same"},
	"CertificateValidationContext.watched_directory":                    {reported, "files named by xDS are read once per push"},
	"CertificateValidationContext.trust_chain_verification":             {refused, "only VERIFY_TRUST_CHAIN: peers with an unverified chain are never accepted"},
	"CertificateValidationContext.require_signed_certificate_timestamp": {refused, "certificate transparency is not checked"},
	"CertificateValidationContext.custom_validator_config":              {refused, "no custom certificate validator is available"},
	"SubjectAltNameMatcher.san_type":                                    {honoured, ""},
	"SubjectAltNameMatcher.matcher":                                     {honoured, ""},
	"SubjectAltNameMatcher.oid":                                         {refused, "OTHER_NAME cannot be matched"},
}

// opaque names messages whose own parser decides about their fields.
var opaque = map[string]bool{
	"sds_config": true, "typed_config": true, "matcher": true, "match_subject_alt_names": true,
	"key_log": true, "session_ticket_keys": true, "session_ticket_keys_sds_secret_config": true,
}

// census walks every field that is set in a TLS message. It returns notes for those not honoured and an
// error that joins a [FieldError] for each one that must not be ignored.
func census(m proto.Message) ([]Note, error) {
	var notes []Note
	var errs []error
	walkFields(m.ProtoReflect(), "", func(path string, f fate) {
		switch f.kind {
		case honoured, inert:
		case reported:
			notes = append(notes, Note{Path: path, Why: f.why})
		case refused:
			errs = append(errs, fieldErrorf(path, "%s", f.why))
		default:
			errs = append(errs, fieldErrorf(path, "this field is not known here, and a TLS context is not applied in part"))
		}
	})
	slices.SortFunc(notes, func(a, b Note) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return notes, errors.Join(errs...)
}

func walkFields(m protoreflect.Message, prefix string, visit func(path string, f fate)) {
	if len(m.GetUnknown()) > 0 {
		visit(prefix+"(unknown fields)", fate{refused, "fields of a newer API version are set"})
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		path := prefix + string(fd.Name())
		visit(path, fates[string(fd.ContainingMessage().Name())+"."+string(fd.Name())])
		if fd.Message() == nil || opaque[string(fd.Name())] ||
			!strings.HasPrefix(string(fd.Message().FullName()), "envoy.extensions.transport_sockets.tls.") {
			return true
		}
		if fd.IsList() {
			for i := range v.List().Len() {
				walkFields(v.List().Get(i).Message(), fmt.Sprintf("%s[%d].", path, i), visit)
			}
			return true
		}
		walkFields(v.Message(), path+".", visit)
		return true
	})
}
