/* SPDX-License-Identifier: MIT */
/* One look at one address space; its rules are told in scout.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <linux/futex.h>

#include "base/alloc.h"
#include "space/maps.h"
#include "run/run.h"
#include "run/survey.h"

#define MIN_BYTES	(128 * 1024)
#define TOP_BYTES	(1024 * 1024)	/* of a stack, where descriptor and TLS are */
#define GROWS_MIN	(512 * 1024)
#define GROWS_SHARE	16		/* of what is beside it, and of the limit */
#define LIST_MAX	64		/* robust mutexes of one thread that are looked at */
#define PAGE_MASK	(~(ZD_PAGE_SIZE - 1))
#define TOP		((UINT64_C(1) << ZD_VA_BITS) - ZD_PAGE_SIZE)	/* of what can be watched */

int survey_new(pid_t pid, pid_t memory, pid_t tid, struct process *owner, struct survey **survey)
{
	struct survey *s = zd_alloc(sizeof(*s));
	char path[32];
	int rc;

	if (!s)
		return -ENOMEM;
	s->owner = owner;
	s->pid = pid;
	s->lo = owner->lo;
	s->hi = owner->hi;
	s->words = owner->words;
	s->grows_max = owner->run->server.limit * ZD_PAGE_SIZE / GROWS_SHARE;
	s->maps_fd = process_proc(memory, tid, "maps");
	s->rollup_fd = process_proc(memory, tid, "smaps_rollup");
	s->mem_fd = process_proc(memory, tid, "mem");
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	s->task_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->maps_fd >= 0 && s->rollup_fd >= 0 && s->mem_fd >= 0 && s->task_fd >= 0) {
		*survey = s;
		return 0;
	}
	rc = -errno;
	survey_close(s);
	zd_free(s);
	return rc;
}

void survey_close(struct survey *s)
{
	const int fd[] = { s->maps_fd, s->rollup_fd, s->mem_fd, s->task_fd };

	for (unsigned int i = 0; i < sizeof(fd) / sizeof(fd[0]); i++)
		if (fd[i] >= 0)
			close(fd[i]);
	zd_ranges_destroy(&s->managed);
	zd_ranges_destroy(&s->growing);
	zd_free(s->found);
	zd_free(s->kept);
	zd_free(s->heads);
}

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

/* Sorted, each once. */
static void tidy(uint64_t *v, size_t *nr)
{
	size_t kept = 0;

	if (*nr)
		qsort(v, *nr, sizeof(*v), by_value);
	for (size_t i = 0; i < *nr; i++)
		if (!i || v[i] != v[i - 1])
			v[kept++] = v[i];
	*nr = kept;
}

static void keep_page(struct survey *s, uint64_t addr)
{
	push(&s->kept, &s->nr_kept, &s->cap_kept, addr & PAGE_MASK);
}

/* A mutex: where it is linked, and the word that tells its owner. */
static void keep_mutex(struct survey *s, uint64_t node, long offset)
{
	node &= ~UINT64_C(1);	/* a priority-inheriting one is marked so */
	keep_page(s, node);
	keep_page(s, node + offset);
}

/* By /proc/PID/mem, which doesn't wait: what is away is not read. */
static void keep_list(struct survey *s, uint64_t head)
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
		keep_mutex(s, list.pending, list.offset);
	node = list.next;
	for (int i = 0; i < LIST_MAX && node && (node & ~UINT64_C(1)) != head; i++) {
		keep_mutex(s, node, list.offset);
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
	/* id, head and rseq area of a descriptor may lie across a page's end */
	keep_page(s, head - ZD_PAGE_SIZE);
	keep_page(s, head);
	keep_page(s, head + ZD_PAGE_SIZE);
	keep_list(s, head);
}

static void look_at_words(struct survey *s)
{
	struct zd_agent_clear_tids w;

	if (pread(s->mem_fd, &w.nr, sizeof(w.nr), s->words) != sizeof(w.nr) || !w.nr ||
	    pread(s->mem_fd, &w, sizeof(w), s->words) != sizeof(w))
		return;
	for (unsigned int i = 0; i < ZD_AGENT_CLEAR_TIDS && w.addr[i]; i++)
		keep_page(s, w.addr[i]);
}

static void look_at_threads(struct survey *s)
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

	s->nr_heads = s->nr_kept = 0;
	if (lseek(s->task_fd, 0, SEEK_SET) < 0)
		return;
	while ((n = syscall(SYS_getdents64, s->task_fd, buf, sizeof(buf))) > 0)
		for (char *at = buf; at < buf + n; at += ((struct entry *)at)->reclen) {
			pid_t tid = strtol(((struct entry *)at)->name, NULL, 10);

			if (tid > 0)
				look_at_thread(s, tid);
		}
	look_at_words(s);
	tidy(s->heads, &s->nr_heads);
	tidy(s->kept, &s->nr_kept);
}

/* --- mappings --- */

struct walk {
	struct survey *s;
	uint64_t guard_end;	/* of a PROT_NONE private mapping just before */
	uint64_t start;		/* of the mapping */
	uint64_t prev_end;	/* of the mapping below */
	struct zd_range small[MIN_BYTES / ZD_PAGE_SIZE];	/* side by side, see look_for() */
	unsigned int nr_small;
	uint64_t big_end;	/* of the last that look_for() took */
	size_t head;		/* the first at or above the mapping */
	struct zd_ranges growing;	/* what may have been growing last time */
};

static bool is_thread_stack(struct walk *w, const struct zd_vma *vma)
{
	const struct survey *s = w->s;
	size_t i = w->head;

	return w->guard_end == vma->start && i < s->nr_heads && s->heads[i] < vma->end &&
	       vma->end - s->heads[i] <= TOP_BYTES &&
	       (i + 1 == s->nr_heads || s->heads[i + 1] >= vma->end);
}

/* One mapping each, as they come; registering several at once could fail for one. */
static void add_found(struct walk *w, uint64_t start, uint64_t end)
{
	struct survey *s = w->s;

	if (s->nr_found == s->cap_found) {
		size_t cap = s->cap_found ? s->cap_found * 2 : 64;
		struct found *v = zd_realloc(s->found, cap * sizeof(*v));

		if (!v)
			return;
		s->found = v;
		s->cap_found = cap;
	}
	s->found[s->nr_found++] = (struct found){
		start, end, start == w->start && w->prev_end ? w->prev_end : start, end,
	};
}

/* The last one that was found could reach as far as @start, where the next mapping is. */
static void set_ceiling(struct survey *s, uint64_t prev_end, uint64_t start)
{
	struct found *f = s->nr_found ? &s->found[s->nr_found - 1] : NULL;

	if (f && f->end == prev_end)
		f->ceiling = start < TOP ? start : TOP;
}

/*
 * Is [start, end) a piece that what is managed beside it may be growing by?  What is
 * registered doesn't grow: each piece would be a mapping of its own, for good.  So one that
 * is small beside it, and beside the limit, waits until it has grown, or is as it was when
 * it was looked at last.
 */
static bool may_grow(struct walk *w, uint64_t start, uint64_t end)
{
	struct survey *s = w->s;
	const struct zd_range *before = zd_ranges_find(&s->managed, start - 1);
	const struct zd_range *behind = zd_ranges_find(&s->managed, end), *was;
	uint64_t beside = before ? before->end - before->start : 0;

	if (behind && behind->end - behind->start > beside)
		beside = behind->end - behind->start;
	beside = beside / GROWS_SHARE < s->grows_max ? beside / GROWS_SHARE : s->grows_max;
	if ((!before && !behind) || end - start >= (beside > GROWS_MIN ? beside : GROWS_MIN))
		return false;
	was = zd_ranges_find(&w->growing, start);
	if (was && was->end >= end)
		return false;
	return !zd_ranges_add(&s->growing, start, end);
}

/* What of [start, end) isn't managed. */
static void find_gaps(struct walk *w, uint64_t start, uint64_t end)
{
	uint64_t gap_end;

	for (; zd_ranges_gap(&w->s->managed, &start, end, &gap_end); start = gap_end)
		if (!may_grow(w, start, gap_end))
			add_found(w, start, gap_end);
}

/*
 * A mapping that can be managed.  What is managed doesn't merge with what is not, and an
 * mremap over what would be one mapping without zonedev would be refused: so small ones are
 * managed as well where enough of them lie side by side.
 */
static void look_for(struct walk *w, const struct zd_vma *vma)
{
	uint64_t begin = w->nr_small ? w->small[0].start : vma->start;

	if (vma->end - begin < MIN_BYTES && vma->start != w->big_end) {
		w->small[w->nr_small++] = (struct zd_range){ vma->start, vma->end };
		return;
	}
	for (unsigned int i = 0; i < w->nr_small; i++)
		find_gaps(w, w->small[i].start, w->small[i].end);
	w->nr_small = 0;
	find_gaps(w, vma->start, vma->end);
	w->big_end = vma->end;
}

static bool look_at_vma(const struct zd_vma *vma, void *ctx)
{
	struct walk *w = ctx;
	struct survey *s = w->s;

	while (w->head < s->nr_heads && s->heads[w->head] < vma->start)
		w->head++;
	if (w->nr_small && w->small[w->nr_small - 1].end != vma->start)
		w->nr_small = 0;
	set_ceiling(s, w->prev_end, vma->start);
	w->start = vma->start;
	if (zd_vma_movable(vma) && (vma->end <= s->lo || vma->start >= s->hi) && !vma->stack &&
	    vma->end <= UINT64_C(1) << ZD_VA_BITS && !is_thread_stack(w, vma))
		look_for(w, vma);
	w->guard_end = vma->anon && !vma->read && !vma->write ? vma->end : 0;
	w->prev_end = vma->end;
	return true;
}

/* --- the share of a family's pages --- */

static uint64_t kilobytes(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void read_share(struct survey *s)
{
	char buf[2048];
	ssize_t n = pread(s->rollup_fd, buf, sizeof(buf) - 1, 0);

	s->pss = s->anon = 0;
	if (n <= 0)
		return;
	buf[n] = 0;
	s->pss = kilobytes(buf, "\nPss_Anon:") * 1024 / ZD_PAGE_SIZE;
	s->anon = kilobytes(buf, "\nAnonymous:") * 1024 / ZD_PAGE_SIZE;
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

void survey_make(struct survey *s)
{
	struct walk w = { .s = s, .growing = s->growing };
	uint64_t start = cpu_ns();

	s->growing = (struct zd_ranges){ 0 };
	s->nr_found = 0;
	s->pss = s->anon = 0;
	look_at_threads(s);
	s->gone = zd_maps_walk(s->maps_fd, look_at_vma, &w) == -ESRCH;
	zd_ranges_destroy(&w.growing);
	if (s->want_pss)
		read_share(s);
	s->took_ns = cpu_ns() - start;
}
