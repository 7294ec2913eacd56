/* SPDX-License-Identifier: MIT */
/* For tests: what patching does, step by step. */
#ifndef ZD_BASE_STATIC_KEY_H
#define ZD_BASE_STATIC_KEY_H

enum zd_static_key_step {
	ZD_STATIC_KEY_WRITTEN,	/* a part of a site was written */
	ZD_STATIC_KEY_SYNCED,	/* every CPU has serialised */
};

/* Called in the thread that patches, with key_lock: the observer must not use
 * keys, but may run branches.  NULL: no observer. */
extern void (*zd_static_key_observer)(enum zd_static_key_step step);

#endif
