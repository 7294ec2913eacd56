/* SPDX-License-Identifier: MIT */
/*
 * The family of a program that links zonedev, and its guards.
 *
 * If the process dies, no thread serves its forked children any more, and the kernel would
 * give them zeros for pages that are on the device.  So the keeper (guard/keeper.h) holds
 * every userfaultfd open, and two guards (guard/guard.h) kill the family when the server's
 * thread dies.  The family's processes are known by a page that all of them have mapped,
 * the mark.
 *
 * The caller's thread (init, exit) and the server's (the guards).
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hmm/hmm.h"
#include "zonedev/log.h"

static int make_mark(struct zd_hmm *hmm)
{
	static unsigned int serial;
	int fd;

	snprintf(hmm->mark, sizeof(hmm->mark), "zonedev-%d-%u-%llx", (int)hmm->process.pid,
		 __atomic_fetch_add(&serial, 1, __ATOMIC_RELAXED), (unsigned long long)zd_now_ns());
	fd = memfd_create(hmm->mark, MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	hmm->mark_page = mmap(NULL, ZD_PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	return hmm->mark_page == MAP_FAILED ? -ENOMEM : 0;
}

/* The keeper's page is shared by the family as well.  Where there can't be a keeper, the
 * first guard alone sees to it that no child reads zeros. */
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

int zd_hmm_family_init(struct zd_hmm *hmm)
{
	int rc = make_mark(hmm);

	if (!rc)
		open_keeper(hmm);
	return rc;
}

void zd_hmm_family_exit(struct zd_hmm *hmm)
{
	close_keeper(hmm);
	munmap(hmm->mark_page, ZD_PAGE_SIZE);
}

void zd_hmm_start_guards(struct zd_hmm *hmm)
{
	if (hmm->guard.pid)
		return;
	if (zd_guard_start(&hmm->guard, hmm->mark, ZD_GUARD_SHARED))
		zd_log(ZD_LOG_WARN, "no guard: if this process is killed its children may read "
				    "zeros for pages that are on the device");
	/* without a keeper the second would come too late */
	else if (hmm->keeper.fd >= 0)
		zd_guard_start(&hmm->second_guard, hmm->mark, ZD_GUARD_PROGRAM);
}

void zd_hmm_stop_guards(struct zd_hmm *hmm)
{
	zd_guard_stop(&hmm->second_guard);
	zd_guard_stop(&hmm->guard);
}
