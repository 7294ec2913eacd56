/* SPDX-License-Identifier: MIT */
/*
 * zd_mm_open(): a handle is put together, and what the rooms below ask of it is answered:
 * struct zd_server_host by the server, struct zd_device_host by the device.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "base/sized.h"
#include "base/uapi.h"
#include "engine/exit.h"
#include "hmm/hmm.h"
#include "hmm/mover_self.h"
#include "pages/device_host.h"
#include "space/uffd.h"

/* --- what the server asks, in its thread --- */

/*
 * A mapping that grew in place (mremap) is registered by the kernel alone.  The message can
 * only come from a registered mapping: adopt the page.  Growth is met page by page; entries
 * beyond need nothing else.  Unless the mapping is gone, or going: then the thread that
 * touched the page faults again, or gets its SIGSEGV.
 */
static bool unknown_fault(struct zd_mm *mm, uint64_t addr)
{
	return zd_uffd_has(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE) == 1 &&
	       !zd_mm_adopt(mm, addr, addr + ZD_PAGE_SIZE);
}

static void forked(struct zd_mm *parent, struct zd_mm *child)
{
	child->host_data = zd_hmm_of(parent);
}

static void died(struct zd_mm *mm)
{
	(void)mm;	/* thread.c: reap_children() */
}

static void kill_self(struct zd_mm *mm)
{
	ZD_BUG_ON(true, "mm slot %u can't be served", mm->slot);
}

static void resync(struct zd_server *server)
{
	(void)server;
}

static const struct zd_server_host server_host = {
	.unknown_fault = unknown_fault,
	.forked = forked,
	.died = died,
	.kill = kill_self,
	.resync = resync,
};

/* --- what the device asks, in a thread that removes or copies --- */

static const struct zd_device_host device_host = {
	.drain = zd_hmm_device_drain,
	.clear = zd_hmm_device_clear,
	.detach = zd_hmm_device_detach,
	.run = zd_hmm_device_run,
};

/* --- open --- */

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
		hmm->mm->fault_around = attr->fault_around < ZD_RUN_MAX ? attr->fault_around :
									  ZD_RUN_MAX;
	rc = zd_mover_self_init(hmm->mm);
	if (rc)
		zd_mm_destroy(hmm->mm);
	return rc;
}

/* Of programs that were compiled before there were flags, @attr ends before them. */
static uint64_t flags_of(const struct zd_mm_attr *attr)
{
	return attr && attr->size >= offsetof(struct zd_mm_attr, flags) + sizeof(attr->flags) ?
		       attr->flags :
		       0;
}

static bool good_attr(const struct zd_mm_attr *attr)
{
	return !attr || (attr->size >= sizeof(attr->size) + sizeof(attr->fault_around) &&
			 zd_tail_is_zero(attr, sizeof(*attr), attr->size) &&
			 !(flags_of(attr) & ~(uint64_t)ZD_MM_OWN_MAPPINGS));
}

/* The caller's thread, no locks; blocks for system calls only. */
int zd_mm_open(const struct zd_mm_attr *attr, struct zd_mm **mm)
{
	struct zd_hmm *hmm;
	int rc = -ENOMEM;

	if (!mm || !good_attr(attr))
		return -EINVAL;
	hmm = zd_alloc(sizeof(*hmm));
	if (!hmm)
		return rc;
	hmm->process = zd_this_process();
	hmm->device_host = &device_host;
	hmm->detach.step = zd_hmm_detach_step;
	hmm->own_mappings = flags_of(attr) & ZD_MM_OWN_MAPPINGS;
	rc = zd_server_init(&hmm->server, &server_host, hmm);
	hmm->server.in_program = true;
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
	rc = zd_hmm_family_init(hmm);
	if (rc)
		goto err_wake;
	rc = open_mm(hmm, attr);
	if (rc)
		goto err_family;
	rc = zd_hmm_start_thread(hmm);
	if (rc)
		goto err_mm;
	zd_hmm_list_add(hmm);
	*mm = hmm->mm;
	return 0;

err_mm:
	zd_mm_destroy(hmm->mm);
err_family:
	zd_hmm_family_exit(hmm);
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
