#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The same program compiles as C++, and runs.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"
requires g++

build_and_run g++ -x c++ -std=c++11
build_and_run g++ -x c++ -std=c++20
