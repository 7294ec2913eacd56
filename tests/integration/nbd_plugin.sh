#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The plugin in nbdkit: its parameters, what it refuses, filters and --run, and zonedev
# remove.  (nbdkit has no sanitizer's runtime: with a plain build only.)
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires nbdkit nbdinfo nbdcopy

head -c 1M /dev/urandom >"$T/data"
cp "$T/data" "$T/served"
echo data >"$T/file"

plugin=$ZD_BUILD/nbdkit/nbdkit-zonedev-plugin.so
nbdkit --dump-plugin "$plugin" >"$T/dump" || fail "--dump-plugin"
grep -qx 'max_thread_model=parallel' "$T/dump" || fail "$(cat "$T/dump")"
grep -qx "zonedev_version=$("$ZONEDEV" --version | cut -d ' ' -f 2)" "$T/dump" ||
	fail "$(cat "$T/dump")"
nbdkit --help "$plugin" >"$T/help" || fail "--help"
for key in $(sed -n '/^\.SH PARAMETERS/,/^\.SH [^P]/s/^\.BI \([a-z]*\)=.*/\1/p' \
	"$ZD_SRC/docs/man/nbdkit-zonedev-plugin.1") path; do
	grep -q "^$key=" "$T/help" || fail "--help doesn't have $key="
done

no_plugin() {
	local text=$1
	shift
	nbdkit -f -U "$T/plugin.sock" "$plugin" "$@" 2>"$T/err" && fail "nbdkit $* goes on"
	grep -q -- "$text" "$T/err" || fail "nbdkit $*: $(cat "$T/err")"
	rm -f "$T/plugin.sock"
}
no_plugin "no region" size=1M
no_plugin "size=" path="$T/new"
no_plugin "multiple of 4096" path="$T/new" size=1000
no_plugin "unknown parameter" path="$T/new" frob=1
no_plugin "$T/none" path="$T/none/new" size=1M
no_plugin "$T/file" "$T/file"
no_plugin "No such file" path="$T/new" size=1M readonly=on
[ ! -e "$T/new" ] || fail "a region was made"

# Each kind of request, as nbd_serve.sh has them.
start nbdkit -f -U "$T/requests.sock" "$plugin" "$T/requests" size=16M
wait_for 20 "[ -S '$T/requests.sock' ]" || fail "no nbdkit"
"$H/nbd_requests" "nbd+unix:///?socket=$T/requests.sock" "$PID" "$T/requests" || fail "requests"

# The parameter readonly=on, without nbdkit's own -r.
# shellcheck disable=SC2016 # nbdkit sets it
nbdkit -U - "$plugin" "$T/served" readonly=on --run 'nbdinfo "$uri"' >"$T/info" ||
	fail "readonly=on"
grep -q 'is_read_only: true' "$T/info" || fail "readonly=on: $(cat "$T/info")"

# nbdkit's --run, and a memfd.
# shellcheck disable=SC2016 # nbdkit sets it
nbdkit -U - "$plugin" memfd:scratch size=16M --run \
	'nbdcopy '"$T/data"' "$uri" && nbdcopy "$uri" '"$T/copy" || fail "nbdkit --run"
cmp -n $((1 << 20)) "$T/data" "$T/copy" || fail "memfd: not what was written"
[ "$(stat -c %s "$T/copy")" = $((16 << 20)) ] || fail "memfd: not of that size"

# In the background, and with a relative path: nbdkit changes directory.
cd "$T"
nbdkit -U "$T/plugin.sock" -P "$T/pid" "$plugin" plain size=4M
# nbdkit writes its number when it is in the background already
wait_for 20 "[ -s '$T/pid' ]" || fail "nbdkit tells no number"
pid=$(cat "$T/pid")
on_exit "grep -qsx nbdkit /proc/$pid/comm && kill $pid"
nbdcopy "$T/data" "nbd+unix:///?socket=$T/plugin.sock" || fail "nbdkit in the background"
cmp -n $((1 << 20)) "$T/data" "$T/plain" || fail "it isn't in the file"
expect_status 0 "$ZONEDEV" remove "$T/plain"
kill "$pid"
wait_for 20 "gone $pid" || fail "nbdkit doesn't end"
