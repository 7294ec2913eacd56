/* SPDX-License-Identifier: MIT */
/*
 * With a library that records who takes references: a removal that waits names the code,
 * the program's and zonedev's own; and pins carry the line that asked for them.
 */
#include <stddef.h>

#include "tests/integration/lib_gate.h"

#define N 40

static const char *me = __FILE__;	/* without the path out of the build directory */
static struct zd_page_owner o[600];
static char logged[16][1100];
static unsigned int nr_logged;		/* read by main's thread only */

static void catch_log(enum zd_log_level level, const char *msg, void *ctx)
{
	unsigned int i;

	(void)ctx;
	if (level != ZD_LOG_WARN)
		return;
	i = __atomic_fetch_add(&nr_logged, 1, __ATOMIC_RELAXED);
	if (i < 16)
		snprintf(logged[i], sizeof(logged[0]), "%s", msg);
}

/* Is @path @file, perhaps after a path from a build directory that lies elsewhere? */
static bool is_file(const char *path, const char *file)
{
	size_t len = strlen(path), want = strlen(file);

	return len >= want && !strcmp(path + len - want, file);
}

/* How many references to pages of @pgmap were taken in @file, at that line (0: any). */
static long taken(const struct zd_pagemap *pgmap, const char *file, unsigned int line,
		  uint32_t refs)
{
	long n = zd_page_owner_report(pgmap, o, 600), found = 0;

	CHECK(n >= 0 && n <= 600);
	for (long i = 0; i < n; i++)
		found += is_file(o[i].file, file) && (!line || o[i].line == line) &&
			 o[i].refs == refs && !o[i].gone;
	return found;
}

static bool was_logged(const char *fmt, unsigned long nr, unsigned int line)
{
	char want[400];

	snprintf(want, sizeof(want), fmt, nr, me, line);
	for (unsigned int i = 0; i < nr_logged && i < 16; i++)
		if (strstr(logged[i], want))
			return true;
	return false;
}

/* The program forgot to let go of device pages. */
static void held_device_pages(void)
{
	struct zd_device *dev = ram_device(N);
	struct zd_mm *mm = open_mm();
	char *mem = evicted(mm, N, 1, dev);
	struct zd_pagemap *hold;
	unsigned int line, hold_line;
	zd_pfn_t pfns[N];

	/* one for each entry, and the server's thread took it */
	CHECK_EQ(taken(&dev->pgmap, "engine/land.c", 0, 1), N);
	CHECK(o[0].tid != gettid());
	CHECK_EQ(zd_migrate_device_pfns(mm, mem, N * PAGE, pfns, N), 0);
	line = __LINE__ + 2;
	for (int i = 0; i < 3; i++)
		zd_get_page(zd_pfn_to_page(pfns[i]));
	hold = zd_get_dev_pagemap(pfns[0]), hold_line = __LINE__;

	nr_logged = 0;
	CHECK_EQ(zd_device_unregister_timeout(dev, 50, NULL), -ETIMEDOUT);
	CHECK(was_logged("%lu references taken at %s:%u,", 3, line));
	CHECK(was_logged("%lu holds of the pagemap taken at %s:%u,", 1, hold_line));
	CHECK_EQ(nr_logged, 2);	/* the entries' have gone with the entries */
	CHECK_EQ(taken(&dev->pgmap, me, line, 1), 3);
	for (int i = 0; i < 3; i++)
		zd_put_page(zd_pfn_to_page(pfns[i]));
	zd_put_dev_pagemap(hold);
	CHECK_EQ(zd_device_unregister_timeout(dev, PATIENCE * 1000, NULL), 0);
	CHECK_FILLED(mem, N, 1);
	CHECK_EQ(zd_mm_close(mm), 0);
	munmap(mem, N * PAGE);
}

/* Forked children: each entry of a child is a reference, taken by the fork. */
static int go[2];

static void wait_to_go(void *arg)
{
	char c;

	(void)arg;
	CHECK_EQ(read(go[0], &c, 1), 1);
}

static void held_by_a_child(void)
{
	struct zd_device *dev = ram_device(N);
	struct zd_mm *mm = open_mm();
	char *mem = evicted(mm, N, 2, dev);
	pid_t pid;

	CHECK(!pipe(go));
	pid = child_start(wait_to_go, NULL);
	/* fork returns when the server begins to copy the entries */
	WAIT_FOR(taken(&dev->pgmap, "engine/fork.c", 0, 1) == N);
	CHECK_EQ(taken(&dev->pgmap, "engine/land.c", 0, 1), N);
	CHECK_EQ(write(go[1], "", 1), 1);
	child_ok(pid);
	munmap(mem, N * PAGE);
	WAIT_FOR(!zd_device_live_pages(dev));
	CHECK_EQ(zd_page_owner_report(&dev->pgmap, o, 600), 0);
	close(go[0]);
	close(go[1]);
	close_mm(mm, dev);
}

/* Gets and pins of the program's memory are listed by the line that asked, not by the one in
 * zonedev that counts. */
static void pinned_memory(void)
{
	struct zd_device *dev = ram_device(N);
	struct zd_mm *mm = open_mm();
	char *mem = evicted(mm, N, 3, dev);
	const struct zd_pagemap *system;
	struct zd_page *page[N], *more[2];
	unsigned int pin, get;

	pin = __LINE__ + 1;
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, 10, ZD_FOLL_WRITE, page), 10);
	get = __LINE__ + 1;
	CHECK_EQ(zd_get_user_pages_fast(mm, mem, 2, 0, more), 2);
	system = zd_page_pagemap(page[0]);
	CHECK_EQ(taken(system, me, pin, ZD_PIN_BIAS), 10);
	CHECK_EQ(taken(system, me, get, 1), 2);
	CHECK_EQ(taken(system, "hmm/gup.c", 0, ZD_PIN_BIAS), 0);
	zd_unpin_user_pages(page, 9);
	CHECK_EQ(taken(system, me, pin, ZD_PIN_BIAS), 1);
	CHECK_EQ(o[0].pfn, zd_page_to_pfn(page[0]));
	zd_put_page(more[0]);
	zd_put_page(more[1]);
	CHECK_EQ(taken(system, me, get, 1), 0);
	CHECK_EQ(zd_mm_close(mm), -EBUSY);
	CHECK_EQ(taken(system, me, pin, ZD_PIN_BIAS), 1);	/* so the line can be seen */
	zd_unpin_user_page(page[9]);
	close_mm(mm, dev);
	munmap(mem, N * PAGE);
}

/* A batch on its way to a device that doesn't answer holds the pagemap. */
static void batch_in_flight(void)
{
	struct gate *g = gate_device(N);
	struct zd_mm *mm = open_mm();
	struct migration m = { .mm = mm, .mem = map(N), .pages = N, .dev = &g->dev };

	fill(m.mem, N, 4);
	CHECK_EQ(zd_mm_register(mm, m.mem, N * PAGE), 0);
	migration_start(&m);
	nr_logged = 0;
	CHECK_EQ(zd_device_unregister_timeout(&g->dev, 0, NULL), -ETIMEDOUT);
	CHECK_EQ(nr_logged, 1);
	CHECK(strstr(logged[0], "1 holds of the pagemap taken at ") &&
	      strstr(logged[0], "engine/out.c:"));
	migration_finish(&m);
	CHECK_EQ(zd_device_unregister(&g->dev), 0);
	CHECK_FILLED(m.mem, N, 4);
	CHECK_EQ(zd_mm_close(mm), 0);
	munmap(m.mem, N * PAGE);
}

int main(void)
{
	while (!strncmp(me, "../", 3))
		me += 3;
	zd_set_log(catch_log, NULL);
	CHECK_EQ(zd_page_owner_enable(), 0);
	held_device_pages();
	held_by_a_child();
	pinned_memory();
	batch_in_flight();
	return 0;
}
