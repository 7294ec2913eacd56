/* SPDX-License-Identifier: MIT */
/*
 * Home: device pages back to program memory.
 *
 * Where the server can address the device's memory, the kernel copies straight
 * from it (UFFDIO_COPY) and nothing is ever in flight.  Otherwise entries are
 * locked, the device reads into the batch's buffer, and the copy follows when
 * the read is done.
 *
 * A copy that can't be made now (EAGAIN: an event waits to be read) changes
 * nothing: the entry stays DEVICE, and the waiting thread is woken to fault again,
 * behind the event.
 *
 * A page that is out has its mark in the program's page table (uffd.h).  Where the mark
 * has gone the program has dropped the page and no event said so: by a madvise whose event
 * was read before the page moved out and which the kernel did after, by MADV_GUARD_INSTALL,
 * or in a child by MADV_WIPEONFORK.  COPY would come in over a guard as over a mark, so
 * marks are read first, and pages without a mark are let go.
 */
#include <errno.h>
#include <string.h>

#include "base/time.h"
#include "base/trace.h"
#include "engine/backlog.h"
#include "engine/delayed_put.h"
#include "engine/distrust.h"
#include "engine/home.h"
#include "engine/tier.h"
#include "engine/tier_share.h"
#include "space/maps.h"
#include "space/uffd.h"
#include "zonedev/log.h"

#define HOME_BATCHES	64	/* in flight at a time, of a device */

/* The entries of [addr, addr + nr pages), all of one device, become those of pages in RAM; @old gets what they
 * were. */
static void leave_device(struct zd_mm *mm, uint64_t addr, unsigned int nr, zd_entry_t *old)
{
	struct zd_server *server = mm->server;

	for (unsigned int i = 0; i < nr; i++) {
		zd_entry_t *entry = zd_mm_entry(mm, addr + i * ZD_PAGE_SIZE);

		old[i] = *entry;
		if (!server->track)
			zd_entry_store(entry, 0);
	}
	zd_mm_count_device(mm, zd_entry_val(old[0]), -(int)nr);
	zd_server_weigh_shares(server, old[0]);
	if (server->track)
		zd_mm_lru_add(mm, addr, nr, nr == 1 && zd_lru_refault_is_hot(&server->lru, old[0]));
}

/* The page of @addr didn't come home: its entry becomes @old again. */
static void back_on_device(struct zd_mm *mm, uint64_t addr, zd_entry_t old)
{
	zd_entry_t *entry = zd_mm_entry(mm, addr);

	if (zd_entry_state(*entry) == ZD_ENTRY_PRESENT)
		zd_lru_forget(&mm->server->lru, *entry);
	zd_entry_store(entry, old);
	zd_mm_count_device(mm, zd_entry_val(old), 1);
}

/* The program has dropped the page of @addr: put the device page. */
static void let_go(struct zd_mm *mm, uint64_t addr, zd_entry_t old)
{
	back_on_device(mm, addr, old);
	zd_mm_put_device(mm, zd_mm_entry(mm, addr), 0);
	mm->server->stats.c.pages_freed++;
	zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
}

/* read_marks() in a child whose pagemap isn't known (before its hello, of a bare clone, of a
 * program that uses the library): the kernel puts the zero page where nothing is, which is
 * what belongs there, and refuses to put it over a mark. */
static bool probe_marks(int uffd, uint64_t addr, unsigned int nr, bool *marked)
{
	for (unsigned int i = 0; i < nr; i++) {
		ssize_t rc = zd_uffd_zeropage(uffd, addr + i * ZD_PAGE_SIZE, ZD_PAGE_SIZE, false);

		if (rc == -EAGAIN)
			return false;
		marked[i] = rc < 0;
	}
	return true;
}

/* Which pages have their mark?  All, where that can't be seen.  False: can't be told now; a
 * mark may have moved with its mapping, and the event of that is still to be read. */
static bool read_marks(const struct zd_mm *mm, uint64_t addr, unsigned int nr, bool *marked)
{
	if (mm->pagemap_fd < 0)
		return probe_marks(zd_mm_uffd(mm), addr, nr, marked);
	if (zd_marks_read(mm->pagemap_fd, addr, nr, marked)) {
		memset(marked, true, nr * sizeof(*marked));
		return true;
	}
	return !memchr(marked, false, nr * sizeof(*marked)) || !zd_uffd_changing(zd_mm_uffd(mm));
}

static unsigned int run_of(const bool *marked, unsigned int nr)
{
	unsigned int n = 0;

	while (n < nr && marked[n])
		n++;
	return n;
}

int zd_home_place(struct zd_mm *mm, uint64_t addr, unsigned int nr, const char *content, bool wake)
{
	struct zd_server *server = mm->server;
	zd_entry_t old[ZD_RUN_MAX];
	bool marked[ZD_RUN_MAX];
	unsigned int done = 0;
	ssize_t rc = 0;

	if (!zd_mm_is_current(mm) || !read_marks(mm, addr, nr, marked))
		return -EAGAIN;
	leave_device(mm, addr, nr, old);
	while (done < nr) {
		uint64_t at = addr + done * ZD_PAGE_SIZE;
		unsigned int run = run_of(marked + done, nr - done);

		if (!run) {
			let_go(mm, at, old[done++]);
			continue;
		}
		rc = zd_uffd_copy(zd_mm_uffd(mm), at, content + done * ZD_PAGE_SIZE,
				  run * ZD_PAGE_SIZE, wake);
		if (rc > 0) {
			unsigned int got = rc / ZD_PAGE_SIZE;

			server->resident += got;
			zd_server_tier_of(server, zd_entry_val(old[done]))->pages_home += got;
			server->stats.c.pages_home += got;
			server->stats.c.bytes_from_device += rc;
			while (got--)
				zd_delay_put(server, zd_entry_val(old[done++]));
		} else if (rc == -EEXIST) {
			/* the page that is there is newer: a forked child
			 * wrote to it while the device page was in flight */
			let_go(mm, at, old[done++]);
		} else {
			break;
		}
	}
	for (unsigned int i = done; i < nr; i++)
		back_on_device(mm, addr + i * ZD_PAGE_SIZE, old[i]);
	if (rc == -EAGAIN)
		mm->event_due = true;
	return done ? (int)done : rc;
}

/* @content: of the first page. */
static int home_direct(struct zd_mm *mm, uint64_t addr, unsigned int nr, char *content, bool wake)
{
	struct zd_device *dev = zd_server_device(mm->server, zd_entry_val(*zd_mm_entry(mm, addr)));
	unsigned int done = 0;
	int rc = 0;

	while (done < nr && content) {
		uint64_t at = addr + done * ZD_PAGE_SIZE;
		char *next = NULL;
		unsigned int run = 1;

		for (; done + run < nr; run++) {
			zd_entry_t e = *zd_mm_entry(mm, at + run * ZD_PAGE_SIZE);

			next = dev->ops->direct_access(dev, zd_entry_val(e));
			if (next != content + run * ZD_PAGE_SIZE)
				break;
		}
		rc = zd_home_place(mm, at, run, content, wake);
		if (rc < 0)
			break;
		done += rc;
		if ((unsigned int)rc < run)
			break;
		content = next;
	}
	return done ? (int)done : rc;
}

static void unlock(struct zd_mm *mm, uint64_t addr)
{
	zd_entry_t *entry = zd_mm_entry(mm, addr);

	zd_entry_store(entry, *entry & ~(ZD_ENTRY_LOCK | ZD_ENTRY_WAIT));
}

/* The device could not read the page back. */
static void unreadable(struct zd_mm *mm, uint64_t addr, int error)
{
	zd_entry_t *entry = zd_mm_entry(mm, addr);
	struct zd_tier *tier = zd_server_tier_of(mm->server, zd_entry_val(*entry));
	struct zd_device *dev = tier->dev;

	tier->nr_errors++;
	zd_log(ZD_LOG_ERR, "%s: can't read page %llu: %s", dev->name,
	       (unsigned long long)zd_device_page_index(dev, zd_entry_val(*entry)),
	       strerrordesc_np(-error));
	zd_mm_put_device(mm, entry, 0);
	zd_mm_poison(mm, addr);
}

static void fault_done(struct zd_mig *mig)
{
	if (mig->is_fault)
		zd_stats_fault_end(&mig->server->stats, mig->first, mig->start_ns);
	mig->is_fault = false;
}

/* A page that no fault needs stays on the device; a homing is told (homing.c). */
static void note_error(struct zd_mm *mm, uint64_t addr, int error)
{
	mm->home_error = error;
	mm->home_error_dev = zd_server_device(mm->server, zd_entry_val(*zd_mm_entry(mm, addr)));
	mm->nr_home_errors++;
}

/* The same for a page that can't be read: a thread that waits for it faults again, and only then
 * is the page lost. */
static void note_unreadable(struct zd_mm *mm, uint64_t addr, int error)
{
	note_error(mm, addr, error);
	zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
}

/*
 * The device can't be reached now, and the page stays on it.  A fault that needs the page, the
 * batch's own or one that has met the lock (@waited), is asked again after a pause.  Its thread
 * isn't woken: it would fault again at once.
 */
static void ask_again(struct zd_mig *mig, struct zd_mm *mm, uint64_t addr, bool waited)
{
	const struct zd_reach *reach = zd_server_reach(mig->server, mig->dev);
	uint64_t now = zd_now_ns(), start_ns = 0;

	if (mig->why == ZD_HOME_MOVE)
		note_error(mm, addr, -EAGAIN);
	if (mig->why == ZD_HOME_FAULT && addr == mig->needed) {
		mig->is_fault = false;
		mm->server->stats.c.faults_home--;	/* counted when it is asked again */
		start_ns = mig->start_ns;
	} else if (!waited) {
		return;
	}
	zd_fault_defer_until(mm, addr, 0, start_ns, now + zd_reach_pause_ns(reach, now));
}

static void not_read(struct zd_mig *mig, struct zd_mm *mm, uint64_t addr, int error, bool waited)
{
	if (error == -EAGAIN)
		ask_again(mig, mm, addr, waited);
	else if (mig->why == ZD_HOME_CLOSE || (mig->why == ZD_HOME_FAULT && addr == mig->needed))
		unreadable(mm, addr, error);
	else
		note_unreadable(mm, addr, error);
}

/* ->done of the device. */
static void arrived_in_buffer(struct zd_device_io *io)
{
	struct zd_mig *mig = io->owner;

	zd_mig_answered(mig);
	for (unsigned int i = 0; i < mig->nr; i++)
		mig->page[i].error = io->pages[i].error;
	for (unsigned int i = 0; i < mig->nr; i++) {
		struct zd_mig_page *p = &mig->page[i];
		unsigned int run = 1;
		bool waited;
		int rc;

		p->step = ZD_MIG_DONE;
		if (!p->mm) {	/* unmapped meanwhile; the batch has the reference */
			zd_put_page(zd_pfn_to_page(p->pfn));
			continue;
		}
		waited = *zd_mm_entry(p->mm, p->addr) & ZD_ENTRY_WAIT;
		unlock(p->mm, p->addr);
		if (p->error) {
			not_read(mig, p->mm, p->addr, p->error, waited);
			continue;
		}
		for (; i + run < mig->nr; run++) {
			struct zd_mig_page *q = &mig->page[i + run];

			if (q->mm != p->mm || q->error || q->addr != p->addr + run * ZD_PAGE_SIZE)
				break;
			q->step = ZD_MIG_DONE;
			unlock(q->mm, q->addr);
		}
		rc = zd_home_place(p->mm, p->addr, run, zd_mig_buffer(mig, i), false);
		mig->gone += rc > 0 ? rc : 0;
		if (rc == -ENOMEM && mig->why != ZD_HOME_FAULT)
			note_unreadable(p->mm, p->addr, rc);
		fault_done(mig);
		zd_uffd_wake(zd_mm_uffd(p->mm), p->addr, run * ZD_PAGE_SIZE);
		i += run - 1;
	}
	fault_done(mig);	/* no page came */
	ZD_PROBE3(migrate_end, 1, mig->first, mig->gone);
	zd_flush_delayed_puts(mig->server);
	zd_mig_free(mig);
}

static int home_read(struct zd_mm *mm, uint64_t addr, unsigned int nr, enum zd_home_for why,
		     uint64_t needed, uint64_t start_ns)
{
	struct zd_server *server = mm->server;
	struct zd_tier *tier = zd_server_tier_of(server, zd_entry_val(*zd_mm_entry(mm, addr)));
	struct zd_mig *mig;

	/* a device's own, so that one which has stalled leaves the others theirs */
	if (tier->reach.batches[ZD_FROM_DEVICE] >= HOME_BATCHES)
		return -ENOBUFS;
	mig = zd_mig_new(server, mm, ZD_FROM_DEVICE);
	if (!mig)
		return -ENOBUFS;
	mig->is_fault = why == ZD_HOME_FAULT;
	mig->why = why;
	mig->dev = tier->dev;
	mig->needed = needed;
	mig->start_ns = start_ns;
	mig->first = addr;
	mig->gone = 0;
	mig->nr = nr;
	for (unsigned int i = 0; i < nr; i++) {
		zd_entry_t *entry = zd_mm_entry(mm, addr + i * ZD_PAGE_SIZE);
		zd_pfn_t pfn = zd_entry_val(*entry);

		mig->page[i] = (struct zd_mig_page){
			.mm = mm, .addr = addr + i * ZD_PAGE_SIZE, .pfn = pfn,
		};
		mig->io_page[i] = (struct zd_io_page){ pfn, zd_mig_buffer(mig, i), 0 };
		zd_entry_store(entry, *entry | ZD_ENTRY_LOCK);
	}
	ZD_PROBE3(migrate_begin, 1, addr, nr);
	zd_mig_submit(mig, mig->dev, ZD_FROM_DEVICE, nr, arrived_in_buffer);
	return nr;
}

/* Leave of [*addr, *addr + *nr pages) those around @middle that are on the same device. */
static void one_device(const struct zd_mm *mm, uint64_t *addr, unsigned int *nr, uint64_t middle)
{
	uint64_t first = middle, end = middle + ZD_PAGE_SIZE, last = *addr + *nr * ZD_PAGE_SIZE;
	const struct zd_server *server = mm->server;
	const struct zd_device *dev;

	if (server->nr_tiers == 1)
		return;
	dev = zd_server_device(server, zd_entry_val(*zd_mm_entry(mm, middle)));
	while (first > *addr &&
	       zd_server_device(server, zd_entry_val(*zd_mm_entry(mm, first - ZD_PAGE_SIZE))) ==
		       dev)
		first -= ZD_PAGE_SIZE;
	while (end < last && zd_server_device(server, zd_entry_val(*zd_mm_entry(mm, end))) == dev)
		end += ZD_PAGE_SIZE;
	*addr = first;
	*nr = (end - first) / ZD_PAGE_SIZE;
}

/* The server's thread; doesn't block.  ->submit or ->direct_access of the driver. */
int zd_home(struct zd_mm *mm, uint64_t addr, unsigned int nr, enum zd_home_for why, uint64_t needed,
	    uint64_t start_ns)
{
	struct zd_device *dev;
	/* A fault that is timed is not woken by the copy: on one CPU its thread would
	 * go on before the server reads the clock again. */
	bool wake = !start_ns;
	char *content = NULL;
	int rc;

	one_device(mm, &addr, &nr, why == ZD_HOME_FAULT ? needed : addr);
	dev = zd_server_device(mm->server, zd_entry_val(*zd_mm_entry(mm, addr)));
	if (dev->ops->direct_access)
		content = dev->ops->direct_access(dev, zd_entry_val(*zd_mm_entry(mm, addr)));
	if (!content)
		return home_read(mm, addr, nr, why, needed, start_ns);
	ZD_PROBE3(migrate_begin, 1, addr, nr);
	rc = home_direct(mm, addr, nr, content, wake);
	if (rc == -EFAULT) {
		/* the device's memory is gone: its file was truncated, say */
		if (why == ZD_HOME_FAULT && addr != needed) {
			/* a neighbour, which no fault needs: leave it away */
			ZD_PROBE3(migrate_end, 1, addr, 0);
			return zd_home(mm, needed, 1, why, needed, start_ns);
		}
		if (why == ZD_HOME_MOVE)
			note_unreadable(mm, addr, -EIO);
		else
			unreadable(mm, addr, rc);
		rc = 1;
		wake = false;
	}
	ZD_PROBE3(migrate_end, 1, addr, rc > 0 ? rc : 0);
	if (rc > 0) {
		unsigned int woken = wake ? rc : 0;

		if (why == ZD_HOME_FAULT)
			zd_stats_fault_end(&mm->server->stats, addr, start_ns);
		/* a thread that waits for a page that didn't come faults again */
		if (woken < nr)
			zd_uffd_wake(zd_mm_uffd(mm), addr + woken * ZD_PAGE_SIZE,
				     (nr - woken) * ZD_PAGE_SIZE);
	}
	if (why != ZD_HOME_FAULT)
		zd_flush_delayed_puts(mm->server);
	return rc;
}
