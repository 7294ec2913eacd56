/* SPDX-License-Identifier: MIT */
/*
 * The text of static keys: what static_key.c has done to sites.  All calls: with key_lock.
 *
 * Sites are patched in batches: a step of all of them, then one membarrier(2) for all of
 * them, and so for each step.
 */
#ifndef ZD_BASE_STATIC_KEY_TEXT_H
#define ZD_BASE_STATIC_KEY_TEXT_H

#include <stdbool.h>

#include <zonedev/static_key.h>

#if defined(__x86_64__)
#define ZD_TEXT_STEPS	3
#else
#define ZD_TEXT_STEPS	1
#endif

struct zd_text_batch {
	int step;
	int mem;		/* descriptor of /proc/self/mem; < 0: none */
	bool written;
};

/* zd_text_choose - find out, once, how text can be written here, by means of the site @e;
 * says in the log where it can't. */
void zd_text_choose(const struct zd_jump_entry *e);
/* zd_text_can_be_patched - false: the branches are plain, or there are none yet. */
bool zd_text_can_be_patched(void);

/* zd_text_is_ours - whether the site has an instruction of this file: a debugger's breakpoint
 * isn't one. */
bool zd_text_is_ours(const struct zd_jump_entry *e);

/*
 * zd_text_begin - step @step (0 .. ZD_TEXT_STEPS - 1) of a batch.
 * zd_text_step - of one site, to be a jump or a NOP: 0 or -errno.
 * zd_text_end - every CPU has seen it when it returns.  0 or -errno.  Also after an error.
 */
void zd_text_begin(struct zd_text_batch *batch, int step);
int zd_text_step(struct zd_text_batch *batch, const struct zd_jump_entry *e, bool jump);
int zd_text_end(struct zd_text_batch *batch);

#endif
