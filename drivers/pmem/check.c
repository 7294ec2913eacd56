/* SPDX-License-Identifier: MIT */
/*
 * A region examined, and mended: its media are opened, under their lock, whatever is on them.
 *
 * A region without a BTT has no tables to look at.  A later kind of region that stores tables
 * on its media is examined from here, too, by another `if' in examine().
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/sized.h"
#include "drivers/btt/block.h"
#include "drivers/btt/check.h"
#include "drivers/btt/info.h"
#include "drivers/explain.h"
#include "drivers/pmem/pmem.h"

struct checking {
	struct zd_media *m;
	unsigned int flags;
	void (*say)(void *arg, const char *line);
	void *arg;
	struct zd_pmem_check *out;
	char *err;
	size_t errlen;
};

static void say(const struct checking *k, const char *line)
{
	if (k->say)
		k->say(k->arg, line);
}

/* Read every block, by the tables as they are on the media now. */
static void check_data(const struct checking *k, struct zd_btt *btt)
{
	char buf[4096], line[128];
	struct zd_btt_owner o;
	uint64_t entry;

	for (uint64_t b = 0; b < btt->nr_blocks; b++) {
		if (!zd_btt_look_up(btt, b, &entry, &o) &&
		    (zd_btt_kind(entry) == ZD_BTT_LOST || !zd_btt_fetch(btt, b, entry, buf)))
			continue;
		k->out->nr_bad++;
		snprintf(line, sizeof(line), "sectors %llu-%llu: their content is broken",
			 (unsigned long long)(b * btt->block / ZD_SECTOR_SIZE),
			 (unsigned long long)((b + 1) * btt->block / ZD_SECTOR_SIZE - 1));
		say(k, line);
	}
}

/* Put the tables right, and close the BTT, so that it has its sums. */
static int mend(struct zd_btt *btt, struct zd_btt_check *check)
{
	int rc;

	if (zd_btt_check_is_hopeless(check))
		return -EUCLEAN;
	btt->info.closed = 0;
	rc = zd_btt_put_infos(btt);
	if (!rc)
		rc = zd_btt_check_apply(check);
	if (!rc)
		rc = zd_btt_put_closed(btt, zd_btt_check_gen(check));
	return rc;
}

static int check_tables(const struct checking *k, struct zd_btt *btt, uint32_t nr_broken)
{
	bool look = k->flags & ZD_PMEM_CHECK_LOOK;
	struct zd_btt_check *check;
	int rc = zd_btt_check(btt, k->say, k->arg, &check);

	if (rc)
		return rc;
	if (nr_broken)
		say(k, "one of its three descriptions, or two, are broken");
	k->out->damaged = zd_btt_check_is_damaged(check) || nr_broken;
	k->out->nr_lost = zd_btt_check_nr_lost(check);
	if (!look)
		rc = mend(btt, check);
	if (rc == -EUCLEAN) {		/* zd_btt_check() has said why */
		zd_btt_check_free(check);
		return 0;
	}
	k->out->mended = k->out->damaged && !look && !rc;
	/* in tables that aren't mended blocks can't be looked up */
	if (!rc && k->flags & ZD_PMEM_CHECK_DATA && (!look || !k->out->damaged))
		check_data(k, btt);
	zd_btt_check_free(check);
	return rc;
}

/* No info block is valid: damaged, and that can't be mended. */
static int report_no_info(const struct checking *k, const struct zd_btt_infos *infos)
{
	char line[256];

	if (infos->unfinished) {
		say(k, "laying out its BTT was interrupted: nothing was written yet");
		return 0;
	}
	zd_btt_explain_infos(k->m, infos, line, sizeof(line));
	say(k, line);
	k->out->damaged = true;
	return 0;
}

static int check_btt(const struct checking *k)
{
	struct zd_btt_infos *infos = zd_alloc(sizeof(*infos));
	struct zd_btt *btt;
	int rc;

	if (!infos)
		return -ENOMEM;
	k->out->btt = true;
	zd_btt_read_infos(k->m, infos);
	if (infos->best < 0) {
		rc = report_no_info(k, infos);
		goto out;
	}
	btt = zd_btt_alloc(k->m, &infos->b[infos->best]);
	rc = -ENOMEM;
	if (!btt)
		goto out;
	k->out->nr_blocks = btt->nr_blocks;
	k->out->block_bytes = btt->block;
	rc = check_tables(k, btt, infos->nr_broken);
	zd_btt_free(btt);
out:
	zd_free(infos);
	return rc;
}

static int examine(const struct checking *k)
{
	int rc = zd_btt_probe(k->m);

	return rc > 0 ? check_btt(k) : rc;
}

/* Any thread; blocks.  The region is open nowhere: its file is locked. */
int zd_pmem_check_sized(const char *path, unsigned int flags, void (*say_fn)(void *, const char *),
			void *arg, struct zd_pmem_check *check, size_t size, char *err,
			size_t errlen)
{
	bool look = flags & ZD_PMEM_CHECK_LOOK;
	struct zd_pmem_attr attr = {
		.size = sizeof(attr), .flags = ZD_PMEM_FORCE | (look ? ZD_PMEM_READONLY : 0),
	};
	struct checking k = { .flags = flags, .say = say_fn, .arg = arg, .out = check };
	struct zd_pmem *pmem;
	int rc;

	if (!path || !check || size < sizeof(*check) || size > ZD_SIZED_MAX ||
	    flags & ~(ZD_PMEM_CHECK_LOOK | ZD_PMEM_CHECK_DATA))
		return zd_explain(err, errlen, -EINVAL, "unknown flags");
	memset(check, 0, size);	/* also what a newer program has at its end */
	rc = zd_pmem_open(path, &attr, &pmem, err, errlen);
	if (rc)
		return rc;
	k.m = &pmem->media;
	rc = examine(&k);
	if (rc)
		zd_explain(err, errlen, rc, "it can't be examined: %s", strerrordesc_np(-rc));
	zd_pmem_close(pmem);
	return rc;
}
