#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# sqlite3 with its database in memory: filled, indexed, changed, asked; the answers
# are those of a plain run.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

requires sqlite3
cat >"$T/q.sql" <<END
CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER, v TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $(scaled 200000))
INSERT INTO t SELECT i, (i * 7919) % 100003, printf('value %d of %080d', i, i * 31) FROM n;
CREATE INDEX by_k ON t (k);
SELECT count(*), sum(k), sum(length(v)) FROM t;
UPDATE t SET v = 'changed ' || v WHERE id % 3 = 0;
DELETE FROM t WHERE id % 11 = 0;
SELECT count(*), sum(id), max(v) FROM t WHERE k BETWEEN 1000 AND 60000;
SELECT v FROM t WHERE k = 4242 ORDER BY id;
SELECT k % 10, count(*), sum(length(v)) FROM t GROUP BY 1 ORDER BY 1;
PRAGMA integrity_check;
END
sqlite3 :memory: <"$T/q.sql" >"$T/plain"
zd_run --device ram:size=1G --ram "$(scaled 32)M" -- \
	sqlite3 :memory: <"$T/q.sql" >"$T/managed" || fail "sqlite3 ended with $?"
cmp "$T/plain" "$T/managed" >&2 || fail "answered differently"
grep -qx ok "$T/managed" || fail "integrity_check: $(tail -n 1 "$T/managed")"
expect_report pages.out -gt 1000
expect_report pages.home -gt 1000
expect_report pages.live -eq 0
