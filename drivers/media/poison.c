/* SPDX-License-Identifier: MIT */
/*
 * Pages that fail because a test wants it: a page of an empty file is mapped in their place,
 * so that a touch raises a real SIGBUS.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "drivers/media/media.h"

/* By syscall(): a sanitizer would take mmap() for a write to memory that other threads read.
 * poison.lock is held. */
static int remap(struct zd_media *m, uint64_t page, int fd, uint64_t off, int flags)
{
	int prot = PROT_READ | (m->readonly ? 0 : PROT_WRITE);
	char *at = m->base + page * ZD_PAGE_SIZE;

	if (syscall(SYS_mmap, at, ZD_PAGE_SIZE, prot, flags | MAP_FIXED, fd, off) < 0)
		return -errno;
	madvise(at, ZD_PAGE_SIZE, MADV_DONTFORK);
	madvise(at, ZD_PAGE_SIZE, MADV_DONTDUMP);
	return 0;
}

/* The page's index in the list; poison.nr: it isn't there.  poison.lock is held. */
static uint32_t find_poison(const struct zd_media *m, uint64_t page)
{
	uint32_t i;

	for (i = 0; i < m->poison.nr && m->poison.pages[i] != page; i++)
		;
	return i;
}

static int add_poison(struct zd_media *m, uint64_t page)
{
	uint32_t more = m->poison.capacity ? m->poison.capacity * 2 : 16;
	uint64_t *p = m->poison.pages;
	int rc;

	if (find_poison(m, page) < m->poison.nr)
		return 0;
	if (m->poison.nr == m->poison.capacity) {
		p = zd_realloc(p, more * sizeof(*p));
		if (!p)
			return -ENOMEM;
		m->poison.pages = p;
		m->poison.capacity = more;
	}
	rc = remap(m, page, m->pages.sigbus_fd, 0, MAP_SHARED);
	if (!rc)
		m->poison.pages[m->poison.nr++] = page;
	return rc;
}

/* Any thread; takes poison.lock. */
int zd_media_inject_poison(struct zd_media *m, uint64_t first, uint64_t nr)
{
	int rc = 0;

	if (m->align > ZD_PAGE_SIZE)		/* a single page can't be mapped there */
		return -EOPNOTSUPP;
	zd_mutex_lock(&m->poison.lock);
	for (uint64_t page = first; page < first + nr && !rc; page++)
		rc = add_poison(m, page);
	zd_mutex_unlock(&m->poison.lock);
	return rc;
}

bool zd_media_has_poison(struct zd_media *m)
{
	bool any;

	zd_mutex_lock(&m->poison.lock);
	any = m->poison.nr;
	zd_mutex_unlock(&m->poison.lock);
	return any;
}

bool zd_media_is_poisoned(struct zd_media *m, uint64_t page)
{
	bool found;

	zd_mutex_lock(&m->poison.lock);
	found = find_poison(m, page) < m->poison.nr;
	zd_mutex_unlock(&m->poison.lock);
	return found;
}

/* The page is listed as bad before it becomes readable: no thread reads zeros meanwhile. */
bool zd_media_heal_poison(struct zd_media *m, uint64_t page)
{
	bool healed = false;
	uint32_t i;

	zd_mutex_lock(&m->poison.lock);
	i = find_poison(m, page);
	if (i < m->poison.nr && !zd_media_mark_bad_page(m, page) &&
	    !remap(m, page, m->fd, page * ZD_PAGE_SIZE, m->map_flags ? m->map_flags : MAP_SHARED)) {
		m->poison.pages[i] = m->poison.pages[--m->poison.nr];
		healed = true;
	}
	zd_mutex_unlock(&m->poison.lock);
	return healed;
}

void zd_media_free_poison(struct zd_media *m)
{
	zd_free(m->poison.pages);
	m->poison.pages = NULL;
	m->poison.nr = m->poison.capacity = 0;
}
