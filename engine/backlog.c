/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "base/alloc.h"
#include "engine/backlog.h"
#include "space/uffd.h"

/* The server's thread; doesn't block. */
void zd_fault_defer(struct zd_mm *mm, uint64_t addr, uint64_t flags, uint64_t start_ns)
{
	struct zd_backlog *b = &mm->server->backlog;

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
	b->v[b->nr++] = (struct zd_waiting_fault){ mm->slot, addr, start_ns, flags };
}

void zd_backlog_drop_first(struct zd_backlog *backlog, size_t nr)
{
	backlog->nr -= nr;
	memmove(backlog->v, backlog->v + nr, backlog->nr * sizeof(*backlog->v));
}

void zd_backlog_forget(struct zd_backlog *backlog, const struct zd_mm *mm)
{
	size_t left = 0;

	for (size_t i = 0; i < backlog->nr; i++)
		if (backlog->v[i].slot != mm->slot)
			backlog->v[left++] = backlog->v[i];
	backlog->nr = left;
}
