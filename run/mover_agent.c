/* SPDX-License-Identifier: MIT */
/*
 * The mover that works through an agent; agent_proto.h has the rules of the
 * ring.  The ring lies in the program's reach: nothing that is read from it is
 * trusted further than that program's own memory.
 *
 * Context: the server's thread.  Nothing here waits for a program but read_begin(), for
 * WINDOW_WAIT_NS.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <linux/futex.h>

#include "base/copy.h"
#include "base/fault_guard.h"
#include "engine/mig.h"
#include "engine/out.h"
#include "run/agent/agent_proto.h"
#include "run/agent_lost.h"
#include "run/mover_agent.h"
#include "run/process.h"
#include "space/maps.h"
#include "space/uffd.h"

_Static_assert(ZD_AGENT_SLOTS == ZD_STAGING_SLOTS, "the agent and the server have one staging");

static struct process *process_of(struct zd_mm *mm)
{
	return mm->host_data;
}

/*
 * After a fork a page can't be moved until it is written again, even when the other process
 * has long ended: the kernel marks a page as exclusive to one process when that process
 * writes to it, not when the other process lets go of it.  So once a page has been refused
 * for that (EBUSY), the agent makes the kernel write to the pages that pagemap shows as mapped
 * by one process, without changing them (MADV_POPULATE_WRITE).
 */
static void read_exclusive(struct process *p, const struct zd_mig *mig, bool *exclusive)
{
	uint64_t entry[ZD_STAGING_SLOTS];

	memset(exclusive, 0, mig->nr * sizeof(*exclusive));
	for (unsigned int i = 0, nr; p->refused_busy && i < mig->nr; i += nr) {
		uint64_t addr = mig->page[i].addr;

		for (nr = 1;
		     i + nr < mig->nr && mig->page[i + nr].addr == addr + nr * ZD_PAGE_SIZE;)
			nr++;
		if (pread(p->pagemap_fd, entry, nr * sizeof(*entry),
			  (addr >> ZD_PAGE_SHIFT) * sizeof(*entry)) !=
		    (ssize_t)(nr * sizeof(*entry)))
			return;
		for (unsigned int k = 0; k < nr; k++)	/* present, and mapped by no other */
			exclusive[i + k] = entry[k] >> 63 & 1 && entry[k] >> 56 & 1;
	}
}

static int start(struct zd_mm *mm, struct zd_mig *mig)
{
	bool exclusive[ZD_STAGING_SLOTS];
	struct process *p = process_of(mm);
	struct zd_agent_ring *ring = p->ring;
	unsigned int runs = 0;

	read_exclusive(p, mig, exclusive);
	for (unsigned int i = 0; i < mig->nr; i++) {
		ring->result[i] = ZD_AGENT_PENDING;
		if (i && mig->page[i].addr == mig->page[i - 1].addr + ZD_PAGE_SIZE &&
		    exclusive[i] == exclusive[i - 1])
			ring->run[runs - 1].nr++;
		else
			ring->run[runs++] = (struct zd_agent_run){ mig->page[i].addr, i, 1,
								   exclusive[i] };
	}
	ring->nr_runs = runs;
	ring->cancel = 0;
	ring->begun = 0;
	__atomic_store_n(&ring->fetched, 0, __ATOMIC_RELAXED);
	if (p->sock.fd < 0)
		return -ESRCH;
	return process_tell_agent(p, ZD_AGENT_GO);
}

/*
 * What the agent has done so far.  @pending: the error of pages that it has not come to.
 *
 * A page has moved if it is in staging, whatever the agent says of the page: the agent may
 * have been killed in the middle of a MOVE, and to read a slot that has no page would be a
 * fault that waits for this very thread.  (Linux miscounts the pages of a MOVE that fails,
 * see hmm/mover_self.c.)  Why a page has not moved the agent alone knows.  Of an address
 * space that has ended nothing can be seen: a page that had moved is lost then, and must not
 * be taken for a page that stayed.
 */
static void take_results(struct process *p, struct zd_mig *mig, int pending)
{
	bool there[ZD_STAGING_SLOTS] = { false };
	bool begun = __atomic_load_n(&p->ring->begun, __ATOMIC_ACQUIRE), ended;

	if (begun && zd_there_scan(p->pagemap_fd, p->staging, mig->nr, there))
		memset(there, 0, sizeof(there));
	/* after the scan: an address space that had ended before it has also ended now */
	ended = !zd_uffd_mm_alive(zd_mm_uffd(p->mm));
	for (unsigned int i = 0; i < mig->nr; i++) {
		int32_t r = __atomic_load_n(&p->ring->result[i], __ATOMIC_RELAXED);

		if (mig->page[i].error != -EINPROGRESS)
			continue;
		p->refused_busy |= r == -EBUSY;
		mig->page[i].marked = !r;
		if (there[i] || (ended && (!r || r == ZD_AGENT_UNMARKED)))
			mig->page[i].error = 0;
		else if (r == ZD_AGENT_PENDING)
			mig->page[i].error = pending;
		else
			mig->page[i].error = r < 0 ? r : -EAGAIN;
	}
}

static void progress(struct zd_mm *mm, struct zd_mig *mig)
{
	take_results(process_of(mm), mig, -EINPROGRESS);
}

static void cancel(struct zd_mm *mm, struct zd_mig *mig)
{
	struct process *p = process_of(mm);

	/* the server holds the window: no MOVE is running, and the next one sees this
	 * (release in read_end(), acquire in the agent's window_lock()) */
	__atomic_store_n(&p->ring->cancel, 1, __ATOMIC_RELAXED);
	take_results(p, mig, -ECANCELED);
}

void mover_agent_done(struct process *p)
{
	struct zd_mig *mig = p->mm->out;

	if (!mig)
		return;
	take_results(p, mig, -ECANCELED);
	zd_out_moved(mig);
}

/* Slower than process_vm_readv(), but it works as long as any process has the address space,
 * as a vfork()'s child does when its parent is dead. */
static int fetch_by_mm(struct process *p, unsigned int nr, const uint16_t *slot, void *const *dst)
{
	for (unsigned int i = 0; i < nr; i++) {
		ssize_t n = pread(p->mem_fd, dst[i], ZD_PAGE_SIZE,
				  p->staging + slot[i] * ZD_PAGE_SIZE);

		/* EFAULT is about dst[i]; of the process's own memory the kernel says EIO */
		if (n != (ssize_t)ZD_PAGE_SIZE)
			return n < 0 && errno == EFAULT ? -EFAULT : -ESRCH;
	}
	return 0;
}

static int fetch_all(struct process *p, unsigned int nr, const uint16_t *slot, void *const *dst)
{
	struct iovec local[ZD_STAGING_SLOTS], remote[ZD_STAGING_SLOTS];
	unsigned int nl = 0, nr_remote = 0;
	struct pollfd agent = { .fd = p->sock.fd };
	size_t total = nr * ZD_PAGE_SIZE;

	if (!nr)
		return 0;
	for (unsigned int i = 0; i < nr; i++) {
		void *src = (void *)(p->staging + slot[i] * ZD_PAGE_SIZE);

		if (i && dst[i] == (char *)dst[i - 1] + ZD_PAGE_SIZE)
			local[nl - 1].iov_len += ZD_PAGE_SIZE;
		else
			local[nl++] = (struct iovec){ dst[i], ZD_PAGE_SIZE };
		if (i && slot[i] == slot[i - 1] + 1)
			remote[nr_remote - 1].iov_len += ZD_PAGE_SIZE;
		else
			remote[nr_remote++] = (struct iovec){ src, ZD_PAGE_SIZE };
	}
	/* the agent is still alive: so its id was not another task's when memory was read */
	if (process_vm_readv(p->tid, local, nl, remote, nr_remote, 0) == (ssize_t)total &&
	    p->sock.fd >= 0 && !poll(&agent, 1, 0))
		return 0;
	return fetch_by_mm(p, nr, slot, dst);
}

struct fetched {
	unsigned int nr;
	void *const *dst;
	bool *zero;
};

static void find_zeros(void *arg)
{
	const struct fetched *f = arg;

	for (unsigned int i = 0; i < f->nr; i++)
		f->zero[i] = zd_page_is_zero(f->dst[i]);
}

static int fetch(struct zd_mm *mm, unsigned int nr, const uint16_t *slot, void *const *dst,
		 bool *zero)
{
	struct fetched f = { nr, dst, zero };
	int rc = fetch_all(process_of(mm), nr, slot, dst);

	/* the copies may lie in memory of a device, which may fail: anywhere, to the guard */
	return rc ? rc : zd_fault_guard_call(find_zeros, &f, NULL, SIZE_MAX, NULL);
}

static void release(struct zd_mm *mm)
{
	/* the agent frees the pages when it is idle or before the next request: release,
	 * the content has been read; pairs with the acquire in agent_main() */
	__atomic_store_n(&process_of(mm)->ring->fetched, 1, __ATOMIC_RELEASE);
}

#define WINDOW_WAIT_NS	1000000

static bool read_begin(struct zd_mm *mm)
{
	struct process *p = process_of(mm);
	uint32_t *window = &p->ring->window, w = ZD_WINDOW_OPEN;
	struct timespec ts = { 0, WINDOW_WAIT_NS };

	if (p->sock.fd < 0)
		return true;	/* no agent, no MOVE */
	/* acquire: results; pairs with the agent's window_unlock() */
	if (__atomic_compare_exchange_n(window, &w, ZD_WINDOW_READING, false, __ATOMIC_ACQUIRE,
					__ATOMIC_RELAXED))
		return true;
	if (!(w & ZD_WINDOW_WAITED))
		__atomic_compare_exchange_n(window, &w, w | ZD_WINDOW_WAITED, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	/* a MOVE takes microseconds; but if the agent has been stopped in the middle of one,
	 * the other processes have to be served */
	syscall(SYS_futex, window, FUTEX_WAIT, ZD_WINDOW_MOVING | ZD_WINDOW_WAITED, &ts, NULL, 0);
	w = ZD_WINDOW_OPEN;
	return __atomic_compare_exchange_n(window, &w, ZD_WINDOW_READING, false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

static void read_end(struct zd_mm *mm)
{
	struct process *p = process_of(mm);
	uint32_t *window = &p->ring->window;

	if (p->sock.fd < 0)
		return;
	/* release: cancel; pairs with the acquire in the agent's window_lock() */
	if (__atomic_exchange_n(window, ZD_WINDOW_OPEN, __ATOMIC_RELEASE) & ZD_WINDOW_WAITED)
		syscall(SYS_futex, window, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void destroy(struct zd_mm *mm)
{
	struct process *p = process_of(mm);

	munmap(p->ring, sizeof(*p->ring));
	p->ring = NULL;
}

static const struct zd_mover_ops agent_mover = {
	.start = start,
	.progress = progress,
	.cancel = cancel,
	.fetch = fetch,
	.release = release,
	.read_begin = read_begin,
	.read_end = read_end,
	.destroy = destroy,
};

static void sock_ready(struct zd_source *source, uint32_t events)
{
	struct process *p = caa_container_of(source, struct process, sock);
	char byte;
	ssize_t n;

	(void)events;
	if (source->fd < 0)
		return;
	n = recv(source->fd, &byte, 1, MSG_DONTWAIT);
	if (n == 1)
		mover_agent_done(p);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		agent_lost(p);
}

void mover_agent_init(struct process *p)
{
	p->sock.ready = sock_ready;
	p->mm->mover = &agent_mover;
}
