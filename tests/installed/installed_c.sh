#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A C program compiles against the installed copy, and runs; also as strict C11.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"

build_and_run gcc
build_and_run gcc -std=c11
