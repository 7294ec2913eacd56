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
 * multiple of its greatest size, with a header that names the arena and its sizes.  Memory
 * that the main arena had to map because brk(2) failed isn't recognised, nor is another
 * malloc.
 */
#include "hmm/malloc_arenas.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define HEAP_MAX	(UINT64_C(64) << 20)
#define OS_PAGE		UINT64_C(4096)
#define NEAR		256	/* the arena begins so near after its first heap's header */

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

int zd_malloc_arenas(uint64_t start, uint64_t end, struct zd_ranges *arenas)
{
	uint64_t brk = (uintptr_t)sbrk(0), from = brk_start();
	struct heap h;
	int rc = 0;

	if (!from)	/* no /proc: all that may be its, near below the break */
		from = start < brk && brk - start < HEAP_MAX * 16 ? start : brk;
	rc = add(arenas, from & ~(OS_PAGE - 1), (brk + OS_PAGE - 1) & ~(OS_PAGE - 1), start, end);
	for (uint64_t a = start & ~(HEAP_MAX - 1); a < end && !rc; a += HEAP_MAX)
		if (read_heap(a, &h) && is_heap(a, &h))
			rc = add(arenas, a, a + h.writable, start, end);
	return rc;
}
