/* SPDX-License-Identifier: MIT */
/*
 * A region is taken away: kill, revoke, wait, exit, in that order; the removal waits for
 * the holders of pages, and names the pages.
 */
#include <liburing.h>

#include "pages/pagemap.h"
#include "tests/integration/dax_test.h"

#define N	64

/* --- the order --- */

static char steps[256];
static struct zd_dax *closing;
static struct zd_dax_mapping *mapped;
static struct zd_page *held;

static int read_byte(void *ctx)
{
	return *(volatile unsigned char *)ctx;
}

/* At each step: the steps before it have had their effect, and no others. */
static void record(const void *what, const char *step)
{
	unsigned char *mem = mapped ? zd_dax_mapping_addr(mapped) : NULL;
	struct zd_dax_mapping *map;

	if (!closing || what != zd_dax_pagemap(closing))
		return;
	strcat(strcat(steps, *steps ? " " : ""), step);
	if (!strcmp(step, "kill")) {
		CHECK_EQ(zd_dax_direct_access(closing, 1, 1, NULL, NULL), 1);
		zd_put_page(zd_pfn_to_page(zd_dax_pagemap(closing)->pfn + 1));
		return;
	}
	CHECK_EQ(zd_dax_direct_access(closing, 1, 1, NULL, NULL), -ENODEV);
	if (!strcmp(step, "revoke")) {
		CHECK_EQ(zd_dax_mmap(closing, NULL, NULL, 0, PAGE, PROT_READ, 0, &map), -ENODEV);
		CHECK_EQ(zd_dax_access_guard(mapped, read_byte, mem), 7);
		CHECK_EQ(zd_page_count(held), 2);	/* the mapping's entry, and the test's */
		return;
	}
	CHECK_EQ(zd_dax_access_guard(mapped, read_byte, mem), -ENODEV);
	CHECK_EQ(zd_page_count(held), strcmp(step, "exit") ? 1 : 0);
	if (!strcmp(step, "wait"))
		zd_put_page(held);
}

static void in_order(struct zd_devm *devm, struct zd_dax *dax, int fd, const char *expect)
{
	struct zd_mm *mm = open_mm();

	closing = dax;
	mapped = map_all(dax, mm, 0);
	CHECK_EQ(pwrite(fd, &(char){ 7 }, 1, 0), 1);
	CHECK_EQ(zd_get_user_pages_fast(mm, zd_dax_mapping_addr(mapped), 1, 0, &held), 1);
	*steps = '\0';
	zd_teardown_hook = record;
	if (devm)
		CHECK_EQ(zd_devm_release_all(devm), 5);
	else
		CHECK_EQ(zd_dax_close(dax), 0);
	zd_teardown_hook = NULL;
	closing = NULL;
	if (strcmp(steps, expect)) {
		fprintf(stderr, "steps: %s\nnot:   %s\n", steps, expect);
		exit(1);
	}
	CHECK_EQ(zd_mm_close(mm), 0);
	CHECK_EQ(zd_dax_munmap(mapped), 0);
	mapped = NULL;
}

static void the_order(void)
{
	int fd = new_memfd(N * PAGE);
	struct zd_devm devm;
	struct zd_dax *dax;
	char path[64];

	in_order(NULL, open_dax(fd, 0), fd, "kill revoke put wait exit");

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	zd_devm_init(&devm);
	CHECK_EQ(zd_devm_dax_open(&devm, path, NULL, &dax), 0);
	in_order(&devm, dax, fd, "kill revoke put wait exit");

	/* a region that was closed leaves nothing for the devm */
	CHECK_EQ(zd_devm_dax_open(&devm, path, NULL, &dax), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	CHECK_EQ(zd_devm_release_all(&devm), 0);
	close(fd);
}

/* --- holders --- */

static void holders_are_named(void)
{
	int fd = new_memfd(N * PAGE);
	struct zd_dax *dax = open_dax(fd, 0);
	zd_pfn_t pfn = zd_dax_pagemap(dax)->pfn;
	struct zd_pagemap_holders who = { 0 };
	struct zd_mm *mm = open_mm();
	struct zd_dax_mapping *map = map_all(dax, mm, 0), *none;
	char *mem = zd_dax_mapping_addr(map), *still;
	struct zd_page *pages[N];

	fill(mem, N, 1);
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, N, ZD_FOLL_WRITE, pages), N);
	for (int i = 0; i < N; i++)
		if (i != 5 && i != 40)
			zd_unpin_user_page(pages[i]);
	CHECK_EQ(zd_dax_close_timeout(dax, 10, &who), -ETIMEDOUT);
	CHECK_EQ(who.nr_pages, 2);
	CHECK_EQ(who.nr_refs, 0);
	CHECK_EQ(who.nr_pfns, 2);
	CHECK_EQ(who.pfns[0], pfn + 5);
	CHECK_EQ(who.pfns[1], pfn + 40);

	/* no new references; the page that is held is good memory of the region */
	CHECK_EQ(zd_dax_mmap(dax, mm, NULL, 0, PAGE, PROT_READ, 0, &none), -ENODEV);
	CHECK_EQ(zd_dax_direct_access(dax, 0, 1, NULL, NULL), -ENODEV);
	CHECK_EQ(zd_dax_read(map, 5 * PAGE, mem, 1), -ENODEV);
	still = zd_page_address(pages[5]);
	CHECK_EQ(*(uint64_t *)still, word(1, 5, 0));
	memcpy(still, "written while it goes", 22);

	zd_unpin_user_page(pages[40]);
	CHECK_EQ(zd_dax_close_timeout(dax, 0, &who), -ETIMEDOUT);
	CHECK_EQ(who.nr_pages, 1);
	zd_unpin_user_pages_dirty_lock(&pages[5], 1, true);
	CHECK_EQ(zd_dax_close_timeout(dax, 10000, NULL), 0);
	CHECK_EQ(zd_mm_close(mm), 0);
	CHECK_EQ(zd_dax_munmap(map), 0);

	/* opened again, the region has what was written */
	dax = open_dax(fd, 0);
	map = map_all(dax, NULL, 0);
	mem = zd_dax_mapping_addr(map);
	CHECK(!strcmp(mem + 5 * PAGE, "written while it goes"));
	CHECK_EQ(bad_page(mem, 6, N, 1), N);
	CHECK_EQ(zd_dax_munmap(map), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	close(fd);
}

static void *close_it(void *dax)
{
	return (void *)(intptr_t)zd_dax_close(dax);
}

/* zd_dax_close() blocks while another thread holds a page. */
static void waits(void)
{
	int fd = new_memfd(N * PAGE);
	struct zd_dax *dax = open_dax(fd, 0);
	struct zd_dax_mapping *map = map_all(dax, NULL, 0);
	pthread_t thread;
	zd_pfn_t pfn;
	void *rc;

	CHECK_EQ(zd_dax_direct_access(dax, 3, 1, NULL, &pfn), 1);
	CHECK(!pthread_create(&thread, NULL, close_it, dax));
	WAIT_FOR(zd_dax_mapping_revoked(map));
	usleep(20000);
	CHECK_EQ(pthread_tryjoin_np(thread, &rc), EBUSY);
	zd_put_page(zd_pfn_to_page(pfn));
	CHECK(!pthread_join(thread, &rc));
	CHECK_EQ((intptr_t)rc, 0);
	CHECK_EQ(zd_dax_munmap(map), 0);
	close(fd);
}

/* A buffer registered with the kernel, and a read in flight into it.  A program that lends
 * pages to the kernel pins them as long. */
static void in_flight(void)
{
	int fd = new_memfd(N * PAGE), pipefd[2];
	struct zd_dax *dax = open_dax(fd, 0);
	struct zd_pagemap_holders who;
	struct zd_mm *mm = open_mm();
	struct zd_dax_mapping *map = map_all(dax, mm, 0);
	char *mem = zd_dax_mapping_addr(map), text[64] = "after the revocation", back[64];
	struct iovec iov = { .iov_base = mem + 8 * PAGE, .iov_len = 2 * PAGE };
	struct zd_page *pages[2];
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	int rc;

	rc = io_uring_queue_init(4, &ring, 0);
	if (rc) {
		printf("no io_uring: %s\n", strerror(-rc));
		goto out;
	}
	CHECK(!pipe(pipefd));
	CHECK_EQ(zd_pin_user_pages_fast(mm, iov.iov_base, 2, ZD_FOLL_WRITE | ZD_FOLL_LONGTERM,
					pages),
		 2);
	CHECK_EQ(io_uring_register_buffers(&ring, &iov, 1), 0);
	io_uring_prep_read_fixed(io_uring_get_sqe(&ring), pipefd[0], iov.iov_base, sizeof(text), 0,
				 0);
	CHECK_EQ(io_uring_submit(&ring), 1);

	CHECK_EQ(zd_dax_close_timeout(dax, 10, &who), -ETIMEDOUT);
	CHECK_EQ(who.nr_pages, 2);
	CHECK_EQ(who.pfns[0], zd_page_to_pfn(pages[0]));
	CHECK_EQ(write(pipefd[1], text, sizeof(text)), sizeof(text));
	CHECK_EQ(io_uring_wait_cqe(&ring, &cqe), 0);
	CHECK_EQ(cqe->res, sizeof(text));
	CHECK(!strcmp(zd_page_address(pages[0]), text));
	io_uring_queue_exit(&ring);
	zd_unpin_user_pages_dirty_lock(pages, 2, true);
	close(pipefd[0]);
	close(pipefd[1]);
	CHECK_EQ(pread(fd, back, sizeof(back), 8 * PAGE), sizeof(back));
	CHECK(!strcmp(back, text));
out:
	CHECK_EQ(zd_dax_close(dax), 0);
	CHECK_EQ(zd_dax_munmap(map), 0);
	CHECK_EQ(zd_mm_close(mm), 0);
	close(fd);
}

/* --- from where a region can't be closed --- */

static int freed;

static void close_inside(struct zd_page *page)
{
	(void)page;
	CHECK_EQ(zd_dax_close(closing), -EDEADLK);
	CHECK_EQ(zd_dax_close_timeout(closing, 10, NULL), -EDEADLK);
	freed++;
}

/* From inside a page_free removal is refused, and none of its steps is taken. */
static void from_page_free(void)
{
	static const struct zd_pagemap_ops ops = { .size = sizeof(ops), .page_free = close_inside };
	struct zd_pagemap pgmap = { .type = ZD_MEMORY_GENERIC, .nr_pages = 1, .ops = &ops };
	int fd = new_memfd(N * PAGE);
	struct zd_page *page;
	zd_pfn_t pfn;

	closing = open_dax(fd, 0);
	CHECK_EQ(zd_memremap_pages(&pgmap), 0);
	page = zd_pfn_to_page(pgmap.pfn);
	CHECK_EQ(zd_page_init(page), 0);
	zd_put_page(page);
	CHECK_EQ(freed, 1);
	CHECK_EQ(zd_dax_direct_access(closing, 1, 1, NULL, &pfn), 1);
	zd_put_page(zd_pfn_to_page(pfn));
	CHECK_EQ(zd_dax_close(closing), 0);
	CHECK_EQ(zd_memunmap_pages(&pgmap), 0);
	closing = NULL;
	close(fd);
}

int main(void)
{
	the_order();
	from_page_free();
	holders_are_named();
	waits();
	in_flight();
	return 0;
}
