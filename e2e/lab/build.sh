#!/usr/bin/env bash
# Builds the control plane that the lab runs: etcd, kube-apiserver,
# kube-controller-manager, pilot-discovery (istiod) and istioctl, from the
# modules pinned in tools/*/go.mod, and puts the CRDs of those same modules
# beside them. No image, no package of the distribution.
#
# The result is kept in a cache folder named after the pins, so a second run
# takes no time and a changed pin never meets an old binary. The last line
# printed is that folder.
#
#   GOWAYPOINT_LAB_CACHE  where the folders are kept
#                         (default ${XDG_CACHE_HOME:-$HOME/.cache}/gowaypoint-lab)
set -euo pipefail
cd "$(dirname "$0")/tools"

# The pins alone decide what is built: flags and workspaces of the caller do not.
export GOFLAGS=-mod=readonly GOWORK=off CGO_ENABLED=0

pins=$(cat ../build.sh */go.mod */go.sum | sha256sum | cut -c1-16)
dir=${GOWAYPOINT_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gowaypoint-lab}/$pins
mkdir -p "$dir/bin" "$dir/crds"

# Two builds at once would only fight for the same cores.
exec 9>"$dir/lock"
flock 9

# What istiod and istioctl call themselves; a development build says "unknown",
# which hides mistakes in how versions are shown.
revision=$(cd istio && go list -m -f '{{.Version}}' istio.io/istio)
version=istio.io/istio/pkg/version
stamp="-X $version.buildVersion=1.32-alpha.${revision##*-} -X $version.buildGitRevision=${revision##*-} -X $version.buildStatus=Clean"

# build MODULE PACKAGE NAME builds one command, unless it is there already. The
# rename makes a half-written binary of an interrupted build impossible.
build() {
	[[ -x $dir/bin/$3 ]] && return
	local began=$SECONDS
	echo "building $3 ($2)" >&2
	(cd "$1" && go build -trimpath -ldflags="-s -w $stamp" -o "$dir/bin/$3.part" "$2")
	mv "$dir/bin/$3.part" "$dir/bin/$3"
	echo "built $3 in $((SECONDS - began)) s" >&2
}

build kubernetes go.etcd.io/etcd/server/v3 etcd
build kubernetes k8s.io/kubernetes/cmd/kube-apiserver kube-apiserver
build kubernetes k8s.io/kubernetes/cmd/kube-controller-manager kube-controller-manager
build istio istio.io/istio/pilot/cmd/pilot-discovery pilot-discovery
build istio istio.io/istio/istioctl/cmd/istioctl istioctl

# module NAME prints the source folder of a pinned module.
module() { (cd istio && go list -m -f '{{.Dir}}' "$1"); }

if [[ ! -e $dir/crds/done ]]; then
	install -m 0644 "$(module istio.io/istio)/manifests/charts/base/files/crd-all.gen.yaml" "$dir/crds/istio.yaml"
	for file in "$(module sigs.k8s.io/gateway-api)"/config/crd/experimental/*.yaml; do
		case $file in */kustomization.yaml) ;; *) install -m 0644 "$file" "$dir/crds/gateway-$(basename "$file")" ;; esac
	done
	touch "$dir/crds/done"
fi

echo "$dir"
