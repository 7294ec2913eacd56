#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The examples of device-dax and of peer-to-peer memory compile against the installed
# copy, and do what they say.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"

for name in dax p2p; do
	# shellcheck disable=SC2046 # flags are words
	gcc -Wall -Wextra -Werror -o "$T/$name" "$EXAMPLES/$name.c" $(pc --cflags --libs) ||
		fail "$name.c does not compile"
	"$T/$name" >"$T/$name.out" || fail "$name fails"
done
printf 'sum: 523776\nafterwards: -19\n' | diff - "$T/dax.out" >&2 || fail "dax: not as it says"
# the distance is the file system's, of TMPDIR
sed 's/distance -\?[0-9]*/distance D/' "$T/p2p.out" |
	diff <(printf 'from device to device, distance D\nfreed, 4096 bytes held\n') - >&2 ||
	fail "p2p: not as it says"
