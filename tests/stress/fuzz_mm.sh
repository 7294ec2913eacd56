#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# fuzz_mm (what it does stands in fuzz_mm.c) natively and under zonedev run, with a limit that
# makes most of its pages go out and come home: no byte may be another one than it must be.
#
# usage: fuzz_mm.sh native|chain|alone|threads|forks|soak
#
#	native	without zonedev: fuzz_mm itself is right
#	chain	one thread that moves, shrinks, drops and guards mappings, several times in a
#		row; that mremap fails where a part of a mapping is watched is not its subject
#	alone	one thread, whose operations are the same with the same seed
#	threads	six, and no children
#	forks	four, and their children
#	soak	these, a minute each, with new seeds, for ZD_SECONDS
#
# ZD_SEED, ZD_SECONDS, ZD_OPS and ZD_THREADS go before what the mode says.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"

fuzz=$ZD_BUILD/tests/stress/fuzz_mm
seconds=${ZD_SECONDS:-}
seed=${ZD_SEED:-}
ops=${ZD_OPS:-}
threads=${ZD_THREADS:-}

# The kernel refuses mremap of several mappings at once where there is a userfaultfd.
plain=-spans

# run OPS THREADS SECONDS [COMMAND...]: fuzz_mm, by COMMAND, with a new seed or the given one
run() {
	local status=0
	export ZD_OPS=${ops:-$1} ZD_THREADS=${threads:-$2} ZD_SECONDS=$3
	export ZD_SEED=${seed:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
	shift 3
	echo "ZD_OPS=$ZD_OPS ZD_THREADS=$ZD_THREADS ZD_SEED=$ZD_SEED"
	"$@" "$fuzz" 2>&1 | tee "$T/log" || status=$?
	[ "$status" = 0 ] || fail "ended with $status; seed $ZD_SEED"
}

# managed OPS THREADS SECONDS RAM: under zonedev run
managed() {
	run "$1" "$2" "$3" "$ZONEDEV" run --quiet --report "$T/report.json" \
		--device ram:size=1G --ram "$4" --
	expect_in_report 'pages["out"] > 0' 'pages["home"] > 0' 'pages["poisoned"] == 0' \
		'pages["live"] == 0'
	echo "RESULT: $(sed -n 's/^\([0-9]* steps\)$/\1/p' "$T/log")," \
		"$(zd_report pages.out) pages out, $(zd_report pages.home) home"
}

mode() {
	case $1 in
	native) run all 4 "$2" ;;
	chain) ZD_ERRNO=0 managed chain,map,move,drop,guard 1 "$2" 8M ;;
	alone) managed "$plain,-fork,-hand" 1 "$2" 8M ;;
	threads) managed "$plain,-fork" 6 "$2" 32M ;;
	forks) managed "$plain" 4 "$2" 24M ;;
	*) fail "no mode $1" ;;
	esac
}

[ "${1:?which mode?}" = native ] || requires_run
if [ "$1" != soak ]; then
	mode "$1" "${seconds:-18}"
	exit
fi
end=$((SECONDS + ${seconds:-600}))
while [ "$SECONDS" -lt "$end" ]; do
	for m in alone threads forks; do
		left=$((end - SECONDS))
		[ "$left" -le 0 ] || mode "$m" $((left < 60 ? left : 60))
	done
done
