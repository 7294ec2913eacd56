#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The report: its fields, and that they fit together.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

size=72
echo "something old that is longer than any report $(printf '%04000d' 0)" >"$T/report.json"
export RUN_MEM_RAM=$((size / 3))
zd_run --device "file:$T/dev,size=512M" --ram "$((size / 3))M" -- "$H/run_mem" check "$size" \
	2>"$T/err" || fail "ended with $?"
[ ! -s "$T/err" ] || fail "a summary as well: $(cat "$T/err")"
python3 - "$T/report.json" "$size" "$((size / 3))" "$RAM_SLACK" <<'END' || fail "the report"
import json, sys
text = open(sys.argv[1]).read()
r = json.loads(text)
size, ram = (int(a) << 20 for a in sys.argv[2:4])
wrong = []

def check(what, good):
    if not good:
        wrong.append(what)

p, us = r["pages"], r["fault_latency_us"]
check("version", r["version"] == 1)
check("command", r["command"].endswith("/run_mem"))
check("device", r["device"].startswith("file:") and r["device_size"] == 512 << 20)
check("seconds", 0 < r["seconds"] < 120)
check("status", r["status"] == {"exit": 0, "signal": None})
check("ram", r["ram"] == ram)
check("peak_ram", ram * 0.9 <= r["peak_ram"] <= ram * float(sys.argv[4]))
check("out", p["out"] * 4096 > size - ram)
check("home", p["home"] * 4096 > size - ram)
# each page that went out came home or was freed, and no other came home
check("out, home, freed", p["home"] <= p["out"] <= p["home"] + p["freed"])
check("live", p["live"] == 0)
check("poisoned", p["poisoned"] == 0)
check("faults", r["faults"] >= r["faults_home"] + r["faults_zero"])
check("faults_home", 0 < r["faults_home"] <= p["home"])
check("latency", 0 < us["p50"] <= us["p90"] <= us["p99"])
check("latency max", us["p99"] <= us["max"] * 1.2 and us["max"] < 60e6)
check("bytes to", r["bytes"]["to_device"] == p["out"] * 4096)
check("bytes from", r["bytes"]["from_device"] == p["home"] * 4096)
check("refused", set(r["refused"]) == {"pinned", "shared", "absent", "protection", "busy", "device"})
check("processes", r["processes"] == 1)
check("unmanaged", not any(r["unmanaged"].values()))
sys.exit(f"wrong: {', '.join(wrong)}\n{text}" if wrong else 0)
END

# How the program ended.
zd_run --device ram:size=64M --ram 32M -- sh -c 'exit 3' && fail "exit 3 was lost"
expect_in_report 'status == {"exit": 3, "signal": None}' 'pages["out"] == 0' 'faults == 0'
zd_run --device ram:size=64M --ram 32M -- sh -c 'kill -TERM $$' && fail "SIGTERM was lost"
expect_in_report 'status == {"exit": None, "signal": 15}'

RUN_MEM_RAM=16
# Without --report: a summary on stderr, which --quiet leaves out.
expect_status 0 "$ZONEDEV" run --device ram:size=256M --ram 16M -- "$H/run_mem" check 48
grep -q "pages *out [1-9][0-9]* *home [1-9][0-9]* .*live 0" <<<"$ERR" || fail "summary: $ERR"
[ -z "$OUT" ] || fail "the summary is on stdout: $OUT"
expect_status 0 "$ZONEDEV" run --quiet --device ram:size=256M --ram 16M -- "$H/run_mem" check 48
[ -z "$OUT$ERR" ] || fail "not quiet: $OUT$ERR"
expect_status 0 "$ZONEDEV" run --progress --quiet --device ram:size=256M --ram 16M -- sleep 1.5
[ "$(grep -c "RAM .* out .* home" <<<"$ERR")" -ge 2 ] || fail "progress: $ERR"

# The summary says why pages stayed, and so does --verbose; sizes may have a fraction.
unset RUN_MEM_RAM	# there is no room to wait for
for how in "" "--verbose --report $T/report.json"; do
	# shellcheck disable=SC2086
	expect_status 0 "$ZONEDEV" run $how --device ram:size=2.5MiB --ram 8.5M -- "$H/run_mem" check 32
	grep -q "zonedev:  *stayed .*[1-9][0-9]* device full" <<<"$ERR" || fail "why pages stayed: $ERR"
done
expect_report ram -eq $((17 << 19))
expect_report device_size -eq $((5 << 19))

# To standard output, behind the program's output.
expect_status 3 "$ZONEDEV" run --report - --device ram:size=64M --ram 16M -- sh -c 'echo first; exit 3'
[ "${OUT%%$'\n'*}" = first ] && [ -z "$ERR" ] || fail "--report -: $OUT $ERR"
tail -n +2 <<<"$OUT" >"$T/report.json"
expect_report status.exit -eq 3
expect_error "--report -" sh -c 'exec "$@" >&-' sh \
	"$ZONEDEV" run --report - --device ram:size=64M --ram 16M -- touch "$T/started"

# A report that can't be written is an error, if the program's own status is success.
expect_error "can't write the report" "$ZONEDEV" run --report /dev/full --device ram:size=64M --ram 16M -- true
expect_status 5 "$ZONEDEV" run --report /dev/full --device ram:size=64M --ram 16M -- sh -c 'exit 5'
grep -q "can't write the report to /dev/full" <<<"$ERR" || fail "no word on the report: $ERR"

# Where the report's file can't be opened the program doesn't start.
for path in "$T/no/such/dir/report.json" "$T"; do
	expect_error "$path" "$ZONEDEV" run --report "$path" --device ram:size=64M -- touch "$T/started"
done
[ ! -e "$T/started" ] || fail "started without a place for the report"
