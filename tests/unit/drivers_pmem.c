/* SPDX-License-Identifier: MIT */
/* A region: open, requests, the queue, pages by address. */
#include "pmem_test.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include "drivers/pmem/pmem.h"

#define NR	2048u		/* sectors of a MiB */

/* --- open --- */

static void test_open_errors(void **state)
{
	struct zd_pmem_attr attr = { .size = sizeof(attr), .flags = 1u << 20 };
	const char *path = tmp_path("errors");
	struct zd_pmem *pmem, *other;
	int fds[2], fd;

	(void)state;
	unlink(path);
	assert_int_equal(try_open(path, 0, MIB, &pmem), -ENOENT);
	assert_int_equal(zd_pmem_open(path, &attr, &pmem, NULL, 0), -EINVAL);
	attr = (struct zd_pmem_attr){ .size = 4 };
	assert_int_equal(zd_pmem_open(path, &attr, &pmem, NULL, 0), -EINVAL);
	assert_int_equal(try_open(path, ZD_PMEM_CREATE, 0, &pmem), -EINVAL);
	/* a file that was made in vain is gone again */
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(try_open(path, ZD_PMEM_CREATE, 4097, &pmem), -EINVAL);
	assert_int_equal(try_open(path, ZD_PMEM_CREATE | ZD_PMEM_READONLY, MIB, &pmem), -ENOENT);
	assert_int_equal(try_open("/dev/null", 0, 0, &pmem), -ENOTBLK);
	assert_int_equal(try_open(getenv("TMPDIR") ? getenv("TMPDIR") : "/var/tmp",
				  ZD_PMEM_READONLY, 0, &pmem),
			 -ENOTBLK);
	assert_int_equal(try_open("memfd:x", 0, 0, &pmem), -EINVAL);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(zd_pmem_open_fd(fds[0], NULL, &pmem, NULL, 0), -ENOTBLK);
	assert_int_equal(zd_pmem_open_fd(-1, NULL, &pmem, NULL, 0), -EBADF);
	close(fds[0]);
	close(fds[1]);

	pmem = open_new(path, 0, MIB);
	assert_non_null(pmem);
	/* locked, in this process as in others */
	assert_int_equal(try_open(path, 0, 0, &other), -EBUSY);
	assert_int_equal(try_open(path, ZD_PMEM_READONLY, 0, &other), -EBUSY);
	if (!fork())
		_exit(try_open(path, 0, 0, &other) == -EBUSY ? 0 : 1);
	assert_true(wait(&fd) > 0 && fd == 0);
	zd_pmem_close(pmem);

	assert_int_equal(try_open(path, 0, 2 * MIB, &pmem), -EINVAL);
	assert_int_equal(truncate(path, MIB + 512), 0);
	assert_int_equal(try_open(path, 0, 0, &pmem), -EINVAL);
	/* a file that was emptied isn't a new one: see drivers_pmem_record.c */
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(try_open(path, 0, MIB, &pmem), -EUCLEAN);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
	assert_int_equal(try_open(path, 0, 0, &pmem), -EINVAL);
	assert_int_equal(try_open(path, ZD_PMEM_READONLY, MIB, &pmem), -EINVAL);
	assert_int_equal(try_open(path, 0, MIB, &pmem), 0);
	zd_pmem_close(pmem);
	/* readers share the lock */
	assert_int_equal(try_open(path, ZD_PMEM_READONLY, 0, &pmem), 0);
	assert_int_equal(try_open(path, ZD_PMEM_READONLY, MIB, &other), 0);
	zd_pmem_close(other);
	assert_int_equal(try_open(path, 0, 0, &other), -EBUSY);
	zd_pmem_close(pmem);
	zd_pmem_close(NULL);
	unlink(path);
}

static void test_info(void **state)
{
	const char *path = tmp_path("info");
	struct zd_pmem *pmem = open_new(path, 0, MIB);
	struct zd_pmem_info info;
	struct statfs fs;
	struct stat st;

	(void)state;
	assert_non_null(pmem);
	assert_int_equal(zd_pmem_get_info_sized(pmem, &info, sizeof(info) - 1), -EINVAL);
	assert_int_equal(zd_pmem_get_info(pmem, &info), 0);
	assert_int_equal(info.nr_sectors, NR);
	assert_int_equal(info.media_bytes, MIB);
	assert_int_equal(info.atomic_bytes, 8);
	assert_int_equal(info.flags, 0);
	assert_true(info.has_holes);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true(st.st_blocks <= 16);	/* tmpfs: the pages that were read */
	assert_int_equal(statfs(path, &fs), 0);
	if (!getenv("PMEM2_FORCE_GRANULARITY"))
		assert_int_equal(info.persist, fs.f_type == TMPFS_MAGIC ? ZD_PMEM_PERSIST_NONE :
									  ZD_PMEM_PERSIST_PAGE);
	zd_pmem_close(pmem);

	pmem = open_at("memfd:region", 0, MIB);
	assert_non_null(pmem);
	assert_int_equal(zd_pmem_get_info(pmem, &info), 0);
	if (!getenv("PMEM2_FORCE_GRANULARITY"))
		assert_int_equal(info.persist, ZD_PMEM_PERSIST_NONE);
	assert_int_equal(ftruncate(pmem->media.fd, 0), -1);
	zd_pmem_close(pmem);
	unlink(path);
}

/* --- requests --- */

static int ends, end_error;

static void end_io(struct zd_pmem_request *req, int error)
{
	assert_ptr_equal(req->private_data, &ends);
	ends++;
	end_error = error;
}

static int submit(struct zd_pmem *pmem, struct zd_pmem_request *req)
{
	ends = 0;
	req->end_io = end_io;
	req->private_data = &ends;
	zd_pmem_submit(pmem, req);
	assert_int_equal(ends, 1);
	return end_error;
}

static void test_iov(void **state)
{
	static char a[5 * SECTOR], b[5 * SECTOR];
	struct iovec out[] = {
		{ a, 0 }, { a, 100 }, { a + 100, 1 }, { a + 101, 0 }, { a + 101, 4 * SECTOR - 101 }
	};
	struct iovec in[] = { { b, 4 * SECTOR - 7 }, { b + 4 * SECTOR - 7, 7 }, { b, 0 } };
	struct zd_pmem *pmem = open_at("memfd:iov", 0, MIB);
	struct zd_pmem_request w = {
		.op = ZD_PMEM_WRITE, .sector = 13, .nr_sectors = 4, .iov = out, .nr_iov = 5
	};
	struct zd_pmem_request r = {
		.op = ZD_PMEM_READ, .sector = 13, .nr_sectors = 4, .iov = in, .nr_iov = 3
	};

	(void)state;
	assert_non_null(pmem);
	stamp(a, 13, 4, 5);
	assert_int_equal(submit(pmem, &w), 0);
	assert_int_equal(submit(pmem, &r), 0);
	assert_memory_equal(a, b, 4 * SECTOR);
	assert_int_equal(rd(pmem, 12, 1, b), 0);
	assert_true(all_zero(b, SECTOR));
	assert_int_equal(rd(pmem, 17, 1, b), 0);
	assert_true(all_zero(b, SECTOR));

	w.nr_sectors = 5;	/* the buffers are too short */
	assert_int_equal(submit(pmem, &w), -EINVAL);
	w.nr_sectors = 3;
	assert_int_equal(submit(pmem, &w), -EINVAL);
	w.nr_sectors = 4;
	w.flags = ZD_PMEM_NOUNMAP;
	assert_int_equal(submit(pmem, &w), -EINVAL);
	w.flags = ZD_PMEM_FUA;
	assert_int_equal(submit(pmem, &w), 0);
	w.op = (enum zd_pmem_op)9;
	assert_int_equal(submit(pmem, &w), -EINVAL);
	w = (struct zd_pmem_request){ .op = ZD_PMEM_FLUSH };
	assert_int_equal(submit(pmem, &w), 0);
	w.nr_sectors = 1;
	assert_int_equal(submit(pmem, &w), -EINVAL);
	zd_pmem_close(pmem);
}

static void test_range(void **state)
{
	const char *path = tmp_path("range");
	struct zd_pmem *pmem = open_new(path, 0, MIB);
	static char buf[2 * SECTOR];

	(void)state;
	assert_non_null(pmem);
	assert_int_equal(rd(pmem, NR - 1, 1, buf), 0);
	assert_int_equal(rd(pmem, NR - 1, 2, buf), -ENOSPC);
	assert_int_equal(rd(pmem, NR, 0, buf), 0);
	assert_int_equal(rd(pmem, NR + 1, 0, buf), -ENOSPC);
	assert_int_equal(wr(pmem, NR, 1, buf), -ENOSPC);
	assert_int_equal(wr(pmem, UINT64_MAX, 2, buf), -ENOSPC);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_DISCARD, 0, NR - 1, 2, NULL), -ENOSPC);
	stamp(buf, 1, 1, 1);
	assert_int_equal(wr(pmem, 1, 1, buf), 0);
	zd_pmem_close(pmem);

	pmem = open_at(path, ZD_PMEM_READONLY, 0);
	assert_non_null(pmem);
	assert_int_equal(rd(pmem, 1, 1, buf + SECTOR), 0);
	assert_memory_equal(buf, buf + SECTOR, SECTOR);
	assert_int_equal(wr(pmem, 1, 1, buf), -EROFS);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_DISCARD, 0, 0, 8, NULL), -EROFS);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_WRITE_ZEROES, 0, 0, 8, NULL), -EROFS);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_FLUSH, 0, 0, 0, NULL), 0);
	zd_pmem_close(pmem);
	unlink(path);
}

static uint64_t blocks_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_blocks;
}

/* Zeros, with and without storage; and a page that is held keeps its storage. */
static void test_zeroes(void **state)
{
	const char *path = tmp_path("zeroes");
	struct zd_pmem *pmem = open_new(path, 0, 8 * MIB);
	uint64_t sectors = 8 * NR, full, held = 1 * NR + 64;	/* a page in the middle */
	char *buf = malloc(8 * MIB), *kaddr;
	unsigned int flags;
	zd_pfn_t pfn;

	(void)state;
	assert_non_null(pmem);
	stamp(buf, 0, sectors, 7);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_WRITE, ZD_PMEM_FUA, 0, sectors, buf), 0);
	full = blocks_of(path);
	assert_true(full >= sectors);

	assert_int_equal(zd_pmem_direct_access(pmem, held / 8, 1, (void **)&kaddr, &pfn), 1);
	/* begins and ends within a page, across 2 MiB */
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_DISCARD, ZD_PMEM_FUA, 3, 6 * NR, NULL), 0);
	assert_true(blocks_of(path) < full - 5 * NR);
	/* before it is read: in a tmpfs that fills holes */
	assert_int_equal(zd_pmem_extent(pmem, 16, NR, &flags), NR);
	assert_int_equal(flags, ZD_PMEM_EXTENT_HOLE | ZD_PMEM_EXTENT_ZERO);
	assert_int_equal(zd_pmem_extent(pmem, 0, sectors, &flags), 8);
	assert_int_equal(flags, 0);
	assert_int_equal(zd_pmem_extent(pmem, held, 8, &flags), 8);
	assert_int_equal(flags, 0);
	assert_true(all_zero(kaddr, ZD_PAGE_SIZE));
	kaddr[5] = 42;
	assert_int_equal(rd(pmem, 0, sectors, buf), 0);
	assert_int_equal(buf[held * SECTOR + 5], 42);
	buf[held * SECTOR + 5] = 0;
	zd_pmem_direct_release(pmem, pfn, 1);
	for (uint64_t s = 0; s < sectors; s++)
		assert_int_equal(stamped(buf + s * SECTOR, s), s < 3 || s >= 3 + 6 * NR ? 7 : 0);

	assert_int_equal(zd_pmem_extent(pmem, sectors - 1, sectors, &flags), 1);
	assert_int_equal(flags, 0);
	assert_int_equal(zd_pmem_extent(pmem, sectors, 1, &flags), -ENOSPC);

	full = blocks_of(path);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_WRITE_ZEROES, ZD_PMEM_NOUNMAP, 7 * NR, NR, NULL),
			 0);
	assert_int_equal(blocks_of(path), full);
	assert_int_equal(rd(pmem, 7 * NR, NR, buf), 0);
	assert_true(all_zero(buf, MIB));
	zd_pmem_close(pmem);
	unlink(path);
	free(buf);
}

/* --- the queue --- */

static void test_queue(void **state)
{
	struct zd_pmem *pmem = open_at("memfd:queue", 0, MIB);
	char buf[SECTOR] = "";
	zd_pfn_t pfn;

	(void)state;
	assert_non_null(pmem);
	assert_int_equal(zd_pmem_queue_enter(pmem, 0), 0);
	/* a thread that has entered holds the pagemap: the usage counter */
	assert_int_equal(zd_percpu_ref_read(pmem->queue.usage), 2);
	zd_pmem_queue_freeze_start(pmem);
	assert_false(zd_pmem_queue_freeze_wait(pmem, 10));
	assert_int_equal(zd_pmem_queue_enter(pmem, ZD_PMEM_NOWAIT), -EAGAIN);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_WRITE, ZD_PMEM_NOWAIT, 0, 1, buf), -EAGAIN);
	zd_pmem_queue_exit(pmem);
	assert_true(zd_pmem_queue_freeze_wait(pmem, 20000));
	/* a page can be had, and held, meanwhile */
	assert_int_equal(zd_pmem_direct_access(pmem, 0, 1, NULL, &pfn), 1);
	zd_pmem_queue_freeze(pmem);
	zd_pmem_queue_unfreeze(pmem);
	assert_int_equal(zd_pmem_queue_enter(pmem, ZD_PMEM_NOWAIT), -EAGAIN);
	zd_pmem_queue_unfreeze(pmem);
	zd_pmem_queue_unfreeze(pmem);	/* one too many: a warning, and nothing else */
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_WRITE, ZD_PMEM_NOWAIT, 0, 1, buf), 0);
	zd_pmem_direct_release(pmem, pfn, 1);
	assert_int_equal(zd_percpu_ref_read(pmem->queue.usage), 1);
	zd_pmem_close(pmem);
}

static uint32_t stop, done, inside;

static void *write_on(void *arg)
{
	struct zd_pmem *pmem = arg;
	char buf[SECTOR] = "";
	intptr_t error = 0;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED) && !error) {
		error = zd_pmem_queue_enter(pmem, 0);
		if (error)
			break;
		__atomic_add_fetch(&inside, 1, __ATOMIC_RELAXED);
		__atomic_sub_fetch(&inside, 1, __ATOMIC_RELAXED);
		zd_pmem_queue_exit(pmem);
		error = wr(pmem, 0, 1, buf);
		__atomic_add_fetch(&done, 1, __ATOMIC_RELAXED);
	}
	return (void *)error;
}

/* While it is frozen no request is inside; after an unfreeze all go on. */
static void test_freeze_race(void **state)
{
	struct zd_pmem *pmem = open_at("memfd:freeze", 0, MIB);
	pthread_t t[3];
	void *error;

	(void)state;
	assert_non_null(pmem);
	stop = done = inside = 0;
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, write_on, pmem), 0);
	for (int i = 0; i < 100; i++) {
		uint32_t before = __atomic_load_n(&done, __ATOMIC_RELAXED);

		zd_pmem_queue_freeze(pmem);
		for (int k = 0; k < 100; k++)
			assert_int_equal(__atomic_load_n(&inside, __ATOMIC_RELAXED), 0);
		zd_pmem_queue_unfreeze(pmem);
		while (__atomic_load_n(&done, __ATOMIC_RELAXED) == before)
			sched_yield();
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(t[i], &error), 0);
		assert_null(error);
	}
	zd_pmem_close(pmem);
}

/* --- addresses --- */

static void test_direct(void **state)
{
	const char *path = tmp_path("direct");
	struct zd_pmem *pmem = open_new(path, 0, MIB), *btt;
	char buf[SECTOR], *kaddr;
	struct zd_pmem_info info;
	zd_pfn_t pfn, again;

	(void)state;
	assert_non_null(pmem);
	zd_pmem_get_info(pmem, &info);
	assert_int_equal(zd_pmem_direct_access(pmem, 256, 1, NULL, NULL), -ERANGE);
	assert_int_equal(zd_pmem_direct_access(pmem, 0, 0, NULL, NULL), -EINVAL);
	assert_int_equal(zd_pmem_direct_access(pmem, 250, 10, (void **)&kaddr, &pfn), 6);
	assert_int_equal(pfn, info.pfn + 250);
	assert_int_equal(zd_page_count(zd_pfn_to_page(pfn + 5)), 1);
	assert_int_equal(zd_page_pagemap(zd_pfn_to_page(pfn))->type, ZD_MEMORY_FS_DAX);
	stamp(kaddr + 5 * ZD_PAGE_SIZE, NR - 8, 1, 3);
	assert_int_equal(zd_pmem_persist(pmem, kaddr + 5 * ZD_PAGE_SIZE, SECTOR), 0);
	assert_int_equal(zd_pmem_persist_range(pmem, MIB - 4096, 4096), 0);
	assert_int_equal(zd_pmem_persist_range(pmem, MIB - 4096, 4097), -EINVAL);
	assert_int_equal(zd_pmem_persist(pmem, buf, 1), -EINVAL);
	assert_int_equal(rd(pmem, NR - 8, 1, buf), 0);
	assert_int_equal(stamped(buf, NR - 8), 3);
	/* held twice, put once */
	assert_int_equal(zd_pmem_direct_access(pmem, 255, 1, NULL, &again), 1);
	assert_int_equal(zd_page_count(zd_pfn_to_page(again)), 2);
	zd_put_page(zd_pfn_to_page(again));
	zd_pmem_direct_release(pmem, pfn, 6);
	assert_int_equal(zd_page_count(zd_pfn_to_page(again)), 0);
	zd_pmem_close(pmem);

	btt = open_new(path, ZD_PMEM_BTT, 2 * MIB);
	assert_non_null(btt);
	assert_int_equal(zd_pmem_direct_access(btt, 0, 1, NULL, NULL), -EOPNOTSUPP);
	assert_null(zd_pmem_dax(btt));
	zd_pmem_close(btt);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_errors), cmocka_unit_test(test_info),
		cmocka_unit_test(test_iov),	    cmocka_unit_test(test_range),
		cmocka_unit_test(test_zeroes),	    cmocka_unit_test(test_queue),
		cmocka_unit_test(test_freeze_race), cmocka_unit_test(test_direct),
	};

	return RUN_BOTH(tests);
}
