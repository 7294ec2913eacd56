# SPDX-License-Identifier: MIT
#
# The front door.  Meson builds; this file knows which build directory is for
# what, and spares everybody the spelling.  `make help` lists the targets.

PREFIX ?= /usr/local
DESTDIR ?=
NINJA := ninja
MAKEFLAGS += --no-print-directory

# Everything but the plain build has its own directory, so that a sanitizer run
# doesn't cost a rebuild.
# Warnings are errors for whoever works on zonedev, not for whoever installs it with a newer
# compiler.
WERROR          ?= false
OPTS_build       = --prefix=$(PREFIX) -Dwerror=$(WERROR)
OPTS_build-asan := -Db_sanitize=address,undefined -Dbench=false -Dwerror=true
OPTS_build-tsan := -Db_sanitize=thread -Dbench=false -Dwerror=true
BUILDS          := build build-asan build-tsan

.PHONY: all deps check-deps demo check check-quick asan tsan soak damage suites bench lab lab-docs model abi-update install clean help $(BUILDS)

all: check-deps build

help:
	@echo 'make              build into build/; build/zonedev runs in place'
	@echo 'make deps         install the Debian packages that are missing (root or sudo)'
	@echo 'make demo         sort 100+ MB with half of the memory it needs, the rest on a device'
	@echo 'make check        every test: plain, ASan+UBSan, TSan, and against an installed copy'
	@echo 'make check-quick  the plain tests only; TESTS=regex picks some by name'
	@echo 'make asan, tsan   the tests under one sanitizer'
	@echo 'make soak         the stress tests and fuzzers, for long: SECONDS=600 each, FORKS=10000, SEED=n;'
	@echo '                  BUILD=build-tsan, build-asan'
	@echo 'make damage       IMAGES=10000 damaged regions opened and mended; SEED=n, BUILD='
	@echo 'make suites       tests that others wrote, under zonedev run; installs them; ONLY=regex'
	@echo 'make bench        measure; every figure is a ratio of two runs on this machine'
	@echo 'make lab          the protocols of the 2017 thread, measured: lab/results/'
	@echo 'make lab-docs     the same, and its figures into docs/thread.md'
	@echo 'make model        every search of the models, also those too large for make check'
	@echo 'make abi-update   the binary interface has changed on purpose: write it down (docs/abi.md)'
	@echo 'make install      into DESTDIR, PREFIX (/usr/local)'
	@echo 'make clean        remove the build directories'

check-deps:
	@scripts/deps check

deps:
	@scripts/deps install

# Meson regenerates by itself once a directory is set up.
$(BUILDS:%=%/build.ninja):
	@meson setup $(@D) $(OPTS_$(@D)) >$(@D).log 2>&1 || { cat $(@D).log; rm $(@D).log; exit 1; }
	@mv $(@D).log $(@D)/setup.log

build: build/build.ninja
build-asan: build-asan/build.ninja
build-tsan: build-tsan/build.ninja
$(BUILDS):
	@$(NINJA) -C $@ --quiet

# The packages come first, also under make -j: hence a make for what follows.
demo: deps
	@$(MAKE) build
	@scripts/demo.sh

# It takes 18 minutes on two CPUs of their own, the tests 13 of them.  The deadline is for
# what hangs, also on a machine that is five times as slow.
check: deps
	@$(MAKE) $(BUILDS) WERROR=true
	@tests/run --deadline 4200 plain=build asan=build-asan tsan=build-tsan

check-quick: all
	@tests/run $(if $(TESTS),--only '$(TESTS)') plain=build

asan: check-deps
	@$(MAKE) build-asan
	@tests/run $(if $(TESTS),--only '$(TESTS)') asan=build-asan

tsan: check-deps
	@$(MAKE) build-tsan
	@tests/run $(if $(TESTS),--only '$(TESTS)') tsan=build-tsan

# No address randomisation where there is a sanitizer: as in tests/run.
SECONDS ?= 600
FORKS ?= 10000
BUILD ?= build
IMAGES ?= 10000
soak: check-deps
	@$(MAKE) $(BUILD)
	@ZD_SECONDS=$(SECONDS) $(if $(SEED),ZD_SEED=$(SEED)) \
		$(if $(filter build-%,$(BUILD)),setarch --addr-no-randomize) \
		$(BUILD)/tests/stress/stress_lifetime
	@$(if $(filter build-%,$(BUILD)),,ZD_FORKS=$(FORKS) $(if $(SEED),ZD_SEED=$(SEED)) \
		$(BUILD)/tests/stress/stress_fork)
	@ZONEDEV=$(CURDIR)/$(BUILD)/tools/zonedev ZD_BUILD=$(CURDIR)/$(BUILD) ZD_SRC=$(CURDIR) \
		ZD_SECONDS=$(SECONDS) $(if $(SEED),ZD_SEED=$(SEED)) \
		bash tests/stress/fuzz_mm.sh soak
	@ZONEDEV=$(CURDIR)/$(BUILD)/tools/zonedev ZD_BUILD=$(CURDIR)/$(BUILD) ZD_SRC=$(CURDIR) \
		ZD_SECONDS=$(SECONDS) $(if $(SEED),ZD_SEED=$(SEED)) \
		bash tests/integration/nbd_rude.sh

# 10,000 damaged regions, opened and mended; and as many damaged records of raw ones.
damage: check-deps
	@$(MAKE) $(BUILD)
	@for test in btt record; do ZD_IMAGES=$(IMAGES) $(if $(SEED),ZD_SEED=$(SEED)) \
		$(if $(filter build-%,$(BUILD)),setarch --addr-no-randomize) \
		$(BUILD)/tests/unit/drivers_$${test}_damage || exit; done

# Its list has what takes long to fetch: so it isn't in make deps.
suites:
	@scripts/deps suites
	@$(MAKE) build
	@scripts/suites $(if $(ONLY),--only '$(ONLY)')

bench: all
	@bench/run build

lab: all
	@lab/run.sh build lab/results
	@cat lab/results/thread.md

lab-docs: lab
	@cp lab/results/thread.tsv lab/results/thread.svg docs/
	@lab/tables --update docs/thread.md docs/thread.tsv

model: check-deps
	@model/run --full

abi-update: all
	@scripts/abi update

install: all
	@meson configure build --prefix=$(PREFIX)
	@DESTDIR='$(DESTDIR)' meson install -C build --quiet

clean:
	rm -rf $(BUILDS)
