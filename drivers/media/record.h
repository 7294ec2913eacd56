/* SPDX-License-Identifier: MIT */
/*
 * drivers/media/record.h - the record of a region: which sectors of its media are lost is
 * known again when the region is opened the next time (media/record.c).
 */
#ifndef ZD_DRIVERS_MEDIA_RECORD_H
#define ZD_DRIVERS_MEDIA_RECORD_H

#include "drivers/media/media.h"

/*
 * zd_media_record_open - take the list of what was lost before.  The file has @bytes, the
 * region's opener asked for @want.  0, or -errno and a line for the user.
 * zd_media_record_close() in any case.
 * zd_media_record_size - @m->bytes are known: the record has them, too.
 *
 * The thread that opens or closes the region.  They block.
 */
int zd_media_record_open(struct zd_media *m, const char *path, uint64_t bytes, uint64_t want,
			 char *err, size_t errlen);
void zd_media_record_size(struct zd_media *m);
void zd_media_record_close(struct zd_media *m);

/* Grows with each change of what is to be recorded. */
static inline uint64_t zd_media_record_now(const struct zd_media *m)
{
	return __atomic_load_n(&m->bad.changes, __ATOMIC_ACQUIRE) +
	       __atomic_load_n(&m->mended.changes, __ATOMIC_ACQUIRE);
}

enum zd_record_what {
	ZD_RECORD_LOST,		/* what is bad, durably: before any caller is told of it */
	ZD_RECORD_MENDED,	/* what was mended, for the next opener in this boot */
	ZD_RECORD_ALL,		/* all of it, durably: with a FLUSH */
};

static inline bool zd_media_record_due(const struct zd_media *m, enum zd_record_what what)
{
	/* acquire: pairs with the releases in media/record.c: what they count is stored */
	switch (what) {
	case ZD_RECORD_LOST:
		return __atomic_load_n(&m->record.synced_sets, __ATOMIC_ACQUIRE) !=
		       zd_badblocks_sets(&m->bad);
	case ZD_RECORD_MENDED:
		return __atomic_load_n(&m->record.stored, __ATOMIC_ACQUIRE) !=
		       zd_media_record_now(m);
	default:
		return __atomic_load_n(&m->record.synced, __ATOMIC_ACQUIRE) !=
		       zd_media_record_now(m);
	}
}

void __zd_media_record(struct zd_media *m, enum zd_record_what what);

/* See to it that the record has what is asked for; a record that can't be stored is told in
 * the log.  Any thread, no lock of the media held; blocks if the record is due. */
static inline void zd_media_record(struct zd_media *m, enum zd_record_what what)
{
	if (__builtin_expect(zd_media_record_due(m, what), 0))
		__zd_media_record(m, what);
}

#endif
