/* SPDX-License-Identifier: MIT */
/*
 * The arenas of glibc's malloc.
 *
 * A driver that calls malloc() in a server's thread waits for an arena's lock.  The thread
 * that holds the lock may touch the arena's memory, and wait there for ever if that memory
 * is on the device, since only the driver can bring it home.  What malloc() touches with
 * the lock held is the arena: its headers, lists and free blocks.  A block that malloc()
 * mapped by itself is not part of one, so most of what is large may go.
 *
 * How arenas are told.  The main arena is what brk(2) has given.  Each other begins, at a
 * multiple of its greatest size, with a header that names the arena and its sizes.
 *
 * When they can't be told.  Another malloc than glibc's has other memory, and other locks; so
 * has one that stands before glibc's.  With huge pages of its own (the tunable
 * glibc.malloc.hugetlb=2 or a size) arenas have other sizes.  And where brk(2) had no room
 * left, the main arena maps memory anywhere.  That shows: then the arena, as malloc_info(3)
 * counts it, is larger than what brk(2) has given, or much smaller, if others use brk(2) too.
 */
#include "hmm/malloc_arenas.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/alloc.h"

#define HEAP_MAX	(UINT64_C(64) << 20)
#define OS_PAGE		UINT64_C(4096)
#define NEAR		256	/* the arena begins so near after its first heap's header */
#define TEXT_BYTES	65536	/* malloc_info()'s of one arena is less than half of that */
#define FOREIGN_BRK	65536	/* the C library's own use of brk(2); a mapping is 1 MiB or more */

/* How a heap of an arena that isn't the main one begins, in glibc 2.10 and later. */
struct heap {
	uint64_t arena;
	uint64_t prev;		/* 0: the arena's first */
	uint64_t size;
	uint64_t writable;
};

/* By a system call, since there may be nothing at @addr.  False: there isn't. */
static bool read_heap(uint64_t addr, struct heap *h)
{
	struct iovec to = { h, sizeof(*h) }, from = { (void *)(uintptr_t)addr, sizeof(*h) };

	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == sizeof(*h);
}

static bool is_heap(uint64_t addr, const struct heap *h)
{
	if (!h->size || h->size > HEAP_MAX || h->size % OS_PAGE || h->writable < h->size ||
	    h->writable > HEAP_MAX || !(h->arena % HEAP_MAX) || h->arena % HEAP_MAX > NEAR)
		return false;
	if (!h->prev)
		return h->arena - h->arena % HEAP_MAX == addr;
	return !(h->prev % HEAP_MAX);
}

/* Add the part of [from, to) that lies in [start, end). */
static int add(struct zd_ranges *arenas, uint64_t from, uint64_t to, uint64_t start, uint64_t end)
{
	if (from < start)
		from = start;
	if (to > end)
		to = end;
	return from < to ? zd_ranges_add(arenas, from, to) : 0;
}

/* Where brk(2)'s memory begins; 0: not known. */
static uint64_t brk_start(void)
{
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	char line[1024], *p;
	ssize_t n;

	if (fd < 0)
		return 0;
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	line[n > 0 ? n : 0] = '\0';
	/* The program's name, which may have anything in it, is in parentheses; start_brk is
	 * the 45th field after it. */
	p = strrchr(line, ')');
	for (unsigned int i = 0; p && i < 45; i++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p, NULL, 10) : 0;
}

/* glibc's own, by names that nobody stands before. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t nr, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

static bool is_glibc_malloc(void)
{
	/* volatile, or the compiler may know that two names are two functions */
	void *const volatile used[] = { (void *)malloc, (void *)calloc, (void *)realloc,
					(void *)memalign, (void *)free };
	void *const volatile own[] = { (void *)__libc_malloc, (void *)__libc_calloc,
				       (void *)__libc_realloc, (void *)__libc_memalign,
				       (void *)__libc_free };

	for (unsigned int i = 0; i < sizeof(used) / sizeof(*used); i++)
		if (used[i] != own[i])
			return false;
	return true;
}

/* glibc reads the tunables when the program starts: from the environment of then. */
static bool has_huge_arenas(void)
{
	static const char key[] = "glibc.malloc.hugetlb=";
	FILE *f = fopen("/proc/self/environ", "re");
	char *var = NULL, *at;
	size_t size = 0;
	bool huge = false;

	if (!f)
		return true;
	while (getdelim(&var, &size, '\0', f) > 0 && !huge) {
		if (strncmp(var, "GLIBC_TUNABLES=", 15))
			continue;
		/* 0: no; 1: ordinary arenas, and a wish for huge pages */
		at = strstr(var, key);
		huge = at && strtoul(at + sizeof(key) - 1, NULL, 0) > 1;
	}
	free(var);
	fclose(f);
	return huge;
}

/* Bytes of the main arena, as malloc counts it; -1: not known.  *@brk: where brk(2)'s memory
 * ended meanwhile; 0: it was moved.  @text, of TEXT_BYTES: room for what malloc tells. */
static int64_t main_arena_bytes(char *text, uint64_t *brk)
{
	static const char key[] = "<system type=\"current\" size=\"";
	FILE *f = fmemopen(text, TEXT_BYTES, "w");
	char *at;

	if (!f)
		return -1;
	setvbuf(f, NULL, _IONBF, 0);	/* so that telling allocates nothing */
	*brk = (uintptr_t)sbrk(0);
	if (malloc_info(0, f) || *brk != (uintptr_t)sbrk(0))
		*brk = 0;
	fclose(f);
	text[TEXT_BYTES - 1] = '\0';
	at = strstr(text, key);		/* the first is of the main arena */
	return at ? strtoll(at + sizeof(key) - 1, NULL, 10) : -1;
}

static bool is_all_of_brk(void)
{
	uint64_t from = brk_start(), brk = 0;
	char *text = zd_alloc(TEXT_BYTES);
	int64_t bytes = -1;

	/* other threads allocate */
	for (int i = 0; i < 1000 && text && from && !brk; i++)
		bytes = main_arena_bytes(text, &brk);
	zd_free(text);
	return brk && bytes >= 0 && (uint64_t)bytes <= brk - from &&
	       brk - from - bytes < FOREIGN_BRK;
}

const char *zd_malloc_is_unknown(void)
{
	if (!is_glibc_malloc())
		return "the program's malloc isn't glibc's";
	if (has_huge_arenas())
		return "glibc.malloc.hugetlb is set";
	if (!is_all_of_brk())
		return "malloc has memory that brk(2) didn't give, or isn't alone in using it";
	return NULL;
}

int zd_malloc_arenas(uint64_t start, uint64_t end, struct zd_ranges *arenas)
{
	uint64_t brk = (uintptr_t)sbrk(0), from = brk_start();
	struct heap h;
	int rc;

	rc = add(arenas, from & ~(OS_PAGE - 1), (brk + OS_PAGE - 1) & ~(OS_PAGE - 1), start, end);
	for (uint64_t a = start & ~(HEAP_MAX - 1); a < end && !rc; a += HEAP_MAX)
		if (read_heap(a, &h) && is_heap(a, &h))
			rc = add(arenas, a, a + h.writable, start, end);
	return rc;
}
