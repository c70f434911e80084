# Two commands for a fresh machine: `make demo` and `make test`. Both begin with `make setup`, which installs what is
# missing on Debian 12+ and Ubuntu 24.04+ (as root or with sudo) and nothing else.

SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)

MULTIARCH := $(shell gcc -print-multiarch 2>/dev/null || echo x86_64-linux-gnu)
export OPENCV_LINK_PATHS ?= /usr/lib/$(MULTIARCH)
export OPENCV_INCLUDE_PATHS ?= /usr/include/opencv4,/usr/include/$(MULTIARCH)/opencv4

PACKAGES := build-essential pkg-config ca-certificates curl clang libclang-dev \
	libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev gstreamer1.0-tools \
	gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly \
	gstreamer1.0-libav gstreamer1.0-x \
	libopencv-core-dev libopencv-imgproc-dev
# The report and the control page are looked at in a real browser, RTSP and SRT are tested against a peer on loopback.
BROWSER_PACKAGES := chromium
# The plugin is loaded by gst-launch and by Python.
TEST_PACKAGES := parallel systemd xvfb libgstrtspserver-1.0-dev gstreamer1.0-rtsp \
	python3-gi python3-gst-1.0 gir1.2-gst-plugins-base-1.0

BIN := target/release/polypscope
DEMO := demo

.PHONY: help setup setup-test build demo test soak bench lint clean

help:
	@echo "make demo   build, make a short phantom procedure, replay it, say where the results are"
	@echo "make test   everything that can be tested without a GPU, a network or a display"
	@echo "make build  the release binary"
	@echo "make soak   ten minutes of live video, nothing dropped"
	@echo "make size-walk  foreign code through changing sizes under valgrind"
	@echo "make fleet  archives on Slurm, Kubernetes' schemas, HyperQueue, GNU parallel, Ray and S3, for real"
	@echo "make bench  benchmarks of the kernels and parts"
	@echo "make plugin  the elements as a GStreamer plugin; make install-plugin puts it where GStreamer looks"
	@echo "make plugin-cycles  a thousand starts and stops of the plugin; plugin-1.26: the plugin in Debian 13"
	@echo "make cuda   the release binary with the engine for NVIDIA GPUs (needs the CUDA toolkit)"
	@echo "make lint   formatting, clippy and documentation"
	@echo "make deb    a Debian package in target/deb"
	@echo "more, and what needs what: CONTRIBUTING.md"

# Installs only what is missing; asks for nothing where all is there.
define install
	@missing=; for p in $(1); do \
		dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		echo "installing:$$missing"; \
		sudo=; if [ "$$(id -u)" != 0 ]; then sudo=sudo; fi; \
		$$sudo apt-get update -qq && \
		$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null || \
		{ echo "could not install:$$missing (run as root or with sudo, on Debian 12+ or Ubuntu 24.04+)"; exit 1; }; \
	fi
endef

setup:
	$(call install,$(PACKAGES))
	@command -v cargo >/dev/null || { echo "installing Rust through rustup"; \
		curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y -q --profile minimal --component clippy,rustfmt; }

# Ubuntu's chromium is a snap, which needs more than a package manager: tests that want a browser skip without one.
setup-test: setup
	$(call install,$(TEST_PACKAGES))
	@if . /etc/os-release && [ "$$ID" = debian ]; then $(MAKE) --no-print-directory browser; fi

.PHONY: browser
browser:
	$(call install,$(BROWSER_PACKAGES))

build: setup
	cargo build --release --locked $(if $(FEATURES),--features $(FEATURES))

demo: build
	@rm -rf $(DEMO) && mkdir -m 700 $(DEMO)
	@echo "rendering a phantom procedure"
	@$(BIN) phantom --seconds 16 --size 960x720 --fps 25 --seed 11 --polyps-per-minute 12 --output $(DEMO)/phantom.mp4
	@echo "replaying it"
	@$(BIN) replay $(DEMO)/phantom.mp4 --output $(DEMO)/annotated.mp4 --report $(DEMO)/report
	@echo
	@echo "annotated video: $(CURDIR)/$(DEMO)/annotated.mp4"
	@echo "report:          $(CURDIR)/$(DEMO)/report/report.html"

# What was not tested, and why, is said once more at the end: above it is lost among thousands of lines.
SKIPS := $(CURDIR)/target/skipped.txt
# In the release profile, so that the dependencies of `make demo` are used again; our own crate has its assertions all the same.
CARGO_TEST := cargo test --release --locked --config tests/profile.toml --features video-tests
test: setup-test
	@mkdir -p target && rm -f $(SKIPS)
	@# The program of these tests has assertions in it and must not lie where the release program is looked for.
	@test ! -e $(BIN) || cp -p $(BIN) $(BIN).kept
	@POLYPSCOPE_SKIPS=$(SKIPS) $(CARGO_TEST) && POLYPSCOPE=$(CURDIR)/$(BIN) pipelines/fleet/check/parallel.sh; code=$$?; \
	rm -f $(BIN); test ! -e $(BIN).kept || mv $(BIN).kept $(BIN); \
	$(MAKE) --no-print-directory skips; exit $$code

# Tests that take minutes, each by its name, since others that are ignored are only parts of their neighbours. On a card, if
# there is one: what a processor that plays the device shows is in `make test`.
.PHONY: test-long
test-long: setup-test
	@mkdir -p target && rm -f $(SKIPS)
	@POLYPSCOPE_SKIPS=$(SKIPS) $(CARGO_TEST) --lib -- --ignored --exact training::run::tests::eight_pictures_are_learnt_by_heart
	@if nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then $(MAKE) --no-print-directory cuda-toolkit && \
		POLYPSCOPE_SKIPS=$(SKIPS) env $(CUDA_ENV) $(CARGO_TEST) --features cuda --lib -- --ignored --nocapture \
		--exact engine::cuda::tests::real_pictures_keep_their_masks; \
	else printf 'gpu\tno NVIDIA card is here\treal_pictures_keep_their_masks\n' >>$(SKIPS); fi
	@$(MAKE) --no-print-directory skips

# What builds and runs without GStreamer and OpenCV.
.PHONY: test-without-video
test-without-video: setup
	cargo tests-without-video

.PHONY: skips
skips:
	@test -s $(SKIPS) || exit 0; echo; echo "Not tested on this machine (CONTRIBUTING.md says what needs what):"; \
	sort -u $(SKIPS) | awk -F'\t' '{ tests[$$1 ": " $$2]++ } END { for (what in tests) \
		printf "  %s (%d test%s)\n", what, tests[what], tests[what] == 1 ? "" : "s" }' | sort

# Ten minutes of live video through the real network: nothing may be dropped, memory may not grow.
SOAK_SECONDS := 600
soak: build
	$(BIN) live --pipeline pipelines/phantom.toml --sink null --seconds $(SOAK_SECONDS) --summary soak.json --force
	$(BIN) live --pipeline pipelines/phantom.toml --sink null --seconds 30 --no-ai --summary soak-without.json --force
	@python3 -c "import json; s = json.load(open('soak.json')); f = s['frames']; r = s['rss_bytes']; \
		print('dropped', f['dropped'], '· memory', r['start'] >> 20, '→', r['end'] >> 20, 'MB'); \
		exit(f['dropped'] > 0 or s['events_lost'] > 0)"

# Every boundary to C and C++ through growing and shrinking sizes under valgrind: a read beyond a buffer that ends no
# process is seen here.
.PHONY: size-walk
size-walk: setup-test
	$(call install,valgrind libc6-dbg)
	@test=$$($(CARGO_TEST) --test live --no-run --message-format=json 2>/dev/null | \
		sed -n 's/.*"executable":"\([^"]*deps\/live-[^"]*\)".*/\1/p' | tail -n 1); \
	G_SLICE=always-malloc GST_REGISTRY_FORK=no ORC_CODE=backup valgrind --quiet --error-exitcode=9 --num-callers=30 \
		--suppressions=tests/live/valgrind.supp $$test sizes:: --test-threads=1

# Archives on engines that exist (pipelines/fleet), each run for real on this machine: four phantoms in four shards, and the merged
# result must be that of one process. FLEET_BIN names another build of the program.
FLEET_BIN ?= $(CURDIR)/$(BIN)
FLEET_VENV := $(CURDIR)/target/fleet-venv
FLEET_ENV := POLYPSCOPE=$(FLEET_BIN) PYTHON=$(FLEET_VENV)/bin/python \
	KUBERNETES_VALIDATE=$(FLEET_VENV)/bin/kubernetes-validate MOTO_SERVER=$(FLEET_VENV)/bin/moto_server
FLEET := env $(FLEET_ENV) pipelines/fleet/check
define fleet_python
	@test -x $(FLEET_VENV)/bin/python || python3 -m venv $(FLEET_VENV)
	@$(FLEET_VENV)/bin/pip install --quiet --disable-pip-version-check $(1)
endef

.PHONY: fleet fleet-parallel fleet-slurm fleet-hyperqueue fleet-ray fleet-kubernetes fleet-s3
fleet: fleet-parallel fleet-kubernetes fleet-hyperqueue fleet-ray fleet-slurm fleet-s3

$(CURDIR)/$(BIN):
	$(MAKE) build

fleet-parallel: $(FLEET_BIN)
	$(call install,parallel)
	$(FLEET)/parallel.sh

fleet-slurm: $(FLEET_BIN)
	$(call install,slurmctld slurmd slurm-client munge)
	$(FLEET)/slurm.sh

fleet-hyperqueue: $(FLEET_BIN)
	$(call fleet_python,hyperqueue)
	$(FLEET)/hyperqueue.sh

fleet-ray: $(FLEET_BIN)
	$(call fleet_python,ray)
	$(FLEET)/ray.sh

fleet-kubernetes: $(FLEET_BIN)
	$(call fleet_python,kubernetes-validate)
	$(FLEET)/kubernetes.sh

# Needs a program with buckets: made here unless FLEET_BIN names one.
fleet-s3:
	$(call fleet_python,'moto[server]')
	$(if $(filter $(CURDIR)/$(BIN),$(FLEET_BIN)),$(MAKE) build FEATURES=s3)
	$(FLEET)/s3.sh

bench: setup
	cargo bench --locked

# The elements as a plugin for everybody's pipelines: this library as a shared object. Made by a call of its own, so that no
# other build has to link it.
PLUGIN := target/release/libgstpolypscope.so
WEIGHTS := weights/m2snet-polyp.safetensors weights/m2snet-polyp.json
# Into the system with PREFIX (and DESTDIR for packagers), else into the folder of the user's own that GStreamer looks at.
ifdef PREFIX
PLUGIN_DIR := $(DESTDIR)$(PREFIX)/lib/$(MULTIARCH)/gstreamer-1.0
PLUGIN_DATA := $(DESTDIR)$(PREFIX)/share/polypscope
else
PLUGIN_DIR := $(DESTDIR)$(or $(XDG_DATA_HOME),$(HOME)/.local/share)/gstreamer-1.0/plugins
PLUGIN_DATA := $(DESTDIR)$(or $(XDG_DATA_HOME),$(HOME)/.local/share)/polypscope
endif

.PHONY: plugin plugin-file install-plugin uninstall-plugin plugin-check plugin-cycles plugin-1.26
plugin: setup plugin-file

# The file alone, for those who have installed what it needs.
plugin-file:
	cargo rustc --release --locked --lib --crate-type cdylib
	cp target/release/libpolypscope.so $(PLUGIN)
	@nm -D --defined-only $(PLUGIN) | grep -q ' gst_plugin_polypscope_get_desc$$' || { echo "$(PLUGIN): GStreamer would not find it"; exit 1; }

# Needs what `make plugin` made: so that `sudo make install-plugin` builds nothing.
install-plugin:
	@test -f $(PLUGIN) || { echo "there is no plugin yet: make plugin"; exit 1; }
	install -d $(PLUGIN_DIR) $(PLUGIN_DATA)
	install -m 644 $(PLUGIN) $(PLUGIN_DIR)/libgstpolypscope.so
	install -m 644 $(WEIGHTS) $(PLUGIN_DATA)

uninstall-plugin:
	rm -f $(PLUGIN_DIR)/libgstpolypscope.so $(addprefix $(PLUGIN_DATA)/,$(notdir $(WEIGHTS)))

# The tests of the plugin, over the file that is installed.
plugin-check: plugin setup-test
	POLYPSCOPE_PLUGIN=$(PLUGIN) $(CARGO_TEST) --test plugin

# Nothing may grow in a thousand starts and stops.
plugin-cycles: plugin setup-test
	POLYPSCOPE_PLUGIN=$(PLUGIN) POLYPSCOPE_CYCLES=1000 $(CARGO_TEST) --test plugin starting_and_stopping

# The same file under GStreamer 1.26, in a folder with Debian 13 (as root; 400 MB are fetched).
plugin-1.26: plugin
	$(call install,debootstrap)
	bash tests/plugin/debian13.sh $(PLUGIN) target/debian13

# A CUDA toolkit to compile with: the machine's own (CUDA_HOME, or nvcc on the path), or one without a GPU or a driver, made
# by the script beside this repository where there is one.
CUDA_TOOLKIT_SCRIPT ?= ../shared/cuda/make-toolkit.sh
CUDA_TOOLKIT := $(CURDIR)/target/cuda-toolkit
ifdef CUDA_HOME
CUDA_ENV := CUDA_HOME=$(CUDA_HOME) PATH=$(CUDA_HOME)/bin:$(PATH)
else ifneq ($(shell command -v nvcc),)
CUDA_ENV := CUDA_HOME=$(patsubst %/bin/nvcc,%,$(realpath $(shell command -v nvcc)))
else
CUDA_ENV := CUDA_HOME=$(CUDA_TOOLKIT)/cuda PATH=$(CUDA_TOOLKIT)/cuda/bin:$(PATH)
endif
# Only with `--features candle-cuda`: candle's kernels are compiled for one architecture, ours for all that build.rs names.
CUDA_COMPUTE_CAP ?= 90
CUDA_ENV += CUDA_COMPUTE_CAP=$(CUDA_COMPUTE_CAP) CUDAFORGE_THREADS=$(shell nproc)

.PHONY: cuda cuda-toolkit cuda-check
cuda-toolkit:
	@if env $(CUDA_ENV) sh -c 'command -v nvcc' >/dev/null; then exit 0; fi; \
	if [ ! -f "$(CUDA_TOOLKIT_SCRIPT)" ]; then echo "no nvcc: install the CUDA toolkit, or name it in CUDA_HOME"; exit 1; fi; \
	cargo fetch --locked --quiet && rm -rf $(CUDA_TOOLKIT) && mkdir -p $(CUDA_TOOLKIT) && \
	bash $(CUDA_TOOLKIT_SCRIPT) $(CUDA_TOOLKIT) >$(CUDA_TOOLKIT).log 2>&1 || { tail -n 3 $(CUDA_TOOLKIT).log; exit 1; }

cuda: setup cuda-toolkit
	env $(CUDA_ENV) cargo build --release --locked --features cuda

# Builds, links and checks the CUDA side on a machine without a GPU; the kernels' own tests are in `make test`. candle's own
# network on a GPU, only there for comparisons, takes half an hour more to build: `make cuda-check FEATURE=candle-cuda`.
FEATURE ?= cuda
cuda-check: cuda-toolkit
	env $(CUDA_ENV) cargo build --locked --no-default-features --features $(FEATURE)
	env $(CUDA_ENV) cargo clippy --locked --no-default-features --features $(FEATURE) --all-targets -- -D warnings

# The network, its engines and the evaluation must also build on a machine with neither GStreamer nor OpenCV.
lint:
	cargo fmt --check
	cargo clippy --locked --all-targets --features video-tests -- -D warnings
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

# A tool of cargo's that the machine may lack.
define tool
	@cargo $(1) --version >/dev/null 2>&1 || { echo "no cargo-$(1): cargo install cargo-$(1) --locked"; exit 1; }
endef

.PHONY: deny unused deb sbom models sanitize miri fuzz mutants compiled-twice
# `make demo` and `make test` share their compiled dependencies; what they do not share is on a list.
compiled-twice:
	.ci/compiled_twice.py

deny:
	$(call tool,deny)
	cargo deny --all-features --locked check

# Dependencies that no line of ours names.
unused:
	$(call tool,machete)
	cargo machete --with-metadata

DEB_PACKAGES := debhelper dpkg-dev lintian
# PROGRAM: one that is built already, instead of the release program.
PROGRAM := target/release/polypscope
deb: setup
	$(call install,$(DEB_PACKAGES))
	@grep -q "^polypscope ($$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)-" debian/changelog || \
		{ echo "debian/changelog does not begin with the version of Cargo.toml"; exit 1; }
	debian/rules clean
	debian/rules binary PROGRAM=$(PROGRAM)
	lintian --fail-on error,warning --info target/deb/*.deb

sbom:
	@test -x $(PROGRAM) || $(MAKE) --no-print-directory build
	@mkdir -p target && .ci/sbom.py $(PROGRAM) $(FEATURES) >target/polypscope.cdx.json && echo target/polypscope.cdx.json

# The hand-overs between threads under the orders of their steps, see tests/models.
models:
	cargo test --release --locked --manifest-path tests/models/Cargo.toml --target-dir target/models

# Memory that is read beyond its end, or after it was freed, by the library's own code and what it links. OpenCV's and
# GStreamer's libraries are the system's and are not instrumented.
sanitize:
	RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS=detect_leaks=0 cargo +nightly test --locked --no-default-features \
		--target $$(rustc -vV | sed -n 's/^host: //p') --target-dir target/sanitize --lib

# Pictures in every layout, and the kernels of the portable instruction set in fewer and smaller cases. A filter that matches
# nothing would pass: the kernels' tests must be among those that ran.
miri:
	@mkdir -p target
	set -o pipefail; MIRIFLAGS="-Zmiri-disable-isolation" PROPTEST_CASES=4 cargo +nightly miri test --locked --no-default-features \
		--target-dir target/miri --lib -- frame:: engine::cpu::kernel_tests:: | tee target/miri.txt
	@grep -q '^test engine::cpu::kernel_tests::pools ... ok' target/miri.txt

# With AddressSanitizer where there is a nightly toolchain; the stable one can do it too, if it is told to, without. Most
# readers are given files: in memory they read several times as many.
FUZZ_SECONDS := 600
fuzz: setup-test
	$(call tool,fuzz)
	if cargo +nightly --version >/dev/null 2>&1; then fuzz="cargo +nightly fuzz run"; \
	else fuzz="env RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none"; fi; \
	fuzz/seed && if [ -w /dev/shm ]; then export TMPDIR=/dev/shm; fi; for target in $$(cargo fuzz list); do \
		$$fuzz $$target -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=4096 || exit 1; done

MUTANTS := src/safety src/mailbox.rs src/mask_slot.rs src/overlay src/postprocess src/evaluation
mutants: setup-test
	$(call tool,mutants)
	cargo mutants $(foreach place,$(MUTANTS),--file '$(place)$(if $(filter %.rs,$(place)),,/**)') \
		--exclude '**/tests.rs' --features video-tests -- --lib

clean:
	cargo clean
	rm -rf $(DEMO)
