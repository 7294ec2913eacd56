/* SPDX-License-Identifier: MIT */
/* What events do to pages in flight, and to an address space that can't be set
 * up: the cases that a program meets too seldom to be tested from outside. */
#include "tests/unit/unit_test.h"

#include <dirent.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "engine/exit.h"
#include "engine/fork.h"
#include "engine/mig.h"
#include "engine/server.h"
#include "zonedev/log.h"
#include "base/uapi.h"
#include "space/uffd.h"

#define BASE	UINT64_C(0x200000000)
#define AT(i)	(BASE + (uint64_t)(i) * 4096)

static struct zd_server server;
static struct zd_mm *parent, *child;

static struct zd_mm *new_mm(void)
{
	struct zd_mm *mm;

	assert_int_equal(zd_mm_create(&server, zd_uffd_open(), NULL, &mm), 0);
	assert_int_equal(zd_uffd_api(zd_mm_uffd(mm), 0), 0);
	assert_int_equal(zd_mm_adopt(mm, BASE, AT(64)), 0);
	return mm;
}

static int setup(void **state)
{
	static const struct zd_server_host host;

	(void)state;
	assert_int_equal(zd_server_init(&server, &host, NULL), 0);
	parent = new_mm();
	child = new_mm();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	zd_mm_destroy(child);
	zd_mm_destroy(parent);
	zd_server_destroy(&server);
	return 0;
}

static struct zd_mig *in_flight(enum zd_io_dir dir, unsigned int nr)
{
	struct zd_mig *mig = zd_mig_new(&server, parent, dir);

	assert_non_null(mig);
	mig->nr = nr;
	for (unsigned int i = 0; i < nr; i++) {
		mig->page[i] = (struct zd_mig_page){ .mm = parent, .addr = AT(i) };
		zd_entry_store(zd_mm_entry(parent, AT(i)), ZD_ENTRY_LOCK);
	}
	return mig;
}

/* The child shares a page that has left, whatever the device says of it later;
 * not one that never left, nor one that is settled. */
static void forked(void **state)
{
	struct zd_mig *mig = in_flight(ZD_TO_DEVICE, 6);

	(void)state;
	mig->page[1].error = -EBUSY;		/* the move was refused */
	mig->page[2].error = -EIO;		/* the device's write failed: */
	mig->page[2].step = ZD_MIG_BACK;	/* not back yet */
	mig->page[3].step = ZD_MIG_STORE;
	mig->page[4].step = ZD_MIG_DONE;
	mig->page[5].mm = NULL;			/* unmapped */
	assert_int_equal(zd_migs_fork(parent, child), 0);
	for (int i = 0; i < 6; i++) {
		bool shares = i == 0 || i == 2 || i == 3;

		assert_int_equal(*zd_mm_entry(child, AT(i)), shares ? ZD_ENTRY_LOCK : 0);
		assert_int_equal(!!mig->page[i].sharers, shares);
	}
	/* the child's unmap is the child's */
	zd_migs_drop(child, AT(2), AT(3), 0);
	assert_null(mig->page[2].sharers->mm);
	assert_int_equal(*zd_mm_entry(child, AT(2)), 0);
	assert_ptr_equal(mig->page[2].mm, parent);
	/* and so is its mremap */
	zd_migs_remap(child, AT(3), AT(40), 4096);
	assert_int_equal(mig->page[3].sharers->addr, AT(40));
	assert_int_equal(mig->page[3].addr, AT(3));
	zd_entry_store(zd_mm_entry(child, AT(40)), ZD_ENTRY_LOCK);
	zd_migs_drop(child, 0, AT(64), 0);
	zd_migs_drop(parent, 0, AT(64), 0);
	for (int i = 0; i < 4; i++) {
		assert_null(mig->page[i].mm);
		assert_int_equal(*zd_mm_entry(parent, AT(i)), 0);
	}
	zd_mig_free(mig);
}

/* What the child doesn't have, by MADV_DONTFORK or since it has unmapped it, it shares not. */
static void forked_without(void **state)
{
	struct zd_mig *mig = in_flight(ZD_TO_DEVICE, 3);

	(void)state;
	assert_int_equal(zd_ranges_remove(&child->ranges, AT(1), AT(2)), 0);
	assert_int_equal(zd_migs_fork(parent, child), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(*zd_mm_entry(child, AT(i)), i == 1 ? 0 : ZD_ENTRY_LOCK);
		assert_int_equal(!mig->page[i].sharers, i == 1);
	}
	zd_migs_drop(child, 0, AT(64), 0);
	zd_migs_drop(parent, 0, AT(64), 0);
	zd_mig_free(mig);
}

static void *move(void *from)
{
	char *to = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mremap(from, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, to);
}

/* A child that has moved a mapping, of which its event hasn't been read yet, has what the parent had
 * there. */
static void forked_and_moves(void **state)
{
	char *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = zd_uffd_open();
	struct uffd_msg msg;
	pthread_t thread;
	struct zd_mm *mm;
	void *to;

	(void)state;
	assert_int_equal(zd_uffd_api(fd, ZD_UFFD_FEATURES), 0);
	assert_int_equal(zd_uffd_register(fd, (uintptr_t)place, 4096), 0);
	assert_int_equal(zd_mm_create(&server, fd, parent, &mm), 0);
	assert_int_equal(zd_mm_adopt(parent, (uintptr_t)place, (uintptr_t)place + 4096), 0);
	assert_int_equal(pthread_create(&thread, NULL, move, place), 0);
	while (!zd_uffd_changing(fd))
		sched_yield();
	zd_mm_born(parent, mm);
	while (pthread_tryjoin_np(thread, &to))
		if (read(fd, &msg, sizeof(msg)) < 0)
			sched_yield();
	assert_non_null(zd_ranges_find(&mm->ranges, (uintptr_t)place));
	zd_mm_destroy(mm);
	munmap(to, 4096);
}

static void remapped(void **state)
{
	struct zd_mig *mig = in_flight(ZD_TO_DEVICE, 8);

	(void)state;
	zd_migs_remap(parent, AT(2), AT(32), 3 * 4096);
	for (int i = 0; i < 8; i++)
		assert_int_equal(mig->page[i].addr, i >= 2 && i < 5 ? AT(30 + i) : AT(i));
	zd_migs_remap(child, AT(0), AT(50), 4096);	/* another's */
	assert_int_equal(mig->page[0].addr, AT(0));
	for (int i = 0; i < 8; i++)
		mig->page[i].mm = NULL;
	zd_mig_free(mig);
}

/* Batches are used again, empty. */
static void reused(void **state)
{
	struct zd_mig *mig = in_flight(ZD_FROM_DEVICE, 3), *again;

	(void)state;
	mig->retry = true;
	zd_mig_free(mig);
	assert_int_equal(server.nr_migs[ZD_FROM_DEVICE], 0);
	again = zd_mig_new(&server, child, ZD_TO_DEVICE);
	assert_ptr_equal(again, mig);
	assert_false(again->retry);
	assert_int_equal(again->nr, 0);
	assert_ptr_equal(again->mm, child);
	assert_non_null(again->buffer);
	assert_int_equal(server.nr_migs[ZD_TO_DEVICE], 1);
	zd_mig_free(again);
}

static unsigned int count_uffds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;
	unsigned int nr = 0;
	char link[128];
	ssize_t n;

	assert_non_null(dir);
	while ((e = readdir(dir))) {
		n = readlinkat(dirfd(dir), e->d_name, link, sizeof(link) - 1);
		link[n > 0 ? n : 0] = '\0';
		nr += !!strstr(link, "[userfaultfd]");
	}
	closedir(dir);
	return nr;
}

/* Out of memory for a forked child: it must wait, not read zeros.  So somebody
 * keeps its descriptor. */
static void no_memory_for_a_child(void **state)
{
	struct zd_mm *mm;
	int rc = -1;

	(void)state;
	for (int i = 0; i < 64; i += 2)		/* ranges enough to copy */
		assert_int_equal(zd_ranges_remove(&parent->ranges, AT(i), AT(i + 1)), 0);
	in_flight(ZD_TO_DEVICE, 1);
	for (unsigned int nth = 1; rc; nth++) {
		unsigned int before = count_uffds();
		int uffd = zd_uffd_open();

		assert_true(nth < 20);
		zd_alloc_fail_nth(nth);
		rc = zd_mm_create(&server, uffd, parent, &mm);
		zd_alloc_fail_nth(0);
		assert_true(!rc || rc == -ENOMEM);
		assert_int_equal(count_uffds(), before + 1);
	}
	zd_mm_destroy(mm);
	zd_migs_drop(parent, 0, AT(64), 0);
	zd_mig_free(caa_container_of(server.migs.next, struct zd_mig, node));
}

static void quiet(enum zd_log_level level, const char *text, void *ctx)
{
	(void)level;
	(void)text;
	(void)ctx;
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(forked),	TEST(forked_without), TEST(forked_and_moves),
		TEST(remapped), TEST(reused),	      TEST(no_memory_for_a_child),
	};
	int fd = zd_uffd_open(), rc = fd < 0 ? fd : zd_uffd_api(fd, ZD_UFFD_FEATURES);

	close(fd);
	if (rc) {
		printf("SKIP: needs userfaultfd with UFFDIO_MOVE and CAP_SYS_PTRACE\n");
		return 77;
	}
	zd_set_log(quiet, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
