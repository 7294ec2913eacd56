#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# redis-server and python3 with memory of another machine: what they hold, and say, is as without.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/remote.sh
. "$(dirname "$0")/../lib/remote.sh"
requires_run
requires nbdkit

remote memory 1G
under "nbd:$URI,connections=4,timeout=1m" run_redis run_python
