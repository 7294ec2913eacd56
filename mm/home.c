/* SPDX-License-Identifier: MIT */
/*
 * Home: device pages back to program memory.
 *
 * Where the server can address the device's memory, the kernel copies straight
 * from it (UFFDIO_COPY) and nothing is ever in flight.  Otherwise entries are
 * locked, the device reads into the batch's buffer, and the copy follows when
 * it is done.
 *
 * A copy that can't be made now (EAGAIN: an event waits to be read) changes
 * nothing: the entry stays DEVICE, and the thread that waits is woken to fault
 * again, behind the event.
 */
#include <errno.h>
#include <string.h>

#include "core/trace.h"
#include "mm/mig.h"
#include "mm/uffd.h"
#include "zonedev/log.h"

#define HOME_BATCHES	64	/* in flight at a time */

/* [addr, addr + nr pages) has its content: device pages are put, and the pages
 * enter the queues. */
static void arrived(struct zd_mm *mm, uint64_t addr, unsigned int nr)
{
	struct zd_server *server = mm->server;
	bool hot = nr == 1 && zd_lru_refault_is_hot(&server->lru, *zd_mm_entry(mm, addr));

	for (unsigned int i = 0; i < nr; i++)
		zd_mm_put_device(mm, zd_mm_entry(mm, addr + i * ZD_PAGE_SIZE), 0);
	if (server->track)
		zd_lru_add(&server->lru, mm, addr, nr, hot);
	server->resident += nr;
	server->stats.c.pages_home += nr;
	server->stats.c.bytes_from_device += nr * ZD_PAGE_SIZE;
}

/*
 * Copy [addr, addr + nr pages) from @content and let the device pages go.
 * Returns pages done, or -errno for the first.
 */
static int place(struct zd_mm *mm, uint64_t addr, unsigned int nr, const void *content)
{
	unsigned int done = 0;

	while (done < nr) {
		uint64_t at = addr + done * ZD_PAGE_SIZE;
		ssize_t rc = zd_uffd_copy(zd_mm_uffd(mm), at,
					  (const char *)content + done * ZD_PAGE_SIZE,
					  (nr - done) * ZD_PAGE_SIZE, false);

		if (rc > 0) {
			arrived(mm, at, rc / ZD_PAGE_SIZE);
			done += rc / ZD_PAGE_SIZE;
		} else if (rc == -EEXIST) {
			/* a page that is there is newer than ours: a forked
			 * child that wrote to it while it was in flight */
			zd_mm_put_device(mm, zd_mm_entry(mm, at), 0);
			mm->server->stats.c.pages_freed++;
			done++;
		} else {
			return done ? (int)done : rc;
		}
	}
	return done;
}

static int home_direct(struct zd_mm *mm, uint64_t addr, unsigned int nr)
{
	struct zd_device *dev = mm->server->dev;
	unsigned int done = 0;
	int rc = 0;

	while (done < nr) {
		uint64_t at = addr + done * ZD_PAGE_SIZE;
		char *content = dev->ops->direct_access(dev, zd_entry_val(*zd_mm_entry(mm, at)));
		unsigned int run = 1;

		for (; done + run < nr; run++) {
			zd_entry_t e = *zd_mm_entry(mm, at + run * ZD_PAGE_SIZE);

			if (dev->ops->direct_access(dev, zd_entry_val(e)) !=
			    content + run * ZD_PAGE_SIZE)
				break;
		}
		rc = place(mm, at, run, content);
		if (rc < 0)
			break;
		done += rc;
		if ((unsigned int)rc < run)
			break;
	}
	zd_uffd_wake(zd_mm_uffd(mm), addr, nr * ZD_PAGE_SIZE);
	return done ? (int)done : rc;
}

static void unlock(struct zd_mm *mm, uint64_t addr)
{
	zd_entry_t *entry = zd_mm_entry(mm, addr);

	zd_entry_store(entry, *entry & ~(ZD_ENTRY_LOCK | ZD_ENTRY_WAIT));
}

/* The device could not read the page back. */
static void unreadable(struct zd_mm *mm, struct zd_mig_page *p)
{
	zd_log(ZD_LOG_ERR, "%s: can't read page %llu: %s", mm->server->dev->name,
	       (unsigned long long)zd_device_page_index(mm->server->dev, p->pfn),
	       strerrordesc_np(-p->error));
	zd_mm_put_device(mm, zd_mm_entry(mm, p->addr), 0);
	zd_mm_poison(mm, p->addr);
}

/* ->done of the device. */
static void arrived_in_buffer(struct zd_device_io *io)
{
	struct zd_mig *mig = io->owner;

	for (unsigned int i = 0; i < mig->nr; i++)
		mig->page[i].error = io->pages[i].error;
	for (unsigned int i = 0; i < mig->nr; i++) {
		struct zd_mig_page *p = &mig->page[i];
		unsigned int run = 1;
		int rc;

		p->step = ZD_MIG_DONE;
		if (!p->mm) {	/* unmapped meanwhile; the reference is ours */
			zd_put_page(zd_pfn_to_page(p->pfn));
			continue;
		}
		unlock(p->mm, p->addr);
		if (p->error) {
			unreadable(p->mm, p);
			continue;
		}
		for (; i + run < mig->nr; run++) {
			struct zd_mig_page *q = &mig->page[i + run];

			if (q->mm != p->mm || q->error || q->addr != p->addr + run * ZD_PAGE_SIZE)
				break;
			q->step = ZD_MIG_DONE;
			unlock(q->mm, q->addr);
		}
		rc = place(p->mm, p->addr, run, zd_mig_buffer(mig, i));
		mig->gone += rc > 0 ? rc : 0;
		zd_uffd_wake(zd_mm_uffd(p->mm), p->addr, run * ZD_PAGE_SIZE);
		i += run - 1;
	}
	if (mig->is_fault) {
		uint64_t ns = zd_now_ns() - mig->start_ns;

		zd_hist_add(&mig->server->stats.latency, ns);
		ZD_PROBE2(fault_end, mig->first, ns);
	}
	ZD_PROBE3(migrate_end, 1, mig->first, mig->gone);
	zd_mig_free(mig);
}

static int home_read(struct zd_mm *mm, uint64_t addr, unsigned int nr, bool is_fault,
		     uint64_t start_ns)
{
	struct zd_server *server = mm->server;
	struct zd_mig *mig;

	if (server->nr_migs[ZD_FROM_DEVICE] >= HOME_BATCHES)
		return -ENOBUFS;
	mig = zd_mig_new(server, mm, ZD_FROM_DEVICE);
	if (!mig)
		return -ENOBUFS;
	mig->is_fault = is_fault;
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
	mig->io = (struct zd_device_io){
		.dir = ZD_FROM_DEVICE, .nr = nr, .pages = mig->io_page,
		.done = arrived_in_buffer, .owner = mig,
	};
	ZD_PROBE3(migrate_begin, 1, addr, nr);
	server->dev->ops->submit(server->dev, &mig->io);
	return nr;
}

int zd_home(struct zd_mm *mm, uint64_t addr, unsigned int nr, bool is_fault, uint64_t start_ns)
{
	const struct zd_device_ops *ops = mm->server->dev->ops;
	int rc;

	if (!ops->direct_access ||
	    !ops->direct_access(mm->server->dev, zd_entry_val(*zd_mm_entry(mm, addr))))
		return home_read(mm, addr, nr, is_fault, start_ns);
	ZD_PROBE3(migrate_begin, 1, addr, nr);
	rc = home_direct(mm, addr, nr);
	ZD_PROBE3(migrate_end, 1, addr, rc > 0 ? rc : 0);
	if (rc > 0 && is_fault) {
		uint64_t ns = zd_now_ns() - start_ns;

		zd_hist_add(&mm->server->stats.latency, ns);
		ZD_PROBE2(fault_end, addr, ns);
	}
	return rc;
}
