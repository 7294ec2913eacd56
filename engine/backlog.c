/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "base/alloc.h"
#include "base/time.h"
#include "engine/backlog.h"
#include "space/uffd.h"

/* A thread that a signal has interrupted comes again with the same fault. */
static bool is_paused(const struct zd_backlog *b, const struct zd_mm *mm, uint64_t addr)
{
	uint64_t now = b->nr ? zd_now_ns() : 0;

	for (size_t i = 0; i < b->nr; i++)
		if (b->v[i].addr == addr && b->v[i].slot == mm->slot && b->v[i].after_ns > now)
			return true;
	return false;
}

/* The server's thread; doesn't block. */
void zd_fault_defer_until(struct zd_mm *mm, uint64_t addr, uint64_t flags, uint64_t start_ns,
			  uint64_t after_ns)
{
	struct zd_backlog *b = &mm->server->backlog;

	if (after_ns && is_paused(b, mm, addr))
		return;
	if (b->nr == b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 64;
		struct zd_waiting_fault *v = zd_realloc(b->v, cap * sizeof(*v));

		if (!v) {
			zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
			return;
		}
		b->v = v;
		b->cap = cap;
	}
	b->v[b->nr++] = (struct zd_waiting_fault){ mm->slot, addr, start_ns, flags, after_ns };
}

void zd_fault_defer(struct zd_mm *mm, uint64_t addr, uint64_t flags, uint64_t start_ns)
{
	zd_fault_defer_until(mm, addr, flags, start_ns, 0);
}

uint64_t zd_backlog_due_ns(const struct zd_backlog *backlog)
{
	uint64_t due = UINT64_MAX;

	for (size_t i = 0; i < backlog->nr; i++)
		if (backlog->v[i].after_ns < due)
			due = backlog->v[i].after_ns;
	return due;
}

void zd_backlog_drop(struct zd_backlog *backlog, size_t first, size_t end)
{
	memmove(backlog->v + first, backlog->v + end, (backlog->nr - end) * sizeof(*backlog->v));
	backlog->nr -= end - first;
}

void zd_backlog_forget(struct zd_backlog *backlog, const struct zd_mm *mm)
{
	size_t left = 0;

	for (size_t i = 0; i < backlog->nr; i++)
		if (backlog->v[i].slot != mm->slot)
			backlog->v[left++] = backlog->v[i];
	backlog->nr = left;
}
