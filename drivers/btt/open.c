/* SPDX-License-Identifier: MIT */
/* A BTT opened and closed. */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "drivers/btt/block.h"
#include "drivers/btt/info.h"
#include "drivers/btt/lanes.h"
#include "drivers/btt/page_sums.h"
#include "drivers/btt/recover.h"
#include "drivers/explain.h"
#include "zonedev/log.h"

static int explain(struct zd_media *m, int rc, char *err, size_t errlen)
{
	switch (rc) {
	case -ENOENT:
		return zd_explain(
			err, errlen, rc,
			"there is no BTT on it: leave btt=on out, or open it for writing");
	case -EINVAL:
		return zd_explain(
			err, errlen, rc,
			"%llu bytes are too few or too many for a BTT: give 1M to 4T (512G in blocks of 512)",
			(unsigned long long)m->bytes);
	case -EUCLEAN:
		return zd_explain(
			err, errlen, rc,
			"its BTT is damaged: run zonedev check on it, which mends what can be, and says what is lost");
	case -EROFS:
		return zd_explain(
			err, errlen, -EUCLEAN,
			"its BTT was in use when it was last seen: open it once for writing");
	default:
		return zd_explain(err, errlen, rc, "its BTT: %s", strerrordesc_np(-rc));
	}
}

/* Set *@info to the info block that there is, or was made; @err says why there is none. */
static int load_info(struct zd_media *m, bool may_create, uint32_t block,
		     struct zd_btt_info_block *info, uint32_t *nr_broken, char *err, size_t errlen)
{
	struct zd_btt_infos *infos = zd_alloc(sizeof(*infos));
	int rc = 0;

	if (!infos)
		return explain(m, -ENOMEM, err, errlen);
	zd_btt_read_infos(m, infos);
	if (infos->best >= 0) {
		*info = infos->b[infos->best];
		*nr_broken = infos->nr_broken;
	} else if (zd_btt_probe(m) == 1 && !infos->unfinished) {
		rc = zd_btt_explain_infos(m, infos, err, errlen);
	} else {
		rc = may_create ? zd_btt_create(m, block, info) : -ENOENT;
		if (rc)
			rc = explain(m, rc, err, errlen);
	}
	zd_free(infos);
	return rc;
}

/* The thread that opens the region; blocks. */
int zd_btt_open(struct zd_media *m, bool may_create, uint32_t block, struct zd_btt **out, char *err,
		size_t errlen)
{
	struct zd_btt_info_block *info;
	struct zd_btt *btt = NULL;
	uint32_t nr_broken = 0;
	int rc;

	if (m->bytes < ZD_BTT_MIN_BYTES)
		return explain(m, -EINVAL, err, errlen);
	info = zd_alloc(sizeof(*info));
	if (!info)
		return explain(m, -ENOMEM, err, errlen);
	rc = load_info(m, may_create, block, info, &nr_broken, err, errlen);
	if (!rc)
		btt = zd_btt_alloc(m, info);
	zd_free(info);
	if (rc)
		return rc;
	rc = btt ? zd_btt_start(btt) : -ENOMEM;
	/* before the first write, after which the sums aren't right any more */
	if (!rc && !m->readonly) {
		btt->info.closed = 0;
		rc = zd_btt_put_infos(btt);
	}
	if (!rc && nr_broken)
		zd_log(ZD_LOG_WARN,
		       m->readonly ?
			       "pmem: %u of a BTT's three descriptions are broken" :
			       "pmem: %u of a BTT's three descriptions were broken, and are mended",
		       nr_broken);
	if (!rc) {
		*out = btt;
		return 0;
	}
	if (btt)
		zd_btt_free(btt);
	return explain(m, rc, err, errlen);
}

int zd_btt_put_closed(struct zd_btt *btt, uint64_t gen)
{
	int rc = zd_btt_put_sums(btt);

	if (!rc)
		rc = zd_media_sync(btt->m);
	btt->info.closed = 1;
	btt->info.closed_gen = gen;
	return rc ? rc : zd_btt_put_infos(btt);
}

/* The flog has what isn't durable in the map; once the map is durable all can have its sums. */
void zd_btt_close(struct zd_btt *btt)
{
	uint64_t bad;

	if (!zd_media_sync(btt->m) && !btt->m->readonly && !zd_btt_has_failed(btt) &&
	    !zd_btt_check_media(btt, 0, &bad))
		zd_btt_put_closed(btt, btt->gen);
	zd_btt_free(btt);
}
