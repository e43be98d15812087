# Everything a developer and CI do. `make` alone lists the targets.

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
STEP = @printf '\n==> %s\n'

.PHONY: help demo test bench lint fmt doc tls it check-conf certs install
help:
	@printf '%s\n' \
	  'make demo     install what building needs, build, and start Tidegate with sample music' \
	  'make test     install what is missing, then all checks and all tests' \
	  'make fuzz     each fuzz target for ten minutes (FUZZ_SECONDS=60: for one; TARGET=request_heads: only that)' \
	  'make bench    measure against nginx; a table of ratios (SECTION=cpu-1k for one section)' \
	  'make lint     formatting, clippy, documentation, types of the pages, dependencies, TLS stacks' \
	  'make docs     the documentation as a site, in target/site' \
	  'make renew    write anew what is made by programs: schema, reference, list of metrics, manifests' \
	  'make release  what is published of a version, in target/release-files' \
	  'make profile  record anew what the compiler is told of what runs most (half an hour)' \
	  'make certs    development certificates in certs/' \
	  'make install  what the tests need: Debian packages, MinIO and two more stores, Kafka, h2spec'

demo:
	$(STEP) 'What building needs'
	@scripts/install-build.sh
	$(STEP) 'Building Tidegate (ten minutes on two cores the first time: all dependencies are compiled once)'
	@cargo build --release --locked -p tidegate
	$(STEP) 'Starting the demo'
	@exec target/release/tidegate demo

test: install certs lint it check-conf
	$(STEP) 'All checks and tests passed'

lint: fmt clippy lean doc pages deps tls

fmt:
	$(STEP) 'Formatting'
	@cargo fmt --all --check

.PHONY: clippy
clippy:
	$(STEP) 'Clippy'
	@cargo clippy --locked --workspace --all-targets -- -D warnings

.PHONY: lean
lean:
	$(STEP) 'Without the heavy parts'
	@cargo test --locked -p tidegate --no-default-features --lib a_lean_build

.PHONY: deps
deps:
	$(STEP) 'Dependencies: licences, sources, bans, unused ones'
	@scripts/install-lints.sh
	@scripts/check-deps.sh

.PHONY: pages
pages:
	$(STEP) 'Types of the pages'
	@scripts/install-pages.sh
	@scripts/check-pages.sh

.PHONY: docs
docs:
	$(STEP) 'The documentation as a site'
	@scripts/install-mdbook.sh
	@scripts/docs.sh

doc:
	$(STEP) 'Documentation of the code'
	@RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

tls:
	$(STEP) 'TLS stacks'
	@scripts/check-tls.sh

it:
	$(STEP) 'Unit and integration tests'
	@TIDEGATE_REQUIRE_REAL=1 RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(($$(nproc) * 2))} cargo test --locked

check-conf:
	$(STEP) 'Shipped configurations'
	@scripts/check-conf.sh

.PHONY: renew
renew:
	@scripts/renew.sh

.PHONY: fuzz
fuzz:
	$(STEP) 'Fuzz targets'
	@scripts/fuzz.sh

bench:
	@loadtest/run $(SECTION)

.PHONY: release
release:
	$(STEP) 'What is published of a version'
	@scripts/install-release.sh
	@scripts/install-kubernetes.sh
	@scripts/release.sh
	$(STEP) 'What checks releases'
	@TIDEGATE_REQUIRE_REAL=1 cargo test --locked --test it -- --ignored release:: kubernetes:: documentation::

.PHONY: profile
profile:
	@scripts/profile.sh

certs:
	@certs/make.sh

install:
	$(STEP) 'Tools'
	@scripts/install-debian.sh
	@scripts/install-minio.sh
	@scripts/install-stores.sh
	@scripts/install-pebble.sh
	@scripts/install-kafka.sh
	@scripts/install-h2spec.sh
	@scripts/install-grpc.sh
	@scripts/install-mdbook.sh
