#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# zonedev info says what the system itself says, and to a user without privileges
# what is missing.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"

# info FILE COMMAND...: JSON into FILE; exit status 0 and 1 must match "ready"
info() {
	local file=$1 status=0
	shift
	"$@" >"$file" || status=$?
	case $status-$(json "$file" ready) in
	0-true | 1-false) ;;
	*) fail "exit status $status, and ready is $(json "$file" ready)" ;;
	esac
}

expect_json() {
	local got
	got=$(json "$1" "$2")
	[ "$got" = "$3" ] || fail "$2 is $got, not $3"
}

J=$T/info.json
info "$J" "$ZONEDEV" info --json

expect_json "$J" kernel "$(uname -r)"
expect_json "$J" memory.total "$(awk '/^MemTotal:/ { printf "%.0f", $2 * 1024 }' /proc/meminfo)"
total=$(json "$J" memory.total)
available=$(json "$J" memory.available)
if [ "$available" -le 0 ] || [ "$available" -gt "$total" ]; then
	fail "available: $available of $total"
fi

sysctl=null
[ ! -e /proc/sys/vm/unprivileged_userfaultfd ] ||
	sysctl=$(cat /proc/sys/vm/unprivileged_userfaultfd)
expect_json "$J" userfaultfd.unprivileged_sysctl "$sysctl"

thp=null
[ ! -e /sys/kernel/mm/transparent_hugepage/enabled ] ||
	thp=$(sed 's/.*\[\(.*\)\].*/\1/' /sys/kernel/mm/transparent_hugepage/enabled)
expect_json "$J" thp "$thp"

cap=$(awk '/^CapEff:/ { print $2 }' /proc/self/status)
expect_json "$J" cap_sys_ptrace "$([ $((0x$cap >> 19 & 1)) = 1 ] && echo true || echo false)"

uring=$(cat /proc/sys/kernel/io_uring_disabled 2>/dev/null || echo absent)
case $uring in
0) expect_json "$J" io_uring true ;;
2) expect_json "$J" io_uring false ;;
esac

# The human-readable form tells the same story, and its last line is the verdict.
verdict=$("$ZONEDEV" info | tail -n 1) || true
case $verdict-$(json "$J" ready) in
"zonedev run          ready-true" | "zonedev run          not ready: "*"-false") ;;
*) fail "verdict: $verdict" ;;
esac
if [ "$(json "$J" ready)" = true ]; then
	expect_json "$J" problems "[]"
	expect_json "$J" userfaultfd.move true
	expect_json "$J" userfaultfd.events true
	grep -q '"MOVE"' <<<"$(json "$J" userfaultfd.features)" || fail "ready without MOVE"
else
	[ "$(json "$J" problems)" != "[]" ] || fail "not ready, and no reason"
fi

# Nobody may not look into the build directory, so give him a copy.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	mkdir -m 755 "$T/pub"
	chmod 711 "$T" "${TMPDIR:-/var/tmp}"
	cp "$ZONEDEV" "$T/pub/"
	unpriv=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all)
	info "$T/nobody.json" "${unpriv[@]}" "$T/pub/zonedev" info --json
	expect_json "$T/nobody.json" ready false
	expect_json "$T/nobody.json" cap_sys_ptrace false
	expect_json "$T/nobody.json" userfaultfd.events false
	expect_json "$T/nobody.json" preload null
	expect_status 1 "${unpriv[@]}" "$T/pub/zonedev" info
	case ${OUT##*$'\n'} in
	*"CAP_SYS_PTRACE is missing"*"run as root"*"preload library"*) ;;
	*) fail "nobody's verdict: ${OUT##*$'\n'}" ;;
	esac
	# One thing less: with the library beside it, that is no longer a reason.
	touch "$T/pub/libzonedev-preload.so"
	info "$T/nobody.json" "${unpriv[@]}" "$T/pub/zonedev" info --json
	expect_json "$T/nobody.json" preload "$T/pub/libzonedev-preload.so"
	[ "$(json "$T/nobody.json" problems | grep -o '"what"' | wc -l)" = 1 ] ||
		fail "nobody's problems: $(json "$T/nobody.json" problems)"
else
	say "not root: the unprivileged view is this one"
fi
