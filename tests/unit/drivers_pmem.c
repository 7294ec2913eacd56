/* SPDX-License-Identifier: MIT */
/* A region: open, requests, the queue, pages by address. */
#include "pmem_test.h"

#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include "pages/pagemap.h"
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
				  ZD_PMEM_READONLY, 0, &pmem), -ENOTBLK);
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
	struct iovec out[] = { { a, 0 }, { a, 100 }, { a + 100, 1 }, { a + 101, 0 },
			       { a + 101, 4 * SECTOR - 101 } };
	struct iovec in[] = { { b, 4 * SECTOR - 7 }, { b + 4 * SECTOR - 7, 7 }, { b, 0 } };
	struct zd_pmem *pmem = open_at("memfd:iov", 0, MIB);
	struct zd_pmem_request w = { .op = ZD_PMEM_WRITE, .sector = 13, .nr_sectors = 4,
				     .iov = out, .nr_iov = 5 };
	struct zd_pmem_request r = { .op = ZD_PMEM_READ, .sector = 13, .nr_sectors = 4,
				     .iov = in, .nr_iov = 3 };

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

/* --- removal --- */

static char order[512];
static struct zd_pmem *going;

/* What must hold as each step is taken. */
static void on_step(const void *what, const char *step)
{
	struct zd_pagemap *held;

	assert_ptr_equal(what, &going->dax.pgmap);
	strcat(strcat(order, step), ", ");
	held = zd_get_dev_pagemap(going->info.pfn);
	if (held)
		zd_put_dev_pagemap(held);
	if (!strcmp(step, "freeze")) {
		assert_int_equal(zd_pmem_queue_enter(going, ZD_PMEM_NOWAIT), 0);
		zd_pmem_queue_exit(going);
		return;
	}
	/* frozen before anything else: no request enters */
	assert_int_equal(zd_pmem_queue_enter(going, ZD_PMEM_NOWAIT), -ENODEV);
	if (!strcmp(step, "kill"))
		assert_ptr_equal(held, &going->dax.pgmap);
	else
		assert_null(held);
	/* the base reference is there until it is put */
	if (!strcmp(step, "revoke") || !strcmp(step, "put"))
		assert_int_equal(zd_percpu_ref_read(going->queue.usage), 1);
	/* the media outlive the pagemap */
	if (strcmp(step, "close"))
		assert_non_null(going->media.base);
}

static void test_order(void **state)
{
	const char *path = tmp_path("order");
	char buf[SECTOR];

	(void)state;
	for (int k = 0; k < 2; k++) {
		going = open_new(path, k ? ZD_PMEM_BTT : 0, MIB);
		assert_non_null(going);
		order[0] = '\0';
		zd_teardown_hook = on_step;
		assert_int_equal(k ? zd_pmem_remove_timeout(going, 20000, NULL) :
				     zd_pmem_remove(going), 0);
		zd_teardown_hook = NULL;
		assert_string_equal(order, "freeze, kill, revoke, put, wait, exit, "
				    "release queue, unmap, close, ");
		/* only the handle is left, and every call says so */
		assert_int_equal(zd_pmem_remove(going), -ENODEV);
		assert_int_equal(zd_pmem_remove_timeout(going, 1, NULL), -ENODEV);
		assert_int_equal(rd(going, 0, 1, buf), -ENODEV);
		assert_int_equal(zd_pmem_rw(going, ZD_PMEM_FLUSH, 0, 0, 0, NULL), -ENODEV);
		assert_int_equal(zd_pmem_direct_access(going, 0, 1, NULL, NULL),
				 k ? -EOPNOTSUPP : -ENODEV);
		assert_int_equal(zd_pmem_persist_range(going, 0, 1), -ENODEV);
		assert_int_equal(zd_pmem_persist(going, buf, 1), -ENODEV);
		assert_int_equal(zd_pmem_extent(going, 0, 1, &(unsigned int){ 0 }), -ENODEV);
		assert_int_equal(zd_pmem_inject_poison(going, 0, 1), -ENODEV);
		assert_int_equal(zd_pmem_badblocks_check(going, 0, 1, NULL, NULL), 0);
		zd_pmem_close(going);
	}
	unlink(path);
}

static pid_t waiting;

static void *wait_in_queue(void *arg)
{
	__atomic_store_n(&waiting, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	return (void *)(intptr_t)zd_pmem_queue_enter(arg, 0);
}

/* Is the thread asleep?  There is nothing but the gate that it could sleep at. */
static bool is_asleep(pid_t tid)
{
	char path[64], line[512] = "", *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = tid ? fopen(path, "r") : NULL;
	if (!f)
		return false;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);
	state = strrchr(line, ')');
	return state && state[2] == 'S';
}

/* A request has the gate, and not yet the pagemap: removal must not take the pagemap away. */
static void test_half_entered(void **state)
{
	struct zd_pmem *pmem = open_at("memfd:half", 0, MIB);
	struct zd_pmem_holders h;

	(void)state;
	assert_non_null(pmem);
	assert_true(zd_percpu_ref_tryget_live(&pmem->queue.gate));
	assert_int_equal(zd_pmem_remove_timeout(pmem, 10, &h), -ETIMEDOUT);
	assert_int_equal(h.nr_requests, 1);
	assert_int_equal(h.pages.nr_pages + h.pages.nr_refs, 0);
	assert_non_null(pmem->dax.pgmap.priv);
	zd_percpu_ref_put(&pmem->queue.gate);
	assert_int_equal(zd_pmem_remove_timeout(pmem, 20000, &h), 0);
	zd_pmem_close(pmem);
}

static void *unfreeze(void *pmem)
{
	__atomic_store_n(&waiting, syscall(SYS_gettid), __ATOMIC_RELEASE);
	zd_pmem_queue_unfreeze(pmem);
	return NULL;
}

/* A thread that waits to open the gate again doesn't hold up a removal with a time limit. */
static void test_unfreeze(void **state)
{
	struct zd_pmem *pmem = open_at("memfd:unfreeze", 0, MIB);
	struct zd_pmem_holders h;
	pthread_t t;

	(void)state;
	assert_non_null(pmem);
	assert_int_equal(zd_pmem_queue_enter(pmem, 0), 0);
	zd_pmem_queue_freeze_start(pmem);
	waiting = 0;
	assert_int_equal(pthread_create(&t, NULL, unfreeze, pmem), 0);
	while (!is_asleep(__atomic_load_n(&waiting, __ATOMIC_ACQUIRE)))
		usleep(1000);
	assert_int_equal(zd_pmem_remove_timeout(pmem, 10, &h), -ETIMEDOUT);
	assert_int_equal(h.nr_requests, 1);
	zd_pmem_queue_exit(pmem);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(zd_pmem_remove_timeout(pmem, 20000, &h), 0);
	zd_pmem_close(pmem);
}

/* What happens between making the file and locking it. */
static void (*before_lock)(void);
static const char *raced;
static int faster = -1;

int fcntl(int fd, int cmd, ...)
{
	void (*fn)(void) = before_lock;
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	if (fn && cmd == F_OFD_SETLK) {
		before_lock = NULL;
		fn();
	}
	return syscall(SYS_fcntl, fd, cmd, arg);
}

static void be_faster(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	faster = open(raced, O_RDWR | O_CLOEXEC);
	assert_true(faster >= 0);
	assert_int_equal(fcntl(faster, F_OFD_SETLK, &lock), 0);
}

static void take_away(void)
{
	assert_int_equal(unlink(raced), 0);
}

/* Two openings make the same file at once: the one that doesn't get it leaves the file alone; and
 * if the other one removes the file again, makes it anew. */
static void test_make_race(void **state)
{
	struct zd_pmem *pmem;
	struct stat st;

	(void)state;
	raced = tmp_path("race");
	unlink(raced);
	before_lock = be_faster;
	assert_int_equal(try_open(raced, ZD_PMEM_CREATE, 64 * KIB, &pmem), -EBUSY);
	assert_null(before_lock);
	assert_int_equal(access(raced, F_OK), 0);
	close(faster);
	before_lock = take_away;
	pmem = open_at(raced, ZD_PMEM_CREATE, 64 * KIB);
	assert_null(before_lock);
	assert_non_null(pmem);
	assert_int_equal(fstat(pmem->media.fd, &st), 0);
	assert_int_equal(st.st_nlink, 1);
	zd_pmem_close(pmem);
	unlink(raced);
}

static void test_holders(void **state)
{
	const char *path = tmp_path("holders");
	struct zd_pmem *pmem = open_new(path, 0, MIB), *other;
	struct zd_pmem_holders h;
	pthread_t waiter;
	zd_pfn_t pfn, one;
	char *kaddr;
	void *rc;

	(void)state;
	assert_non_null(pmem);
	assert_int_equal(zd_pmem_queue_enter(pmem, 0), 0);
	assert_int_equal(zd_pmem_direct_access(pmem, 7, 3, (void **)&kaddr, &pfn), 3);
	assert_int_equal(zd_pmem_direct_access(pmem, 200, 1, NULL, &one), 1);
	/* a thread waits at the gate when that closes for good */
	zd_pmem_queue_freeze_start(pmem);
	waiting = 0;
	assert_int_equal(pthread_create(&waiter, NULL, wait_in_queue, pmem), 0);
	while (!is_asleep(__atomic_load_n(&waiting, __ATOMIC_ACQUIRE)))
		usleep(1000);

	assert_int_equal(zd_pmem_remove_timeout(pmem, 10, &h), -ETIMEDOUT);
	assert_int_equal(h.nr_requests, 1);
	assert_int_equal(h.pages.nr_pages, 4);
	assert_int_equal(h.pages.nr_refs, 0);
	assert_int_equal(h.pages.nr_pfns, 4);
	assert_int_equal(h.pages.pfns[0] - pmem->info.pfn, 7);
	assert_int_equal(h.pages.pfns[3] - pmem->info.pfn, 200);
	assert_int_equal(pthread_join(waiter, &rc), 0);
	assert_int_equal((intptr_t)rc, -ENODEV);
	zd_pmem_queue_unfreeze(pmem);	/* too late */
	assert_int_equal(zd_pmem_queue_enter(pmem, 0), -ENODEV);
	assert_int_equal(try_open(path, 0, 0, &other), -EBUSY);
	/* a holder of pages goes on using them */
	kaddr[5] = 42;
	assert_int_equal(zd_pmem_persist(pmem, kaddr, 6), 0);
	assert_int_equal(zd_pmem_direct_access(pmem, 7, 1, NULL, NULL), -ENODEV);

	zd_pmem_queue_exit(pmem);
	zd_pmem_direct_release(pmem, pfn, 3);
	assert_int_equal(zd_pmem_remove_timeout(pmem, 10, &h), -ETIMEDOUT);
	assert_int_equal(h.nr_requests, 0);
	assert_int_equal(h.pages.nr_pages, 1);
	assert_int_equal(h.pages.pfns[0] - pmem->info.pfn, 200);
	zd_put_page(zd_pfn_to_page(one));
	assert_int_equal(zd_pmem_remove(pmem), 0);
	/* the region can be opened again, with what was in it, before the handle is closed */
	other = open_at(path, 0, 0);
	assert_non_null(other);
	assert_int_equal(zd_pmem_direct_access(other, 7, 1, (void **)&kaddr, &one), 1);
	assert_int_equal(kaddr[5], 42);
	/* its pfns may be those that the first region had */
	assert_int_equal(zd_pmem_direct_access(pmem, 0, 1, NULL, NULL), -ENODEV);
	zd_put_page(zd_pfn_to_page(one));
	zd_pmem_close(pmem);
	zd_pmem_close(other);
	unlink(path);
}

/* Mapped for the program, and taken away. */
static int read_byte(void *at)
{
	return *(volatile char *)at;
}

static void test_dax(void **state)
{
	const char *path = tmp_path("dax");
	struct zd_pmem *pmem = open_new(path, 0, MIB);
	struct zd_dax_mapping *map;
	char buf[SECTOR];

	(void)state;
	assert_non_null(pmem);
	assert_int_equal(zd_dax_mmap(zd_pmem_dax(pmem), NULL, NULL, 8192, 8192,
				     PROT_READ | PROT_WRITE, 0, &map), 0);
	memset(zd_dax_mapping_addr(map), 'x', 8192);
	assert_int_equal(zd_pmem_persist_range(pmem, 8192, 8192), 0);
	assert_int_equal(rd(pmem, 16, 1, buf), 0);
	assert_int_equal(buf[511], 'x');
	assert_int_equal(zd_dax_access_guard(map, read_byte, zd_dax_mapping_addr(map)), 'x');
	assert_int_equal(zd_dax_close(zd_pmem_dax(pmem)), -EINVAL);
	assert_int_equal(zd_pmem_remove(pmem), 0);
	assert_true(zd_dax_mapping_revoked(map));
	assert_int_equal(zd_dax_access_guard(map, read_byte, zd_dax_mapping_addr(map)), -ENODEV);
	assert_int_equal(zd_dax_munmap(map), 0);
	/* a region that is gone says so, until the handle is closed */
	assert_int_equal(zd_dax_mmap(zd_pmem_dax(pmem), NULL, NULL, 0, 4096, PROT_READ, 0, &map),
			 -ENODEV);
	assert_int_equal(zd_dax_direct_access(zd_pmem_dax(pmem), 0, 1, NULL, NULL), -ENODEV);
	assert_int_equal(zd_pmem_persist_range(pmem, 0, 4096), -ENODEV);
	assert_int_equal(zd_pmem_badblocks_set(pmem, 0, 1), -ENODEV);
	assert_int_equal(zd_pmem_badblocks_check(pmem, 0, 1, NULL, NULL), 0);
	zd_pmem_close(pmem);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_errors),
		cmocka_unit_test(test_info),
		cmocka_unit_test(test_iov),
		cmocka_unit_test(test_range),
		cmocka_unit_test(test_zeroes),
		cmocka_unit_test(test_queue),
		cmocka_unit_test(test_freeze_race),
		cmocka_unit_test(test_direct),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_half_entered),
		cmocka_unit_test(test_unfreeze),
		cmocka_unit_test(test_make_race),
		cmocka_unit_test(test_holders),
		cmocka_unit_test(test_dax),
	};

	return RUN_BOTH(tests);
}
