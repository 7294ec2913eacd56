/* SPDX-License-Identifier: MIT */
/* What is written back when, and what callers are told when it can't be.  The library calls this
 * file's msync(), which notes its ranges, and fails and waits as a test wants it to. */
#include "pmem_test.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include "base/lock.h"
#include "drivers/pmem/pmem.h"

static struct {
	uint32_t calls, whole, fail;	/* fail: so many calls from now on */
	uint32_t hold, held;		/* of those of the whole region; hold is a futex */
	uint64_t bytes, last;		/* bytes of the whole; of the last call */
} sync_calls;

int msync(void *addr, size_t len, int flags)
{
	bool whole = len == sync_calls.bytes;

	__atomic_add_fetch(&sync_calls.calls, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&sync_calls.last, len, __ATOMIC_RELAXED);
	if (whole) {
		__atomic_add_fetch(&sync_calls.whole, 1, __ATOMIC_RELAXED);
		while (__atomic_load_n(&sync_calls.hold, __ATOMIC_ACQUIRE)) {
			__atomic_store_n(&sync_calls.held, 1, __ATOMIC_RELEASE);
			zd_futex_wait(&sync_calls.hold, 1, 1000);
		}
	}
	if (__atomic_load_n(&sync_calls.fail, __ATOMIC_RELAXED)) {
		__atomic_sub_fetch(&sync_calls.fail, 1, __ATOMIC_RELAXED);
		errno = EIO;
		return -1;
	}
	return syscall(SYS_msync, addr, len, flags);
}

static void let_go(void)
{
	__atomic_store_n(&sync_calls.hold, 0, __ATOMIC_RELEASE);
	zd_futex_wake(&sync_calls.hold, 100);
}

static struct zd_pmem *open_paged(const char *path, unsigned int flags, uint64_t bytes)
{
	struct zd_pmem *pmem;

	force_persist("PAGE");
	pmem = open_new(path, flags, bytes);
	assert_non_null(pmem);
	memset(&sync_calls, 0, sizeof(sync_calls));
	sync_calls.bytes = bytes;
	return pmem;
}

static int flush(struct zd_pmem *pmem)
{
	return zd_pmem_rw(pmem, ZD_PMEM_FLUSH, 0, 0, 0, NULL);
}

/* FUA and persist write back their own range, whatever other threads have stored elsewhere. */
static void test_range(void **state)
{
	const char *path = tmp_path("range");
	struct zd_pmem *pmem = open_paged(path, 0, MIB);
	static char buf[16 * SECTOR];
	zd_pfn_t pfn;
	void *page;

	(void)state;
	assert_int_equal(wr(pmem, 1000, 16, buf), 0);
	assert_int_equal(sync_calls.calls, 0);
	/* the second half of a page and the first of the next */
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_WRITE, ZD_PMEM_FUA, 12, 8, buf), 0);
	assert_int_equal(sync_calls.last, 2 * ZD_PAGE_SIZE);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_WRITE_ZEROES, ZD_PMEM_FUA, 8, 8, NULL), 0);
	assert_int_equal(sync_calls.last, ZD_PAGE_SIZE);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_DISCARD, ZD_PMEM_FUA, 2040, 8, NULL), 0);
	assert_int_equal(sync_calls.last, ZD_PAGE_SIZE);
	assert_int_equal(zd_pmem_direct_access(pmem, 3, 1, &page, &pfn), 1);
	assert_int_equal(zd_pmem_persist(pmem, (char *)page + 4000, 90), 0);
	assert_int_equal(sync_calls.last, ZD_PAGE_SIZE);
	assert_int_equal(zd_pmem_persist(pmem, page, 0), 0);
	zd_pmem_direct_release(pmem, pfn, 1);
	assert_int_equal(sync_calls.calls, 4);
	/* a length of 0: nothing is synced */
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_WRITE, ZD_PMEM_FUA, 5, 0, buf), 0);
	assert_int_equal(sync_calls.calls, 4);
	assert_int_equal(sync_calls.whole, 0);
	assert_int_equal(flush(pmem), 0);
	assert_int_equal(sync_calls.whole, 1);
	zd_pmem_close(pmem);
	unlink(path);
}

/* A sync that failed, of a range or of all: each later one fails, removal tells, and so do
 * flushes after it; until the region is opened anew. */
static void fails(bool fua)
{
	const char *path = tmp_path("fails");
	struct zd_pmem *pmem = open_paged(path, 0, MIB), *again;
	char buf[SECTOR] = "x", err[256];

	assert_int_equal(flush(pmem), 0);
	sync_calls.fail = 1;
	if (fua)
		assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_WRITE, ZD_PMEM_FUA, 0, 1, buf), -EIO);
	else
		assert_int_equal(flush(pmem), -EIO);
	assert_int_equal(sync_calls.fail, 0);
	assert_int_equal(flush(pmem), -EIO);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_WRITE, ZD_PMEM_FUA, 800, 1, buf), -EIO);
	assert_int_equal(zd_pmem_persist_range(pmem, 8192, 4096), -EIO);
	assert_int_equal(wr(pmem, 0, 1, buf), 0);
	assert_int_equal(rd(pmem, 0, 1, buf), 0);
	/* not an error of the media: nothing is bad */
	assert_int_equal(zd_pmem_badblocks_check(pmem, 0, 2048, NULL, NULL), 0);
	assert_int_equal(zd_pmem_remove(pmem), -EIO);
	assert_int_equal(zd_pmem_remove(pmem), -ENODEV);
	assert_int_equal(zd_pmem_reopen(pmem, &again, err, sizeof(err)), 0);
	zd_pmem_close(pmem);
	assert_int_equal(flush(again), -EIO);
	zd_pmem_close(again);
	again = open_at(path, 0, 0);
	assert_non_null(again);
	assert_int_equal(flush(again), 0);
	assert_int_equal(zd_pmem_remove(again), 0);
	zd_pmem_close(again);
	unlink(path);
}

static void test_fails(void **state)
{
	(void)state;
	fails(true);
	fails(false);
}

/* The last sync is the removal's own; with a timeout as well. */
static void test_removal_fails(void **state)
{
	struct zd_pmem_holders h;

	(void)state;
	for (int timed = 0; timed < 2; timed++) {
		const char *path = tmp_path("last");
		struct zd_pmem *pmem = open_paged(path, timed ? ZD_PMEM_BTT : 0, MIB);
		char buf[SECTOR] = "x";

		assert_int_equal(wr(pmem, 0, 1, buf), 0);
		sync_calls.fail = 1;
		assert_int_equal(timed ? zd_pmem_remove_timeout(pmem, 20000, &h) :
					 zd_pmem_remove(pmem),
				 -EIO);
		zd_pmem_close(pmem);
		unlink(path);
	}
}

static struct zd_pmem *region;
static uint32_t flushed;

static void *flush_it(void *arg)
{
	(void)arg;
	assert_int_equal(flush(region), 0);
	__atomic_store_n(&flushed, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* While a flush waits for the disk: reads, writes, durable ones, discards, holds go on; a
 * removal waits for it, and says so. */
static void test_beside_flush(void **state)
{
	const char *path = tmp_path("beside");
	struct zd_pmem_holders h;
	static char buf[8 * SECTOR];
	pthread_t t;
	zd_pfn_t pfn;

	(void)state;
	region = open_paged(path, 0, MIB);
	flushed = 0;
	assert_int_equal(wr(region, 64, 8, buf), 0);
	sync_calls.hold = 1;
	assert_int_equal(pthread_create(&t, NULL, flush_it, NULL), 0);
	alarm(60);		/* a call that waits would wait for ever */
	while (!__atomic_load_n(&sync_calls.held, __ATOMIC_ACQUIRE))
		usleep(1000);
	assert_int_equal(rd(region, 64, 8, buf), 0);
	assert_int_equal(wr(region, 64, 8, buf), 0);
	assert_int_equal(zd_pmem_rw(region, ZD_PMEM_WRITE, ZD_PMEM_FUA, 64, 8, buf), 0);
	assert_int_equal(zd_pmem_rw(region, ZD_PMEM_DISCARD, ZD_PMEM_FUA, 128, 64, NULL), 0);
	assert_int_equal(zd_pmem_direct_access(region, 5, 1, NULL, &pfn), 1);
	assert_int_equal(zd_pmem_persist_range(region, 5 * ZD_PAGE_SIZE, ZD_PAGE_SIZE), 0);
	zd_pmem_direct_release(region, pfn, 1);
	/* what has just become bad is told, and recorded */
	assert_int_equal(zd_pmem_badblocks_set(region, 200, 1), 0);
	assert_int_equal(rd(region, 200, 1, buf), -EIO);
	assert_int_equal(wr(region, 200, 1, buf), 0);
	assert_int_equal(zd_pmem_remove_timeout(region, 10, &h), -ETIMEDOUT);
	assert_int_equal(h.nr_requests, 1);
	assert_int_equal(__atomic_load_n(&flushed, __ATOMIC_ACQUIRE), 0);
	let_go();
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(zd_pmem_remove(region), 0);
	alarm(0);
	zd_pmem_close(region);
	unlink(path);
}

/* More threads at once than there are files to sync through: all get their turn. */
static void *write_fua(void *arg)
{
	uint64_t sector = (uintptr_t)arg * 8;
	char buf[8 * SECTOR];

	for (uint32_t i = 1; i < 8; i++) {
		stamp(buf, sector, 8, i);
		assert_int_equal(zd_pmem_rw(region, ZD_PMEM_WRITE, ZD_PMEM_FUA, sector, 8, buf), 0);
	}
	return NULL;
}

static void test_many(void **state)
{
	const char *path = tmp_path("many");
	pthread_t t[3 * ZD_SYNC_FILES];

	(void)state;
	region = open_paged(path, 0, MIB);
	for (uintptr_t i = 0; i < 3 * ZD_SYNC_FILES; i++)
		assert_int_equal(pthread_create(&t[i], NULL, write_fua, (void *)i), 0);
	for (int i = 0; i < 3 * ZD_SYNC_FILES; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	assert_int_equal(sync_calls.calls, 3 * ZD_SYNC_FILES * 7);
	assert_int_equal(sync_calls.whole, 0);
	assert_int_equal(region->media.sync_files.busy, 0);
	zd_pmem_close(region);
	unlink(path);
}

/* --- discard --- */

static uint64_t blocks(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_blocks;
}

/* A bad sector elsewhere is no reason to fill the file; nor is one in the range, which a hole
 * heals. */
static void test_discard_bad(void **state)
{
	const char *path = tmp_path("discard");
	struct zd_pmem *pmem = open_paged(path, 0, 8 * MIB);
	static char buf[16384 * SECTOR];
	uint64_t before;

	(void)state;
	stamp(buf, 0, 16384, 1);
	assert_int_equal(wr(pmem, 0, 16384, buf), 0);
	assert_int_equal(flush(pmem), 0);	/* delayed allocation */
	before = blocks(path);
	assert_int_equal(zd_pmem_badblocks_set(pmem, 1, 1), 0);
	assert_int_equal(zd_pmem_badblocks_set(pmem, 8192, 3), 0);
	assert_int_equal(zd_pmem_badblocks_set(pmem, 8301, 1), 0);	/* at an edge */
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_DISCARD, 0, 64, 8237, NULL), 0);
	assert_true(blocks(path) < before - 8000);
	assert_int_equal(rd(pmem, 1, 1, buf), -EIO);
	assert_int_equal(rd(pmem, 8301, 1, buf), -EIO);
	assert_int_equal(rd(pmem, 64, 8237, buf), 0);
	assert_true(all_zero(buf, 8237 * SECTOR));
	assert_int_equal(rd(pmem, 8302, 1, buf), 0);
	assert_int_equal(stamped(buf, 8302), 1);
	/* while the file is short neither a hole nor a store mends */
	assert_int_equal(zd_pmem_badblocks_set(pmem, 12000, 8), 0);
	assert_int_equal(truncate(path, 4 * MIB), 0);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_DISCARD, 0, 9000, 7000, NULL), -EIO);
	assert_int_equal(truncate(path, 8 * MIB), 0);
	assert_int_equal(rd(pmem, 12000, 1, buf), -EIO);
	before = blocks(path);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_WRITE_ZEROES, 0, 8192, 8192, NULL), 0);
	assert_int_equal(flush(pmem), 0);
	assert_true(blocks(path) <= before);
	assert_int_equal(zd_pmem_badblocks_check(pmem, 8192, 8192, NULL, NULL), 0);
	assert_int_equal(rd(pmem, 8192, 8192, buf), 0);
	assert_true(all_zero(buf, 8192 * SECTOR));
	zd_pmem_close(pmem);
	unlink(path);
}

/* Where holes can't be punched a discard does nothing. */
static void test_discard_no_holes(void **state)
{
	const char *dir = tmp_path("ramfs");
	char path[600], buf[SECTOR];
	struct zd_pmem *pmem;
	uint64_t before;

	(void)state;
	assert_int_equal(mkdir(dir, 0700), 0);
	if (mount("small", dir, "ramfs", 0, "")) {
		rmdir(dir);
		print_message("can't mount a ramfs: left out\n");
		return;
	}
	snprintf(path, sizeof(path), "%s/region", dir);
	pmem = open_paged(path, 0, MIB);
	assert_false(pmem->info.has_holes);
	stamp(buf, 9, 1, 1);
	assert_int_equal(wr(pmem, 9, 1, buf), 0);
	before = blocks(path);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_DISCARD, 0, 0, 2048, NULL), 0);
	assert_int_equal(blocks(path), before);
	assert_int_equal(rd(pmem, 9, 1, buf), 0);
	assert_int_equal(stamped(buf, 9), 1);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_WRITE_ZEROES, 0, 9, 1, NULL), 0);
	assert_int_equal(rd(pmem, 9, 1, buf), 0);
	assert_true(all_zero(buf, SECTOR));
	zd_pmem_close(pmem);
	assert_int_equal(umount(dir), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_range),
		cmocka_unit_test(test_fails),
		cmocka_unit_test(test_removal_fails),
		cmocka_unit_test(test_beside_flush),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_discard_bad),
		cmocka_unit_test(test_discard_no_holes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
