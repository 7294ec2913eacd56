/* SPDX-License-Identifier: MIT */
/* drivers/btt/info.h - a BTT's three info blocks.  All calls read or write the media, and may
 * block; the BTT is in use by no other thread. */
#ifndef ZD_DRIVERS_BTT_INFO_H
#define ZD_DRIVERS_BTT_INFO_H

#include "drivers/btt/btt.h"

/* The info blocks that there are, each with what reading it said. */
struct zd_btt_infos {
	struct zd_btt_info_block b[ZD_BTT_NR_INFOS];
	int rc[ZD_BTT_NR_INFOS];
	bool valid[ZD_BTT_NR_INFOS];
	int best;			/* the newest valid one; -1: none */
	bool unfinished;		/* laying it out was interrupted */
	uint32_t nr_broken;		/* of the others */
};

/* 1: the media have a BTT, or what was one; 0; -errno. */
int zd_btt_probe(struct zd_media *m);
void zd_btt_read_infos(struct zd_media *m, struct zd_btt_infos *infos);
/* Why there is no valid one, for the user: -EUCLEAN. */
int zd_btt_explain_infos(struct zd_media *m, const struct zd_btt_infos *infos, char *err,
			 size_t errlen);
/* Write all of them, with the next serial number.  0 or -errno. */
int zd_btt_put_infos(struct zd_btt *btt);
/* Set where everything is, for info->media_bytes in blocks of info->block.  -EINVAL: too few
 * bytes, or too many. */
int zd_btt_set_places(struct zd_btt_info_block *info);
/* create.c: lay out a BTT in blocks of @block bytes (0: 4096), and set *@info.  0 or -errno. */
int zd_btt_create(struct zd_media *m, uint32_t block, struct zd_btt_info_block *info);

#endif
