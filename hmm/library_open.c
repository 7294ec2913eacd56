/* SPDX-License-Identifier: MIT */
/* zd_mm_open(), zd_mm_close(), and what becomes of open ones at exit; see library.h. */
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
#include "hmm/devmap.h"
#include "hmm/library.h"
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
static struct zd_library *open_libs;

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
	child->host_data = zd_library_of(parent);
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

static int start_thread(struct zd_library *lib)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int rc;

	lib->stack = zd_reserve(STACK_BYTES);
	if (!lib->stack)
		return -ENOMEM;
	pthread_attr_init(&attr);
	rc = pthread_attr_setstack(&attr, lib->stack, STACK_BYTES);
	/* signals are the program's; a handler of its on our stack could touch
	 * managed memory */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!rc)
		rc = pthread_create(&lib->thread, &attr, zd_library_thread, lib);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (rc) {
		zd_unreserve(lib->stack, STACK_BYTES);
		lib->stack = NULL;
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

static int open_mm(struct zd_library *lib, const struct zd_mm_attr *attr)
{
	int uffd = open_uffd(), rc;

	if (uffd < 0)
		return uffd;
	rc = zd_mm_create(&lib->server, uffd, NULL, &lib->mm);
	if (rc)
		return rc;
	lib->mm->host_data = lib;
	lib->mm->pagemap_fd = lib->pagemap_fd;
	zd_keeper_add(&lib->keeper, uffd);
	if (attr && attr->fault_around)
		lib->mm->fault_around = attr->fault_around < ZD_RUN_MAX ?
					attr->fault_around : ZD_RUN_MAX;
	rc = zd_mover_self_init(lib->mm);
	if (rc)
		zd_mm_destroy(lib->mm);
	return rc;
}

/* A page that the process and its forked children have in common. */
static int make_mark(struct zd_library *lib)
{
	static unsigned int serial;
	int fd;

	snprintf(lib->mark, sizeof(lib->mark), "zonedev-%d-%u-%llx", (int)lib->process.pid,
		 __atomic_fetch_add(&serial, 1, __ATOMIC_RELAXED),
		 (unsigned long long)zd_now_ns());
	fd = memfd_create(lib->mark, MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	lib->mark_page = mmap(NULL, ZD_PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	return lib->mark_page == MAP_FAILED ? -ENOMEM : 0;
}

/* So have they the keeper's page; where there can't be one, the guard alone sees to it
 * that no child reads zeros. */
static void open_keeper(struct zd_library *lib)
{
	if (zd_keeper_open(&lib->keeper))
		return;
	lib->keeper_page = mmap(NULL, ZD_KEEPER_BYTES, PROT_READ, MAP_SHARED, lib->keeper.fd, 0);
	if (lib->keeper_page == MAP_FAILED)
		zd_keeper_close(&lib->keeper);
	else
		lib->server.keeper = &lib->keeper;
}

static void close_keeper(struct zd_library *lib)
{
	if (lib->keeper.fd < 0)
		return;
	munmap(lib->keeper_page, ZD_KEEPER_BYTES);
	zd_keeper_close(&lib->keeper);
}

int zd_mm_open(const struct zd_mm_attr *attr, struct zd_mm **mm)
{
	struct zd_library *lib;
	int rc = -ENOMEM;

	if (!mm || (attr && (attr->size < sizeof(attr->size) + sizeof(attr->fault_around) ||
			     !zd_tail_is_zero(attr, sizeof(*attr), attr->size))))
		return -EINVAL;
	lib = zd_alloc(sizeof(*lib));
	if (!lib)
		return rc;
	lib->process = zd_this_process();
	lib->detach.step = zd_library_detach_step;
	rc = zd_server_init(&lib->server, &host, lib);
	if (rc)
		goto err_free;
	rc = -EMFILE;
	lib->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (lib->pagemap_fd < 0)
		goto err_server;
	lib->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (lib->wake.fd < 0)
		goto err_pagemap;
	lib->wake.ready = zd_library_inbox_ready;
	rc = zd_loop_add(&lib->server.loop, &lib->wake);
	if (rc)
		goto err_wake;
	rc = make_mark(lib);
	if (rc)
		goto err_wake;
	open_keeper(lib);
	rc = open_mm(lib, attr);
	if (rc)
		goto err_mark;
	rc = start_thread(lib);
	if (rc)
		goto err_mm;
	zd_mutex_lock(&open_lock);
	lib->next = open_libs;
	open_libs = lib;
	zd_mutex_unlock(&open_lock);
	*mm = lib->mm;
	return 0;

err_mm:
	zd_mm_destroy(lib->mm);
err_mark:
	close_keeper(lib);
	munmap(lib->mark_page, ZD_PAGE_SIZE);
err_wake:
	close(lib->wake.fd);
err_pagemap:
	close(lib->pagemap_fd);
err_server:
	zd_server_destroy(&lib->server);
err_free:
	zd_free(lib);
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
static enum zd_cmd_result close_step(struct zd_library *lib, struct zd_cmd *cmd)
{
	struct close_cmd *c = caa_container_of(cmd, struct close_cmd, cmd);
	struct zd_mm *mm;

	if (c->stop && (lib->nr_steps || zd_ram_pages_release_all(lib->mm) ||
			zd_devmap_overlaps(lib->mm, 0, UINT64_MAX))) {
		cmd->rc = -EBUSY;
		return ZD_CMD_DONE;
	}
	if (!c->stop)
		zd_migrate_vma_abandon(lib);
	/* at exit other threads may go on migrating: not faster than we */
	lib->closing = true;
	cds_list_for_each_entry(mm, &lib->server.mms, node) {
		enum zd_cmd_result r;

		/* at exit, what is ours alone may go with us */
		if (mm == lib->mm && !c->stop)
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
			lib->closing = false;
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
	if (c->stop ? !cds_list_empty(&lib->server.migs) : lib->server.nr_migs[ZD_TO_DEVICE])
		return ZD_CMD_WAIT;
	lib->server.stop = c->stop;
	return ZD_CMD_DONE;
}

static int push_home(struct zd_library *lib, bool stop)
{
	struct close_cmd *c = zd_alloc(sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->cmd.step = close_step;
	c->stop = stop;
	rc = zd_library_call(lib, &c->cmd);
	zd_free(c);
	return rc;
}

int zd_mm_close(struct zd_mm *mm)
{
	struct zd_library *lib, **link;
	struct zd_mm *each, *next;
	int rc;

	if (!mm)
		return -EINVAL;
	lib = zd_library_of(mm);
	rc = zd_library_callable(lib);
	if (rc)
		return rc;
	zd_library_claim(lib);
	rc = push_home(lib, true);
	if (rc) {
		zd_library_unclaim(lib);
		return rc;
	}
	pthread_join(lib->thread, NULL);
	zd_library_closed(lib);
	zd_mutex_lock(&open_lock);
	for (link = &open_libs; *link != lib; link = &(*link)->next)
		;
	*link = lib->next;
	zd_mutex_unlock(&open_lock);
	zd_unreserve(lib->stack, STACK_BYTES);
	cds_list_for_each_entry_safe(each, next, &lib->server.mms, node) {
		/* closing is not enough: a forked child has the descriptors too */
		for (size_t i = 0; i < each->ranges.nr; i++)
			zd_uffd_unregister(zd_mm_uffd(each), each->ranges.v[i].start,
					   each->ranges.v[i].end - each->ranges.v[i].start);
		zd_mm_destroy(each);
	}
	close_keeper(lib);
	munmap(lib->mark_page, ZD_PAGE_SIZE);
	close(lib->wake.fd);
	close(lib->pagemap_fd);
	zd_server_destroy(&lib->server);
	zd_free(lib);
	return 0;
}

/* The process ends in good order: its children get what they share with it. */
__attribute__((destructor)) static void push_home_at_exit(void)
{
	for (struct zd_library *lib = open_libs; lib; lib = lib->next) {
		if (!zd_is_this_process(&lib->process))
			continue;
		if (!push_home(lib, false))
			zd_library_stop_guards(lib);
	}
}
