#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The same program compiles as C++, and runs.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"
requires g++

build_and_run g++ -x c++ -std=c++11
build_and_run g++ -x c++ -std=c++20
build guard.cc g++ -O1 -std=c++17
"$T/prog" || fail "guard.cc exited with $?"
