/* SPDX-License-Identifier: MIT */
/*
 * zonedev/devm.h - managed actions: what was set up for a device is undone in
 * reverse order.  Mirrors Linux devm_add_action() and friends; a struct zd_devm
 * stands where the kernel has a struct device's devres list.
 *
 * Any thread may call any of these at any time; they block only as long as an
 * action does.  Actions are called with no lock held and may use the same
 * struct zd_devm.
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

void zd_devm_init(struct zd_devm *devm);

/*
 * zd_devm_add_action - have @action(@data) called by zd_devm_release_all().
 * Returns 0; -EINVAL: no action; -ENOMEM.
 */
int zd_devm_add_action(struct zd_devm *devm, zd_devm_action_t *action, void *data);

/* zd_devm_add_action_or_reset - the same, but when it fails @action(@data) has
 * been called: the caller has nothing to unwind for it. */
int zd_devm_add_action_or_reset(struct zd_devm *devm, zd_devm_action_t *action, void *data);

/* zd_devm_remove_action - forget the last registered one that matches, without
 * calling it.  Returns 0 or -ENOENT. */
int zd_devm_remove_action(struct zd_devm *devm, zd_devm_action_t *action, void *data);

/* zd_devm_release_action - the same, and call it now. */
int zd_devm_release_action(struct zd_devm *devm, zd_devm_action_t *action, void *data);

/*
 * zd_devm_release_all - call every action, the last registered first, until
 * there are none (what an action registers meanwhile is called too).  @devm can
 * be used again afterwards.  Returns how many were called.
 */
int zd_devm_release_all(struct zd_devm *devm);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
