/* SPDX-License-Identifier: MIT */
/* What rcu.c needs of a per-CPU reference beyond the public calls. */
#ifndef ZD_PAGES_PERCPU_REF_H
#define ZD_PAGES_PERCPU_REF_H

#include <zonedev/percpu_ref.h>

/* zd_percpu_ref_reset - as zd_percpu_ref_init() left @ref, whatever state a fork has copied
 * @ref in.  In the child of a fork, whose only thread calls it. */
void zd_percpu_ref_reset(struct zd_percpu_ref *ref);

#endif
