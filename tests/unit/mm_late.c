/* SPDX-License-Identifier: MIT */
/* Events that are read in another order than that in which things happened. */
#include "tests/unit/core_test.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mm/maps.h"
#include "mm/mm.h"
#include "mm/uffd.h"

#define BASE	((uint64_t)(uintptr_t)memory)
#define MEM	1100
#define AT(i)	(BASE + (uint64_t)(i) * 4096)
#define PAGES(n) ((n) * UINT64_C(4096))

static struct zd_server server;
static struct zd_mm *mm;
static char *memory;		/* mapped, and registered with nobody if nobody says so */
static bool is_mapped;		/* what the kernel would say of any place */

static bool mapped(struct zd_mm *of, uint64_t addr)
{
	(void)of;
	(void)addr;
	return is_mapped;
}

static int setup(void **state)
{
	static const struct zd_server_host host = { .mapped = mapped };

	(void)state;
	assert_int_equal(zd_server_init(&server, &host, NULL), 0);
	assert_int_equal(zd_mm_create(&server, zd_uffd_open(), NULL, &mm), 0);
	assert_int_equal(zd_uffd_api(zd_mm_uffd(mm), 0), 0);
	memory = mmap(NULL, PAGES(MEM), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(memory != MAP_FAILED);
	/* entries for all places that are used here */
	assert_int_equal(zd_mm_adopt(mm, BASE, AT(MEM)), 0);
	zd_mm_forget(mm, BASE, AT(MEM));
	is_mapped = true;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	zd_mm_destroy(mm);
	zd_server_destroy(&server);
	munmap(memory, PAGES(MEM));
	return 0;
}

/* A mapping of @nr pages, each with an entry that names it. */
static void put(unsigned int at, unsigned int nr, unsigned int name)
{
	assert_int_equal(zd_mm_adopt(mm, AT(at), AT(at + nr)), 0);
	for (unsigned int i = 0; i < nr; i++)
		zd_entry_store(zd_mm_entry(mm, AT(at + i)),
			       ZD_ENTRY_REMOVED | (uint64_t)(name + i) << ZD_ENTRY_VAL_SHIFT);
}

static bool is(unsigned int at, unsigned int nr, unsigned int name)
{
	for (unsigned int i = 0; i < nr; i++)
		if (zd_entry_val(*zd_mm_entry(mm, AT(at + i))) != name + i ||
		    !zd_ranges_find(&mm->ranges, AT(at + i)))
			return false;
	return true;
}

static bool is_free(unsigned int at, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		if (*zd_mm_entry(mm, AT(at + i)) || zd_ranges_find(&mm->ranges, AT(at + i)))
			return false;
	return true;
}

/* A goes, and B comes in its place; B is heard first. */
static void who_comes_waits(void **state)
{
	(void)state;
	put(0, 8, 100);
	put(32, 8, 200);
	zd_mm_moved(mm, AT(32), AT(2), PAGES(8));	/* B */
	zd_mm_behind(mm, false);
	assert_int_equal(mm->behind, 1);
	assert_true(is(0, 8, 100) && is(32, 8, 200));
	zd_mm_unmapped(mm, AT(32), AT(40));		/* B's second */
	assert_true(is(32, 8, 200));
	zd_mm_moved(mm, AT(0), AT(64), PAGES(8));	/* A */
	assert_true(is(64, 8, 100) && is(2, 8, 200) && is_free(0, 2) && is_free(32, 8));
	zd_mm_unmapped(mm, AT(0), AT(8));		/* A's second */
	assert_true(is(64, 8, 100) && is(2, 8, 200));
	zd_mm_behind(mm, false);
	assert_int_equal(mm->behind, 0);
}

/* The same, but A was unmapped. */
static void until_it_is_unmapped(void **state)
{
	(void)state;
	put(0, 8, 100);
	put(32, 4, 200);
	zd_mm_moved(mm, AT(32), AT(4), PAGES(4));
	zd_mm_unmapped(mm, AT(0), AT(8));
	assert_true(is(4, 4, 200) && is_free(0, 4) && is_free(32, 4));
}

/* A chain of three, the last first. */
static void one_after_the_other(void **state)
{
	(void)state;
	put(0, 4, 100);
	put(10, 4, 200);
	put(20, 4, 300);
	zd_mm_moved(mm, AT(20), AT(10), PAGES(4));
	zd_mm_moved(mm, AT(10), AT(0), PAGES(4));
	zd_mm_moved(mm, AT(0), AT(40), PAGES(4));
	assert_true(is(40, 4, 100) && is(0, 4, 200) && is(10, 4, 300) && is_free(20, 4));
}

/* The unmapping that follows a move takes nothing from who came since. */
static void second_event(void **state)
{
	(void)state;
	put(0, 8, 100);
	put(32, 4, 200);
	zd_mm_moved(mm, AT(0), AT(64), PAGES(8));
	zd_mm_moved(mm, AT(32), AT(2), PAGES(4));
	zd_mm_all_read(mm);
	zd_mm_unmapped(mm, AT(0), AT(8));
	assert_true(is(64, 8, 100) && is(2, 4, 200));
	/* but the next one does */
	zd_mm_unmapped(mm, AT(0), AT(8));
	assert_true(is_free(0, 8));
}

/* An unmapping at the same moment as a move to the place: only the kernel knows
 * which came first; and something else may be mapped there by then. */
static void at_the_same_moment(void **state)
{
	(void)state;
	put(0, 4, 100);
	zd_mm_moved(mm, AT(0), AT(64), PAGES(4));
	zd_mm_unmapped(mm, AT(60), AT(80));	/* of what we never knew */
	assert_true(is(64, 4, 100));
	is_mapped = false;
	zd_mm_unmapped(mm, AT(64), AT(66));
	assert_true(is_free(64, 2) && is(66, 2, 102));
	is_mapped = true;
	zd_mm_unmapped(mm, AT(66), AT(68));
	assert_true(is(66, 2, 102));
	assert_true(server.unsettled);
	assert_true(zd_mm_still(mm));		/* nothing of ours is mapped there */
	assert_true(is_free(66, 2));
}

/* When nothing else can come, who waits has waited for nothing. */
static void when_it_is_still(void **state)
{
	(void)state;
	put(0, 4, 100);
	put(32, 4, 200);
	zd_mm_moved(mm, AT(32), AT(0), PAGES(4));
	assert_true(is(0, 4, 100));
	assert_true(zd_mms_settle(&server));
	assert_true(is(0, 4, 200) && is_free(32, 4));
}

/* --- forks --- */

/* A child's entries are its parent's (REMOVED isn't inherited, and names them here). */
static void inherit(const struct zd_mm *parent, struct zd_mm *child)
{
	for (unsigned int i = 0; i < MEM; i++)
		if (zd_ranges_find(&child->ranges, AT(i)))
			zd_entry_store(zd_mm_entry(child, AT(i)), *zd_mm_entry(parent, AT(i)));
}

/* A child that has @nr pages, says its own userfaultfd. */
static struct zd_mm *fork_with(struct zd_mm *parent, unsigned int at, unsigned int nr)
{
	struct zd_mm *child;
	int uffd = zd_uffd_open();

	assert_int_equal(zd_uffd_api(uffd, 0), 0);
	assert_int_equal(zd_mm_create(&server, uffd, parent, &child), 0);
	inherit(parent, child);
	if (nr)
		assert_int_equal(zd_uffd_register(uffd, AT(at), PAGES(nr)), 0);
	return child;
}

static bool has(const struct zd_mm *of, unsigned int at)
{
	return zd_ranges_find(&of->ranges, AT(at));
}

/* Unmapped, then forked, and the fork is heard first. */
static void forked_after_unmap(void **state)
{
	struct zd_mm *child;

	(void)state;
	put(0, 4, 100);
	put(32, 4, 200);
	child = fork_with(mm, 0, 4);
	assert_true(has(child, 0) && has(child, 32));
	zd_mm_unmapped(mm, AT(32), AT(36));
	assert_true(!has(mm, 32) && !has(child, 32));
	zd_mm_unmapped(mm, AT(0), AT(4));	/* forked before that: the child has it */
	assert_true(!has(mm, 0) && has(child, 0));
	zd_mm_destroy(child);
}

/* Of what the parent unmaps the child has a part, at its end, its start, in its middle:
 * that stays, with what is in it. */
static void has_a_part(void **state)
{
	(void)state;
	for (unsigned int at = 0; at < 1024; at += 500) {
		struct zd_mm *child;

		put(0, 1100, 100);
		child = fork_with(mm, at, 100);
		zd_mm_unmapped(mm, AT(0), AT(1100));
		for (unsigned int i = 0; i < 1100; i++) {
			assert_false(has(mm, i));
			assert_int_equal(has(child, i), i >= at && i < at + 100);
			assert_int_equal(zd_entry_val(*zd_mm_entry(child, AT(i))),
					 has(child, i) ? 100 + i : 0);
		}
		zd_mm_destroy(child);
	}
}

/* The same, by a child that is still while its parent isn't; then by one whose parent
 * has ended. */
static void grandchild(void **state)
{
	struct zd_mm *child, *of_child;
	int uffd = zd_uffd_open();

	(void)state;
	put(0, 4, 100);
	put(32, 4, 200);
	put(64, 4, 300);
	child = fork_with(mm, 0, 0);
	assert_int_equal(zd_uffd_api(uffd, 0), 0);
	assert_int_equal(zd_mm_create(&server, uffd, child, &of_child), 0);
	inherit(child, of_child);
	zd_mm_unmapped(mm, AT(0), AT(4));
	assert_true(!has(child, 0) && !has(of_child, 0) && has(of_child, 32));
	zd_mm_destroy(child);
	zd_mm_unmapped(mm, AT(32), AT(36));
	assert_true(!has(of_child, 32) && has(of_child, 64));
	assert_true(zd_mm_still(of_child));	/* and so is the first of them */
	assert_null(of_child->young_of);
	zd_mm_unmapped(mm, AT(64), AT(68));
	assert_true(has(of_child, 64));
	zd_mm_destroy(of_child);
}

/* Moved, then forked, and the fork is heard first. */
static void forked_after_move(void **state)
{
	struct zd_mm *child;

	(void)state;
	put(32, 4, 100);
	child = fork_with(mm, 0, 4);
	zd_mm_moved(mm, AT(32), AT(0), PAGES(4));
	assert_true(is(0, 4, 100) && has(child, 0) && !has(child, 32));
	zd_mm_destroy(child);
}

/* What the kernel is asked. */
static void what_is_mapped(void **state)
{
	char *p = mmap(NULL, PAGES(3), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t at = (uintptr_t)p;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_true(p != MAP_FAILED && fd >= 0);
	p[4096] = 1;
	assert_int_equal(munmap(p + 2 * 4096, 4096), 0);
	assert_true(zd_page_mapped(fd, at) && zd_page_mapped(fd, at + 4096));
	assert_false(zd_page_mapped(fd, at + 2 * 4096));
	assert_int_equal(zd_uffd_has(zd_mm_uffd(mm), at, 4096), 0);
	assert_int_equal(zd_uffd_register(zd_mm_uffd(mm), at, PAGES(2)), 0);
	assert_int_equal(zd_uffd_has(zd_mm_uffd(mm), at, 4096), 1);		/* missing */
	assert_int_equal(zd_uffd_has(zd_mm_uffd(mm), at + 4096, 4096), 1);	/* there */
	assert_int_equal(zd_uffd_has(zd_mm_uffd(mm), at, PAGES(2)), 1);
	assert_int_equal(zd_uffd_has(zd_mm_uffd(mm), at + 4096, PAGES(2)), 0);
	assert_int_equal(p[4096], 1);
	assert_int_equal(zd_uffd_has(zd_mm_uffd(mm), at + 2 * 4096, 4096), 0);
	assert_false(zd_uffd_changing(zd_mm_uffd(mm)));
	assert_int_equal(zd_uffd_unregister(zd_mm_uffd(mm), at, PAGES(2)), 0);
	assert_int_equal(p[0], 0);
	munmap(p, PAGES(2));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(who_comes_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(until_it_is_unmapped, setup, teardown),
		cmocka_unit_test_setup_teardown(one_after_the_other, setup, teardown),
		cmocka_unit_test_setup_teardown(second_event, setup, teardown),
		cmocka_unit_test_setup_teardown(at_the_same_moment, setup, teardown),
		cmocka_unit_test_setup_teardown(when_it_is_still, setup, teardown),
		cmocka_unit_test_setup_teardown(forked_after_unmap, setup, teardown),
		cmocka_unit_test_setup_teardown(has_a_part, setup, teardown),
		cmocka_unit_test_setup_teardown(grandchild, setup, teardown),
		cmocka_unit_test_setup_teardown(forked_after_move, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_mapped, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
