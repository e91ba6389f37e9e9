# What make can do: make help.

SHELL := /bin/sh
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 5s
PACKAGES ?= ./...
KILLS ?= 1000
SEED ?= 0
ROWS ?= 5000000
LOAD ?= 1h
MAJORS ?= 14 15 16 17 18
export FUZZTIME
ifdef PGBIN
export PGBIN := $(abspath $(PGBIN))
endif

.DEFAULT_GOAL := build
.PHONY: help build demo test servers check fmt race fuzz chaos matrix bench gobench cover compose clean

help: ## list what make can do
	@echo 'make TARGET, where TARGET is'
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'PGBIN=/path/to/bin make test uses the Postgres in that folder.'

build: ## build ./cdc-viewlet, a static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o cdc-viewlet ./cmd/cdc-viewlet

demo: servers build ## a sample shop with its own Postgres and Redis, live; Ctrl-C ends it
	./cdc-viewlet demo

test: servers check race fuzz ## everything that must be green before a commit

servers: # Postgres and Redis, installed where they are missing
	@scripts/ensure.sh postgres redis

check: ## format, vet and staticcheck
	@scripts/format.sh
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

fmt: ## write the Go files as gofumpt does
	$(GO) tool gofumpt -w .

race: servers ## the tests with the race detector; PACKAGES=./rules for some of them
	@scripts/ensure.sh cc
	CGO_ENABLED=1 $(GO) test -race -timeout 30m $(PACKAGES)

fuzz: ## every fuzz target, for FUZZTIME each
	@scripts/fuzz.sh

chaos: servers ## what make test does for seconds, for hours: KILLS=1000 SEED=0 ROWS=5000000 LOAD=1h
	$(GO) test ./integration -run '^(TestChaos|TestHugeTransactionInBoundedMemory|TestSlotMovesUnderGaplessLoad)$$' -v -count 1 -timeout 12h \
		-args -chaos-kills $(KILLS) -chaos-seed $(SEED) -huge-rows $(ROWS) -gapless $(LOAD)

matrix: servers ## the tests with servers, on each Postgres; MAJORS="15 17" for some of them
	scripts/matrix.sh $(MAJORS)

bench: servers ## side by side with what one would use instead; ARGS="--only backlog --quick"
	$(GO) run ./bench $(ARGS)

gobench: servers ## go test's benchmarks, as benchstat reads them; PACKAGES=./rules for some
	$(GO) test -run '^$$' -bench . -benchmem $(PACKAGES)

cover: servers ## which lines the tests reach, as cover.html
	$(GO) test -coverpkg=./... -coverprofile=cover.out $(PACKAGES)
	$(GO) tool cover -html=cover.out -o cover.html
	@$(GO) tool cover -func=cover.out | tail -n 1

compose: ## validate docker-compose.yml; needs no Docker engine
	@scripts/ensure.sh compose
	docker-compose config --quiet

clean: ## remove what make made
	rm -rf cdc-viewlet cover.out cover.html .cache
