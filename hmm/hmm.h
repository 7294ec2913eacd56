/* SPDX-License-Identifier: MIT */
/*
 * struct zd_hmm: what a program that links zonedev has open for its address space
 * (zd_mm_open()): a server (engine/), and the thread of the program that runs it.
 *
 * In this room a function runs either in the server's thread, which owns entries, ranges
 * and batches and never blocks on the program, or in a thread of the program, the caller's,
 * which asks the server's by a command (call.h) and may block.  Each definition says which.
 *
 * Locks, outermost first: hmm->claimed (device.c), hmm->device_vma_lock and a device vma's
 * own (device_vma.h), open_lock (mm_close.c), pin_lock (device.c).  The last two are held
 * for a moment, and nothing is called with them but zd_server_detach() under pin_lock.
 */
#ifndef ZD_HMM_HMM_H
#define ZD_HMM_HMM_H

#include "base/lock.h"
#include "base/thread.h"
#include "guard/guard.h"
#include "guard/keeper.h"
#include "engine/mig.h"
#include "engine/mm.h"
#include "engine/server.h"
#include "hmm/call.h"
#include "zonedev/migrate.h"

struct zd_device_host;
struct zd_device_vma;

struct zd_hmm {
	struct zd_server server;
	struct zd_mm *mm;		/* this process's; the handle */
	struct zd_hmm *next;		/* all open ones, see mm_close.c */
	struct zd_process process;
	struct zd_thread thread;	/* the server's */
	struct zd_source wake;		/* eventfd: the inbox has something */
	struct zd_cmd *inbox;		/* pushed by callers, a stack */
	struct zd_cmd *active;		/* being stepped, in order of arrival */
	const struct zd_device_host *device_host;	/* of the server's devices */
	struct zd_cmd detach;		/* the end of a removal: one at a time, under the claim */
	struct zd_device *detached;	/* whose */
	struct zd_mutex device_vma_lock;	/* of the list */
	struct zd_device_vma *device_vmas;
	int pagemap_fd;
	bool closing;			/* nothing goes out any more */
	bool own_mappings;		/* ZD_MM_OWN_MAPPINGS */
	bool arenas_stay;		/* __atomic; see malloc_rule.c */
	unsigned int nr_steps;		/* migrate_vma: begun and not finalized */
	uint32_t claimed, pins;		/* futexes, see device.c */
	bool closed;			/* a thread that waited for the claim is too late */
	char mark[48];			/* of the family, for the guards */
	void *mark_page;
	struct zd_keeper keeper;
	void *keeper_page;
	/* Since there is a device.  The first holds the descriptors, also those that have
	 * been read and not yet given to the keeper; the second has memory of its own,
	 * and lives on when the OOM killer takes what shares the program's. */
	struct zd_guard guard, second_guard;
};

static inline struct zd_hmm *zd_hmm_of(struct zd_mm *mm)
{
	return mm->host_data;
}

/* thread.c.  The caller's thread.  0 or -errno. */
int zd_hmm_start_thread(struct zd_hmm *hmm);
/* hmm->server.stop is set, or about to be: blocks until the thread has ended. */
void zd_hmm_join_thread(struct zd_hmm *hmm);

/* guards.c.  What the processes of the family, this one and its forked children, have in
 * common, and what ends them rather than let them read zeros.  0 or -errno. */
int zd_hmm_family_init(struct zd_hmm *hmm);
void zd_hmm_family_exit(struct zd_hmm *hmm);
/* Before the first page goes to a device. */
void zd_hmm_start_guards(struct zd_hmm *hmm);
/* Before the server's thread ends in good order, which the guards take for a death. */
void zd_hmm_stop_guards(struct zd_hmm *hmm);

/*
 * device.c.  Closing the handle and removing a device of its exclude each other, and a removal
 * may have found the handle just before it was closed.  zd_mm_close() claims the handle (may
 * block, for the drain of a removal), and when the server has stopped for good lets go with
 * zd_hmm_retire(), which also detaches its devices.
 */
void zd_hmm_claim(struct zd_hmm *hmm);
void zd_hmm_unclaim(struct zd_hmm *hmm);
void zd_hmm_retire(struct zd_hmm *hmm);
/* @dev becomes one of the server's devices, unless it is one.  The server's thread.  0; -EBUSY:
 * @dev is another mm's; -ENOSPC: there are ZD_TIERS_MAX; -ENODEV: it is being removed; or
 * -errno. */
int zd_hmm_attach(struct zd_hmm *hmm, struct zd_device *dev);
enum zd_cmd_result zd_hmm_detach_step(struct zd_hmm *hmm, struct zd_cmd *cmd);
/* Have the server of @dev do @cmd, or hmm->detach if @cmd is NULL.  The caller's thread;
 * blocks, but begins nothing after @deadline_ns (0: none).  What @cmd returned; 0 also when
 * @dev has no server, or its handle was closed meanwhile; -EINVAL: zd_hmm_callable(). */
int zd_hmm_call_server_of(struct zd_device *dev, struct zd_cmd *cmd, uint64_t deadline_ns);

/* struct zd_device_host's: device.c, removal.c, clear.c, device_run.c. */
void zd_hmm_device_detach(struct zd_device *dev);
int zd_hmm_device_drain(struct zd_device *dev);
int zd_hmm_device_clear(struct zd_device *dev, zd_pfn_t first, uint64_t until_ns, bool *flying);
int zd_hmm_device_run(struct zd_device *dev, struct zd_device_io *io);

/* mm_register.c.  Bring the pages of [start, end) home, also those on their way out; what of it
 * isn't managed is left alone.  The caller's thread; blocks.  0; -EBUSY: a
 * zd_migrate_vma_setup() waits for its finalize; or -errno. */
int zd_hmm_bring_home(struct zd_mm *mm, uint64_t start, uint64_t end);

/* mm_close.c: @hmm is open; its pages come home at exit. */
void zd_hmm_list_add(struct zd_hmm *hmm);

#endif
