/* SPDX-License-Identifier: MIT */
/*
 * One CPU fault on managed memory.
 *
 * The entry says what the page is: on the device (bring it home), in flight
 * (wait for the batch), lost (SIGBUS), or untouched (a zero page).  Neighbours
 * come along while accesses look sequential: the window is as long as the run
 * of pages before the fault that are here already, so it doubles with every
 * fault of a stream, stays at one page for scattered accesses, and needs no
 * state.  A stream that goes down in memory is seen by the pages after it.
 */
#include <errno.h>

#include "base/time.h"
#include "base/trace.h"
#include "base/uapi.h"
#include "engine/backlog.h"
#include "engine/changes.h"
#include "engine/evict.h"
#include "engine/fault.h"
#include "engine/home.h"
#include "engine/recall.h"
#include "engine/shift.h"
#include "space/maps.h"
#include "space/uffd.h"

#define BLOCK_BYTES	(8 * ZD_PAGE_SIZE)
#define STREAM_PAGES	4	/* fewer neighbours are a coincidence */
#define ZERO_WINDOW	512

/* Is the page at @addr, in @range, in RAM as far as its entry tells?  Where pages aren't
 * queued the entry doesn't tell; then any page that isn't away counts. */
static bool is_here(struct zd_mm *mm, uint64_t addr)
{
	zd_entry_t e = *zd_mm_entry(mm, addr);

	if (mm->server->track)
		return zd_entry_state(e) == ZD_ENTRY_PRESENT;
	return (zd_entry_state(e) == ZD_ENTRY_NONE && !(e & ZD_ENTRY_LOCK)) ||
	       zd_entry_state(e) == ZD_ENTRY_SYSTEM;
}

static unsigned int here_before(struct zd_mm *mm, const struct zd_range *range, uint64_t addr,
				unsigned int max)
{
	unsigned int k = 0;

	while (k < max && addr > range->start && is_here(mm, addr - ZD_PAGE_SIZE)) {
		addr -= ZD_PAGE_SIZE;
		k++;
	}
	return k;
}

static unsigned int here_after(struct zd_mm *mm, const struct zd_range *range, uint64_t addr,
			       unsigned int max)
{
	unsigned int k = 0;

	while (k < max && addr + ZD_PAGE_SIZE < range->end && is_here(mm, addr + ZD_PAGE_SIZE)) {
		addr += ZD_PAGE_SIZE;
		k++;
	}
	return k;
}

/*
 * The window of a fault at *@addr on an entry of @state: returns its pages and
 * moves *@addr to its first page (below the fault in a descending stream).
 */
static unsigned int window(struct zd_mm *mm, const struct zd_range *range, uint64_t *addr,
			   enum zd_entry_state state, unsigned int max)
{
	unsigned int up = here_before(mm, range, *addr, max);
	unsigned int down = here_after(mm, range, *addr, max);
	unsigned int len = up >= down ? up : down, n = 1;

	if (len < STREAM_PAGES)
		return 1;
	if (len + 1 < max)
		max = len + 1;
	for (; n < max; n++) {
		uint64_t next = up >= down ? *addr + n * ZD_PAGE_SIZE : *addr - n * ZD_PAGE_SIZE;
		zd_entry_t e;

		if (next < range->start || next >= range->end)
			break;
		e = *zd_mm_entry(mm, next);
		if (zd_entry_state(e) != state || (e & ZD_ENTRY_LOCK))
			break;
	}
	if (up < down)
		*addr -= (n - 1) * ZD_PAGE_SIZE;
	return n;
}

/*
 * No stream: then the device pages that lie around the fault in its block, if
 * there is room for a guess.  What is used together tends to lie together, and one more
 * page costs a tenth of a fault.  But when many pages are away, each page that comes home
 * for nothing drives out one that was of use.
 */
static unsigned int block(struct zd_mm *mm, const struct zd_range *range, uint64_t *addr)
{
	uint64_t lo = *addr & ~(BLOCK_BYTES - 1), hi = lo + BLOCK_BYTES;
	uint64_t first = *addr, end = *addr + ZD_PAGE_SIZE;
	const uint64_t skip = ZD_ENTRY_STATE | ZD_ENTRY_LOCK;

	if (mm->server->stats.c.pages_device > zd_lru_present(&mm->server->lru) / 2)
		return 1;
	lo = lo > range->start ? lo : range->start;
	hi = hi < range->end ? hi : range->end;
	while (first > lo && (*zd_mm_entry(mm, first - ZD_PAGE_SIZE) & skip) == ZD_ENTRY_DEVICE)
		first -= ZD_PAGE_SIZE;
	while (end < hi && (*zd_mm_entry(mm, end) & skip) == ZD_ENTRY_DEVICE)
		end += ZD_PAGE_SIZE;
	*addr = first;
	return (end - first) / ZD_PAGE_SIZE;
}

static void retry_later(struct zd_mm *mm, uint64_t addr, uint64_t flags, uint64_t start_ns, int rc)
{
	switch (rc) {
	case -ENOMEM:
	case -ENOBUFS:
		zd_fault_defer(mm, addr, flags, start_ns);
		break;
	case -ESRCH:
		zd_mm_died(mm);
		break;
	default:	/* EAGAIN, ENOENT: the thread faults again, behind the event; EEXIST */
		mm->event_due |= rc == -EAGAIN;
		zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
	}
}

static void fault_home(struct zd_mm *mm, const struct zd_range *range, uint64_t addr,
		       uint64_t flags, uint64_t start_ns)
{
	uint64_t first = addr;
	unsigned int nr = window(mm, range, &first, ZD_ENTRY_DEVICE, mm->fault_around);
	int rc;

	if (nr == 1 && mm->server->track)
		nr = block(mm, range, &first);
	rc = zd_home(mm, first, nr, ZD_HOME_FAULT, addr, start_ns);
	if (rc < 0)
		retry_later(mm, addr, flags, start_ns, rc);
	else
		mm->server->stats.c.faults_home++;
}

static void resident(struct zd_mm *mm, uint64_t addr, unsigned int nr)
{
	if (mm->server->track)
		zd_mm_lru_add(mm, addr, nr, false);
	else
		for (uint64_t a = addr; a < addr + nr * ZD_PAGE_SIZE; a += ZD_PAGE_SIZE)
			/* not any more; SYSTEM: held, or was, in the same place */
			if (zd_entry_state(*zd_mm_entry(mm, a)) == ZD_ENTRY_REMOVED ||
			    zd_entry_state(*zd_mm_entry(mm, a)) == ZD_ENTRY_GOING)
				zd_entry_store(zd_mm_entry(mm, a), 0);
	mm->server->resident += nr;
}

#define STRAY_NS	2000000000ull	/* longer than any madvise is on its way */

/*
 * The kernel has refused the zero page at @addr: a page is there, put by another fault;
 * or a mark of which no entry knows.  Such a mark is of a page that was out: a madvise
 * whose event has been read, and that the kernel hasn't done yet, will take the mark away.
 * If none does, the page is lost, which is logged.
 */
static void refused_zero(struct zd_mm *mm, uint64_t addr, uint64_t flags, uint64_t start_ns)
{
	uint64_t now;
	bool marked = false;

	if (mm->pagemap_fd >= 0)
		zd_marks_read(mm->pagemap_fd, addr, 1, &marked);
	if (!marked) {
		zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
		return;
	}
	now = zd_now_ns();
	if (mm->stray != addr) {
		mm->stray = addr;
		mm->stray_since_ns = now;
	}
	if (now - mm->stray_since_ns < STRAY_NS) {
		zd_fault_defer(mm, addr, flags, start_ns);
		return;
	}
	mm->stray = 0;
	zd_mm_poison(mm, addr);
}

/*
 * Untouched memory gets the shared zero page, which costs no memory until it is written.
 * The write is a second fault, which the kernel serves alone and which costs little beside
 * the first.  Never a copy of zeros: UFFDIO_COPY comes in over the mark of a page that is
 * out, while the zero page is refused there.
 */
static void fault_zero(struct zd_mm *mm, const struct zd_range *range, uint64_t addr,
		       uint64_t flags, uint64_t start_ns)
{
	struct zd_server *server = mm->server;
	enum zd_entry_state state = zd_entry_state(*zd_mm_entry(mm, addr));
	bool was_present = state == ZD_ENTRY_PRESENT;
	uint64_t first = addr;
	unsigned int nr = 1;
	ssize_t rc = 0;
	bool wake;

	if (!was_present)
		nr = window(mm, range, &first, state, ZERO_WINDOW);
	wake = nr == 1 && !start_ns;
	if (state == ZD_ENTRY_REMOVED)
		rc = zd_uffd_unmark(zd_mm_uffd(mm), first, nr * ZD_PAGE_SIZE);
	if (!rc)
		rc = zd_uffd_zeropage(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE, wake);
	if (rc == -EEXIST && !was_present) {
		refused_zero(mm, addr, flags, start_ns);
		return;
	}
	if (rc < 0) {
		retry_later(mm, addr, flags, start_ns, rc);
		return;
	}
	if (was_present)
		zd_lru_forget(&server->lru, *zd_mm_entry(mm, addr));
	resident(mm, addr, 1);
	if (nr > 1) {
		/* the rest of the window lies behind the fault, or before it */
		uint64_t rest = first == addr ? addr + ZD_PAGE_SIZE : first;

		rc = zd_uffd_zeropage(zd_mm_uffd(mm), rest, (nr - 1) * ZD_PAGE_SIZE, false);
		if (rc > 0)
			resident(mm, rest, rc / ZD_PAGE_SIZE);
	}
	server->stats.c.faults_zero++;
	zd_stats_fault_end(&server->stats, addr, start_ns);
	if (!wake)
		zd_uffd_wake(zd_mm_uffd(mm), first, nr * ZD_PAGE_SIZE);
}

/* The page is in flight.  If its content is in a buffer, on its way out or to another tier, it
 * comes from there; else the thread waits for the batch. */
static void fault_locked(struct zd_mm *mm, uint64_t addr, uint64_t flags, uint64_t start_ns)
{
	zd_entry_t *entry = zd_mm_entry(mm, addr);
	int rc = zd_recall(mm, addr);

	if (rc < 0) {
		mm->event_due = true;
		zd_fault_defer(mm, addr, flags, start_ns);
	} else if (rc) {
		mm->server->stats.c.faults_home++;
		zd_stats_fault_end(&mm->server->stats, addr, start_ns);
	} else {
		zd_entry_store(entry, *entry | ZD_ENTRY_WAIT);
		zd_shift_fault(mm, addr, start_ns);
	}
}

/* The server's thread; doesn't block. */
void zd_fault(struct zd_mm *mm, uint64_t addr, uint64_t flags, uint64_t start_ns)
{
	struct zd_server *server = mm->server;
	const struct zd_range *range;
	zd_entry_t *entry;

	if (mm->dead)
		return;
	addr &= ~(ZD_PAGE_SIZE - 1);
	ZD_PROBE2(fault_begin, addr, flags);
	if (!zd_mm_is_current(mm) && !zd_mm_catch_up(mm)) {	/* what is at @addr isn't known yet */
		zd_fault_defer(mm, addr, flags, start_ns);
		return;
	}
	range = zd_ranges_find(&mm->ranges, addr);
	if (!range) {
		if (!server->host->unknown_fault(mm, addr)) {
			/* unmapped since, or about to be */
			zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
			return;
		}
		range = zd_ranges_find(&mm->ranges, addr);
		if (!range)
			return;
	}
	entry = zd_mm_entry(mm, addr);
	if (*entry & ZD_ENTRY_LOCK) {
		fault_locked(mm, addr, flags, start_ns);
		return;
	}
	if (zd_entry_state(*entry) == ZD_ENTRY_POISON) {
		if (zd_mm_poison_marked(mm, addr)) {
			mm->event_due = true;
			zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
		}
		return;
	}
	if (zd_server_throttle(server)) {
		zd_fault_defer(mm, addr, flags, start_ns);
		return;
	}
	if (zd_entry_state(*entry) == ZD_ENTRY_DEVICE) {
		fault_home(mm, range, addr, flags, start_ns);
		return;
	}
	/* PRESENT as well: usually the page has been put in place while the message waited
	 * (EEXIST); but a page that one thread touched while another gave it up by madvise
	 * is gone again, and only the kernel knows */
	fault_zero(mm, range, addr, flags, start_ns);
}
