#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# --ram is the promise about all the memory that a program costs: sampled from outside, what is
# resident of the program, and what compressed RAM takes for the rest, stay within 5 % of it.
# (The buffers of pages in flight, at most 16 MiB, come on top; they are told.)
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

# Memory that compresses about threefold, used at random; it grows in steps, no faster than pages
# can go out.
cat >"$T/prog.py" <<'END'
import random, sys, time
rng = random.Random(5)
words = [rng.randbytes(24) for _ in range(64)]
mib, seconds = int(sys.argv[1]), float(sys.argv[2])
blocks = []
for i in range(mib * 4):
    blocks.append(bytearray(b"".join(rng.choice(words) + bytes(40) for _ in range(4096))))
    time.sleep(0.002)
until = time.time() + seconds
while time.time() < until:
    b = blocks[min(rng.randrange(len(blocks)), rng.randrange(len(blocks)))]
    b[rng.randrange(len(b))] ^= 1
    b[rng.randrange(len(b))] ^= 1
print("done")
END
cat >"$T/sample.py" <<'END'
"""SAMPLES COMMAND...: of each look a line: bytes that are resident of the program, and of zonedev
(its own memory, and what it shares with no file); bytes that devices keep in RAM; pages out."""
import json, os, subprocess, sys, time
run = subprocess.Popen(sys.argv[2:])

def resident(pid, *kinds):
    try:
        fields = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status", errors="replace"))
        return sum(int(fields[kind].split()[0]) << 10 for kind in kinds)
    except (OSError, KeyError):
        return 0

with open(sys.argv[1], "w") as samples:
    while run.poll() is None:
        look = subprocess.run([os.environ["ZONEDEV"], "stat", "--json", str(run.pid)],
                              capture_output=True)
        if not look.returncode:
            now = json.loads(look.stdout)
            print(sum(resident(pid, "RssAnon") for pid in now["pids"]),
                  resident(run.pid, "RssAnon", "RssShmem"),
                  sum(d["ram"] for d in now["devices"]), now["pages"]["out"], file=samples)
        time.sleep(0.03)
sys.exit(run.returncode)
END

ram=64
python3 "$T/sample.py" "$T/samples" "$ZONEDEV" run --report "$T/report.json" \
	--device lz4 --device "file:$T/dev,size=1G" --ram "${ram}M" -- \
	python3 "$T/prog.py" "$(scaled 160)" 6 >"$T/out" || fail "ended with $?"
[ "$(cat "$T/out")" = done ] || fail "the program: $(cat "$T/out")"
expect_in_report 'devices[0]["out"] > 5000' 'pages["live"] == 0 == pages["poisoned"]'
python3 - "$T/samples" "$ram" <<'END' || fail "more RAM than was to be, or less"
import sys
ram = int(sys.argv[2]) << 20
samples = [list(map(int, line.split())) for line in open(sys.argv[1])]
before = max(zonedev for _, zonedev, _, out in samples if not out)
used = [program + max(zonedev - before, 0) for program, zonedev, _, out in samples if out]
told = [program + devices for program, _, devices, out in samples if out]
total = sorted(told)
middle, most = total[len(total) // 2] / ram, total[-1] / ram
print(f"RESULT: {len(total)} samples, middle {middle:.3f} and most {most:.3f} of --ram; with buffers of "
      f"pages in flight {sorted(used)[len(used) // 2] / ram:.3f}; pool up to {max(s[2] for s in samples) >> 20} MiB")
over = sum(t > ram * 1.05 for t in total)
sys.exit(len(total) < 20 or not 0.85 < middle < 1.05 or over > len(total) // 20)
END
