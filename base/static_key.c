/* SPDX-License-Identifier: MIT */
/*
 * Static keys: which branches there are, and which of them are to be taken.  (How their
 * text is patched while other threads run it: static_key_text.c.)
 *
 * A branch is compiled as JUMP to a block that looks at the key.  Loading a
 * module makes NOPs of its JUMPs, enabling a key makes JUMPs of its NOPs.
 * Since a JUMP only leads to a look at the key, a branch that is still (or for
 * good) a JUMP is slow but never wrong.
 *
 * Ordering.  @enabled is set before the first site is patched, and the last
 * membarrier comes before inc returns: a thread that then begins a branch sees the JUMP
 * and, behind it, @enabled.  Disabling clears @enabled first, so that the
 * branches are off even where patching fails.
 *
 * Locks: key_lock, for the modules' list, all text and all changes of keys.  Only the log's
 * is taken under it.
 *
 * Fork.  A thread that is lost with key_lock has changed a key's count before it patched,
 * and leaves sites of any kind.  In the child the next thread to take the lock brings every
 * site to where its key says.
 */
#include <errno.h>
#include <string.h>

#include <zonedev/log.h>
#include <zonedev/static_key.h>

#include "base/lock.h"
#include "base/static_key_text.h"

ZD_STATIC_KEY_MODULE;

static struct zd_mutex key_lock;
static struct zd_static_key_module *modules;

/* --- patching --- */

/* Which sites a patch is about.  Each becomes what its key says. */
struct patch {
	enum {
		OF_KEY,			/* those of @key */
		OF_DISABLED_KEYS,	/* those of @module, which is being loaded */
		ALL,			/* but for those where something else is written */
	} which;
	const struct zd_static_key *key;
	const struct zd_static_key_module *module;	/* NULL: of every module */
};

static bool is_in(const struct patch *p, const struct zd_jump_entry *e)
{
	switch (p->which) {
	case OF_KEY:
		return e->key == p->key;
	case OF_DISABLED_KEYS:
		return !zd_static_key_enabled(e->key);
	case ALL:
		break;
	}
	return zd_text_is_ours(e);
}

/* @fn for each site of @p; the first error. */
static int for_each_site(const struct patch *p,
			 int (*fn)(const struct zd_jump_entry *e, struct zd_text_batch *batch),
			 struct zd_text_batch *batch)
{
	const struct zd_static_key_module *first = p->module ? p->module : modules;
	const struct zd_static_key_module *last = p->module ? p->module->next : NULL;
	int err = 0;

	for (const struct zd_static_key_module *m = first; m != last && !err; m = m->next)
		for (const struct zd_jump_entry *e = m->start; e < m->stop && !err; e++)
			if (is_in(p, e))
				err = fn(e, batch);
	return err;
}

static int check_site(const struct zd_jump_entry *e, struct zd_text_batch *batch)
{
	(void)batch;
	return zd_text_is_ours(e) ? 0 : -EBUSY;
}

static int patch_site(const struct zd_jump_entry *e, struct zd_text_batch *batch)
{
	return zd_text_step(batch, e, zd_static_key_enabled(e->key));
}

/* With key_lock.  0 or -errno: then some sites are TESTs, and the next patch goes on. */
static int patch(const struct patch *p)
{
	struct zd_text_batch batch;
	int err, end;

	if (!zd_text_can_be_patched())
		return 0;
	err = for_each_site(p, check_site, NULL);
	for (int step = 0; step < ZD_TEXT_STEPS && !err; step++) {
		zd_text_begin(&batch, step);
		err = for_each_site(p, patch_site, &batch);
		end = zd_text_end(&batch);
		err = err ? err : end;
	}
	return err;
}

/* --- modules, loaded and unloaded --- */

static void lock_keys(void)
{
	int err;

	if (!zd_mutex_lock(&key_lock))
		return;
	/* A thread that a fork has lost was patching. */
	err = patch(&(struct patch){ .which = ALL });
	if (err)
		zd_log(ZD_LOG_WARN, "static keys that another thread was changing at a fork: %s",
		       strerror(-err));
}

void __zd_static_key_module_add(struct zd_static_key_module *m)
{
	int err;

	lock_keys();
	m->next = modules;
	modules = m;
	if (m->start != m->stop) {
		zd_text_choose(m->start);
		err = patch(&(struct patch){ .which = OF_DISABLED_KEYS, .module = m });
		if (err)
			zd_log(ZD_LOG_INFO, "some static keys stay plain branches: %s",
			       strerror(-err));
	}
	zd_mutex_unlock(&key_lock);
}

void __zd_static_key_module_del(struct zd_static_key_module *m)
{
	lock_keys();
	for (struct zd_static_key_module **p = &modules; *p; p = &(*p)->next) {
		if (*p == m) {
			*p = m->next;
			break;
		}
	}
	zd_mutex_unlock(&key_lock);
}

bool zd_static_keys_patched(void)
{
	bool patched;

	lock_keys();
	patched = zd_text_can_be_patched();
	zd_mutex_unlock(&key_lock);
	return patched;
}

/* --- keys --- */

int zd_static_branch_inc(struct zd_static_key *key)
{
	int err = 0;
	int32_t n;

	lock_keys();
	n = __atomic_load_n(&key->enabled, __ATOMIC_RELAXED);
	if (n == INT32_MAX) {
		err = -EOVERFLOW;
		goto out;
	}
	/* Release: pairs with zd_static_key_enabled(), where no site needs
	 * patching. */
	__atomic_store_n(&key->enabled, n + 1, __ATOMIC_RELEASE);
	if (n == 0)
		err = patch(&(struct patch){ .which = OF_KEY, .key = key });
	if (err) {
		__atomic_store_n(&key->enabled, 0, __ATOMIC_RELEASE);
		zd_log(ZD_LOG_WARN, "a static key can't be enabled: %s", strerror(-err));
	}
out:
	zd_mutex_unlock(&key_lock);
	return err;
}

int zd_static_branch_dec(struct zd_static_key *key)
{
	int err = 0;
	int32_t n;

	lock_keys();
	n = __atomic_load_n(&key->enabled, __ATOMIC_RELAXED);
	if (n <= 0) {
		zd_mutex_unlock(&key_lock);
		zd_warn_once("zd_static_branch_dec: the key has no user: an unbalanced call");
		return -EINVAL;
	}
	__atomic_store_n(&key->enabled, n - 1, __ATOMIC_RELEASE);
	if (n == 1)
		err = patch(&(struct patch){ .which = OF_KEY, .key = key });
	zd_mutex_unlock(&key_lock);
	if (err)
		zd_warn_once("a static key that was disabled stays a plain branch: %s",
			     strerror(-err));
	return 0;
}
