/* SPDX-License-Identifier: MIT */
/*
 * The end: of a handle, by zd_mm_close(), or of the process, which may have handles open.
 *
 * Either way one command walks the address spaces and brings pages home (close_step()).
 * zd_mm_close() asks for every page, of this process and of its forked children, and refuses
 * while any is held; then the server's thread ends, and what zd_mm_open() made is undone.  At
 * exit only the children's pages come home; the server's thread goes with the process.
 */
#include <errno.h>
#include <unistd.h>

#include "base/alloc.h"
#include "engine/exit.h"
#include "engine/ram_page.h"
#include "engine/recall.h"
#include "hmm/device_vma.h"
#include "hmm/hmm.h"
#include "hmm/migrate.h"
#include "space/uffd.h"

/* Of the list of open handles.  Innermost. */
static struct zd_mutex open_lock;
static struct zd_hmm *open_hmms;

void zd_hmm_list_add(struct zd_hmm *hmm)
{
	zd_mutex_lock(&open_lock);
	hmm->next = open_hmms;
	open_hmms = hmm;
	zd_mutex_unlock(&open_lock);
}

static void list_del(struct zd_hmm *hmm)
{
	struct zd_hmm **link;

	zd_mutex_lock(&open_lock);
	for (link = &open_hmms; *link != hmm; link = &(*link)->next)
		;
	*link = hmm->next;
	zd_mutex_unlock(&open_lock);
}

struct close_cmd {
	struct zd_cmd cmd;
	struct zd_mm *mm;
	struct zd_homing homing;
	bool stop;
	bool set;	/* it is this command that has set hmm->closing */
};

/* The close is called off, and migrations go on; but not those that the end of the process
 * has stopped. */
static void go_on(struct close_cmd *c, struct zd_hmm *hmm)
{
	if (c->set)
		hmm->closing = false;
}

/* Every address space in turn: this process's, and those of its children, for which no
 * server is left that could bring their pages home later.  The server's thread. */
static enum zd_cmd_result close_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct close_cmd *c = caa_container_of(cmd, struct close_cmd, cmd);
	struct zd_mm *mm;

	if (c->stop && (hmm->nr_steps || zd_ram_pages_release_all(hmm->mm) ||
			zd_device_vma_overlaps(hmm->mm, 0, UINT64_MAX))) {
		cmd->rc = -EBUSY;
		go_on(c, hmm);
		return ZD_CMD_DONE;
	}
	if (!c->stop)
		zd_migrate_vma_abandon(hmm);
	/* At exit other threads may go on migrating: each page that they send out would
	 * have to come home again. */
	if (!hmm->closing)
		c->set = hmm->closing = true;
	cds_list_for_each_entry(mm, &hmm->server.mms, node) {
		enum zd_cmd_result r;

		/* at exit this process's own pages may go with it */
		if (mm == hmm->mm && !c->stop)
			continue;
		if (!zd_mm_is_current(mm) && !mm->dead)
			return ZD_CMD_AGAIN;
		if (!mm->nr_device && !mm->poison_owed)
			continue;
		if (c->mm != mm) {
			c->mm = mm;
			c->homing = (struct zd_homing){
				.end = UINT64_C(1) << ZD_VA_BITS, .last = true,
			};
		}
		r = zd_homing_step(mm, &c->homing, &cmd->rc);
		if (r != ZD_CMD_DONE)
			return r;
		if (cmd->rc) {
			go_on(c, hmm);
			return ZD_CMD_DONE;
		}
		mm->poison_owed = false;
		if (!mm->dead && mm->nr_device) {
			/* pages behind c->homing.pos are out: moved there, or landed since */
			c->mm = NULL;
			return ZD_CMD_AGAIN;
		}
	}
	/* At exit threads may go on faulting, and a device that doesn't answer isn't waited for:
	 * only what is on its way out counts, and is a child's. */
	if (c->stop ? !cds_list_empty(&hmm->server.migs) : !zd_recall_others(hmm->mm))
		return ZD_CMD_WAIT;
	hmm->server.stop = c->stop;
	return ZD_CMD_DONE;
}

/* Have the server's thread bring home what must come; @stop: and end.  The caller's thread;
 * blocks.  0; -EBUSY, -ENOMEM, or why a page can't come. */
static int push_home(struct zd_hmm *hmm, bool stop)
{
	struct close_cmd *c = zd_alloc(sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->cmd.step = close_step;
	c->stop = stop;
	rc = zd_hmm_call(hmm, &c->cmd);
	zd_free(c);
	return rc;
}

/* The caller's thread, no locks; blocks. */
int zd_mm_close(struct zd_mm *mm)
{
	struct zd_hmm *hmm;
	struct zd_mm *each, *next;
	int rc;

	if (!mm)
		return -EINVAL;
	hmm = zd_hmm_of(mm);
	rc = zd_hmm_callable(hmm);
	if (rc)
		return rc;
	zd_hmm_claim(hmm);
	rc = push_home(hmm, true);
	if (rc) {
		zd_hmm_unclaim(hmm);
		return rc;
	}
	zd_hmm_join_thread(hmm);
	cds_list_for_each_entry_safe(each, next, &hmm->server.mms, node) {
		/* closing the descriptors is not enough: a forked child has them too */
		for (size_t i = 0; i < each->ranges.nr; i++)
			zd_uffd_unregister(zd_mm_uffd(each), each->ranges.v[i].start,
					   each->ranges.v[i].end - each->ranges.v[i].start);
		zd_mm_destroy(each);
	}
	/* last: what a child that has ended has of a device is put above */
	zd_hmm_retire(hmm);
	list_del(hmm);
	zd_hmm_family_exit(hmm);
	close(hmm->wake.fd);
	close(hmm->pagemap_fd);
	zd_server_destroy(&hmm->server);
	zd_free(hmm);
	return 0;
}

/* The process ends in good order: its children get what they share with it.  The thread
 * that calls exit(3); the destructor is linked in with zd_mm_open(). */
__attribute__((destructor)) static void push_home_at_exit(void)
{
	for (struct zd_hmm *hmm = open_hmms; hmm; hmm = hmm->next) {
		if (!zd_is_this_process(&hmm->process))
			continue;
		if (!push_home(hmm, false))
			zd_hmm_stop_guards(hmm);
	}
}
