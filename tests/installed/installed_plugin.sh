#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A plugin is built in a folder of its own, with the installed headers alone, and used by `zonedev
# run`, by a program, and by a program that keeps the library to itself.  What isn't a plugin is
# refused with one line, and nothing is started.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"

ZONEDEV=$ROOT/bin/zonedev
here=$(realpath "$(dirname "$0")")
mkdir "$T/plugins" "$T/empty"
cd "$T/plugins"

# plugin OUTPUT SOURCE OPTION...
plugin() {
	# shellcheck disable=SC2046 # flags are words
	gcc -Wall -Wextra -Werror -shared -fPIC -o "$1" "$2" $(pc --cflags) "${@:3}" ||
		fail "$2 does not compile"
}

# As the head of the example says.
cp "$EXAMPLES/example.c" .
plugin example.so example.c
[ "$(pc --variable=plugindir)" = "$LIBDIR/zonedev/plugins" ] || fail "$(pc --variable=plugindir)"
[ -d "$LIBDIR/zonedev/plugins" ] || fail "no directory for plugins"
interface=$(sed -n 's/^#define ZD_DRIVER_VERSION[^0-9]*//p' "$ROOT/include/zonedev/driver.h")
[ "$(pc --variable=plugin_version)" = "$interface" ] || fail "$(pc --variable=plugin_version)"

# --- what isn't a plugin, or not one of this zonedev's ---

run_refuses() {
	expect_error "$2" "$ZONEDEV" run --device "$1" -- touch "$T/started"
	[ ! -e "$T/started" ] || fail "started with $1"
}

gcc -shared -fPIC -xc -o other.so /dev/null
sed "s/^\(#define ZD_DRIVER_VERSION\).*/\1 $((interface + 1))/" \
	"$ROOT/include/zonedev/driver.h" >driver.h
sed 's,<zonedev/driver.h>,"driver.h",' example.c >newer.c
plugin newer.so newer.c
sed 's/\.help = .*/.help = NULL,/' example.c >nohelp.c
plugin nohelp.so nohelp.c
plugin refers.so "$here/plugin_faulty.c" -DREFERS
# shellcheck disable=SC2046 # flags are words
plugin linked.so example.c $(pc --libs)
echo text >text.so
mkfifo fifo.so
run_refuses plugin: "plugin: no file: write plugin:./FILE.so"
run_refuses plugin:./no.so "plugin ./no.so: No such file or directory: name a file"
run_refuses plugin:no "zonedev/plugins/no.so: No such file or directory: install it there, or name its path, as in ./no.so"
run_refuses plugin:./fifo.so "plugin ./fifo.so: not a regular file"
run_refuses "plugin:$T/empty" "plugin $T/empty: not a regular file"
run_refuses plugin:./text.so "plugin ./text.so can't be loaded: "
run_refuses plugin:./other.so "plugin ./other.so: not a plugin of zonedev"
run_refuses plugin:./newer.so "plugin ./newer.so was built for interface $((interface + 1)), this zonedev has $interface: build it again"
run_refuses plugin:./nohelp.so "plugin ./nohelp.so: a mistake in it: a key without help"
run_refuses plugin:./refers.so "plugin ./refers.so was built for another zonedev (undefined symbol: zd_of_another_version): build it again"
run_refuses plugin:./linked.so "plugin ./linked.so brings a libzonedev of its own: link it without"

# --- its keys are read as every driver's ---

run_refuses plugin:./example.so "example device: no size: write plugin:./example.so,size=1G"
run_refuses plugin:./example.so,siz=1G "example device: unknown option 'siz=1G': use size=SIZE"
run_refuses plugin:./example.so,size=1M "size=1M is too small: give 2M or more"
cp example.so a,b.so
run_refuses plugin:./a,,b.so "example device: no size"

# --- the list ---

expect_status 0 "$ZONEDEV" info --devices plugin:./example.so
grep -qF 'zonedev run --device plugin:./example.so,size=SIZE' <<<"$OUT" || fail "$OUT"
export ZONEDEV_PLUGINDIR=$T/plugins
expect_status 0 "$ZONEDEV" info --devices
grep -qF 'zonedev run --device plugin:example.so,size=SIZE' <<<"$OUT" || fail "$OUT"
grep -qF "$T/plugins/other.so: not a plugin of zonedev" <<<"$OUT" || fail "$OUT"
"$ZONEDEV" info --devices --json >"$T/devices.json"
[ "$(json "$T/devices.json" plugins.1.usage)" = plugin:example.so,size=SIZE ] ||
	fail "$(cat "$T/devices.json")"
grep -q '"error": ".*text.so can.t be loaded' "$T/devices.json" || fail "$(cat "$T/devices.json")"

# --- it works ---

# shellcheck disable=SC2046 # flags are words
gcc -Wall -Wextra -Werror -o "$T/prog" "$here/plugin_prog.c" $(pc --cflags --libs)
# shellcheck disable=SC2046
gcc -Wall -Wextra -Werror -DOWN_LIBRARY -o "$T/own" "$here/plugin_prog.c" $(pc --cflags)

expect_status 0 "$T/own" plugin:./example.so,size=64M
expect_status 1 "$T/prog" plugin:./newer.so,size=64M
[ "$ERR" = "plugin ./newer.so was built for interface $((interface + 1)), this zonedev has $interface: build it again" ] ||
	fail "$ERR"
for spec in plugin:./example.so plugin:example plugin:./linked.so; do
	status=0
	"$T/prog" "$spec,size=64M" 2>"$T/err" || status=$?
	[ "$status" != 77 ] || skip "no userfaultfd with events here"
	[ "$status" = 0 ] || fail "$spec: the program ended with $status: $(cat "$T/err")"
done

requires_run
zd_run --device plugin:./example.so,size=64M --ram 8M -- "$H/run_mem" check 24 2>"$T/err" ||
	fail "ended with $?: $(cat "$T/err")"
expect_in_report 'pages["out"] > 1000' 'pages["poisoned"] == 0' 'pages["live"] == 0'
grep -q '"example' "$T/report.json" || fail "the report doesn't name the device"
