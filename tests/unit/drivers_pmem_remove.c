/* SPDX-License-Identifier: MIT */
/* A region is removed: in which order, beside what waits, and who holds it. */
#include "pmem_test.h"

#include <sys/stat.h>
#include "pages/pagemap.h"
#include "drivers/pmem/pmem.h"

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
				     zd_pmem_remove(going),
				 0);
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
				     PROT_READ | PROT_WRITE, 0, &map),
			 0);
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
		cmocka_unit_test(test_order),	 cmocka_unit_test(test_half_entered),
		cmocka_unit_test(test_unfreeze), cmocka_unit_test(test_make_race),
		cmocka_unit_test(test_holders),	 cmocka_unit_test(test_dax),
	};

	return RUN_BOTH(tests);
}
