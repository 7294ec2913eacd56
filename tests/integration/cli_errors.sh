#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The command line: every mistake gets one line and exit status 2, and the man
# pages list exactly the options that --help lists.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"

expect_error "zonedev help" "$ZONEDEV"
expect_error "no command 'rnu'" "$ZONEDEV" rnu
expect_error "no command 'rnu'" "$ZONEDEV" help rnu
expect_error "no option '--frob'" "$ZONEDEV" --frob
expect_error "--frob" "$ZONEDEV" info --frob
expect_error "extra" "$ZONEDEV" info extra

expect_status 0 "$ZONEDEV" --version
[[ $OUT =~ ^zonedev\ [0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "version: $OUT"

expect_status 0 "$ZONEDEV" help
commands=$(sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' <<<"$OUT" | grep -vx help)
for cmd in run info check; do
	grep -qx "$cmd" <<<"$commands" || fail "zonedev help doesn't list $cmd"
done

# Options by their lines in --help ("  --device SPEC  ...") and by the tagged
# paragraphs of the man page (".BI \-\-device ...").
for cmd in $commands; do
	page=$ZD_SRC/docs/man/zonedev-$cmd.1
	[ -f "$page" ] || fail "no man page for $cmd"
	expect_status 0 "$ZONEDEV" "$cmd" --help
	[ -z "$ERR" ] || fail "$cmd --help wrote to stderr: $ERR"
	grep -o -- '^ *--[a-z][a-z-]*' <<<"$OUT" | tr -d ' ' | sort >"$T/help"
	sed -n '/^\.SH OPTIONS/,/^\.SH [^O]/p' "$page" | grep '^\.B[IR]* ' | sed 's/\\-/-/g' |
		grep -o -- '--[a-z][a-z-]*' | sort >"$T/man"
	[ -s "$T/help" ] || fail "$cmd --help lists no options"
	diff "$T/help" "$T/man" >&2 ||
		fail "$cmd: --help (<) and $page (>) list different options"
	by_help=$OUT
	for again in "help $cmd" "$cmd -h"; do
		# shellcheck disable=SC2086
		expect_status 0 "$ZONEDEV" $again
		[ "$OUT" = "$by_help" ] || fail "zonedev $again is not zonedev $cmd --help"
	done
done

expect_status 0 "$ZONEDEV" --help
by_help=$OUT
for again in -h help "help -h" "help --help"; do
	# shellcheck disable=SC2086
	expect_status 0 "$ZONEDEV" $again
	[ "$OUT" = "$by_help" ] || fail "zonedev $again is not zonedev --help"
done

# An option that is given twice isn't silently the last one.
twice() {
	local option=$1
	shift
	expect_error "$option is given twice" "$ZONEDEV" "$@"
}
twice --ram run --ram 64M --ram=32M -- true
twice --report run --report "$T/a" --report "$T/b" -- true
twice --socket serve --socket "$T/a" --socket "$T/b" "pmem:$T/p,size=4M"
twice --port serve --port 1 --port 2 "pmem:$T/p,size=4M"
twice --bind serve --bind ::1 --bind :: "pmem:$T/p,size=4M"
twice --timeout remove --timeout 1 --timeout 2 "$T/p"
twice --interval stat -i 1 --interval 2
# but for devices, of which there can be several
expect_error "no more" "$ZONEDEV" run --device=ram:size={1,2,3,4,5,6,7,8,9}G -- true
expect_error "one region, or" "$ZONEDEV" remove
expect_error "one region, or" "$ZONEDEV" remove 1 2 3
expect_error "not a process id" "$ZONEDEV" remove "$T/a" "$T/b"
expect_error "no \`zonedev run\`" "$ZONEDEV" remove 1 ram

# Output that can't be written is not a success.
got=0
"$ZONEDEV" info >/dev/full 2>"$T/.err" || got=$?
[ "$got" = 2 ] || fail "info > /dev/full exited with $got"
