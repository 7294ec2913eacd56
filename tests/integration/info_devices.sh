#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# zonedev info --devices lists what the drivers take; --help, the man pages and what a wrong
# device is answered are made of the same table.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires python3

J=$T/devices.json
"$ZONEDEV" info --devices --json >"$J"
[ "$(json "$J" devices.0.name)" = ram ] || fail "the first driver is $(json "$J" devices.0.name)"
[ "$(json "$J" devices.0.keys.0.min)" = 2097152 ] || fail "ram's least size"
[ "$(json "$J" devices.1.usage)" = "file:PATH[,size=SIZE][,force=on]" ] || fail "file's usage"

expect_status 0 "$ZONEDEV" info --devices
text=$OUT
i=0
while name=$(json "$J" "devices.$i.name" 2>/dev/null); do
	usage=$(json "$J" "devices.$i.usage")
	grep -q "^$name: " <<<"$text" || fail "$name isn't in the text"
	case $(json "$J" "devices.$i.commands") in
	*run*) command="run" expected="--device $usage" ;;
	*) command="serve" expected="serve $usage" ;;
	esac
	grep -qF -- "$expected" <<<"$text" || fail "$name: not '$expected' in the text"
	expect_status 0 "$ZONEDEV" "$command" --help
	grep -qF -- "$usage" <<<"$OUT" || fail "$name: not '$usage' in $command --help"
	i=$((i + 1))
done
[ "$i" -ge 3 ] || fail "$i drivers"

"$ZD_SRC/scripts/man-devices" check "$ZONEDEV" >&2 || fail "the man pages differ"
