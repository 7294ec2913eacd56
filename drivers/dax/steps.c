/* SPDX-License-Identifier: MIT */
/*
 * The end of a region: actions of a struct zd_devm, one a step, registered from the
 * last to the first.  Releasing the devm takes them all.  zd_dax_teardown() takes them
 * one by one; after a timeout another call goes on with the step that had to wait.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "pages/page.h"
#include "pages/pagemap.h"
#include "drivers/dax/dax.h"
#include "drivers/teardown.h"
#include "zonedev/log.h"

static void step_destroy(void *data)
{
	struct zd_dax *dax = data;

	dax->cfg.destroy(dax);
}

static void step_exit(void *data)
{
	zd_dax_exit(data);
}

static void step_wait(void *data)
{
	zd_dax_wait(data, -1, NULL);
}

static void step_revoke(void *data)
{
	zd_dax_revoke_and_put(data);
}

static void step_kill(void *data)
{
	int rc = zd_dax_kill(data);

	/* the next steps would wait for a reference that no thread drops */
	ZD_BUG_ON(rc, "a region can't be taken down here: %s", strerrordesc_np(-rc));
}

/* In the order in which they are registered: the last one is taken first. */
static zd_devm_action_t *const steps[] = {
	step_destroy, step_exit, step_wait, step_revoke, step_kill,
};
#define NR_STEPS	((int)(sizeof(steps) / sizeof(steps[0])))

int zd_dax_add_steps(struct zd_dax *dax, struct zd_devm *devm)
{
	dax->devm = devm ? devm : &dax->own_devm;
	return zd_teardown_add(dax->devm, steps, NR_STEPS, dax);
}

bool zd_dax_in_page_free(void)
{
	if (!zd_in_page_free)
		return false;
	zd_warn_once("removal of a region from inside page_free: it would wait for itself");
	return true;
}

int zd_dax_teardown(struct zd_dax *dax, int ms, struct zd_pagemap_holders *out)
{
	struct zd_devm *devm;
	int rc = 0;

	if (!dax || !zd_dax_opened_here(dax))
		return -EINVAL;
	if (!dax->devm) {
		zd_warn_once("zd_dax_close: this region is taken down by its owner");
		return -EINVAL;
	}
	if (zd_dax_in_page_free())
		return -EDEADLK;
	if (__atomic_exchange_n(&dax->closing, 1, __ATOMIC_ACQUIRE))
		return -EBUSY;
	devm = dax->devm;
	/* where an earlier call timed out, these two have been taken */
	zd_devm_release_action(devm, step_kill, dax);
	zd_devm_release_action(devm, step_revoke, dax);
	if (ms >= 0)
		rc = zd_dax_wait(dax, ms, out);
	if (rc) {
		__atomic_store_n(&dax->closing, 0, __ATOMIC_RELEASE);
		return rc;
	}
	zd_devm_release_action(devm, step_wait, dax);
	zd_devm_release_action(devm, step_exit, dax);
	zd_devm_release_action(devm, step_destroy, dax);
	return 0;
}
