/* SPDX-License-Identifier: MIT */
/* A region that was removed is opened once more: the same file, or an error. */
#include "pmem_test.h"

#include "drivers/pmem/pmem.h"

static int reopen(const struct zd_pmem *removed, struct zd_pmem **pmem)
{
	char err[512] = "";
	int rc = zd_pmem_reopen(removed, pmem, err, sizeof(err));

	assert_true(!rc || err[0]);
	return rc;
}

static void test_reopen(void **state)
{
	const char *path = tmp_path("again"), *aside = tmp_path("aside");
	struct zd_pmem *pmem = open_new(path, 0, MIB), *again, *third;
	uint64_t first, nr;
	char buf[SECTOR];

	(void)state;
	assert_non_null(pmem);
	stamp(buf, 5, 1, 7);
	assert_int_equal(wr(pmem, 5, 1, buf), 0);
	assert_int_equal(zd_pmem_badblocks_set(pmem, 10, 2), 0);
	assert_int_equal(reopen(pmem, &again), -EINVAL);	/* it isn't removed */
	assert_int_equal(zd_pmem_remove(pmem), 0);
	assert_int_equal(reopen(pmem, &again), 0);
	zd_pmem_close(pmem);
	assert_int_equal(rd(again, 5, 1, buf), 0);
	assert_int_equal(stamped(buf, 5), 7);
	/* what was lost is lost */
	assert_int_equal(zd_pmem_badblocks_check(again, 0, 2048, &first, &nr), 1);
	assert_int_equal(first, 10);
	assert_int_equal(nr, 2);
	assert_int_equal(rd(again, 10, 1, buf), -EIO);
	assert_int_equal(zd_pmem_rw(again, ZD_PMEM_FLUSH, 0, 0, 0, NULL), 0);
	/* and what couldn't be written back makes flushes fail still */
	again->media.sync.error = -EIO;
	assert_int_equal(zd_pmem_remove(again), -EIO);	/* it isn't durable this time, either */
	assert_int_equal(reopen(again, &third), 0);
	if (!third->media.drain_fn && third->media.persist != ZD_PMEM_PERSIST_NONE)
		assert_int_equal(zd_pmem_rw(third, ZD_PMEM_FLUSH, 0, 0, 0, NULL), -EIO);
	zd_pmem_close(third);

	/* another file of the same length won't do: its zeros aren't the region's data */
	assert_int_equal(rename(path, aside), 0);
	assert_int_equal(reopen(again, &third), -ENOENT);
	pmem = open_new(path, 0, MIB);
	assert_non_null(pmem);
	zd_pmem_close(pmem);
	assert_int_equal(reopen(again, &third), -ESTALE);
	assert_int_equal(rename(aside, path), 0);
	assert_int_equal(reopen(again, &third), 0);
	zd_pmem_close(third);
	zd_pmem_close(again);
	unlink(path);

	pmem = open_at("memfd:again", 0, MIB);
	assert_non_null(pmem);
	assert_int_equal(zd_pmem_remove(pmem), 0);
	assert_int_equal(reopen(pmem, &again), -ENODEV);
	zd_pmem_close(pmem);
}

/* A BTT is not laid out anew where there was one. */
static void test_reopen_btt(void **state)
{
	const char *path = tmp_path("again");
	struct zd_pmem *pmem = open_new(path, ZD_PMEM_BTT, 4 * MIB), *again;
	char buf[SECTOR];

	(void)state;
	assert_non_null(pmem);
	stamp(buf, 5, 1, 7);
	assert_int_equal(wr(pmem, 5, 1, buf), 0);
	assert_int_equal(zd_pmem_remove(pmem), 0);
	assert_int_equal(reopen(pmem, &again), 0);
	assert_int_equal(rd(again, 5, 1, buf), 0);
	assert_int_equal(stamped(buf, 5), 7);
	zd_pmem_close(again);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(truncate(path, 4 * MIB), 0);
	assert_int_equal(reopen(pmem, &again), -ENOENT);
	again = open_at(path, ZD_PMEM_BTT, 0);	/* as a new one */
	assert_non_null(again);
	zd_pmem_close(again);
	assert_int_equal(reopen(pmem, &again), -ESTALE);
	zd_pmem_close(pmem);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reopen),
		cmocka_unit_test(test_reopen_btt),
	};

	return RUN_BOTH(tests);
}
