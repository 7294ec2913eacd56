/* SPDX-License-Identifier: MIT */
/* The command behind zd_migrate_vma_setup/pages/finalize; see migrate_vma.c. */
#ifndef ZD_HMM_MIGRATE_VMA_H
#define ZD_HMM_MIGRATE_VMA_H

#include "hmm/hmm.h"

/* The page that dst[i] named is the command's to give back: */
enum zd_migrate_vma_took {
	ZD_VMA_NOTHING,
	ZD_VMA_FREE,	/* by ->unalloc_pages: the page could not be initialised */
	ZD_VMA_LIVE,	/* by a put */
};

struct zd_migrate_vma_cmd {
	struct zd_cmd cmd;
	uint64_t start, end, pos;
	struct zd_device *dev;
	struct zd_ranges stay;	/* what must stay in RAM, */
	bool strict;		/* by which rule (malloc_rule.h) */
	struct zd_mig *mig;	/* NULL: no page was collected, or all have landed */
	struct zd_migrate_result result;
	size_t size;		/* of the caller's struct zd_migrate_vma */
	bool fetched;		/* the contents are in the batch's buffer */
	bool paged;		/* zd_migrate_vma_pages() has been called */
	uint16_t index[ZD_MIG_MAX];	/* of the batch's pages, in what follows */
	uint64_t src[ZD_MIGRATE_VMA_MAX];
	const void *data[ZD_MIGRATE_VMA_MAX];
	zd_pfn_t dst[ZD_MIGRATE_VMA_MAX];
	uint8_t took[ZD_MIGRATE_VMA_MAX];	/* enum zd_migrate_vma_took */
	bool went[ZD_MIGRATE_VMA_MAX];		/* the page is on dst[i] now */
};

/* migrate_vma_steps.c: one after the other, in the server's thread. */
enum zd_cmd_result zd_migrate_vma_setup_step(struct zd_hmm *hmm, struct zd_cmd *cmd);
enum zd_cmd_result zd_migrate_vma_pages_step(struct zd_hmm *hmm, struct zd_cmd *cmd);
enum zd_cmd_result zd_migrate_vma_finalize_step(struct zd_hmm *hmm, struct zd_cmd *cmd);

#endif
