/* SPDX-License-Identifier: MIT */
/*
 * Who took each reference: the records.  (zonedev/page_owner.h tells what they are for,
 * page_owner_report.c reads them.)
 *
 * Mechanism.  A hash table of records by pfn, the newest first; a record is one
 * taking of one or more counts.  A put looks for the record that it undoes:
 *
 *  1. as many counts, by this thread, the newest
 *  2. as many counts, by another thread.  If one line took all of these, any of them
 *     will do.  If not, no record is removed and the put is remembered with them;
 *     when there have been as many such puts as there are such records, all go
 *  3. counts of several records, or a part of one record's (a batch that was taken at
 *     once and is let go in parts): newest first, this thread's first
 *
 * A put without such a record is of a reference that was taken before recording began,
 * or by code that doesn't record.  When a page is freed its records go, whatever is left
 * of them.
 *
 * Locks: a bucket's, and inside it site_lock.  zd_alloc()'s nests inside both.
 * enable_lock is outside of all of them.
 *
 * Signals.  What a handler takes or puts that interrupts this code, or zd_alloc(), isn't
 * recorded.
 *
 * Fork.  Lists are changed by one store each.  The child has its parent's records, as it has
 * its parent's references.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zonedev/log.h>

#include "base/alloc.h"
#include "base/lock.h"
#include "base/tls.h"
#include "pages/page_owner.h"

#ifndef ZD_PAGE_OWNER

int zd_page_owner_enable(void)
{
	return -EOPNOTSUPP;
}

int zd_page_owner_disable(void)
{
	return -EOPNOTSUPP;
}

#else

#define BUCKETS		65536U
#define SITE_LISTS	256U
#define PIN_REFS	1024U	/* ZD_PIN_BIAS; a put of one is no part of it */

/* A line of code.  Never freed. */
struct site {
	struct site *next;
	unsigned int line;
	char file[];
};

struct record {
	struct record *next;
	zd_pfn_t pfn;
	const struct site *site;
	uint32_t refs;		/* 0: of the pagemap */
	uint32_t tid;
};

struct bucket {
	struct record *head;
	struct zd_mutex lock;
};

ZD_DEFINE_STATIC_KEY(zd_page_owner_key);

static struct bucket buckets[BUCKETS];
static struct site *sites[SITE_LISTS];
static struct zd_mutex site_lock, enable_lock;
static unsigned int enabled;		/* under enable_lock */

static ZD_TLS uint32_t my_tid, my_tid_of;	/* gettid(2), and in which generation */
static ZD_TLS bool inside;		/* the thread holds a bucket's lock */
static ZD_TLS const char *as_file;	/* __zd_page_owner_as() */
static ZD_TLS unsigned int as_line;

/* Has a signal handler interrupted this file's code, or the allocator, neither of which may
 * be entered again? */
static bool is_nested(void)
{
	return inside || zd_alloc_is_busy();
}

static struct bucket *bucket_of(zd_pfn_t pfn)
{
	return &buckets[(pfn * 0x9e3779b97f4a7c15ull) >> 48];
}

static struct bucket *lock_bucket(zd_pfn_t pfn)
{
	struct bucket *b = bucket_of(pfn);

	inside = true;
	zd_mutex_lock(&b->lock);
	return b;
}

static void unlock_bucket(struct bucket *b)
{
	zd_mutex_unlock(&b->lock);
	inside = false;
}

static uint32_t tid(void)
{
	if (my_tid_of != zd_fork_generation) {
		my_tid = gettid();
		my_tid_of = zd_fork_generation;
	}
	return my_tid;
}

/* The site has a copy of @file, whose library may be unloaded.  NULL: no memory.  With a
 * bucket's lock. */
static const struct site *site_of(const char *file, unsigned int line)
{
	struct site **list = &sites[line % SITE_LISTS], *s;

	while (!strncmp(file, "../", 3))	/* out of a build directory */
		file += 3;
	zd_mutex_lock(&site_lock);
	for (s = *list; s; s = s->next)
		if (s->line == line && !strcmp(s->file, file))
			break;
	if (!s)
		s = zd_alloc(sizeof(*s) + strlen(file) + 1);
	if (s && !s->line) {
		strcpy(s->file, file);
		s->line = line;
		s->next = *list;
		__atomic_store_n(list, s, __ATOMIC_RELEASE);
	}
	zd_mutex_unlock(&site_lock);
	return s;
}

void __zd_page_owner_as(const char *file, unsigned int line)
{
	as_file = file;
	as_line = line;
}

static bool record_add(struct bucket *b, zd_pfn_t pfn, uint32_t refs, const struct site *site)
{
	struct record *r = zd_alloc(sizeof(*r));

	if (r) {
		*r = (struct record){ b->head, pfn, site, refs, tid() };
		__atomic_store_n(&b->head, r, __ATOMIC_RELEASE);
	}
	return r;
}

void __zd_page_owner_took(zd_pfn_t pfn, uint32_t refs, const char *file, unsigned int line)
{
	const struct site *site;
	struct bucket *b;

	if (is_nested())
		return;
	b = lock_bucket(pfn);
	site = as_file ? site_of(as_file, as_line) : site_of(file, line);
	if (!site || !record_add(b, pfn, refs, site))
		zd_warn_once("page_owner: out of memory, the record has gaps");
	unlock_bucket(b);
}

static void record_del(struct record **link)
{
	struct record *r = *link;

	__atomic_store_n(link, r->next, __ATOMIC_RELEASE);
	zd_free(r);
}

/* A put of which it can't be said which record it undoes is a record, too, without a site. */
static bool is_put(const struct record *r)
{
	return !r->site;
}

static bool same_kind(const struct record *r, zd_pfn_t pfn, uint32_t refs)
{
	return r->pfn == pfn && r->refs == refs;
}

/* Rule 1 above; with @b's lock, as the next ones. */
static bool drop_mine(struct bucket *b, zd_pfn_t pfn, uint32_t refs)
{
	for (struct record **p = &b->head; *p; p = &(*p)->next) {
		if (same_kind(*p, pfn, refs) && !is_put(*p) && (*p)->tid == tid()) {
			record_del(p);
			return true;
		}
	}
	return false;
}

/* Rule 2. */
static bool drop_others(struct bucket *b, zd_pfn_t pfn, uint32_t refs)
{
	struct record **newest = NULL, **p;
	unsigned int taken = 0, put = 1;
	bool one_site = true;

	for (p = &b->head; *p; p = &(*p)->next) {
		if (!same_kind(*p, pfn, refs))
			continue;
		if (is_put(*p)) {
			put++;
			continue;
		}
		if (newest)
			one_site &= (*p)->site == (*newest)->site;
		else
			newest = p;
		taken++;
	}
	if (!taken)
		return false;
	if (one_site && put == 1) {
		record_del(newest);
	} else if (put < taken) {
		record_add(b, pfn, refs, NULL);
	} else {
		for (p = &b->head; *p;)
			if (same_kind(*p, pfn, refs))
				record_del(p);
			else
				p = &(*p)->next;
	}
	return true;
}

/* Rule 3, of this thread's records (@mine) or of any.  Returns how many counts are left. */
static uint32_t drop_parts(struct bucket *b, zd_pfn_t pfn, uint32_t refs, bool mine)
{
	for (struct record **p = &b->head; *p && refs;) {
		struct record *r = *p;

		if (r->pfn != pfn || is_put(r) || !r->refs || (mine && r->tid != tid()) ||
		    (refs == 1 && r->refs >= PIN_REFS)) {
			p = &r->next;
			continue;
		}
		if (r->refs > refs) {
			r->refs -= refs;
			return 0;
		}
		refs -= r->refs;
		record_del(p);
	}
	return refs;
}

void __zd_page_owner_drops(zd_pfn_t pfn, uint32_t refs)
{
	struct bucket *b;

	if (is_nested())
		return;
	b = lock_bucket(pfn);
	if (!drop_mine(b, pfn, refs) && !drop_others(b, pfn, refs))
		drop_parts(b, pfn, drop_parts(b, pfn, refs, true), false);
	unlock_bucket(b);
}

static void forget(zd_pfn_t pfn, bool of_pagemap)
{
	struct bucket *b;

	if (is_nested())
		return;
	b = lock_bucket(pfn);
	for (struct record **p = &b->head; *p;)
		if ((*p)->pfn == pfn && !(*p)->refs == of_pagemap)
			record_del(p);
		else
			p = &(*p)->next;
	unlock_bucket(b);
}

void __zd_page_owner_freed(zd_pfn_t pfn)
{
	forget(pfn, false);
}

void __zd_page_owner_released(zd_pfn_t pfn)
{
	forget(pfn, true);
}

/* --- what the reports ask --- */

static uint32_t nr_gone(const struct bucket *b, const struct record *of)
{
	uint32_t n = 0;

	for (const struct record *r = b->head; r; r = r->next)
		n += same_kind(r, of->pfn, of->refs) && is_put(r);
	return n;
}

void zd_page_owner_for_each(zd_pfn_t pfn, bool of_pagemap,
			    void (*fn)(const struct zd_page_owner *one, void *ctx), void *ctx)
{
	struct bucket *b = lock_bucket(pfn);

	for (const struct record *r = b->head; r; r = r->next) {
		if (r->pfn != pfn || !r->refs != of_pagemap || is_put(r))
			continue;
		const struct zd_page_owner one = {
			.pfn = pfn, .file = r->site->file, .line = r->site->line,
			.tid = r->tid, .refs = r->refs, .gone = nr_gone(b, r),
		};

		fn(&one, ctx);
	}
	unlock_bucket(b);
}

/* --- on and off --- */

static void forget_everything(void)
{
	for (unsigned int i = 0; i < BUCKETS; i++) {
		inside = true;
		zd_mutex_lock(&buckets[i].lock);
		while (buckets[i].head)
			record_del(&buckets[i].head);
		unlock_bucket(&buckets[i]);
	}
}

int zd_page_owner_enable(void)
{
	int rc;

	zd_mutex_lock(&enable_lock);
	if (!enabled)	/* what a thread had begun to record when it was disabled */
		forget_everything();
	rc = zd_static_branch_inc(&zd_page_owner_key);
	enabled += !rc;
	zd_mutex_unlock(&enable_lock);
	return rc;
}

int zd_page_owner_disable(void)
{
	int rc = -EINVAL;

	zd_mutex_lock(&enable_lock);
	if (enabled)
		rc = zd_static_branch_dec(&zd_page_owner_key);
	if (!rc && !--enabled)
		forget_everything();
	zd_mutex_unlock(&enable_lock);
	return rc;
}

__attribute__((constructor)) static void page_owner_init(void)
{
	const char *env = getenv("ZONEDEV_PAGE_OWNER");

	/* A failure is in the log already. */
	if (env && !strcmp(env, "on"))
		(void)zd_page_owner_enable();
}

#endif
