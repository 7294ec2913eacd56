/* SPDX-License-Identifier: MIT */
/* zd_mm_open(), zd_mm_close(), and what becomes of open ones at exit; see hmm.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "base/sized.h"
#include "hmm/device_vma.h"
#include "hmm/hmm.h"
#include "space/maps.h"
#include "hmm/migrate.h"
#include "hmm/mover_self.h"
#include "engine/exit.h"
#include "engine/ram_page.h"
#include "base/uapi.h"
#include "space/uffd.h"
#include "zonedev/log.h"

/* Lazily committed, so cheap; the program's static TLS is in it as well. */
#define STACK_BYTES	(2 * 1024 * 1024)

/* Open ones, for the end of the process.  Taken last, held briefly. */
static struct zd_mutex open_lock;
static struct zd_hmm *open_hmms;

/* --- host: what the server asks of us --- */

/* A mapping that grew in place (mremap) is registered by the kernel alone. */
static bool unknown_fault(struct zd_mm *mm, uint64_t addr)
{
	/* The message can only come from a registered mapping: adopt the page.
	 * Growth is met page by page; entries beyond need nothing else.  Unless
	 * the mapping is gone, or going: then its thread faults again, or falls. */
	return zd_uffd_has(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE) == 1 &&
	       !zd_mm_adopt(mm, addr, addr + ZD_PAGE_SIZE);
}

static void forked(struct zd_mm *parent, struct zd_mm *child)
{
	child->host_data = zd_hmm_of(parent);
}

static void died(struct zd_mm *mm)
{
	(void)mm;	/* reaped by the loop */
}

static void kill_self(struct zd_mm *mm)
{
	ZD_BUG_ON(true, "mm slot %u can't be served", mm->slot);
}

static void resync(struct zd_server *server)
{
	(void)server;
}

static const struct zd_server_host host = {
	.unknown_fault = unknown_fault,
	.forked = forked,
	.died = died,
	.kill = kill_self,
	.resync = resync,
};

/* --- open --- */

static int start_thread(struct zd_hmm *hmm)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int rc;

	hmm->stack = zd_reserve(STACK_BYTES);
	if (!hmm->stack)
		return -ENOMEM;
	pthread_attr_init(&attr);
	rc = pthread_attr_setstack(&attr, hmm->stack, STACK_BYTES);
	/* signals are the program's; a handler of its on our stack could touch
	 * managed memory */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!rc)
		rc = pthread_create(&hmm->thread, &attr, zd_hmm_thread, hmm);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (rc) {
		zd_unreserve(hmm->stack, STACK_BYTES);
		hmm->stack = NULL;
	}
	return -rc;
}

static int open_uffd(void)
{
	int fd = zd_uffd_open(), rc;

	if (fd < 0)
		return fd;
	rc = zd_uffd_api(fd, ZD_UFFD_FEATURES);
	if (rc) {
		close(fd);
		return rc;
	}
	return fd;
}

static int open_mm(struct zd_hmm *hmm, const struct zd_mm_attr *attr)
{
	int uffd = open_uffd(), rc;

	if (uffd < 0)
		return uffd;
	rc = zd_mm_create(&hmm->server, uffd, NULL, &hmm->mm);
	if (rc)
		return rc;
	hmm->mm->host_data = hmm;
	hmm->mm->pagemap_fd = hmm->pagemap_fd;
	zd_keeper_add(&hmm->keeper, uffd);
	if (attr && attr->fault_around)
		hmm->mm->fault_around = attr->fault_around < ZD_RUN_MAX ?
					attr->fault_around : ZD_RUN_MAX;
	rc = zd_mover_self_init(hmm->mm);
	if (rc)
		zd_mm_destroy(hmm->mm);
	return rc;
}

/* A page that the process and its forked children have in common. */
static int make_mark(struct zd_hmm *hmm)
{
	static unsigned int serial;
	int fd;

	snprintf(hmm->mark, sizeof(hmm->mark), "zonedev-%d-%u-%llx", (int)hmm->process.pid,
		 __atomic_fetch_add(&serial, 1, __ATOMIC_RELAXED),
		 (unsigned long long)zd_now_ns());
	fd = memfd_create(hmm->mark, MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	hmm->mark_page = mmap(NULL, ZD_PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	return hmm->mark_page == MAP_FAILED ? -ENOMEM : 0;
}

/* So have they the keeper's page; where there can't be one, the guard alone sees to it
 * that no child reads zeros. */
static void open_keeper(struct zd_hmm *hmm)
{
	if (zd_keeper_open(&hmm->keeper))
		return;
	hmm->keeper_page = mmap(NULL, ZD_KEEPER_BYTES, PROT_READ, MAP_SHARED, hmm->keeper.fd, 0);
	if (hmm->keeper_page == MAP_FAILED)
		zd_keeper_close(&hmm->keeper);
	else
		hmm->server.keeper = &hmm->keeper;
}

static void close_keeper(struct zd_hmm *hmm)
{
	if (hmm->keeper.fd < 0)
		return;
	munmap(hmm->keeper_page, ZD_KEEPER_BYTES);
	zd_keeper_close(&hmm->keeper);
}

int zd_mm_open(const struct zd_mm_attr *attr, struct zd_mm **mm)
{
	struct zd_hmm *hmm;
	int rc = -ENOMEM;

	if (!mm || (attr && (attr->size < sizeof(attr->size) + sizeof(attr->fault_around) ||
			     !zd_tail_is_zero(attr, sizeof(*attr), attr->size))))
		return -EINVAL;
	hmm = zd_alloc(sizeof(*hmm));
	if (!hmm)
		return rc;
	hmm->process = zd_this_process();
	hmm->detach.step = zd_hmm_detach_step;
	rc = zd_server_init(&hmm->server, &host, hmm);
	if (rc)
		goto err_free;
	rc = -EMFILE;
	hmm->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (hmm->pagemap_fd < 0)
		goto err_server;
	hmm->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (hmm->wake.fd < 0)
		goto err_pagemap;
	hmm->wake.ready = zd_hmm_inbox_ready;
	rc = zd_loop_add(&hmm->server.loop, &hmm->wake);
	if (rc)
		goto err_wake;
	rc = make_mark(hmm);
	if (rc)
		goto err_wake;
	open_keeper(hmm);
	rc = open_mm(hmm, attr);
	if (rc)
		goto err_mark;
	rc = start_thread(hmm);
	if (rc)
		goto err_mm;
	zd_mutex_lock(&open_lock);
	hmm->next = open_hmms;
	open_hmms = hmm;
	zd_mutex_unlock(&open_lock);
	*mm = hmm->mm;
	return 0;

err_mm:
	zd_mm_destroy(hmm->mm);
err_mark:
	close_keeper(hmm);
	munmap(hmm->mark_page, ZD_PAGE_SIZE);
err_wake:
	close(hmm->wake.fd);
err_pagemap:
	close(hmm->pagemap_fd);
err_server:
	zd_server_destroy(&hmm->server);
err_free:
	zd_free(hmm);
	return rc;
}

struct close_cmd {
	struct zd_cmd cmd;
	struct zd_mm *mm;
	struct zd_homing homing;
	bool stop;
};

/* Every address space in turn: this process's, and those of its children,
 * which must not be left with pages that nobody can bring home. */
static enum zd_cmd_result close_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct close_cmd *c = caa_container_of(cmd, struct close_cmd, cmd);
	struct zd_mm *mm;

	if (c->stop && (hmm->nr_steps || zd_ram_pages_release_all(hmm->mm) ||
			zd_device_vma_overlaps(hmm->mm, 0, UINT64_MAX))) {
		cmd->rc = -EBUSY;
		return ZD_CMD_DONE;
	}
	if (!c->stop)
		zd_migrate_vma_abandon(hmm);
	/* at exit other threads may go on migrating: not faster than we */
	hmm->closing = true;
	cds_list_for_each_entry(mm, &hmm->server.mms, node) {
		enum zd_cmd_result r;

		/* at exit, what is ours alone may go with us */
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
			hmm->closing = false;
			return ZD_CMD_DONE;
		}
		mm->poison_owed = false;
		if (!mm->dead && mm->nr_device) {
			/* some are behind us: moved there, or landed since */
			c->mm = NULL;
			return ZD_CMD_AGAIN;
		}
	}
	/* at exit, threads may go on faulting; what goes out may be a child's */
	if (c->stop ? !cds_list_empty(&hmm->server.migs) : hmm->server.nr_migs[ZD_TO_DEVICE])
		return ZD_CMD_WAIT;
	hmm->server.stop = c->stop;
	return ZD_CMD_DONE;
}

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

int zd_mm_close(struct zd_mm *mm)
{
	struct zd_hmm *hmm, **link;
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
	pthread_join(hmm->thread, NULL);
	zd_hmm_closed(hmm);
	zd_mutex_lock(&open_lock);
	for (link = &open_hmms; *link != hmm; link = &(*link)->next)
		;
	*link = hmm->next;
	zd_mutex_unlock(&open_lock);
	zd_unreserve(hmm->stack, STACK_BYTES);
	cds_list_for_each_entry_safe(each, next, &hmm->server.mms, node) {
		/* closing is not enough: a forked child has the descriptors too */
		for (size_t i = 0; i < each->ranges.nr; i++)
			zd_uffd_unregister(zd_mm_uffd(each), each->ranges.v[i].start,
					   each->ranges.v[i].end - each->ranges.v[i].start);
		zd_mm_destroy(each);
	}
	close_keeper(hmm);
	munmap(hmm->mark_page, ZD_PAGE_SIZE);
	close(hmm->wake.fd);
	close(hmm->pagemap_fd);
	zd_server_destroy(&hmm->server);
	zd_free(hmm);
	return 0;
}

/* The process ends in good order: its children get what they share with it. */
__attribute__((destructor)) static void push_home_at_exit(void)
{
	for (struct zd_hmm *hmm = open_hmms; hmm; hmm = hmm->next) {
		if (!zd_is_this_process(&hmm->process))
			continue;
		if (!push_home(hmm, false))
			zd_hmm_stop_guards(hmm);
	}
}
