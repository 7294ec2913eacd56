/* SPDX-License-Identifier: MIT */
/*
 * A device is removed while memory of the program is on it.
 *
 * The pagemap has been killed: nothing new goes out (a batch takes a hold on the
 * pagemap, and fails to; a page on its way is put back, since zd_page_init()
 * fails).  Every address space brings its pages home, as a fault would; the
 * program goes on meanwhile.  A device that doesn't answer is waited for until
 * the deadline only; what it completes later lands as ever.
 *
 * A page that can't come home (the device can't read it, there is no memory for
 * it) stays on the device as it was, and calls the removal off.  It is not
 * poisoned: that is for a thread that must have it now.
 */
#include <errno.h>
#include <limits.h>

#include "base/alloc.h"
#include "pages/device_host.h"
#include "hmm/hmm.h"
#include "zonedev/log.h"

#define WARN_AFTER_NS	10000000000ull

struct drain_cmd {
	struct zd_cmd cmd;
	struct zd_device *dev;
	struct zd_mm *mm;	/* being brought home */
	struct zd_homing homing;
	uint64_t warn_ns;	/* when to say that it takes long; 0: said */
};

static enum zd_cmd_result drain_mm(struct drain_cmd *c, struct zd_mm *mm)
{
	if (c->mm != mm) {
		c->mm = mm;
		c->homing = (struct zd_homing){ .end = UINT64_C(1) << ZD_VA_BITS };
	}
	return zd_homing_step(mm, &c->homing, &c->cmd.rc);
}

static enum zd_cmd_result called_off(struct drain_cmd *c, int error)
{
	c->cmd.rc = error == -ENOMEM ? -ENOMEM : -EIO;
	zd_log(ZD_LOG_WARN, "%s stays: %s", c->dev->name, error == -ENOMEM ?
	       "no memory for what is on it" : "it can't read back what is on it");
	return ZD_CMD_DONE;
}

static void warn_waiting(struct zd_hmm *hmm, struct drain_cmd *c)
{
	const struct zd_mm_stats *s = &hmm->server.stats.c;

	if (!c->warn_ns)
		c->warn_ns = zd_now_ns() + WARN_AFTER_NS;
	if (zd_now_ns() < c->warn_ns)
		return;
	c->warn_ns = UINT64_MAX;
	zd_log(ZD_LOG_WARN, "removal of %s still waits for %llu pages to come home, and for %u batches on their way to it",
	       c->dev->name, (unsigned long long)s->pages_device,
	       hmm->server.nr_migs[ZD_TO_DEVICE]);
}

static enum zd_cmd_result drain_all(struct zd_hmm *hmm, struct drain_cmd *c)
{
	struct zd_mm *mm;

	cds_list_for_each_entry(mm, &hmm->server.mms, node) {
		enum zd_cmd_result r;

		if (!mm->nr_device || mm->dead)
			continue;
		r = drain_mm(c, mm);
		if (c->homing.error || c->cmd.rc)
			return called_off(c, c->homing.error ? c->homing.error : c->cmd.rc);
		if (r != ZD_CMD_DONE)
			return r;
		if (mm->nr_device) {	/* behind us again */
			c->mm = NULL;
			return ZD_CMD_AGAIN;
		}
	}
	/* batches land by themselves; their pages are put back or home */
	return hmm->server.nr_migs[ZD_TO_DEVICE] ? ZD_CMD_WAIT : ZD_CMD_DONE;
}

static enum zd_cmd_result drain_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct drain_cmd *c = caa_container_of(cmd, struct drain_cmd, cmd);

	cmd->rc = 0;
	warn_waiting(hmm, c);
	/* What is in flight then holds the pagemap, by its pages or by itself. */
	return c->dev->deadline_ns && zd_now_ns() >= c->dev->deadline_ns ? ZD_CMD_DONE :
	       drain_all(hmm, c);
}

/* --- who may use the library --- */

/* dev->server and hmm->pins change together.  Innermost. */
static struct zd_mutex pin_lock;

/* @deadline_ns: 0: none.  False: it has passed. */
static bool claim(struct zd_hmm *hmm, uint64_t deadline_ns)
{
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

/* The library that uses @dev, which can't be freed until it is unpinned; NULL:
 * none does. */
static struct zd_hmm *pin(struct zd_device *dev)
{
	struct zd_hmm *hmm = NULL;
	struct zd_server *server;

	zd_mutex_lock(&pin_lock);
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

void zd_hmm_closed(struct zd_hmm *hmm)
{
	uint32_t pins;

	hmm->closed = true;
	zd_mutex_lock(&pin_lock);
	zd_server_detach(&hmm->server);
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
		if (!hmm->closed)
			rc = zd_hmm_call(hmm, cmd ? cmd : &hmm->detach);
		zd_hmm_unclaim(hmm);
	}
	unpin(hmm);
	return rc;
}

static int drain(struct zd_device *dev)
{
	struct drain_cmd *c = zd_alloc(sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->cmd.step = drain_step;
	c->dev = dev;
	rc = zd_hmm_call_server_of(dev, &c->cmd, dev->deadline_ns);
	zd_free(c);
	return rc;
}

/* hmm->detach */
enum zd_cmd_result zd_hmm_detach_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	(void)cmd;
	zd_mutex_lock(&pin_lock);
	zd_server_detach(&hmm->server);
	zd_mutex_unlock(&pin_lock);
	return ZD_CMD_DONE;
}

/* Must not fail for want of memory: the device is destroyed next. */
static void detach(struct zd_device *dev)
{
	zd_hmm_call_server_of(dev, NULL, 0);
}

const struct zd_device_host zd_hmm_device_host = {
	.drain = drain,
	.detach = detach,
	.run = zd_hmm_device_run,
};
