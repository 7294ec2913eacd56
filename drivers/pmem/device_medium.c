/* SPDX-License-Identifier: MIT */
/*
 * From a path to a medium that is device memory, and what is left of it at the end.
 *
 * As with the file driver (file/open.c): the device holds the program's memory, so no other
 * user may read it; data that a medium holds is overwritten only with ZD_PMEM_DEVICE_FORCE; a
 * file that is made here loses its name at once; and a medium that outlives the device is left
 * without data, so that the next run finds it free.
 *
 * All of it is called by the thread that creates or destroys the device, and may block.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "drivers/explain.h"
#include "drivers/label.h"
#include "drivers/media/record.h"
#include "drivers/pmem/device_medium.h"
#include "drivers/pmem/pmem.h"
#include "zonedev/log.h"
#include "zonedev/pmem_device.h"

#define HUGE_BYTES	(UINT64_C(2) << 20)

struct opening {
	const char *path;
	unsigned int flags;
	struct zd_media *m;
	char *err;
	size_t errlen;
};

#define fail(o, rc, ...)	zd_explain((o)->err, (o)->errlen, rc, __VA_ARGS__)

static bool wants_dax(const struct opening *o)
{
	return o->flags & ZD_PMEM_DEVICE_DAX;
}

/* --- the medium --- */

/* Before it is opened, or a file would be made that can't be used. */
static int check_kind(struct opening *o)
{
	struct stat st;

	if (!wants_dax(o) || zd_pmem_memfd_name(o->path) || stat(o->path, &st) ||
	    S_ISCHR(st.st_mode) || S_ISREG(st.st_mode))
		return 0;
	return fail(o, -ENOTBLK,
		    "%s is neither device-dax nor a file in its place: name one, or write pmem:%s",
		    o->path, o->path);
}

/* A file in the place of device-dax is mapped as that is. */
static int check_align(struct opening *o)
{
	if (!wants_dax(o) || o->m->align >= HUGE_BYTES)
		return 0;
	if (o->m->bytes % HUGE_BYTES)
		return fail(
			o, -EINVAL,
			"%s has %llu bytes, which is not a multiple of 2 MiB: use truncate -s %%2M",
			o->path, (unsigned long long)o->m->bytes);
	o->m->align = HUGE_BYTES;
	return 0;
}

static int check_data(struct opening *o)
{
	int has;

	if (o->m->created || o->flags & ZD_PMEM_DEVICE_FORCE)
		return 0;
	has = zd_pmem_has_data(o->m);
	if (has < 0)
		return fail(o, has,
			    "%s can't be read: %s: name another, or overwrite it with force=on",
			    o->path, strerrordesc_np(-has));
	if (!has)
		return 0;
	return fail(o, -EEXIST,
		    "%s holds data: name a new or empty file, or overwrite it with force=on",
		    o->path);
}

/* No other user may read the file. */
static int hide(struct opening *o)
{
	struct stat st;

	if (!fstat(o->m->fd, &st) &&
	    (!S_ISREG(st.st_mode) || !(st.st_mode & 077) || !fchmod(o->m->fd, 0600)))
		return 0;
	return fail(o, -errno, "%s: other users may read it: give it mode 0600", o->path);
}

/* No page is held as those of a region are: see zd_media_pages. */
static bool no_page_is_live(void *owner, uint64_t page)
{
	(void)owner;
	(void)page;
	return false;
}

static int map_medium(struct opening *o)
{
	struct zd_media *m = o->m;
	int rc = zd_media_map(m);

	if (rc)
		return fail(o, rc, "%s can't be mapped: %s", o->path, strerrordesc_np(-rc));
	/* a server that goes to the background goes on in a forked child */
	madvise(m->base, m->bytes, MADV_DOFORK);
	if (m->align >= HUGE_BYTES)
		madvise(m->base, m->bytes, MADV_HUGEPAGE);	/* where there are any */
	return 0;
}

/* --- the end --- */

/* Nothing of the program's memory is left, as far as the medium can forget. */
static int clear(struct zd_media *m)
{
	uint64_t label = m->bytes < ZD_LABEL_BYTES ? m->bytes : ZD_LABEL_BYTES, bad;
	int rc;

	if (m->block)
		return zd_label_clear(m->fd, m->bytes);
	if (m->has_holes) {
		zd_media_punch(m, 0, m->bytes);
		return 0;
	}
	rc = zd_media_zero(m, 0, label, false, &bad);
	return rc ? rc : zd_media_sync_range(m, 0, label);
}

void zd_device_medium_clear(struct zd_device_medium *medium)
{
	struct zd_media *m = &medium->media;
	int rc;

	/* of a file without a name, or a memfd, nothing is left in any case */
	if (m->created || m->sealed)
		return;
	rc = clear(m);
	if (rc)
		zd_log(ZD_LOG_WARN, "%s: can't clear what it held: %s", medium->name,
		       strerrordesc_np(-rc));
	if (zd_badblocks_any(&m->bad))
		zd_media_record(m, ZD_RECORD_ALL);
}

void zd_device_medium_close(struct zd_device_medium *medium)
{
	struct zd_media *m = &medium->media;

	if (m->base)
		zd_media_unmap(m);
	zd_badblocks_exit(&m->bad);
	zd_badblocks_exit(&m->mended);
	zd_pmem_close_file(m);
	if (medium->empty_fd >= 0)
		close(medium->empty_fd);
	zd_free(medium);
}

/* --- from a path --- */

static int open_medium(struct opening *o, struct zd_device_medium *medium, uint64_t bytes)
{
	struct zd_pmem_attr attr = {
		.size = sizeof(attr), .flags = wants_dax(o) ? 0 : ZD_PMEM_CREATE, .bytes = bytes,
	};
	int rc = check_kind(o);

	if (!rc)
		rc = zd_pmem_open_file(o->path, &attr, o->m, o->err, o->errlen);
	if (rc) {
		zd_free(medium);
		return rc;
	}
	if (o->m->created)
		unlink(o->path);	/* the device's alone, from now on */
	rc = check_align(o);
	if (!rc)
		rc = map_medium(o);
	o->m->pages = (struct zd_media_pages){
		.owner = medium, .lock = &medium->page_lock, .is_live = no_page_is_live,
		.sigbus_fd = -1,
	};
	if (!rc)
		rc = check_data(o);
	if (!rc)
		rc = hide(o);
	if (rc)
		zd_device_medium_close(medium);
	return rc;
}

int zd_device_medium_open(const char *path, uint64_t bytes, unsigned int flags,
			  struct zd_device_medium **out, char *err, size_t errlen)
{
	struct opening o = { .path = path, .flags = flags, .err = err, .errlen = errlen };
	struct zd_device_medium *medium = zd_alloc(sizeof(*medium));
	int rc;

	if (!medium)
		return fail(&o, -ENOMEM, "no memory");
	medium->empty_fd = -1;
	snprintf(medium->name, sizeof(medium->name), "%s:%s", wants_dax(&o) ? "dax" : "pmem", path);
	o.m = &medium->media;
	rc = open_medium(&o, medium, bytes);
	if (!rc)
		*out = medium;
	return rc;
}
