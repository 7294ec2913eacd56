/* SPDX-License-Identifier: MIT */
/*
 * Moving pages of the program to staging, under the window (agent_proto.h), and
 * making staging empty again.
 *
 * Context: the agent.  A request's content in the ring is the supervisor's until GO, the
 * agent's until the answer.
 */
#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <linux/futex.h>

#include "base/uapi.h"
#include "run/agent/agent.h"

/* Staging is unregistered meanwhile, or the MADV_DONTNEED would be an event. */
long agent_empty_staging(int uffd)
{
	struct uffdio_range range = { agent.hello.staging, ZD_AGENT_STAGING_BYTES };
	struct uffdio_register reg = { .range = range, .mode = UFFDIO_REGISTER_MODE_MISSING };
	long rc;

	raw_syscall(SYS_ioctl, uffd, UFFDIO_UNREGISTER, (long)&range, 0, 0, 0);
	rc = raw_syscall(SYS_madvise, range.start, range.len, MADV_DONTNEED, 0, 0, 0);
	if (rc) {	/* the program's mlockall() has locked, and filled, all of staging */
		raw_syscall(SYS_munlock, range.start, range.len, 0, 0, 0, 0);
		rc = raw_syscall(SYS_madvise, range.start, range.len, MADV_DONTNEED, 0, 0, 0);
	}
	raw_syscall(SYS_ioctl, uffd, UFFDIO_REGISTER, (long)&reg, 0, 0, 0);
	return rc;
}

static void window_lock(struct zd_agent_ring *ring)
{
	for (;;) {
		uint32_t w = ZD_WINDOW_OPEN;

		/* acquire: what the supervisor wrote while READING (cancel);
		 * pairs with the release in mover_agent.c's read_end() */
		if (__atomic_compare_exchange_n(&ring->window, &w, ZD_WINDOW_MOVING, false,
						__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return;
		if (!(w & ZD_WINDOW_WAITED) &&
		    !__atomic_compare_exchange_n(&ring->window, &w, w | ZD_WINDOW_WAITED, false,
						 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			continue;
		raw_syscall(SYS_futex, (long)&ring->window, FUTEX_WAIT, w | ZD_WINDOW_WAITED, 0, 0,
			    0);
	}
}

static void window_unlock(struct zd_agent_ring *ring)
{
	/* release: results; pairs with the acquire in mover_agent.c's read_begin() */
	if (__atomic_exchange_n(&ring->window, ZD_WINDOW_OPEN, __ATOMIC_RELEASE) & ZD_WINDOW_WAITED)
		raw_syscall(SYS_futex, (long)&ring->window, FUTEX_WAKE, 1, 0, 0, 0);
}

/* How many of @nr pages are in staging from @slot on, so far as mincore() can tell: the agent
 * goes on from there.  Which pages have moved the supervisor finds out for itself. */
static uint32_t moved_pages(uint32_t slot, uint32_t nr)
{
	unsigned char vec[ZD_AGENT_SLOTS];
	uint32_t moved = 0;

	if (raw_syscall(SYS_mincore, agent.hello.staging + slot * PAGE, nr * PAGE, (long)vec, 0, 0,
			0))
		return 0;
	while (moved < nr && vec[moved] & 1)
		moved++;
	return moved;
}

/* Called in the same window in which the pages moved: the supervisor has read no event
 * since, so if the address space has changed the kernel refuses. */
static long mark(int uffd, uint64_t src, uint32_t nr)
{
	struct uffdio_writeprotect wp = {
		.range = { src, nr * PAGE }, .mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	return raw_syscall(SYS_ioctl, uffd, UFFDIO_WRITEPROTECT, (long)&wp, 0, 0, 0);
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif

/* Write to the run's pages, so that the kernel sees that they are this process's alone
 * (mover_agent.c).  Not if one of them is missing: the agent's fault on it would wait for
 * this very request. */
static void make_exclusive(const struct zd_agent_run *run)
{
	unsigned char vec[ZD_AGENT_SLOTS];

	if (run->nr > ZD_AGENT_SLOTS ||
	    raw_syscall(SYS_mincore, run->src, run->nr * PAGE, (long)vec, 0, 0, 0))
		return;
	for (uint32_t i = 0; i < run->nr; i++)
		if (!(vec[i] & 1))
			return;
	raw_syscall(SYS_madvise, run->src, run->nr * PAGE, MADV_POPULATE_WRITE, 0, 0, 0);
}

/* Move one run of pages.  0: it is done; -errno: an event came between, and nothing more of
 * the request is moved. */
static int move_run(int uffd, struct zd_agent_ring *ring, const struct zd_agent_run *run)
{
	uint32_t done = 0, nr = run->nr;

	if (run->unshare)
		make_exclusive(run);
	while (done < run->nr) {
		struct uffdio_move mv = {
			.dst = agent.hello.staging + (run->slot + done) * PAGE,
			.src = run->src + done * PAGE,
			.len = nr * PAGE,
			.mode = UFFDIO_MOVE_MODE_DONTWAKE,
		};
		uint32_t moved;
		bool marked;
		long rc;

		window_lock(ring);
		if (__atomic_load_n(&ring->cancel, __ATOMIC_RELAXED)) {
			window_unlock(ring);
			return -ECANCELED;
		}
		rc = raw_syscall(SYS_ioctl, uffd, UFFDIO_MOVE, (long)&mv, 0, 0, 0);
		moved = !rc ? nr : moved_pages(run->slot + done, nr);
		if (rc == -EINVAL && !moved && nr > 1) {
			/* the run lies in two mappings that touch: move less at once */
			window_unlock(ring);
			nr /= 2;
			continue;
		}
		marked = moved && !mark(uffd, mv.src, moved);
		for (uint32_t i = 0; i < moved; i++)
			ring->result[run->slot + done + i] = marked ? 0 : ZD_AGENT_UNMARKED;
		done += moved;
		if (rc < 0 && !moved) {
			if (rc == -EAGAIN) {
				window_unlock(ring);
				return rc;
			}
			ring->result[run->slot + done++] = rc;
		}
		nr = run->nr - done;
		window_unlock(ring);
	}
	return 0;
}

void agent_serve(int uffd, struct zd_agent_ring *ring, bool dirty)
{
	long rc = dirty ? agent_empty_staging(uffd) : 0;

	for (uint32_t i = 0; rc && i < ZD_AGENT_SLOTS; i++)
		ring->result[i] = rc;
	if (rc)
		return;
	/* release: staging is empty; pairs with the acquire in mover_agent.c's
	 * take_results() */
	__atomic_store_n(&ring->begun, 1, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < ring->nr_runs; i++)
		if (move_run(uffd, ring, &ring->run[i]))
			break;
}
