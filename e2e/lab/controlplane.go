package lab

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

var (
	// subnet holds the node (its address) and all pods.
	subnet = netip.MustParsePrefix("10.244.0.1/16")
	nodeIP = subnet.Addr().String()
)

const (
	etcdURL   = "http://127.0.0.1:2379"
	apiPort   = "6443"
	serviceIP = "10.96.0.0/16"
	// cluster is istiod's own name for the cluster it runs in.
	cluster = "Kubernetes"
)

// users of the API server, by token. The first is everybody's; istiod has the
// rights of its service account and no others, so that the RBAC of Istio's
// manifests is tried as well.
const tokens = `admin-token,admin,admin,system:masters
istiod-token,system:serviceaccount:istio-system:istiod,istiod,"system:serviceaccounts,system:serviceaccounts:istio-system,system:authenticated"
`

// controllers are those that a waypoint's life depends on. The node lifecycle
// controller is not among them: the runner sends no heartbeats.
var controllers = []string{
	"deployment-controller", "replicaset-controller",
	"endpointslice-controller", "endpoints-controller",
	"serviceaccount-controller", "root-ca-certificate-publisher-controller",
	"namespace-controller", "garbage-collector-controller",
}

// kubernetes is the running Kubernetes.
type kubernetes struct {
	tools     string
	processes []*process
	ca        string // file: who signed the API server's certificate
}

// start brings up etcd, the API server and the controllers.
func (k *kubernetes) start() error {
	dir := filepath.Join(state, "kubernetes")
	key, err := writeKey(dir)
	if err != nil {
		return err
	}
	tokenFile := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokenFile, []byte(tokens), 0o600); err != nil {
		return err
	}

	// Nothing here outlives the test, so nothing has to reach a disk.
	etcd, err := k.run("etcd", "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls="+etcdURL, "--advertise-client-urls="+etcdURL, "--listen-peer-urls=http://127.0.0.1:2380", "--log-level=warn")
	if err != nil {
		return err
	}
	if err := etcd.waitHTTP(http.DefaultClient, etcdURL+"/health", 30*time.Second); err != nil {
		return err
	}

	// The API server makes its own certificate, for the address it advertises.
	certs := filepath.Join(dir, "certs")
	k.ca = filepath.Join(certs, "apiserver.crt")
	api, err := k.run("kube-apiserver", "--etcd-servers="+etcdURL,
		"--bind-address="+nodeIP, "--advertise-address="+nodeIP, "--secure-port="+apiPort, "--cert-dir="+certs,
		"--service-cluster-ip-range="+serviceIP,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+key, "--service-account-signing-key-file="+key,
		"--api-audiences=https://kubernetes.default.svc,istio-ca", // istiod reviews tokens for the second
		"--token-auth-file="+tokenFile, "--authorization-mode=RBAC",
		"--kubelet-preferred-address-types=InternalIP",
		"--allow-privileged=true", "--event-ttl=10m")
	if err != nil {
		return err
	}
	// Whom the certificate belongs to is of no interest as long as nobody
	// else can listen in this namespace.
	insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	if err := api.waitHTTP(insecure, k.url()+"/readyz", 90*time.Second); err != nil {
		return err
	}
	for name, token := range map[string]string{adminKubeconfig: "admin-token", istiodKubeconfig: "istiod-token"} {
		if err := k.writeKubeconfig(name, token); err != nil {
			return err
		}
	}
	_, err = k.run("kube-controller-manager", "--kubeconfig="+adminKubeconfig, "--leader-elect=false", "--secure-port=0",
		"--controllers="+strings.Join(controllers, ","),
		"--service-account-private-key-file="+key, "--root-ca-file="+k.ca)
	return err
}

func (k *kubernetes) url() string { return "https://" + nodeIP + ":" + apiPort }

// run starts one of the tools with a clean environment, but for what Go
// programs want.
func (k *kubernetes) run(name string, args ...string) (*process, error) {
	p, err := start(name, k.command(name, args...))
	if err == nil {
		k.processes = append(k.processes, p)
	}
	return p, err
}

func (k *kubernetes) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(k.tools, "bin", name), args...)
	cmd.Dir = state
	cmd.Env = []string{"HOME=" + state, "PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + adminKubeconfig}
	return cmd
}

// stop ends everything, last started first.
func (k *kubernetes) stop() {
	for i := len(k.processes) - 1; i >= 0; i-- {
		k.processes[i].kill() // there is nothing to save
	}
}

var (
	adminKubeconfig  = filepath.Join(state, "kubernetes", "admin.kubeconfig")
	istiodKubeconfig = filepath.Join(state, "kubernetes", "istiod.kubeconfig")
)

func (k *kubernetes) writeKubeconfig(file, token string) error {
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: lab
contexts: [{name: lab, context: {cluster: lab, user: lab}}]
clusters: [{name: lab, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: lab, user: {token: %q}}]
`, k.url(), k.ca, token)
	return os.WriteFile(file, []byte(text), 0o600)
}

// writeKey makes the key that signs service account tokens.
func writeKey(dir string) (file string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	file = filepath.Join(dir, "service-account.key")
	data := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return file, os.WriteFile(file, data, 0o600)
}
