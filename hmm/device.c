/* SPDX-License-Identifier: MIT */
/*
 * The devices that a handle's server drives, and how a removal finds the handle.
 *
 * A thread that removes a device meets a handle that another thread may be closing.  So it
 * pins the handle (memory that is pinned isn't freed), then claims it.  The claim is held
 * by one thread at a time: by zd_mm_close(), or by a call on the device's server.  A handle
 * that was closed while a thread waited for the claim says so (hmm->closed).
 *
 * Locks: the claim is outermost and may be held for as long as a drain takes; pin_lock is
 * innermost.
 */
#include <errno.h>
#include <limits.h>

#include "hmm/hmm.h"
#include "pages/device_host.h"

/* dev->server and hmm->pins change together. */
static struct zd_mutex pin_lock;

int zd_hmm_attach(struct zd_hmm *hmm, struct zd_device *dev)
{
	struct zd_pagemap *pgmap;
	int rc;

	if (zd_server_find_tier(&hmm->server, dev))
		return 0;
	/* A removal that begins now waits for this hold, and finds the host then. */
	pgmap = zd_get_dev_pagemap(dev->pgmap.pfn);
	if (!pgmap)
		return -ENODEV;
	rc = zd_server_attach(&hmm->server, dev);
	if (!rc)
		/* release: dev->server comes first; pairs with the acquire in
		 * device_revoke() */
		__atomic_store_n(&dev->host, hmm->device_host, __ATOMIC_RELEASE);
	zd_put_dev_pagemap(pgmap);
	/* Before the first page goes: a fork returns as soon as its event is
	 * read, and the next thing may be a SIGKILL. */
	if (!rc)
		zd_hmm_start_guards(hmm);
	return rc;
}

/* --- the claim --- */

/* Blocks until the claim is this thread's.  False: @deadline_ns (0: none) has passed. */
static bool claim(struct zd_hmm *hmm, uint64_t deadline_ns)
{
	/* acquire: pairs with the release in zd_hmm_unclaim() */
	while (__atomic_exchange_n(&hmm->claimed, 1, __ATOMIC_ACQUIRE)) {
		uint64_t now = zd_now_ns();

		if (deadline_ns && now >= deadline_ns)
			return false;
		zd_futex_wait(&hmm->claimed, 1,
			      deadline_ns ? (int64_t)((deadline_ns - now) / 1000000 + 1) : -1);
	}
	return true;
}

void zd_hmm_claim(struct zd_hmm *hmm)
{
	claim(hmm, 0);
}

void zd_hmm_unclaim(struct zd_hmm *hmm)
{
	/* release: pairs with the exchange in claim() */
	__atomic_store_n(&hmm->claimed, 0, __ATOMIC_RELEASE);
	zd_futex_wake(&hmm->claimed, INT_MAX);
}

/* --- pins --- */

/* The handle whose server drives @dev, not to be freed until it is unpinned; NULL: no
 * server does. */
static struct zd_hmm *pin(struct zd_device *dev)
{
	struct zd_hmm *hmm = NULL;
	struct zd_server *server;

	zd_mutex_lock(&pin_lock);
	/* acquire: pairs with the exchange in zd_server_attach() */
	server = __atomic_load_n(&dev->server, __ATOMIC_ACQUIRE);
	if (server) {
		hmm = caa_container_of(server, struct zd_hmm, server);
		hmm->pins++;
	}
	zd_mutex_unlock(&pin_lock);
	return hmm;
}

static void unpin(struct zd_hmm *hmm)
{
	zd_mutex_lock(&pin_lock);
	hmm->pins--;
	zd_futex_wake(&hmm->pins, INT_MAX);
	zd_mutex_unlock(&pin_lock);
}

/* The closing thread, which has the claim.  Blocks until nothing pins the handle. */
void zd_hmm_retire(struct zd_hmm *hmm)
{
	uint32_t pins;

	hmm->closed = true;
	zd_mutex_lock(&pin_lock);
	zd_server_detach_all(&hmm->server);
	pins = hmm->pins;
	zd_mutex_unlock(&pin_lock);
	zd_hmm_unclaim(hmm);
	while (pins) {
		zd_futex_wait(&hmm->pins, pins, -1);
		zd_mutex_lock(&pin_lock);
		pins = hmm->pins;
		zd_mutex_unlock(&pin_lock);
	}
}

int zd_hmm_call_server_of(struct zd_device *dev, struct zd_cmd *cmd, uint64_t deadline_ns)
{
	struct zd_hmm *hmm = pin(dev);
	int rc;

	if (!hmm)
		return 0;
	rc = zd_hmm_callable(hmm);
	if (!rc && claim(hmm, deadline_ns)) {
		if (!cmd)
			hmm->detached = dev;
		if (!hmm->closed)
			rc = zd_hmm_call(hmm, cmd ? cmd : &hmm->detach);
		zd_hmm_unclaim(hmm);
	}
	unpin(hmm);
	return rc;
}

/* --- the device goes --- */

/* hmm->detach.  The server's thread. */
enum zd_cmd_result zd_hmm_detach_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	(void)cmd;
	zd_mutex_lock(&pin_lock);
	zd_server_detach(&hmm->server, hmm->detached);
	zd_mutex_unlock(&pin_lock);
	return ZD_CMD_DONE;
}

/* The removing thread; blocks.  Must not fail for want of memory, since the device is
 * destroyed next: so the command is the handle's own. */
void zd_hmm_device_detach(struct zd_device *dev)
{
	zd_hmm_call_server_of(dev, NULL, 0);
}
