/* SPDX-License-Identifier: MIT */
/*
 * Managed actions: a stack.  devm->lock guards the links; an action is unlinked
 * with the lock and called without it, so each action is called once, and may use the devm
 * itself.
 */
#include <errno.h>
#include <stddef.h>

#include <zonedev/devm.h>
#include <zonedev/log.h>

#include "base/alloc.h"
#include "base/lock.h"

struct zd_devm_action {
	struct zd_devm_action *below;
	zd_devm_action_t *action;
	void *data;
};

void zd_devm_init(struct zd_devm *devm)
{
	devm->top = NULL;
	devm->lock = 0;
}

int zd_devm_add_action(struct zd_devm *devm, zd_devm_action_t *action, void *data)
{
	struct zd_devm_action *a;

	if (!action) {
		zd_warn_once("zd_devm_add_action: no action");
		return -EINVAL;
	}
	a = zd_alloc(sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->action = action;
	a->data = data;

	zd_lock_word(&devm->lock);
	a->below = devm->top;
	devm->top = a;
	zd_unlock_word(&devm->lock);
	return 0;
}

int zd_devm_add_action_or_reset(struct zd_devm *devm, zd_devm_action_t *action, void *data)
{
	int err = zd_devm_add_action(devm, action, data);

	if (err && action)
		action(data);
	return err;
}

/* Unlink the topmost match (any, if @action is NULL). */
static struct zd_devm_action *take(struct zd_devm *devm, zd_devm_action_t *action, void *data)
{
	struct zd_devm_action **link, *a;

	zd_lock_word(&devm->lock);
	for (link = &devm->top; (a = *link); link = &a->below) {
		if (!action || (a->action == action && a->data == data)) {
			*link = a->below;
			break;
		}
	}
	zd_unlock_word(&devm->lock);
	return a;
}

int zd_devm_remove_action(struct zd_devm *devm, zd_devm_action_t *action, void *data)
{
	struct zd_devm_action *a = action ? take(devm, action, data) : NULL;

	if (!a)
		return -ENOENT;
	zd_free(a);
	return 0;
}

int zd_devm_release_action(struct zd_devm *devm, zd_devm_action_t *action, void *data)
{
	int err = zd_devm_remove_action(devm, action, data);

	if (!err)
		action(data);
	return err;
}

int zd_devm_release_all(struct zd_devm *devm)
{
	struct zd_devm_action *a;
	int n = 0;

	while ((a = take(devm, NULL, NULL))) {
		zd_devm_action_t *action = a->action;
		void *data = a->data;

		zd_free(a);
		n++;
		action(data);
	}
	return n;
}
