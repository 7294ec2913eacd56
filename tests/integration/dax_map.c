/* SPDX-License-Identifier: MIT */
/*
 * Regions are opened as asked and mapped as asked: a mapping is the file's memory, from the
 * right offset, aligned, and with ZD_DAX_POPULATE has all its pages.
 */
#include <sys/stat.h>

#include "tests/integration/dax_test.h"

#define N	1024

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define TERA	(UINT64_C(1) << 34)	/* shadow memory for more is a matter of its own */
#else
#define TERA	(UINT64_C(1) << 40)
#endif

static void is_the_file(void)
{
	int fd = new_memfd(N * PAGE);
	struct zd_dax *dax = open_dax(fd, 0);
	struct zd_dax_mapping *all = map_all(dax, NULL, 0), *part;
	char *mem = zd_dax_mapping_addr(all), *buf = malloc(N * PAGE);

	CHECK_EQ(zd_dax_size(dax), N * PAGE);
	CHECK_EQ(zd_dax_align(dax), PAGE);
	CHECK_EQ(zd_dax_mapping_len(all), N * PAGE);
	fill(mem, N, 1);
	CHECK_EQ(pread(fd, buf, N * PAGE, 0), N * PAGE);
	CHECK_FILLED(buf, N, 1);

	/* another mapping of a part: the same memory */
	CHECK_EQ(zd_dax_mmap(dax, NULL, NULL, 8 * PAGE, 4 * PAGE, PROT_READ, 0, &part), 0);
	CHECK(!memcmp(zd_dax_mapping_addr(part), mem + 8 * PAGE, 4 * PAGE));
	mem[9 * PAGE] ^= 1;
	CHECK_EQ(((char *)zd_dax_mapping_addr(part))[PAGE], mem[9 * PAGE]);
	CHECK_EQ(zd_dax_munmap(part), 0);
	CHECK_EQ(mem[9 * PAGE] ^ 1, buf[9 * PAGE]);

	/* copies */
	CHECK_EQ(zd_dax_write(all, 100, "zonedev", 7), 0);
	CHECK_EQ(zd_dax_read(all, 100, buf, 7), 0);
	CHECK(!memcmp(buf, "zonedev", 7) && !memcmp(mem + 100, "zonedev", 7));
	CHECK_EQ(zd_dax_read(all, N * PAGE - 1, buf, 2), -EINVAL);
	CHECK_EQ(zd_dax_read(all, N * PAGE + 1, buf, 0), -EINVAL);
	CHECK_EQ(zd_dax_munmap(all), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	close(fd);
	free(buf);
}

static void a_stretch_of_it(void)
{
	struct zd_dax_opts opts = { .size = sizeof(opts), .offset = 3 * PAGE };
	int fd = new_memfd(N * PAGE + 100);
	struct zd_dax_mapping *map;
	struct zd_dax *dax;
	uint64_t w;

	/* up to the last whole page */
	CHECK_EQ(zd_dax_open_fd(fd, &opts, &dax), 0);
	CHECK_EQ(zd_dax_size(dax), (N - 3) * PAGE);
	CHECK_EQ(zd_dax_close(dax), 0);

	opts.length = 5 * PAGE;
	CHECK_EQ(zd_dax_open_fd(fd, &opts, &dax), 0);
	CHECK_EQ(zd_dax_size(dax), 5 * PAGE);
	CHECK_EQ(zd_dax_pagemap(dax)->nr_pages, 5);
	CHECK_EQ(zd_dax_pagemap(dax)->type, ZD_MEMORY_GENERIC);
	map = map_all(dax, NULL, 0);
	fill(zd_dax_mapping_addr(map), 5, 2);
	CHECK_EQ(pread(fd, &w, 8, 4 * PAGE), 8);
	CHECK_EQ(w, word(2, 1, 0));
	CHECK_EQ(pread(fd, &w, 8, 8 * PAGE), 8);
	CHECK_EQ(w, 0);
	CHECK_EQ(zd_dax_munmap(map), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	close(fd);
}

static void aligned(void)
{
	int fd = new_memfd(8 * HUGE);
	struct zd_dax *dax = open_dax(fd, HUGE);
	struct zd_dax_mapping *map[20];
	char *hint, *odd;

	CHECK_EQ(zd_dax_align(dax), HUGE);
	/* whatever lies between the mappings */
	for (int i = 0; i < 20; i++) {
		CHECK(mmap(NULL, (i % 7 + 1) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			   0) != MAP_FAILED);
		CHECK_EQ(zd_dax_mmap(dax, NULL, NULL, (i % 8) * HUGE, HUGE, PROT_READ, 0, &map[i]),
			 0);
		CHECK_EQ((uintptr_t)zd_dax_mapping_addr(map[i]) % HUGE, 0);
	}
	for (int i = 0; i < 20; i++)
		CHECK_EQ(zd_dax_munmap(map[i]), 0);
	CHECK_EQ(zd_dax_mmap(dax, NULL, NULL, PAGE, HUGE, PROT_READ, 0, &map[0]), -EINVAL);
	CHECK_EQ(zd_dax_mmap(dax, NULL, NULL, 0, HUGE + PAGE, PROT_READ, 0, &map[0]), -EINVAL);

	/* where asked, if that is free and aligned */
	hint = mmap(NULL, 3 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(hint != MAP_FAILED && !munmap(hint, 3 * HUGE));
	hint = (char *)(((uintptr_t)hint + HUGE - 1) & ~(HUGE - 1));
	CHECK_EQ(zd_dax_mmap(dax, NULL, hint, 0, HUGE, PROT_READ, 0, &map[0]), 0);
	CHECK(zd_dax_mapping_addr(map[0]) == hint);
	CHECK_EQ(zd_dax_mmap(dax, NULL, hint, 0, HUGE, PROT_READ, 0, &map[1]), 0);
	CHECK(zd_dax_mapping_addr(map[1]) != hint);
	odd = hint + 17 * PAGE;
	CHECK_EQ(zd_dax_mmap(dax, NULL, odd, 0, HUGE, PROT_READ, 0, &map[2]), 0);
	CHECK_EQ((uintptr_t)zd_dax_mapping_addr(map[2]) % HUGE, 0);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(zd_dax_munmap(map[i]), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	close(fd);
}

static void populated(void)
{
	int fd = new_memfd(N * PAGE);
	struct zd_dax *dax = open_dax(fd, 0);
	struct zd_dax_mapping *lazy = map_all(dax, NULL, 0),
			      *now = map_all(dax, NULL, ZD_DAX_POPULATE);
	struct zd_dax_mapping *none;

	CHECK_EQ(mapped_pages(zd_dax_mapping_addr(now), N), N);
	CHECK_EQ(mapped_pages(zd_dax_mapping_addr(lazy), N), 0);
	CHECK_EQ(zd_dax_munmap(now), 0);

	/* what the file doesn't have can't be populated */
	CHECK(!ftruncate(fd, (N - 1) * PAGE));
	CHECK_EQ(zd_dax_mmap(dax, NULL, NULL, 0, N * PAGE, PROT_READ, ZD_DAX_POPULATE, &none),
		 -EIO);
	CHECK_EQ(zd_dax_munmap(lazy), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	close(fd);
}

static size_t resident_kb(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	char line[256];
	size_t kb = 0;

	CHECK(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Rss: %zu kB", &kb) == 1)
			break;
	fclose(f);
	return kb;
}

/* A region of 1 TiB costs what its used pages cost. */
static void costs_nothing(void)
{
	size_t before = resident_kb();
	int fd = new_memfd(TERA);
	struct zd_dax *dax = open_dax(fd, 0);
	struct zd_mm *mm = open_mm();
	struct zd_dax_mapping *map = map_all(dax, mm, 0);
	char *mem = zd_dax_mapping_addr(map);
	struct zd_page *page;

	for (uint64_t at = 0; at < TERA; at += TERA / 8) {
		mem[at] = 1;
		CHECK_EQ(zd_pin_user_pages_fast(mm, mem + at, 1, ZD_FOLL_WRITE, &page), 1);
		zd_unpin_user_page(page);
	}
	CHECK_EQ(live_pages(dax), 8);
	CHECK_EQ(zd_dax_revoke(dax), 0);
	CHECK_EQ(live_pages(dax), 0);
	CHECK_EQ(zd_dax_munmap(map), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	CHECK_EQ(zd_mm_close(mm), 0);
	CHECK(resident_kb() < before + 32 * 1024);
	close(fd);
}

static void refused(void)
{
	struct zd_dax_opts opts = { .size = sizeof(opts) };
	int fd = new_memfd(N * PAGE), empty = new_memfd(0), tmp;
	const char *dir = getenv("TMPDIR");
	char path[4096];
	struct zd_dax_mapping *map;
	struct zd_dax *dax;

	CHECK_EQ(zd_dax_open_fd(-1, NULL, &dax), -EBADF);
	CHECK_EQ(zd_dax_open_fd(empty, NULL, &dax), -EINVAL);
	CHECK_EQ(zd_dax_open("/nonexistent", NULL, &dax), -ENOENT);
	CHECK_EQ(zd_dax_open("/dev/null", NULL, &dax), -ENODEV);
	CHECK_EQ(zd_dax_open("/proc/self", NULL, &dax), -EISDIR);
	CHECK_EQ(zd_dax_open_fd(fd, NULL, NULL), -EINVAL);
	opts.align = 12288;
	CHECK_EQ(zd_dax_open_fd(fd, &opts, &dax), -EINVAL);
	opts.align = 2048;
	CHECK_EQ(zd_dax_open_fd(fd, &opts, &dax), -EINVAL);
	opts.align = 2ul << 30;
	CHECK_EQ(zd_dax_open_fd(fd, &opts, &dax), -EINVAL);
	opts.align = 0;
	opts.offset = 100;
	CHECK_EQ(zd_dax_open_fd(fd, &opts, &dax), -EINVAL);
	opts.offset = PAGE;
	opts.length = N * PAGE;
	CHECK_EQ(zd_dax_open_fd(fd, &opts, &dax), -EINVAL);
	opts.offset = -PAGE;
	CHECK_EQ(zd_dax_open_fd(fd, &opts, &dax), -EINVAL);
	opts.offset = opts.length = 0;
	opts.flags = 1u << 31;
	CHECK_EQ(zd_dax_open_fd(fd, &opts, &dax), -EINVAL);

	/* by path, and read only */
	snprintf(path, sizeof(path), "%s/dax-XXXXXX", dir ? dir : "/tmp");
	tmp = mkstemp(path);
	CHECK(tmp >= 0 && !ftruncate(tmp, 4 * PAGE) && !chmod(path, 0400));
	opts.flags = ZD_DAX_RDONLY;
	CHECK_EQ(zd_dax_open(path, &opts, &dax), 0);
	CHECK(!unlink(path));
	CHECK_EQ(zd_dax_mmap(dax, NULL, NULL, 0, PAGE, PROT_READ | PROT_WRITE, 0, &map), -EACCES);
	CHECK_EQ(zd_dax_mmap(dax, NULL, NULL, 0, PAGE, PROT_WRITE, 0, &map), -EINVAL);
	CHECK_EQ(zd_dax_mmap(dax, NULL, NULL, 0, PAGE, PROT_READ | PROT_EXEC, 0, &map), -EINVAL);
	CHECK_EQ(zd_dax_mmap(dax, NULL, NULL, 0, 5 * PAGE, PROT_READ, 0, &map), -EINVAL);
	CHECK_EQ(zd_dax_mmap(dax, NULL, NULL, 5 * PAGE, PAGE, PROT_READ, 0, &map), -EINVAL);
	CHECK_EQ(zd_dax_mmap(dax, NULL, NULL, 0, 0, PROT_READ, 0, &map), -EINVAL);
	CHECK_EQ(zd_dax_mmap(dax, NULL, NULL, 0, PAGE, PROT_READ, 1u << 31, &map), -EINVAL);
	CHECK_EQ(zd_dax_mmap(dax, NULL, NULL, 0, PAGE, PROT_READ, 0, &map), 0);
	CHECK_EQ(zd_dax_write(map, 0, "x", 1), -EACCES);
	CHECK_EQ(zd_dax_munmap(map), 0);
	CHECK_EQ(zd_dax_munmap(NULL), -EINVAL);
	CHECK_EQ(zd_dax_close(dax), 0);
	CHECK_EQ(zd_dax_close(NULL), -EINVAL);
	close(tmp);
	close(fd);
	close(empty);
}

int main(void)
{
	is_the_file();
	a_stretch_of_it();
	aligned();
	populated();
	refused();
	costs_nothing();
	return 0;
}
