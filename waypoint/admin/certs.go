package admin

import (
	"crypto/x509"
	"net/http"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// certsPage answers /certs: envoy.admin.v3.Certificates with an entry per secret. (Envoy has one per TLS context, with chain and
// roots together; here several contexts share a secret.)
func (s *Server) certsPage(w http.ResponseWriter, _ *http.Request) {
	out := &adminv3.Certificates{}
	for _, sec := range s.src.Secrets() {
		if len(sec.Chain)+len(sec.Anchors) == 0 {
			continue
		}
		out.Certificates = append(out.Certificates, &adminv3.Certificate{
			CaCert: certificateDetails(sec.Name, sec.Anchors), CertChain: certificateDetails(sec.Name, sec.Chain),
		})
	}
	s.writeJSON(w, out)
}

func certificateDetails(name string, certs []*x509.Certificate) []*adminv3.CertificateDetails {
	var out []*adminv3.CertificateDetails
	for _, c := range certs {
		d := &adminv3.CertificateDetails{
			// Envoy writes the file here, or "<inline>"; the secret's name says more.
			Path: name, SerialNumber: c.SerialNumber.Text(16),
			ValidFrom: timestamppb.New(c.NotBefore), ExpirationTime: timestamppb.New(c.NotAfter),
		}
		if left := time.Until(c.NotAfter); left > 0 {
			d.DaysUntilExpiration = uint64(left / (24 * time.Hour))
		}
		for _, u := range c.URIs {
			d.SubjectAltNames = append(d.SubjectAltNames, &adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_Uri{Uri: u.String()}})
		}
		for _, n := range c.DNSNames {
			d.SubjectAltNames = append(d.SubjectAltNames, &adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_Dns{Dns: n}})
		}
		for _, ip := range c.IPAddresses {
			d.SubjectAltNames = append(d.SubjectAltNames, &adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_IpAddress{IpAddress: ip.String()}})
		}
		out = append(out, d)
	}
	return out
}
