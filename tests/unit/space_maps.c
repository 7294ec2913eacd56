/* SPDX-License-Identifier: MIT */
/* /proc/self/maps and the scan for resident pages. */
#include "tests/unit/unit_test.h"

#include <sys/prctl.h>

#include "space/maps.h"

struct looked_for {
	uint64_t start;
	struct zd_vma found;
	char name[256];
	unsigned int nr, stop_after;
	uint64_t last;
};

static bool look(const struct zd_vma *vma, void *ctx)
{
	struct looked_for *l = ctx;

	assert_true(vma->start < vma->end && vma->start >= l->last);
	l->last = vma->end;
	l->nr++;
	if (vma->start <= l->start && l->start < vma->end) {
		l->found = *vma;
		snprintf(l->name, sizeof(l->name), "%s", vma->name);
	}
	return l->nr != l->stop_after;
}

static int maps_fd;

/* zd_maps_find() says the same of one, and below it. */
static void compare_found(const struct looked_for *l)
{
	const struct zd_vma *a = &l->found;
	struct zd_vma one;

	assert_int_equal(zd_maps_find(maps_fd, l->start, &one), 0);
	assert_true(one.start == a->start && one.end == a->end && one.inode == a->inode);
	assert_true(one.read == a->read && one.write == a->write && one.exec == a->exec);
	assert_true(one.shared == a->shared && one.anon == a->anon && one.stack == a->stack);
	assert_string_equal(one.name, "");
	assert_int_equal(zd_maps_find(maps_fd, 0, &one), 0);
	assert_true(one.start > 0 && one.end <= a->end);
	assert_int_equal(zd_maps_find(maps_fd, UINT64_MAX - 8191, &one), -ENOENT);
}

static struct looked_for find(const void *addr)
{
	struct looked_for l = { .start = (uintptr_t)addr };

	assert_int_equal(zd_maps_walk(maps_fd, look, &l), 0);
	if (l.found.end)
		compare_found(&l);
	return l;
}

static void *map_at_hole(size_t pages, int prot, int flags, int fd)
{
	/* between guards, so that nothing merges with it */
	char *p = mmap(NULL, (pages + 2) * 4096, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(p != MAP_FAILED);
	assert_true(mmap(p + 4096, pages * 4096, prot, flags | MAP_FIXED, fd, 0) == p + 4096);
	return p + 4096;
}

static void kinds(void **state)
{
	int self = open("/proc/self/exe", O_RDONLY), mem = memfd_create("mm maps test", 0);
	char *anon = map_at_hole(3, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	char *ro = map_at_hole(1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	char *x = map_at_hole(1, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
			      -1);
	char *shared = map_at_hole(1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	char *file = map_at_hole(1, PROT_READ | PROT_WRITE, MAP_PRIVATE, self);
	struct looked_for l;

	(void)state;
	assert_int_equal(ftruncate(mem, 4096), 0);
	l = find(anon);
	assert_int_equal(l.found.start, (uintptr_t)anon);
	assert_int_equal(l.found.end, (uintptr_t)anon + 3 * 4096);
	assert_true(l.found.anon && l.found.read && l.found.write && !l.found.exec);
	assert_true(!l.found.shared && !l.found.stack && !l.found.inode);
	assert_string_equal(l.name, "");
	assert_true(zd_vma_movable(&l.found));
	l = find(ro);
	assert_true(l.found.anon && l.found.read && !l.found.write);
	assert_false(zd_vma_movable(&l.found));
	l = find(x);
	assert_true(l.found.anon && l.found.exec);
	assert_false(zd_vma_movable(&l.found));
	l = find(shared);
	assert_true(l.found.shared && !l.found.anon && l.found.inode);
	l = find(file);
	assert_true(!l.found.anon && l.found.inode && !l.found.shared);
	assert_non_null(strstr(l.name, "space_maps"));
	l = find(map_at_hole(1, PROT_READ | PROT_WRITE, MAP_PRIVATE, mem));
	assert_false(l.found.anon);	/* a name with blanks in it */
	assert_non_null(strstr(l.name, "memfd:mm maps test"));
	l = find(&l);
	assert_true(SANITIZED || l.found.stack);
	assert_false(l.found.anon && l.found.stack);
	assert_true(sbrk(8192) != (void *)-1);
	l = find((char *)sbrk(0) - 1);
	assert_true(l.found.anon && !strcmp(l.name, "[heap]"));
	close(self);
	close(mem);
}

/* Each mapping once, in order, however many there are; and no more than asked. */
static void walks(void **state)
{
	struct looked_for l = { 0 };
	unsigned int before, nr = 500;
	char *p = mmap(NULL, nr * 2 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(p != MAP_FAILED);
	before = find(NULL).nr;
	for (unsigned int i = 0; i < nr; i++)
		assert_int_equal(mprotect(p + i * 2 * 4096, 4096, PROT_NONE), 0);
	assert_in_range(find(NULL).nr, before + 2 * nr - 2, before + 2 * nr + 2);
	l.stop_after = 3;
	assert_int_equal(zd_maps_walk(maps_fd, look, &l), 0);
	assert_int_equal(l.nr, 3);
	for (unsigned int i = 0; i < nr; i++) {
		l = find(p + i * 2 * 4096);
		assert_int_equal(l.found.start, (uintptr_t)p + i * 2 * 4096);
		assert_true(!l.found.read);
	}
}

#define PAGES	300

/* Does untouched memory that is read get the shared zero page?  (Some kernels of virtual
 * machines give it a page of its own.) */
static bool has_zero_page(int fd)
{
	char *p = map_at_hole(1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	uint64_t entry;

	(void)*(volatile char *)p;
	assert_int_equal(pread(fd, &entry, sizeof(entry), (uintptr_t)p / 4096 * sizeof(entry)),
			 sizeof(entry));
	return !(entry >> 56 & 1);	/* "mapped by us alone" */
}

static void present(void **state)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	char *p = map_at_hole(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	uint32_t rng = test_seed() | 1;
	bool want[PAGES] = { false }, got[PAGES] = { false };
	struct zd_present out[4];
	uint64_t end = (uintptr_t)p + PAGES * 4096, pos = (uintptr_t)p;
	bool zero_page;
	int n;

	(void)state;
	assert_true(fd >= 0);
	zero_page = has_zero_page(fd);
	assert_int_equal(madvise(p, PAGES * 4096, MADV_NOHUGEPAGE), 0);
	for (int i = 0; i < PAGES; i++) {
		switch (test_rand(&rng) % 3) {
		case 0:
			p[i * 4096L] = 1;
			want[i] = true;
			break;
		case 1:		/* the zero page doesn't count */
			(void)*(volatile char *)&p[i * 4096L];
			want[i] = !zero_page;
		}
	}
	while (pos < end) {		/* in small bites */
		uint64_t was = pos;

		n = zd_present_scan(fd, &pos, end, out, 4, 0);
		assert_true(n >= 0 && n <= 4 && pos > was && pos <= end);
		for (int i = 0; i < n; i++) {
			assert_true(out[i].start >= was && out[i].end <= pos && !out[i].huge);
			for (uint64_t a = out[i].start; a < out[i].end; a += 4096)
				got[(a - (uintptr_t)p) / 4096] = true;
		}
	}
	assert_memory_equal(want, got, sizeof(want));

	pos = (uintptr_t)p;
	memset(p, 1, PAGES * 4096);
	n = zd_present_scan(fd, &pos, end, out, 4, 10);	/* that many pages at most */
	assert_int_equal(n, 1);
	assert_int_equal(out[0].end - out[0].start, 10 * 4096);
	assert_int_equal(pos, out[0].end);
	close(fd);
}

static void huge(void **state)
{
	enum { HUGE = 2 << 20 };
	int fd = open("/proc/self/pagemap", O_RDONLY);
	char *raw = map_at_hole(3 * HUGE / 4096, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1);
	char *p = (char *)(((uintptr_t)raw + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
	uint64_t pos = (uintptr_t)p;
	struct zd_present out[64];
	int n;

	(void)state;
	if (madvise(p, HUGE, MADV_HUGEPAGE)) {
		printf("no huge pages here\n");
		return;
	}
	p[5] = 1;
	p[HUGE] = 1;
	n = zd_present_scan(fd, &pos, (uintptr_t)p + HUGE + 4096, out, 64, 0);
	if (n == 1 || !out[0].huge) {
		printf("the kernel gave no huge page\n");
		return;
	}
	assert_int_equal(n, 2);
	assert_int_equal(out[0].end - out[0].start, HUGE);
	assert_false(out[1].huge);
	close(fd);
}

static void exclusive(void **state)
{
	int fd = open("/proc/self/pagemap", O_RDONLY), go[2], status;
	char *p = map_at_hole(2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1), c;
	pid_t pid;

	(void)state;
	p[0] = 1;
	assert_true(zd_page_exclusive(fd, (uintptr_t)p));
	assert_false(zd_page_exclusive(fd, (uintptr_t)p + 4096));	/* not there */
	assert_int_equal(pipe(go), 0);
	pid = fork();
	if (!pid) {
		close(go[1]);
		_exit(read(go[0], &c, 1));
	}
	assert_false(zd_page_exclusive(fd, (uintptr_t)p));
	close(go[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(zd_page_exclusive(fd, (uintptr_t)p));
	close(fd);
}

static void gone(void **state)
{
	struct looked_for l = { 0 };
	char path[64];
	pid_t pid = fork();
	int fd;

	(void)state;
	if (!pid) {
		pause();
		_exit(0);
	}
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(zd_maps_walk(fd, look, &l), 0);
	assert_true(l.nr > 3);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	l = (struct looked_for){ 0 };
	assert_in_range(zd_maps_walk(fd, look, &l) + ESRCH, 0, ESRCH);	/* -ESRCH, or nothing */
	assert_int_equal(l.nr, 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds), cmocka_unit_test(walks),     cmocka_unit_test(present),
		cmocka_unit_test(huge),	 cmocka_unit_test(exclusive), cmocka_unit_test(gone),
	};

	maps_fd = open("/proc/self/maps", O_RDONLY);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
