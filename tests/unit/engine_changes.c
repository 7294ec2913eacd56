/* SPDX-License-Identifier: MIT */
/*
 * Changes of a real address space, heard in another order than that in which they
 * happened: each device page is found where its mapping is, or (if no order of the
 * changes is the only one that explains the kernel's marks) is poisoned; never another
 * page, never untouched memory.
 *
 * One thread makes the changes, with real calls; a second reads the events away.  What
 * the server is told is made up: the same events, some of them held up.
 */
#include "tests/unit/unit_test.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "space/maps.h"
#include "engine/changes.h"
#include "engine/entries.h"
#include "engine/exit.h"
#include "engine/mm.h"
#include "engine/server.h"
#include "base/uapi.h"
#include "space/uffd.h"
#include "zonedev/device.h"

#define PLACES	7
#define PAGES	4		/* of a place */
#define BYTES	(PAGES * ZD_PAGE_SIZE)
#define EVENTS	24
#define ROUNDS	400

static struct zd_server server;
static struct zd_mm *mm;
static struct zd_device *dev;
static char *memory;
static pthread_t reader;
static bool stop;		/* __atomic */

struct page {
	bool mapped;
	zd_pfn_t pfn;		/* 0: untouched */
};

/* What is where, and what has been done to get there. */
static struct page truth[PLACES][PAGES];
static struct zd_change event[EVENTS];
static unsigned int nr_events;
static struct zd_change heard[EVENTS];	/* the last that the server was told */
static unsigned int nr_heard;
static unsigned int seed;

static uint64_t at(unsigned int place)
{
	/* no two places are neighbours, or their mappings would merge */
	return (uintptr_t)memory + place * 2 * BYTES;
}

static void *read_away(void *arg)
{
	struct uffd_msg msg;

	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
		if (read(zd_mm_uffd(mm), &msg, sizeof(msg)) < 0)
			usleep(20);
	return arg;
}

static int setup(void **state)
{
	static const struct zd_server_host host;
	int uffd = zd_uffd_open();

	(void)state;
	assert_int_equal(zd_uffd_api(uffd, ZD_UFFD_FEATURES), 0);
	assert_int_equal(zd_server_init(&server, &host, NULL), 0);
	assert_int_equal(zd_mm_create(&server, uffd, NULL, &mm), 0);
	mm->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	assert_true(mm->pagemap_fd >= 0);
	memory = mmap(NULL, PLACES * 2 * BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	assert_int_equal(zd_ram_device_create(1 << 20, &dev), 0);
	assert_int_equal(zd_server_attach(&server, dev), 0);
	__atomic_store_n(&stop, false, __ATOMIC_RELEASE);
	assert_int_equal(pthread_create(&reader, NULL, read_away, NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	munmap(memory, PLACES * 2 * BYTES);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(reader, NULL);
	close(mm->pagemap_fd);
	zd_mm_destroy(mm);
	zd_server_destroy(&server);
	assert_int_equal(zd_device_unregister(dev), 0);
	return 0;
}

static bool one_in(unsigned int n)
{
	return rand_r(&seed) % n == 0;
}

/* A mapping at @place, some of its pages out: marked, and on the device. */
static void map(unsigned int place, bool full)
{
	char *p = mmap((void *)(uintptr_t)at(place), BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(zd_mm_manage(mm, at(place), at(place) + BYTES), 0);
	for (unsigned int i = 0; i < PAGES; i++) {
		struct page *page = &truth[place][i];
		uint64_t addr = at(place) + i * ZD_PAGE_SIZE;

		*page = (struct page){ .mapped = true };
		if (!full && one_in(3))
			continue;
		assert_int_equal(dev->ops->alloc_pages(dev, 1, &page->pfn), 1);
		assert_int_equal(zd_page_init(zd_pfn_to_page(page->pfn)), 0);
		zd_mm_set_device(mm, addr, page->pfn);
		assert_int_equal(zd_uffd_mark(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE), 0);
	}
}

static void say(struct zd_change c)
{
	assert_true(nr_events < EVENTS);
	event[nr_events++] = c;
}

/* Nothing is there, and no mapping of another thread's, a sanitizer's say, shall be. */
static void leave(uint64_t addr, size_t len)
{
	assert_ptr_not_equal(mmap((void *)(uintptr_t)addr, len, PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			     MAP_FAILED);
}

static void unmap(unsigned int place)
{
	leave(at(place), BYTES);
	memset(truth[place], 0, sizeof(truth[place]));
	say((struct zd_change){
		.type = ZD_CHANGE_UNMAP, .start = at(place), .end = at(place) + BYTES });
}

/* From page @first of a place on, @nr of them, to the same pages of another. */
static void move(unsigned int from, unsigned int to, unsigned int first, unsigned int nr,
		 bool stays)
{
	uint64_t a = at(from) + first * ZD_PAGE_SIZE, b = at(to) + first * ZD_PAGE_SIZE;
	size_t len = nr * ZD_PAGE_SIZE;
	/* no hole behind it, not for a moment: see leave() */
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;

	assert_ptr_equal(mremap((void *)(uintptr_t)a, len, len, flags, (void *)(uintptr_t)b),
			 (void *)(uintptr_t)b);
	if (!stays)
		leave(a, len);
	memcpy(&truth[to][first], &truth[from][first], nr * sizeof(truth[0][0]));
	for (unsigned int i = first; i < first + nr; i++)
		truth[from][i] = (struct page){ .mapped = stays };
	say((struct zd_change){
		.type = ZD_CHANGE_MOVE, .dontunmap = true, .start = a, .end = a + len, .to = b,
	});
	if (!stays)
		say((struct zd_change){ .type = ZD_CHANGE_UNMAP, .start = a, .end = a + len });
}

static bool is_free(unsigned int place)
{
	for (unsigned int i = 0; i < PAGES; i++)
		if (truth[place][i].mapped)
			return false;
	return true;
}

static bool is_whole(unsigned int place)
{
	for (unsigned int i = 0; i < PAGES; i++)
		if (!truth[place][i].mapped)
			return false;
	return true;
}

static void change_something(bool may_stay)
{
	unsigned int from = rand_r(&seed) % PLACES, to = rand_r(&seed) % PLACES;

	if (!is_whole(from))
		return;
	if (one_in(5)) {
		unmap(from);
	} else if (from != to && is_free(to)) {
		if (one_in(4))
			move(from, to, 1, 2, false);
		else
			move(from, to, 0, PAGES, may_stay && one_in(6));
	}
}

/* One is heard later than it should be; an echo never before its move. */
static void hold_up(unsigned int times)
{
	for (; times && nr_events > 1; times--) {
		unsigned int i = rand_r(&seed) % nr_events, by = 1 + rand_r(&seed) % 4;
		struct zd_change late = event[i];

		for (; by-- && i + 1 < nr_events; i++) {
			const struct zd_change *next = &event[i + 1];

			if (late.type == ZD_CHANGE_MOVE && next->type == ZD_CHANGE_UNMAP &&
			    next->start == late.start && next->end == late.end)
				break;
			event[i] = *next;
		}
		event[i] = late;
	}
}

static void follow(void)
{
	for (double until = now_s() + 20; zd_uffd_changing(zd_mm_uffd(mm));)
		assert_true(now_s() < until);
	for (unsigned int i = 0; i < nr_events; i++)
		zd_mm_log_change(mm, &event[i]);
	memcpy(heard, event, sizeof(heard));
	nr_heard = nr_events;
	nr_events = 0;
	assert_true(zd_mm_catch_up(mm));
	assert_true(zd_mm_is_current(mm));
}

/* For a failure: what was heard, by place and page. */
static void tell(void)
{
	static const char *const name[] = { "move", "unmap", "remove", "fork" };

	for (unsigned int i = 0; i < nr_heard; i++)
		print_message("%s %.2f-%.2f to %.2f\n", name[heard[i].type],
			      (double)(heard[i].start - at(0)) / (2 * BYTES),
			      (double)(heard[i].end - at(0)) / (2 * BYTES),
			      heard[i].to ? (double)(heard[i].to - at(0)) / (2 * BYTES) : 0.0);
}

/* Returns how many pages were given up. */
static unsigned int check(unsigned int round)
{
	unsigned int lost = 0;

	for (unsigned int p = 0; p < PLACES; p++) {
		for (unsigned int i = 0; i < PAGES; i++) {
			uint64_t addr = at(p) + i * ZD_PAGE_SIZE;
			bool listed = zd_ranges_find(&mm->ranges, addr);
			zd_entry_t e = listed ? *zd_mm_entry(mm, addr) : 0;
			zd_pfn_t pfn = zd_entry_state(e) == ZD_ENTRY_DEVICE ? zd_entry_val(e) : 0;
			bool marked;

			/* what has no mark is let go when it is looked for */
			assert_int_equal(zd_marks_read(mm->pagemap_fd, addr, 1, &marked), 0);
			pfn = marked ? pfn : 0;
			if (zd_entry_state(e) == ZD_ENTRY_POISON)
				lost++;
			else if (pfn != truth[p][i].pfn || (listed && !truth[p][i].mapped)) {
				tell();
				fail_msg("round %u, seed %u: place %u page %u has %llu, not %llu%s",
					 round, seed, p, i, (unsigned long long)pfn,
					 (unsigned long long)truth[p][i].pfn,
					 listed ? "" : " (not listed)");
			}
		}
	}
	return lost;
}

static void clear(void)
{
	for (unsigned int p = 0; p < PLACES; p++) {
		for (unsigned int i = 0; i < PAGES; i++)
			if (truth[p][i].mapped)
				leave(at(p) + i * ZD_PAGE_SIZE, ZD_PAGE_SIZE);
		zd_mm_forget(mm, at(p), at(p) + BYTES);
		memset(truth[p], 0, sizeof(truth[p]));
	}
	assert_int_equal(zd_device_live_pages(dev), 0);
}

/* Returns pages given up in all rounds. */
static unsigned int play(unsigned int held_up, unsigned int changes)
{
	const char *given = getenv("ZD_SEED");
	unsigned int lost = 0, first = given ? strtoul(given, NULL, 10) : (unsigned int)getpid();

	printf("seed %u (again: ZD_SEED=%u)\n", first, first);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		seed = first + round;
		for (unsigned int p = 0; p < PLACES; p++)
			if (one_in(2))
				map(p, one_in(2));
		for (unsigned int i = 0; i < changes; i++)
			change_something(!held_up);
		hold_up(held_up);
		follow();
		lost += check(round);
		clear();
	}
	return lost;
}

/* One thread is heard in the right order, and loses nothing, whatever it does. */
static void as_they_happened(void **state)
{
	(void)state;
	assert_int_equal(play(0, 4), 0);
	assert_int_equal(play(0, 10), 0);
}

/* Nor is anything found in the wrong place if one thread was held up.  (No
 * MREMAP_DONTUNMAP: its missing echo may be taken for a munmap that comes late.) */
static void one_is_late(void **state)
{
	(void)state;
	printf("RESULT: %u pages given up in %u rounds\n", play(1, 5), ROUNDS);
}

/* X goes from A to C, and Y comes to A: heard the other way round. */
static void the_place_was_taken(void **state)
{
	(void)state;
	map(0, true);
	map(1, true);
	move(0, 2, 0, PAGES, false);
	move(1, 0, 0, PAGES, false);
	/* Y's move, its echo, X's move, its echo */
	struct zd_change as_heard[] = { event[2], event[3], event[0], event[1] };
	memcpy(event, as_heard, sizeof(as_heard));
	follow();
	assert_int_equal(check(0), 0);
	clear();
}

/* While there is a log nothing is in order; and what a madvise gives up needs none as
 * long as nothing of it is out. */
static void nothing_before_it_is_still(void **state)
{
	struct zd_change remove = { .type = ZD_CHANGE_REMOVE,
				    .start = at(0),
				    .end = at(0) + BYTES };

	(void)state;
	map(0, true);
	map(1, true);
	assert_int_equal(mm->behind, 0);
	unmap(1);
	zd_mm_log_change(mm, &event[0]);
	zd_mm_set_behind(mm, false);
	assert_false(zd_mm_is_current(mm));
	assert_int_equal(mm->behind, 1);
	assert_true(zd_ranges_find(&mm->ranges, at(1)));	/* not followed */
	nr_events = 0;
	follow();
	assert_int_equal(mm->behind, 0);
	assert_null(zd_ranges_find(&mm->ranges, at(1)));

	zd_mm_log_change(mm, &remove);
	assert_false(zd_mm_is_current(mm));
	follow();
	for (unsigned int i = 0; i < PAGES; i++) {
		assert_int_equal(*zd_mm_entry(mm, at(0) + i * ZD_PAGE_SIZE), ZD_ENTRY_REMOVED);
		zd_entry_store(zd_mm_entry(mm, at(0) + i * ZD_PAGE_SIZE), 0);
		truth[0][i].pfn = 0;
	}
	zd_mm_log_change(mm, &remove);
	assert_true(zd_mm_is_current(mm));
	clear();
}

/* A child has what its parent had when it was forked, which is between two changes. */
static void a_child_is_born(void **state)
{
	struct zd_change fork = { .type = ZD_CHANGE_FORK };
	struct zd_mm *child;
	int none = eventfd(0, EFD_CLOEXEC);	/* of no address space: it can't be asked */

	(void)state;
	map(0, true);
	map(1, true);
	unmap(1);
	assert_int_equal(zd_mm_create(&server, none, mm, &child), 0);
	assert_true(child->unborn);
	fork.child = child;
	say(fork);
	move(0, 2, 0, PAGES, false);
	follow();
	assert_false(child->unborn);
	assert_int_equal(check(0), 0);
	/* the child: as after the unmap, before the move */
	assert_null(zd_ranges_find(&child->ranges, at(1)));
	assert_null(zd_ranges_find(&child->ranges, at(2)));
	for (unsigned int i = 0; i < PAGES; i++)
		assert_int_equal(zd_entry_val(*zd_mm_entry(child, at(0) + i * ZD_PAGE_SIZE)),
				 truth[2][i].pfn);
	zd_mm_destroy(child);
	clear();
}

/* An unborn child that ends leaves the log, and a parent that ends gives birth. */
static void ends(void **state)
{
	struct zd_change fork = { .type = ZD_CHANGE_FORK };
	struct zd_mm *gone, *parent, *orphan;

	(void)state;
	assert_int_equal(zd_mm_create(&server, zd_uffd_open(), mm, &gone), 0);
	fork.child = gone;
	zd_mm_log_change(mm, &fork);
	zd_mm_destroy(gone);
	follow();

	assert_int_equal(zd_mm_create(&server, zd_uffd_open(), NULL, &parent), 0);
	assert_int_equal(zd_mm_adopt(parent, at(3), at(3) + BYTES), 0);
	assert_int_equal(zd_mm_create(&server, zd_uffd_open(), parent, &orphan), 0);
	fork.child = orphan;
	zd_mm_log_change(parent, &fork);
	zd_mm_destroy(parent);
	assert_false(orphan->unborn);
	assert_non_null(zd_ranges_find(&orphan->ranges, at(3)));
	zd_mm_destroy(orphan);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(as_they_happened, setup, teardown),
		cmocka_unit_test_setup_teardown(one_is_late, setup, teardown),
		cmocka_unit_test_setup_teardown(the_place_was_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_before_it_is_still, setup, teardown),
		cmocka_unit_test_setup_teardown(a_child_is_born, setup, teardown),
		cmocka_unit_test_setup_teardown(ends, setup, teardown),
	};
	int fd = zd_uffd_open(), rc = fd < 0 ? fd : zd_uffd_api(fd, ZD_UFFD_FEATURES);

	close(fd);
	if (rc) {
		printf("SKIP: needs userfaultfd with UFFDIO_MOVE and CAP_SYS_PTRACE\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
