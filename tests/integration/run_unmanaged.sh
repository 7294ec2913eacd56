#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Programs that the agent can't get into run as they do by themselves; zonedev says how
# many, and why.  Programs that the agent can get into are not counted.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run
requires "${CC:=gcc}"

zd=("$ZONEDEV" run --device ram:size=64M --ram 32M)
echo 'int main(void) { return 0; }' >"$T/true.c"
"$CC" -o "$T/dynamic" "$T/true.c" || skip "no compiler"

# --- the loader, started by hand ---
loader=$(readelf -p .interp "$T/dynamic" | grep -o '/[^ ]*$')
expect_status 0 "${zd[@]}" --report "$T/report.json" -- "$loader" "$T/dynamic"
expect_report processes -eq 1

# --- a sanitizer whose runtime must come first ---
cat >"$T/big.c" <<'END'
#include <stdlib.h>
#include <string.h>
int main(void)
{
	char *volatile p = malloc(24 << 20);

	memset(p, 1, 24 << 20);
	return p[12345] != 1;
}
END
for sanitizer in address leak undefined; do
	"$CC" -fsanitize=$sanitizer -o "$T/big" "$T/big.c" 2>/dev/null || continue
	expect_status 0 env ASAN_OPTIONS=detect_leaks=0 LSAN_OPTIONS=detect_leaks=0 \
		"${zd[@]}" --quiet -- "$T/big"
	[ -z "$ERR" ] || fail "-fsanitize=$sanitizer: $ERR"
done

# --- children: one warning, with reasons and counts ---
"$CC" -static -o "$T/static" "$T/true.c" 2>/dev/null || skip "no static libc"
printf '#! %s\n' "$T/static" >"$T/script"
chmod +x "$T/script"
mkdir "$T/root"
cp "$T/dynamic" "$T/root/"
mkdir -p "$T/root${loader%/*}"
cp "$loader" "$T/root$loader"
libc=$(ldd "$T/dynamic" | sed -n 's/.*libc\.so[^ ]* => \([^ ]*\).*/\1/p')
mkdir -p "$T/root${libc%/*}"
cp "$libc" "$T/root$libc"
expect_status 0 "${zd[@]}" -- sh -c "'$T/static' && '$T/script' && env -i '$T/dynamic' &&
	LD_PRELOAD= '$T/dynamic' && '$T/dynamic'"
[ "$(grep -c unmanaged <<<"$ERR")" = 1 ] || fail "one warning: $ERR"
grep -q "2 statically linked, 2 with another environment" <<<"$ERR" || fail "the reasons: $ERR"
expect_status 0 "${zd[@]}" --report "$T/report.json" --quiet -- "$(command -v python3)" -c "
import os, subprocess
subprocess.check_call(['$T/static'])
subprocess.check_call('$T/static', close_fds=False)
os.waitpid(os.posix_spawn('$T/static', ['x'], os.environ), 0)
os.execv('$T/static', ['x'])"
[ -z "$ERR" ] || fail "not quiet: $ERR"
expect_report unmanaged.static -eq 4
# the loader doesn't complain about a library that isn't there
if [ "$(id -u)" = 0 ] && command -v chroot >/dev/null; then
	expect_status 0 "${zd[@]}" --report "$T/report.json" -- sh -c "chroot '$T/root' /dynamic"
	[ "$(grep -v 'zonedev: programs that ran unmanaged: 1 that don' <<<"$ERR")" = "" ] ||
		fail "a chroot: $ERR"
	expect_report unmanaged.hidden -eq 1
fi
# set-user-ID: the test's own copy of a program
if [ "$(id -u)" = 0 ]; then
	cp "$T/dynamic" "$T/setuid"
	chown 65534 "$T/setuid"
	chmod 4755 "$T/setuid"
	expect_status 0 "${zd[@]}" --report "$T/report.json" --quiet -- sh -c "'$T/setuid'"
	expect_report unmanaged.privileged -eq 1
fi
# and with --no-children there is nothing to warn of
expect_status 0 "${zd[@]}" --no-children -- sh -c "'$T/static'; '$T/dynamic'"
grep -q unmanaged <<<"$ERR" && fail "--no-children: $ERR"
exit 0
