/* SPDX-License-Identifier: MIT */
/* What the parts of fuzz_mm share; fuzz_mm.c says what it is. */
#ifndef FUZZ_MM_H
#define FUZZ_MM_H

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE		4096UL
#define CHUNK		512UL	/* what is written at once, at least */
#define CHUNKS		(PAGE / CHUNK)
#define ALL_CHUNKS	0xffu

#define THREADS		8	/* at most */
#define SLOTS		32	/* children and their children, at a time */
#define ARENA		3072u	/* pages of a thread's own place */
#define NATURAL		256u	/* pages of a mapping elsewhere, at most */
#define ZONES		14	/* the arena, the heap, and mappings elsewhere */
#define BLOCKS		256	/* malloc'ed */
#define CHILDREN	2	/* of a thread, at a time */
#define RECENT		2048	/* operations that are remembered */
#define SCRATCH		64u	/* pages of the file that is read and written */

/* Newer than the headers of Debian 12. */
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif
#define ADV_POPULATE_READ	22
#define ADV_POPULATE_WRITE	23
#define ADV_DONTNEED_LOCKED	24
#define ADV_COLLAPSE		25
#define ADV_GUARD_INSTALL	102
#define ADV_GUARD_REMOVE	103

/* What a page of a zone is. */
enum {
	P_MAPPED = 1 << 0,
	P_READ = 1 << 1, /* may be read; without: SIGSEGV */
	P_WRITE = 1 << 2,
	P_GUARD = 1 << 3, /* MADV_GUARD_INSTALL */
	P_LAZY = 1 << 4, /* MADV_FREE: may become zeros, until it is written */
	P_LOCKED = 1 << 5,
	P_DONTFORK = 1 << 6,
	P_WIPE = 1 << 7,
	P_HUGE = 1 << 8,
	P_NOHUGE = 1 << 9,
};
#define P_RW		(P_READ | P_WRITE)
#define P_VMA		(P_RW | P_LOCKED | P_DONTFORK | P_WIPE | P_HUGE | P_NOHUGE)

/*
 * The copy of a page: what each of its chunks must be (0: zeros), as a tag that no
 * other write ever had.  @either: chunks that are zeros or what they were, all of
 * them alike.  @vma: pages of one value, and of equal P_VMA, are one mapping to the
 * kernel wherever they lie side by side; 0: that is not known.
 */
struct page {
	uint32_t tag[CHUNKS];
	uint32_t vma;
	uint16_t flags;
	uint8_t either;
};

enum zone_kind { Z_NONE, Z_ARENA, Z_NATURAL, Z_HEAP };

/* Pages side by side, some of them not mapped.  A hole in an arena stays the
 * thread's own; elsewhere any thread's mapping may be put there. */
struct zone {
	enum zone_kind kind;
	unsigned int first, nr;		/* in worker.page[] */
	char *base;
};

struct block {
	uint64_t *mem;
	size_t words;
	uint32_t tag;
};

struct op {
	unsigned int kind;
	uint32_t a, b, c, d;
};

/* What was done: len bytes at @from, and where they went. */
struct done {
	uint64_t step, ns;
	const char *what;
	uintptr_t from, to;
	size_t len;
	int result;		/* 0 or an errno */
};

struct worker {
	unsigned int id;		/* threads, then the slots */
	unsigned int depth;		/* of forks */
	pid_t pid, child[CHILDREN];
	unsigned int child_slot[CHILDREN];
	uint64_t rng, step;		/* step: __atomic */
	uint64_t pulse;			/* __atomic: pages and blocks of this step */
	bool over;			/* __atomic */
	uint32_t next_tag, next_vma;
	int scratch_fd, pipe[2];
	char *scratch;			/* shared: what is in the file */
	struct zone zone[ZONES];
	struct block block[BLOCKS];
	struct page page[ARENA + (ZONES - 1) * NATURAL];
	struct page moving[ARENA];
	struct done done[RECENT];
	struct op now;
	uint64_t count[64];
};

/* A mapping or a block that a thread gives another one. */
struct gift {
	int state;			/* __atomic */
	struct zone zone;
	struct page page[NATURAL];
	struct block block;
};
#define GIFTS		8

/* Memory that is shared: zonedev leaves that alone. */
struct shared {
	int failed;			/* __atomic */
	struct worker worker[THREADS];
	struct worker slot[SLOTS];
	int slot_pid[SLOTS];		/* __atomic; 0: free */
	struct gift gift[GIFTS];
};

struct config {
	uint64_t seed;
	double seconds;
	unsigned int threads;
	uint64_t ops;			/* bits of enum op_kind */
	bool any_errno;			/* ZD_ERRNO=0 */
	/* what the kernel can do */
	bool guard, dontunmap, populate, many_vmas, locked_drop;
};

extern struct shared *sh;
extern struct config conf;

static inline uint64_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s * 0x2545f4914f6cdd1dull;
}

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* A step may be long, and get on all the same. */
static inline void alive(struct worker *w)
{
	__atomic_store_n(&w->pulse, w->pulse + 1, __ATOMIC_RELAXED);
}

static inline struct page *pg(struct worker *w, const struct zone *z, unsigned int i)
{
	return &w->page[z->first + i];
}

static inline char *at(const struct zone *z, unsigned int i)
{
	return z->base + i * PAGE;
}

/* A stretch of mapped pages. */
struct run {
	struct zone *z;
	unsigned int first, nr;
};

static inline size_t bytes(struct run r)
{
	return r.nr * PAGE;
}

/* fuzz_copy.c: what must be where */
uint32_t new_tag(struct worker *w);
uint32_t new_vma(struct worker *w);
void fill_chunk(void *to, uint32_t tag, unsigned int chunk);
void check_at(struct worker *w, struct zone *z, unsigned int i, const void *data);
void check_page(struct worker *w, struct zone *z, unsigned int i);
void check_zone(struct worker *w, struct zone *z);
void write_page(struct worker *w, struct zone *z, unsigned int i, unsigned int chunks);
void wrote(struct page *p, unsigned int chunks, uint32_t tag);
void fresh(struct worker *w, struct run r, unsigned int flags);
void drop(struct page *p);
void forget(struct worker *w, struct run r);
bool all(struct worker *w, struct run r, unsigned int mask, unsigned int want);
bool one_vma(struct worker *w, struct run r);
struct run pick(struct worker *w, uint32_t a, uint32_t b, uint32_t c);
struct zone *free_zone(struct worker *w);

/* fuzz_tell.c: what was done, and what went wrong */
__attribute__((format(printf, 1, 2)))
void tell(const char *fmt, ...);
void note(struct worker *w, const char *what, const void *from, const void *to, size_t len,
	  int result);
__attribute__((noreturn, format(printf, 3, 4)))
void broken(struct worker *w, const void *addr, const char *fmt, ...);
void tell_last(struct worker *w, uint64_t now);
void expect_result(struct worker *w, const char *what, const void *addr, int got, int want);
int touch(volatile char *addr, bool write);	/* 0 or the signal */
void catch_signals(void);
extern __thread struct worker *me;

/* fuzz_map.c: for mremap, too */
void anchor(struct worker *w, struct run r);
struct run place(struct worker *w, uint32_t b, uint32_t nr);
void *map(struct worker *w, void *addr, size_t len, int prot, int flags);
void map_at(struct worker *w, struct run r, int prot, int flags, bool touched);
void unmap(struct worker *w, struct run r);
void adopt(struct zone *z, char *base, unsigned int nr);

/* Operations: fuzz_map.c, fuzz_remap.c, fuzz_advice.c, fuzz_heap.c, fuzz_io.c, fuzz_fork.c */
void map_arena(struct worker *w);
void op_write(struct worker *w, const struct op *op);
void op_check(struct worker *w, const struct op *op);
void op_check_zone(struct worker *w, const struct op *op);
void op_look(struct worker *w, const struct op *op);
void op_nap(struct worker *w, const struct op *op);
void op_map(struct worker *w, const struct op *op);
void op_unmap(struct worker *w, const struct op *op);
void op_renew(struct worker *w, const struct op *op);
void op_burst(struct worker *w, const struct op *op);
void op_move(struct worker *w, const struct op *op);
void op_resize(struct worker *w, const struct op *op);
void op_chain(struct worker *w, const struct op *op);
void op_dontunmap(struct worker *w, const struct op *op);
void op_drop(struct worker *w, const struct op *op);
void op_free(struct worker *w, const struct op *op);
void op_advise(struct worker *w, const struct op *op);
void op_populate(struct worker *w, const struct op *op);
void op_forkadv(struct worker *w, const struct op *op);
void op_protect(struct worker *w, const struct op *op);
void op_lock(struct worker *w, const struct op *op);
void op_guard(struct worker *w, const struct op *op);
void op_malloc(struct worker *w, const struct op *op);
void op_brk(struct worker *w, const struct op *op);
void check_blocks(struct worker *w);
void free_blocks(struct worker *w);
void op_file(struct worker *w, const struct op *op);
void op_pipe(struct worker *w, const struct op *op);
void op_vm(struct worker *w, const struct op *op);
void op_fork(struct worker *w, const struct op *op);
void op_kill(struct worker *w, const struct op *op);
void op_hand(struct worker *w, const struct op *op);
void reap(struct worker *w, bool all_of_them);
void open_files(struct worker *w);

/* fuzz_mm.c */
void step(struct worker *w);
void check_all(struct worker *w);

#endif
