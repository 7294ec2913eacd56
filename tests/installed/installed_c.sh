#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A C program compiles against the installed copy, and runs; also as strict C11, and with
# the library's variables copied into it (not position-independent).
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"
requires readelf

build_and_run gcc
build_and_run gcc -std=c11
build_and_run gcc -fno-pie -no-pie
readelf -rW "$T/prog" | grep -q 'R_.*_COPY .*zd_vmemmap' || fail "no copy relocation: not tested"
