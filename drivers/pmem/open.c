/* SPDX-License-Identifier: MIT */
/*
 * A region put together: the media, their pages, the BTT.  What is set up in order is undone in
 * reverse order: each thing that is set up registers a step of the teardown (remove.c).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/sized.h"
#include "drivers/btt/info.h"
#include "drivers/explain.h"
#include "drivers/media/record.h"
#include "drivers/pmem/pmem.h"
#include "pages/pagemap.h"

/* If the step can't be registered it is taken at once.  0 or -ENOMEM. */
static int add_step(struct zd_pmem *pmem, zd_devm_action_t *action)
{
	return zd_devm_add_action_or_reset(&pmem->devm, action, pmem);
}

static int explain(int rc, char *err, size_t errlen)
{
	return zd_explain(err, errlen, rc, "can't map it: %s", strerrordesc_np(-rc));
}

static int open_media(struct zd_pmem *pmem, const char *path, const struct zd_pmem_attr *attr,
		      char *err, size_t errlen)
{
	struct zd_media *m = &pmem->media;
	int rc = zd_pmem_open_file(path, attr, m, err, errlen);

	if (rc)
		return rc;
	rc = add_step(pmem, zd_pmem_step_close);
	if (!rc)
		rc = zd_media_map(m);
	if (!rc)
		rc = add_step(pmem, zd_pmem_step_unmap);
	return rc ? explain(rc, err, errlen) : 0;
}

/* @reopening: a BTT that was there must be there. */
static int open_btt(struct zd_pmem *pmem, const struct zd_pmem_attr *attr, bool reopening,
		    char *err, size_t errlen)
{
	bool force = attr->flags & ZD_PMEM_FORCE;
	bool create = !reopening && !(attr->flags & ZD_PMEM_READONLY);
	int has = zd_btt_probe(&pmem->media), data = 0, rc;

	if (has < 0)
		return explain(has, err, errlen);
	if (!(attr->flags & ZD_PMEM_BTT)) {
		if (!has || force)
			return 0;
		return zd_explain(err, errlen, -EMEDIUMTYPE,
				  "its blocks are translated by a BTT: open it with btt=on");
	}
	if (!has && create && !force)
		data = zd_pmem_has_data(&pmem->media);
	if (data < 0)
		return explain(data, err, errlen);
	if (data)
		return zd_explain(
			err, errlen, -EEXIST,
			"it holds data, which btt=on would overwrite: name a new or empty file");
	rc = zd_btt_open(&pmem->media, create, attr->btt_block, &pmem->btt, err, errlen);
	if (!rc)
		memcpy(pmem->btt_uuid, pmem->btt->info.uuid, sizeof(pmem->btt_uuid));
	return rc;
}

static void set_info(struct zd_pmem *pmem)
{
	struct zd_pmem_info *info = &pmem->info;
	struct zd_btt *btt = pmem->btt;

	info->media_bytes = pmem->media.bytes;
	info->nr_sectors = (btt ? btt->nr_blocks * btt->block : info->media_bytes) >>
			   ZD_SECTOR_SHIFT;
	info->atomic_bytes = btt ? btt->block : 8;
	info->flags = (btt ? ZD_PMEM_BTT : 0) | (pmem->media.readonly ? ZD_PMEM_READONLY : 0);
	info->persist = pmem->media.persist;
	info->pfn = pmem->dax.pgmap.pfn;
	info->has_holes = pmem->media.has_holes;
}

/* zd_media_pages.is_live: dax->page_lock is held. */
static bool page_is_live(void *owner, uint64_t page)
{
	const struct zd_dax *dax = owner;

	return dax->live[page / 64] >> (page % 64) & 1;
}

/* zd_dax_config.may_hold: dax->page_lock is held. */
static bool page_may_live(struct zd_dax *dax, uint64_t page)
{
	return zd_media_may_hold(&((struct zd_pmem *)dax->cfg.owner)->media, page);
}

static int open_pages(struct zd_pmem *pmem)
{
	struct zd_media *m = &pmem->media;
	struct zd_dax_config cfg = {
		.type = ZD_MEMORY_FS_DAX, .fd = m->program_fd, .nr_pages = m->bytes / ZD_PAGE_SIZE,
		.align = m->align, .map_flags = m->map_flags, .rdonly = m->readonly,
		.base = m->base, .owner = pmem, .may_hold = page_may_live,
	};
	int rc = add_step(pmem, zd_pmem_step_release_queue);

	if (!rc)
		rc = zd_dax_setup(&pmem->dax, &cfg);
	if (rc)
		return rc;
	m->pages = (struct zd_media_pages){
		.owner = &pmem->dax, .lock = &pmem->dax.page_lock, .is_live = page_is_live,
		.sigbus_fd = pmem->dax.empty_fd,
	};
	pmem->queue.usage = &pmem->dax.pgmap.priv->ref;
	return zd_pmem_add_page_steps(pmem);
}

static int set_up(struct zd_pmem *pmem, const char *path, const struct zd_pmem_attr *attr,
		  const struct zd_pmem *removed, char *err, size_t errlen)
{
	int rc = open_media(pmem, path, attr, err, errlen);

	if (rc)
		return rc;
	rc = open_pages(pmem);
	if (rc)
		return explain(rc, err, errlen);
	rc = open_btt(pmem, attr, removed, err, errlen);
	if (rc)
		return rc;
	set_info(pmem);
	if (removed && !zd_pmem_is_same(pmem, removed))
		return zd_explain(
			err, errlen, -ESTALE,
			"%s is another file than was removed: put that back, or start anew", path);
	rc = removed ? zd_pmem_inherit(pmem, removed) : 0;
	if (rc)
		return explain(rc, err, errlen);
	/* not of a file that has grown since: the caller may refuse it for that, and it may be
	 * cut again */
	if (!removed || removed->media.bytes == pmem->media.bytes)
		zd_media_record_size(&pmem->media);
	return 0;
}

/* Any thread; blocks.  @removed: NULL, or the region that was there before. */
static int open_region(const char *path, const struct zd_pmem_attr *attr,
		       const struct zd_pmem *removed, struct zd_pmem **out, char *err,
		       size_t errlen)
{
	size_t len = strlen(path) + 1;
	struct zd_pmem *pmem = zd_alloc(sizeof(*pmem));
	int rc = -ENOMEM;

	if (!pmem)
		return zd_explain(err, errlen, rc, "no memory");
	pmem->path = zd_alloc(len);
	if (pmem->path)
		rc = zd_pmem_queue_init(&pmem->queue);
	if (rc) {
		zd_free(pmem->path);
		zd_free(pmem);
		return explain(rc, err, errlen);
	}
	memcpy(pmem->path, path, len);
	rc = set_up(pmem, path, attr, removed, err, errlen);
	if (rc) {
		if (pmem->media.created)
			unlink(path);
		zd_devm_release_all(&pmem->devm);
		zd_pmem_free(pmem);
		return rc;
	}
	*out = pmem;
	return 0;
}

int zd_pmem_open(const char *path, const struct zd_pmem_attr *attr, struct zd_pmem **out, char *err,
		 size_t errlen)
{
	static const struct zd_pmem_attr none = { .size = sizeof(none) };

	if (!path || !out)
		return zd_explain(err, errlen, -EINVAL, "no path");
	return open_region(path, attr ? attr : &none, NULL, out, err, errlen);
}

int zd_pmem_open_fd(int fd, const struct zd_pmem_attr *attr, struct zd_pmem **pmem, char *err,
		    size_t errlen)
{
	char path[32];

	if (fd < 0)
		return zd_explain(err, errlen, -EBADF, "not a descriptor");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return zd_pmem_open(path, attr, pmem, err, errlen);
}

int zd_pmem_reopen(const struct zd_pmem *removed, struct zd_pmem **out, char *err, size_t errlen)
{
	struct zd_pmem_attr attr = {
		.size = sizeof(attr),
		.flags = removed ? removed->info.flags & (ZD_PMEM_BTT | ZD_PMEM_READONLY) : 0,
	};

	if (!removed || !out || !zd_pmem_is_gone(removed))
		return zd_explain(err, errlen, -EINVAL, "it isn't removed");
	if (zd_pmem_memfd_name(removed->path))
		return zd_explain(err, errlen, -ENODEV, "%s went with its removal: start anew",
				  removed->path);
	return open_region(removed->path, &attr, removed, out, err, errlen);
}

int zd_pmem_get_info_sized(const struct zd_pmem *pmem, struct zd_pmem_info *info, size_t size)
{
	/* no program has less than what is there now: a member that is added comes behind */
	if (!pmem || !info || size < sizeof(*info))
		return -EINVAL;
	zd_fill(info, size, &pmem->info, sizeof(*info));
	return 0;
}
