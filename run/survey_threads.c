/* SPDX-License-Identifier: MIT */
/*
 * The pages that must stay in RAM because a thread may end.
 *
 * A thread ends while its memory can no longer be waited for: the kernel clears the thread's
 * id (CLONE_CHILD_CLEARTID) and walks the thread's list of robust mutexes, and gives up at
 * the first page that is away.  With glibc and musl the id lies beside the list's head, whose
 * address the kernel tells (get_robust_list).  So these pages are unevictable: those around
 * the head of each thread, those of the mutexes that the thread holds, and those of the words
 * that clone() was given (run/agent/clone_call.c).
 */
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/futex.h>

#include "base/alloc.h"
#include "run/agent/agent_proto.h"
#include "run/survey.h"
#include "zonedev/page.h"

#define LIST_MAX	64		/* robust mutexes of one thread that are looked at */
#define PAGE_MASK	(~(ZD_PAGE_SIZE - 1))

static void push(uint64_t **v, size_t *nr, size_t *cap, uint64_t value)
{
	if (*nr == *cap) {
		size_t more = *cap ? *cap * 2 : 64;
		uint64_t *p = zd_realloc(*v, more * sizeof(*p));

		if (!p)
			return;
		*v = p;
		*cap = more;
	}
	(*v)[(*nr)++] = value;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Sort the values, and leave each once. */
static void tidy(uint64_t *v, size_t *nr)
{
	size_t left = 0;

	if (*nr)
		qsort(v, *nr, sizeof(*v), by_value);
	for (size_t i = 0; i < *nr; i++)
		if (!i || v[i] != v[i - 1])
			v[left++] = v[i];
	*nr = left;
}

static void add_page(struct survey *s, uint64_t addr)
{
	push(&s->unevictable, &s->nr_unevictable, &s->cap_unevictable, addr & PAGE_MASK);
}

/* The pages of a mutex: of the link (@node), and of the word with the owner's id. */
static void add_mutex(struct survey *s, uint64_t node, long offset)
{
	node &= ~UINT64_C(1);	/* the mark of a priority-inheriting mutex */
	add_page(s, node);
	add_page(s, node + offset);
}

/* The mutexes in the list at @head, as far as /proc/PID/mem can read it: that fails for a page
 * that is away, and doesn't wait. */
static void add_list(struct survey *s, uint64_t head)
{
	struct {
		uint64_t next;
		int64_t offset;
		uint64_t pending;
	} list;
	uint64_t node;

	if (pread(s->mem_fd, &list, sizeof(list), head) != sizeof(list))
		return;
	if (list.pending)
		add_mutex(s, list.pending, list.offset);
	node = list.next;
	for (int i = 0; i < LIST_MAX && node && (node & ~UINT64_C(1)) != head; i++) {
		add_mutex(s, node, list.offset);
		if (pread(s->mem_fd, &node, sizeof(node), node & ~UINT64_C(1)) != sizeof(node))
			return;
	}
}

static void look_at_thread(struct survey *s, pid_t tid)
{
	uint64_t head = 0;
	size_t len;

	if (syscall(SYS_get_robust_list, tid, &head, &len) || !head)
		return;
	push(&s->heads, &s->nr_heads, &s->cap_heads, head);
	/* the thread's descriptor, with its id, the head and the rseq area, may lie across a
	 * page's end */
	add_page(s, head - ZD_PAGE_SIZE);
	add_page(s, head);
	add_page(s, head + ZD_PAGE_SIZE);
	add_list(s, head);
}

static void look_at_clear_tids(struct survey *s)
{
	struct zd_agent_clear_tids w;

	if (pread(s->mem_fd, &w.nr, sizeof(w.nr), s->of.clear_tids) != sizeof(w.nr) || !w.nr ||
	    pread(s->mem_fd, &w, sizeof(w), s->of.clear_tids) != sizeof(w))
		return;
	for (unsigned int i = 0; i < ZD_AGENT_CLEAR_TIDS && w.addr[i]; i++)
		add_page(s, w.addr[i]);
}

void survey_threads(struct survey *s)
{
	struct entry {
		uint64_t ino;
		int64_t off;
		unsigned short reclen;
		unsigned char type;
		char name[];
	};
	char buf[4096];
	ssize_t n;

	s->nr_heads = s->nr_unevictable = 0;
	if (lseek(s->task_fd, 0, SEEK_SET) < 0)
		return;
	while ((n = syscall(SYS_getdents64, s->task_fd, buf, sizeof(buf))) > 0)
		for (char *at = buf; at < buf + n; at += ((struct entry *)at)->reclen) {
			pid_t tid = strtol(((struct entry *)at)->name, NULL, 10);

			if (tid > 0)
				look_at_thread(s, tid);
		}
	look_at_clear_tids(s);
	tidy(s->heads, &s->nr_heads);
	tidy(s->unevictable, &s->nr_unevictable);
}
