package runner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// checkProbe refuses what tryProbe cannot do.
func checkProbe(p *corev1.Probe) error {
	if p == nil || p.TCPSocket != nil {
		return nil
	}
	if p.HTTPGet == nil || p.HTTPGet.Scheme == corev1.URISchemeHTTPS || p.HTTPGet.Host != "" {
		return errors.New("only plain httpGet and tcpSocket probes are known to the pod runner")
	}
	return nil
}

// watchProbe runs the probe every period until ctx ends, and calls changed
// whenever the verdict turns: healthy after successThreshold successes in a
// row, unhealthy after failureThreshold failures. It starts without a verdict.
func watchProbe(ctx context.Context, p *corev1.Probe, ip string, c *corev1.Container, changed func(healthy bool, err error)) {
	if !sleep(ctx, time.Duration(p.InitialDelaySeconds)*time.Second) {
		return
	}
	var successes, failures int32
	for {
		if err := tryProbe(ctx, p, ip, c); err == nil {
			failures = 0
			if successes++; successes == max(p.SuccessThreshold, 1) {
				changed(true, nil)
			}
		} else if ctx.Err() == nil {
			successes = 0
			if failures++; failures == max(p.FailureThreshold, 1) {
				changed(false, err)
			}
		}
		if !sleep(ctx, time.Duration(max(p.PeriodSeconds, 1))*time.Second) {
			return
		}
	}
}

// tryProbe asks once, from the node's network, as a kubelet does.
func tryProbe(ctx context.Context, p *corev1.Probe, ip string, c *corev1.Container) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(max(p.TimeoutSeconds, 1))*time.Second)
	defer cancel()
	if p.TCPSocket != nil {
		address, err := probeAddress(ip, p.TCPSocket.Port, c)
		if err != nil {
			return err
		}
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}

	address, err := probeAddress(ip, p.HTTPGet.Port, c)
	if err != nil {
		return err
	}
	target := url.URL{Scheme: "http", Host: address, Path: p.HTTPGet.Path}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "kube-probe/1.37")
	for _, h := range p.HTTPGet.HTTPHeaders {
		request.Header.Add(h.Name, h.Value)
	}
	// A connection per probe: a kept one would tell nothing about accepting.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	if err := answer.Body.Close(); err != nil {
		return err
	}
	if answer.StatusCode < 200 || answer.StatusCode > 399 {
		return fmt.Errorf("HTTP probe failed with status code %d", answer.StatusCode)
	}
	return nil
}

func probeAddress(ip string, port intstr.IntOrString, c *corev1.Container) (string, error) {
	if port.Type == intstr.Int {
		return net.JoinHostPort(ip, strconv.Itoa(int(port.IntVal))), nil
	}
	for _, p := range c.Ports {
		if p.Name == port.StrVal {
			return net.JoinHostPort(ip, strconv.Itoa(int(p.ContainerPort))), nil
		}
	}
	return "", fmt.Errorf("container %s has no port %q", c.Name, port.StrVal)
}

// sleep waits, and tells whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
