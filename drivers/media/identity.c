/* SPDX-License-Identifier: MIT */
/* What tells a region's file from every other one. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "drivers/media/media.h"

void zd_media_identify(struct zd_media *m)
{
	struct zd_media_identity *id = &m->identity;
	struct statx st;

	memset(id, 0, sizeof(*id));
	if (statx(m->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &st))
		return;
	id->dev = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
	id->rdev = (uint64_t)st.stx_rdev_major << 32 | st.stx_rdev_minor;
	id->ino = st.stx_ino;
	/* inode numbers are used again: the time of birth tells the two files apart */
	if (st.stx_mask & STATX_BTIME)
		id->born_ns = st.stx_btime.tv_sec * 1000000000 + st.stx_btime.tv_nsec;
}

bool zd_media_is_same_file(const struct zd_media *a, const struct zd_media *b)
{
	return a->identity.dev == b->identity.dev && a->identity.rdev == b->identity.rdev &&
	       a->identity.ino == b->identity.ino && a->identity.born_ns == b->identity.born_ns;
}
