/* SPDX-License-Identifier: MIT */
/*
 * zonedev check, the command: of a region that is whole, damaged so that all can be mended,
 * damaged so that it can't, in use, not there; and what the region reads afterwards.
 *
 * Broken: an exit status, "opens over damage", "wrong content".
 */
#include "pmem_lib.h"

#include <sys/wait.h>

#include "drivers/btt/btt.h"
#include "drivers/pmem/pmem.h"

#define BYTES	(8 * MIB)
#define GEN	7u

static const char *path;
static struct zd_btt_info_block info;
static char out[4096];

/* The exit status; what it printed is in out[]. */
static int zonedev(const char *command, const char *option)
{
	char line[1024];
	size_t n;
	FILE *p;
	int status;

	snprintf(line, sizeof(line), "'%s' %s %s '%s' 2>&1", getenv("ZONEDEV"), command, option,
		 path);
	p = popen(line, "r");
	CHECK(p);
	n = fread(out, 1, sizeof(out) - 1, p);
	out[n] = '\0';
	status = pclose(p);
	CHECK(WIFEXITED(status));
	printf("%s %s: %d\n%s", command, option, WEXITSTATUS(status), out);
	return WEXITSTATUS(status);
}

static int open_it(struct zd_pmem **pmem, unsigned int flags, uint64_t bytes)
{
	struct zd_pmem_attr attr = { .size = sizeof(attr), .flags = flags, .bytes = bytes };
	char err[256] = "";
	int rc = zd_pmem_open(path, &attr, pmem, err, sizeof(err));

	/* a refusal over damage names what mends it */
	CHECK(rc != -EUCLEAN || strstr(err, "zonedev check"));
	return rc;
}

static void make(void)
{
	static char buf[65536];
	struct zd_pmem *pmem;

	unlink(path);
	CHECK_EQ(open_it(&pmem, ZD_PMEM_BTT | ZD_PMEM_CREATE, BYTES), 0);
	/* the second half stays as it is: zeros */
	for (uint64_t s = 0; s < pmem->info.nr_sectors / 2; s += 128) {
		stamp(buf, s, 128, GEN);
		CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_WRITE, 0, s, 128, buf), 0);
	}
	info = pmem->btt->info;
	zd_pmem_close(pmem);
}

static void lose_page(uint64_t off)
{
	static const char zeros[4096];
	int fd = open(path, O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(pwrite(fd, zeros, sizeof(zeros), off), sizeof(zeros));
	close(fd);
}

/* How many blocks fail; the others are right. */
static uint64_t read_all(void)
{
	struct zd_pmem *pmem;
	uint64_t bad = 0, half;
	char buf[4096];

	CHECK_EQ(open_it(&pmem, ZD_PMEM_BTT, 0), 0);
	half = (pmem->info.nr_sectors / 2 + 127) / 128 * 128;
	for (uint64_t s = 0; s < pmem->info.nr_sectors; s += 8) {
		int rc = zd_pmem_rw(pmem, ZD_PMEM_READ, 0, s, 8, buf);

		CHECK(!rc || rc == -EIO);
		bad += rc != 0;
		for (uint64_t k = s; k < s + 8 && !rc; k++)
			CHECK_EQ(stamped(buf + (k - s) * SECTOR, k), k < half ? GEN : 0);
	}
	zd_pmem_close(pmem);
	return bad;
}

static void expect_refused(void)
{
	struct zd_pmem *pmem;

	CHECK_EQ(open_it(&pmem, ZD_PMEM_BTT, 0), -EUCLEAN);
	CHECK_EQ(open_it(&pmem, ZD_PMEM_BTT | ZD_PMEM_READONLY, 0), -EUCLEAN);
}

/* One page of any table, or both copies of what a half of the lanes did last. */
static void test_mended(void)
{
	uint64_t part = (info.sums_off - info.flog_off) / 4;
	uint64_t lost[][2] = {
		{ info.map_off, info.map_off },
		{ info.owner_off + 4096, info.owner_off + 4096 },
		{ info.flog_off, info.flog_off },
		{ info.flog_off, info.flog_off + 2 * part },
		{ info.flog_off + part, info.flog_off + 3 * part },
	};

	for (unsigned int i = 0; i < sizeof(lost) / sizeof(lost[0]); i++) {
		make();
		lose_page(lost[i][0]);
		lose_page(lost[i][1]);
		expect_refused();
		CHECK_EQ(zonedev("check", "--dry-run"), 4);
		expect_refused();
		CHECK_EQ(zonedev("check", ""), 1);
		CHECK_EQ(read_all(), 0);
		CHECK_EQ(zonedev("check", "--data"), 0);
	}
	/* the flog as a whole, in all its copies */
	make();
	for (uint64_t off = info.flog_off; off < info.sums_off; off += 4096)
		lose_page(off);
	expect_refused();
	CHECK_EQ(zonedev("check", ""), 1);
	CHECK_EQ(read_all(), 0);
	/* a broken info block is mended, too, but the region opens with it */
	lose_page(0);
	CHECK_EQ(zonedev("check", ""), 1);
	CHECK_EQ(zonedev("check", ""), 0);
}

/* Map and owners are both damaged: nothing else knows where the blocks are. */
static void test_lost(void)
{
	struct zd_pmem *pmem;
	uint64_t lost;
	static char buf[65536];

	make();
	for (uint64_t off = info.map_off; off < info.flog_off; off += 4096)
		lose_page(off);
	expect_refused();
	CHECK_EQ(zonedev("check", ""), 4);
	CHECK(strstr(out, "are lost"));
	lost = read_all();
	CHECK_EQ(lost, info.nr_blocks);
	/* lost blocks are told by each check */
	CHECK_EQ(zonedev("check", ""), 4);
	CHECK_EQ(open_it(&pmem, ZD_PMEM_BTT, 0), 0);
	for (uint64_t s = 0; s < pmem->info.nr_sectors; s += 8) {
		stamp(buf, s, 8, GEN + 1);
		CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_WRITE, 0, s, 8, buf), 0);
	}
	zd_pmem_close(pmem);
	CHECK_EQ(zonedev("check", ""), 0);
}

/* Content that isn't what was written: its block fails, and --data names it. */
static void test_content(void)
{
	make();
	lose_page(info.data_off + 40 * 4096);
	CHECK_EQ(zonedev("check", ""), 0);
	CHECK_EQ(zonedev("check", "--data"), 4);
	CHECK(strstr(out, "content is broken"));
	CHECK_EQ(read_all(), 1);
}

static void test_refusals(void)
{
	struct zd_pmem *pmem;

	make();
	CHECK_EQ(zonedev("check", ""), 0);
	CHECK_EQ(open_it(&pmem, ZD_PMEM_BTT, 0), 0);
	CHECK_EQ(zonedev("check", ""), 8);
	zd_pmem_close(pmem);
	CHECK_EQ(zonedev("check", "--frob"), 2);
	CHECK_EQ(zonedev("check", "other"), 2);
	unlink(path);
	CHECK_EQ(zonedev("check", ""), 8);
	CHECK_EQ(access(path, F_OK), -1);
	CHECK_EQ(open_it(&pmem, ZD_PMEM_CREATE, BYTES), 0);
	zd_pmem_close(pmem);
	CHECK_EQ(zonedev("check", ""), 0);
}

int main(void)
{
	path = region_path("check");
	make();
	test_mended();
	test_lost();
	test_content();
	test_refusals();
	unlink(path);
	return 0;
}
