#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Memory of another machine: sort, and a daemon that outlives its supervisor's first process, with
# nbdkit's memory, and with a file of qemu-nbd's.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/remote.sh
. "$(dirname "$0")/../lib/remote.sh"
requires_run
requires nbdkit qemu-nbd

remote memory 1G
under "$URI" run_sort
# (TSan forbids threads in a fork of a process with threads; LeakSanitizer doesn't see what only the
# device's own memory points to, when the process ends that has handed the device over.)
[ "$ZD_SANITIZER" != plain ] || under "nbd:$URI,connections=4,timeout=1m" run_daemon
# What the programs have given back, or left, is trimmed or free: a new device finds all.
zd_run --device "nbd:$URI,size=64M" --ram 8M -- "$H/run_mem" check 24 || fail "ended with $?"
expect_report pages.live -eq 0
end "$REMOTE"

truncate -s 256M "$T/disk"
start qemu-nbd --format=raw --shared=4 --persistent --socket="$T/qemu.sock" \
	--export-name=memory "$T/disk"
wait_for 20 "[ -S '$T/qemu.sock' ]" || fail "qemu-nbd doesn't start"
under "nbd+unix:///memory?socket=$T/qemu.sock" run_sort

# Over TLS, with a key that both sides know; and not without it.
printf 'alice:%s\n' "$(od -An -tx1 -N 32 /dev/urandom | tr -d ' \n')" >"$T/keys.psk"
remote --tls=require --tls-psk="$T/keys.psk" memory 256M
zd_run --device "nbds+unix://alice@/?socket=$T/remote.sock&tls-psk-file=$T/keys.psk" --ram 8M -- \
	"$H/run_mem" check 24 || fail "ended with $?"
expect_report pages.out -gt 0
expect_error "requires TLS" "$ZONEDEV" run --device "$URI" -- true
