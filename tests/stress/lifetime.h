/* SPDX-License-Identifier: MIT */
/* What the parts of stress_lifetime share; stress_lifetime.c says what it is. */
#ifndef LIFETIME_H
#define LIFETIME_H

#include "tests/integration/lib_test.h"

#define THREADS		6
#define COMMON		768	/* pages that every thread uses, never unmapped */
#define HOT		32	/* the first of COMMON: never held for long */
#define WINDOWS		3	/* mappings of each thread's own */
#define WIN_MAX		64	/* pages of one */
#define HOLDS		24	/* gets and pins a thread has at a time */
#define HOLD_MAX	8	/* pages of one */
#define CHILDREN	2	/* of a thread, at a time */
#define RECENT		12	/* operations told when something broke */

enum op_kind {
	OP_TOUCH,
	OP_OWN,
	OP_OUT,
	OP_HOME,
	OP_VMA,
	OP_GET,
	OP_PIN,
	OP_RELEASE,
	OP_LOOK,
	OP_WALK,
	OP_CHURN,
	OP_DROP,
	OP_MAP,
	OP_UNMAP,
	OP_REMAP,
	OP_FORK,
	OP_DEVGET,
	OP_UNREGISTER,
	OP_REMOVE,
	NR_OPS,
};

/* Drawn whole before it begins: so what a thread does next depends on nothing
 * but the seed. */
struct op {
	enum op_kind kind;
	uint32_t a, b, c, d;
};

/* A page of a window: the counter that is in it (0: zeros), the last one that
 * ever was, and a tag that no other page has had for long. */
struct own_page {
	uint64_t now, last;
	uint16_t tag;
};

struct window {
	char *base;		/* __atomic: other threads take aim at it */
	unsigned int pages;	/* __atomic; 0: not mapped */
	char *last;		/* where it was mapped before */
	bool loose;		/* has grown: its end may not be managed yet */
	struct own_page page[WIN_MAX];
};

/* References that a thread has.  @addr: where the pages are mapped; NULL when
 * that is not known any more (unmapped, dropped, another thread's). */
struct hold {
	unsigned int nr;
	uint32_t refs;		/* of each page */
	bool device;		/* pages of a device, not of memory */
	char *addr;
	struct zd_page *page[HOLD_MAX];
};

struct totals {
	uint64_t op[NR_OPS], moved, again, removals, timeouts, devices, file_devices;
};

struct worker {
	unsigned int id;
	pthread_t thread;
	uint64_t rng, step;	/* step: __atomic */
	bool waits;		/* __atomic: has come to the end of the round */
	bool walks;		/* __atomic: worth a jolt */
	uint64_t common[COMMON];	/* __atomic: counters of this thread's words */
	struct window win[WINDOWS];
	uint16_t next_tag;
	unsigned int nr_holds;
	struct hold hold[HOLDS];
	pid_t child[CHILDREN];
	uint64_t floor[THREADS][COMMON];	/* what a child must find at least */
	struct op recent[RECENT];
	struct totals did;
};

/* A device, which a thread may name while it holds the anchor, a page of it. */
struct lent {
	struct zd_device *dev;
	struct zd_page *anchor;
};

extern struct zd_mm *mm;
extern char *mem;			/* COMMON pages */
extern struct worker worker[THREADS];

/* stress_lifetime.c: says what broke and what led there, and ends everything. */
__attribute__((noreturn, format(printf, 2, 3)))
void broken(const struct worker *w, const char *fmt, ...);
#define EXPECT(w, cond, ...)							\
	do {									\
		if (!(cond))							\
			broken(w, __VA_ARGS__);					\
	} while (0)
/* Every thread waits when a round ends, until the next begins; false: there is
 * none. */
bool round_over(void);
bool round_wait(struct worker *w);
/* The start of a thread's random numbers in this round. */
uint64_t round_seed(unsigned int id);

/* lifetime_mem.c: what is in memory */
void verify_common(const struct worker *w, size_t page);
void verify_word(const struct worker *w, const struct worker *of, size_t page, uint64_t floor,
		 uint64_t ceiling);
void write_common(struct worker *w, size_t page);
void verify_own(const struct worker *w, const struct window *win, size_t page);
void verify_own_at(const struct worker *w, const struct own_page *p, const void *at);
void write_own(struct window *win, size_t page);
void verify_all(const struct worker *w);
void window_map(struct worker *w, struct window *win, unsigned int pages, bool same_place);
void window_cut(struct worker *w, struct window *win, unsigned int front, unsigned int back);
void window_drop(struct worker *w, struct window *win, unsigned int first, unsigned int nr);
void window_remap(struct worker *w, struct window *win, const struct op *op);
void window_manage(struct worker *w, struct window *win);
void forget_place(struct worker *w, const char *addr, size_t pages, const char *to);

/* lifetime_hold.c: references */
void hold_pages(struct worker *w, const struct op *op, bool pin);
void hold_check(const struct worker *w, const struct hold *h);
void hold_release(struct worker *w, unsigned int i, unsigned int how);
void hold_release_devices(struct worker *w);
void hold_walk(struct worker *w, const struct op *op);
void hold_device_page(struct worker *w, const struct op *op);

/* lifetime_ops.c */
struct op draw(uint64_t *rng);
const char *op_name(enum op_kind kind);
void *work(void *arg);
/* The range that an operation is for.  Its owner is another thread: anything may
 * be there by now. */
struct target {
	char *addr;
	size_t pages;
	struct window *win;	/* the thread's own */
	bool foreign;
	bool sure;		/* managed, all of it, for as long as the thread likes */
};
struct target pick(struct worker *w, uint32_t a, uint32_t b, uint32_t c, size_t max);
void reap_children(struct worker *w, bool all);

/* lifetime_device.c */
bool lend(struct lent *l);
void give_back(const struct lent *l);
extern bool wanted_back;	/* __atomic: a device is being removed */
extern struct totals removed;
void *keep_devices(void *unused);
/* Between rounds: the device that there is, or NULL; and end it. */
struct lent *the_device(void);
void end_device(void);

/* lifetime_check.c: between rounds, when no thread does anything */
void check_everything(uint64_t *rng);
void close_everything(uint64_t *rng);

#endif
