# Kith. `make` prints this help. Everything needs Go, git and make only; peers for the tests install themselves on Debian as root.
GO      ?= go
SEED    ?= 1
SEEDS   ?= 1000
FOR     ?= 60s
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unversioned)
LDFLAGS := -s -w -X main.version=$(VERSION)
export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help demo test check bench sim build peers fuzz

help: ## print this help
	@grep -E '^[a-z][a-z0-9-]*:.*## ' Makefile | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

demo: ## a whole network on this machine: a hub, 5 houses, 60 members; prints the page's address
	$(GO) run ./simulator demo $(ARGS)

test: peers ## all tests (house rules, units, real peers, faults)
	$(GO) vet ./...
	$(GO) test -timeout 15m $$($(GO) list ./... | grep -v '^kith/simulator')
	$(GO) test -timeout 20m -p 1 ./simulator/... # whole systems, one after the other: they share the processor with what they start

check: ## gofmt, vet and the house rules
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these"; exit 1; }
	$(GO) vet ./...
	$(GO) test ./internal

bench: ## every promised figure beside its floor or peer, as a ratio
	$(GO) run ./simulator load --bench

sim: ## the pure sync machines under seeded weather: make sim SEED=7 SEEDS=1
	$(GO) run ./simulator check --seed $(SEED) --seeds $(SEEDS)

build: ## static binaries for amd64 and arm64 in bin/
	@for arch in amd64 arm64; do for p in edge hub simulator; do \
	  echo "bin/$$arch/$$p"; GOOS=linux GOARCH=$$arch $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/$$arch/$$p ./$$p || exit 1; done; done

fuzz: ## each fuzz target for 30 seconds
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	  echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 30s $$p || exit 1; done; done

peers: ## the real peers that tests talk to (Debian as root: installs what is missing)
	@sh .ci/peers
