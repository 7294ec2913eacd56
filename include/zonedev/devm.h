/* SPDX-License-Identifier: MIT */
/*
 * zonedev/devm.h - managed actions: what was set up for a device is undone in
 * reverse order.  Mirrors Linux devm_add_action() and friends; a struct zd_devm
 * stands where the kernel has a struct device's devres list.
 *
 * Several threads may make these calls at the same time.  Actions are called with no lock
 * held and may use the same struct zd_devm.
 */
#ifndef ZONEDEV_DEVM_H
#define ZONEDEV_DEVM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct zd_devm_action;
typedef void (zd_devm_action_t)(void *data);

/* All members are zonedev's; zeroed is the same as zd_devm_init().  Its size is fixed for
 * ever. */
struct zd_devm {
	struct zd_devm_action *top;	/* registered last */
	uint32_t lock;
};

/* zd_devm_init - no actions.  Context: signal-safe, fork-safe; before any other call. */
void zd_devm_init(struct zd_devm *devm);

/*
 * zd_devm_add_action - have @action(@data) called by zd_devm_release_all().
 * Returns 0; -EINVAL: no action; -ENOMEM.
 * Context: any thread, fork-safe.
 */
int zd_devm_add_action(struct zd_devm *devm, zd_devm_action_t *action, void *data);

/* zd_devm_add_action_or_reset - the same, but when it fails @action(@data) has
 * been called: the caller has nothing to unwind for it.
 * Context: any thread, fork-safe; or as @action. */
int zd_devm_add_action_or_reset(struct zd_devm *devm, zd_devm_action_t *action, void *data);

/* zd_devm_remove_action - forget the last registered one that matches, without
 * calling it.  Returns 0 or -ENOENT.
 * Context: any thread, fork-safe. */
int zd_devm_remove_action(struct zd_devm *devm, zd_devm_action_t *action, void *data);

/* zd_devm_release_action - the same, and call it now.
 * Context: fork-safe; blocks as @action does. */
int zd_devm_release_action(struct zd_devm *devm, zd_devm_action_t *action, void *data);

/*
 * zd_devm_release_all - call every action, the last registered first, until
 * there are none (what an action registers meanwhile is called too).  @devm can
 * be used again afterwards.  Returns how many were called.
 * Context: fork-safe; blocks as the actions do.
 */
int zd_devm_release_all(struct zd_devm *devm);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
