/* SPDX-License-Identifier: MIT */
/*
 * Library use: a server as a thread of the program, and the calls that other
 * threads make of it.
 *
 * A call becomes a command: it is queued, the server's thread runs its steps
 * between two polls, and the caller sleeps until it is done.  So every entry
 * has one writer, and a call never holds a lock while it waits.
 *
 * The server never touches the caller's memory (it may be managed, even its
 * stack): a command lives in zonedev's own memory, and the caller copies what
 * goes in and what comes out.
 */
#ifndef ZD_HMM_HMM_H
#define ZD_HMM_HMM_H

#include <pthread.h>
#include "base/lock.h"
#include "guard/guard.h"
#include "guard/keeper.h"
#include "engine/homing.h"
#include "engine/mig.h"
#include "engine/mm.h"
#include "engine/server.h"
#include "zonedev/migrate.h"

struct zd_hmm;

/* First member of each command's struct; made by zd_alloc(). */
struct zd_cmd {
	struct zd_cmd *next;
	enum zd_cmd_result (*step)(struct zd_hmm *hmm, struct zd_cmd *cmd);
	int rc;
	struct zd_completion done;
};

struct zd_hmm {
	struct zd_server server;
	struct zd_mm *mm;		/* this process's; the handle */
	struct zd_hmm *next;	/* all open ones, see mm_open.c */
	struct zd_process process;
	pthread_t thread;
	void *stack;
	struct zd_source wake;		/* eventfd: the inbox has something */
	struct zd_cmd *inbox;		/* pushed by callers, a stack */
	struct zd_cmd *active;		/* being stepped, in order of arrival */
	struct zd_cmd detach;		/* its one device's removal, one at a time */
	int pagemap_fd;
	bool closing;			/* nothing goes out any more */
	unsigned int nr_steps;		/* migrate_vma: begun and not finalized */
	uint32_t claimed, pins;		/* futexes; see removal.c */
	bool closed;			/* who has waited for the claim is too late */
	char mark[48];			/* of the family, for the guard */
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

/* The server's thread, and what it does when somebody has called (hmm->wake). */
void *zd_hmm_thread(void *hmm);
void zd_hmm_inbox_ready(struct zd_source *source, uint32_t events);
/* Before the end of that thread in good order, which they take for a death. */
void zd_hmm_stop_guards(struct zd_hmm *hmm);

/* May this thread call?  -EINVAL, warned once: from a forked child, or from the
 * server's own thread (a driver's callback). */
int zd_hmm_callable(const struct zd_hmm *hmm);
/* Run @cmd and return its rc; or -EINVAL as above. */
int zd_hmm_call(struct zd_hmm *hmm, struct zd_cmd *cmd);
/* The same for who waits for cmd->done by himself: 0, or -EINVAL. */
int zd_hmm_send(struct zd_hmm *hmm, struct zd_cmd *cmd);

/* Migrations go to @dev from now on.  Server's thread.  0; -EBUSY: there is
 * another, or it is another mm's; -ENODEV: it is being removed; or -errno. */
int zd_hmm_attach(struct zd_hmm *hmm, struct zd_device *dev);

/* Whole pages inside [addr, addr + len).  -EINVAL: none. */
int zd_hmm_pages(const void *addr, size_t len, uint64_t *start, uint64_t *end);

/* Are all of [start, end) managed by @mm?  Server's thread. */
bool zd_hmm_managed(const struct zd_mm *mm, uint64_t start, uint64_t end);

/*
 * removal.c: closing and removing the device exclude each other, and who removes
 * may have found the library just before it was closed.  zd_mm_close() claims it
 * (may wait for the drain of a removal), and when its server has stopped for good
 * lets go with zd_hmm_closed(), which also detaches the device.
 */
extern const struct zd_device_host zd_hmm_device_host;
void zd_hmm_claim(struct zd_hmm *hmm);
void zd_hmm_unclaim(struct zd_hmm *hmm);
void zd_hmm_closed(struct zd_hmm *hmm);
enum zd_cmd_result zd_hmm_detach_step(struct zd_hmm *hmm, struct zd_cmd *cmd);
/* Have the server of @dev, if there is one by now, do @cmd; NULL: forget it.
 * @deadline_ns: 0: none. */
int zd_hmm_call_server_of(struct zd_device *dev, struct zd_cmd *cmd, uint64_t deadline_ns);

/* device_io.c: struct zd_device_host.run */
int zd_hmm_device_run(struct zd_device *dev, struct zd_device_io *io);

#endif
