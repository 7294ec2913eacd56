/* SPDX-License-Identifier: MIT */
/*
 * nbdkit-zonedev-plugin.so - a pmem region as a network block device.
 *
 * Each of nbdkit's requests is one call of serve/region.h; a connection has no state of its
 * own.  All connections see one region, and a flush of one makes durable what any of them
 * completed: that is multi-conn.
 *
 * Copies: nbdkit's pread gives a buffer and sends it later, so a read is one copy
 * from the mapping into that buffer, and a write one the other way.  Version 2 of
 * its API has no way to send from the mapping itself.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <zonedev.h>

#include "nbdkit/params.h"
#include "serve/control.h"
#include "serve/region.h"
#include "serve/say.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define MAX_REQUEST (32u << 20)	/* the NBD protocol's portable limit */

static void plugin_dump(void)
{
	printf("zonedev_version=%s\n", zd_version());
}

/* --- start and end --- */

static void log_line(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)ctx;
	if (level <= ZD_LOG_WARN)
		nbdkit_error("%s", msg);
	else
		nbdkit_debug("%s", msg);
}

static int plugin_after_fork(void)
{
	char err[1024] = "";
	int ret;

	server_say_by(nbdkit_verror);
	zd_set_log(log_line, NULL);
	if (region_open(&params, err, sizeof(err))) {
		nbdkit_error("%s", err);
		return -1;
	}
	ret = control_start(params.path);
	if (!ret)
		return 0;
	nbdkit_error("no control thread: %s", strerrordesc_np(-ret));
	region_close();
	return -1;
}

static void plugin_cleanup(void)
{
	control_stop();
	region_close();
}

/* --- connections --- */

static void *plugin_open(int readonly)
{
	(void)readonly;
	if (region_is_live())
		return NBDKIT_HANDLE_NOT_NEEDED;
	nbdkit_error("a client was turned away: %s was removed", params.path);
	return NULL;
}

static int64_t plugin_get_size(void *handle)
{
	(void)handle;
	return region_bytes();
}

static int plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
			     uint32_t *maximum)
{
	(void)handle;
	*minimum = ZD_SECTOR_SIZE;
	*preferred = ZD_PAGE_SIZE;
	*maximum = MAX_REQUEST;
	return 0;
}

static int writable(void *handle)
{
	(void)handle;
	return !region_is_readonly();
}

static int yes(void *handle)
{
	(void)handle;
	return 1;
}

static int plugin_can_fua(void *handle)
{
	(void)handle;
	return NBDKIT_FUA_NATIVE;
}

/* --- requests --- */

/* Turns @ret into nbdkit's result.  The user has been told that the region is away. */
static int result(const char *what, int ret, uint64_t offset, uint32_t count)
{
	if (!ret)
		return 0;
	nbdkit_set_error(-ret);
	if (ret != -ESHUTDOWN && ret != -EOPNOTSUPP)
		server_complain("%s of %u bytes at %#llx: %s", what, count,
				(unsigned long long)offset, strerrordesc_np(-ret));
	return -1;
}

static unsigned int fua(uint32_t flags)
{
	return flags & NBDKIT_FLAG_FUA ? ZD_PMEM_FUA : 0;
}

static int plugin_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return result("read", region_rw(ZD_PMEM_READ, 0, offset, count, buf), offset, count);
}

static int plugin_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
			 uint32_t flags)
{
	(void)handle;
	return result("write", region_rw(ZD_PMEM_WRITE, fua(flags), offset, count, (void *)buf),
		      offset, count);
}

static int plugin_flush(void *handle, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return result("flush", region_rw(ZD_PMEM_FLUSH, 0, 0, 0, NULL), 0, 0);
}

static int plugin_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)handle;
	return result("trim", region_rw(ZD_PMEM_DISCARD, fua(flags), offset, count, NULL), offset,
		      count);
}

/* A zeroing is fast where it frees storage instead of filling it. */
static int plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	bool may_trim = flags & NBDKIT_FLAG_MAY_TRIM;
	int ret;

	(void)handle;
	if (flags & NBDKIT_FLAG_FAST_ZERO && !(may_trim && region_info()->has_holes))
		return result("zero", -EOPNOTSUPP, offset, count);
	ret = region_rw(ZD_PMEM_WRITE_ZEROES, fua(flags) | (may_trim ? 0 : ZD_PMEM_NOUNMAP), offset,
			count, NULL);
	return result("zero", ret, offset, count);
}

static uint32_t extent_type(unsigned int flags)
{
	return (flags & ZD_PMEM_EXTENT_HOLE ? NBDKIT_EXTENT_HOLE : 0) |
	       (flags & ZD_PMEM_EXTENT_ZERO ? NBDKIT_EXTENT_ZERO : 0);
}

static int plugin_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
			  struct nbdkit_extents *extents)
{
	uint64_t at = offset / ZD_SECTOR_SIZE * ZD_SECTOR_SIZE, end = offset + count;
	unsigned int what;
	int64_t len;

	(void)handle;
	while (at < end) {
		len = region_extent(at, end - at, &what);
		if (len < 0)
			return result("block status", len, offset, count);
		if (nbdkit_add_extent(extents, at, len, extent_type(what)))
			return -1;
		at += len;
		if (flags & NBDKIT_FLAG_REQ_ONE)
			break;
	}
	return 0;
}

static struct nbdkit_plugin plugin = {
	.name			= "zonedev",
	.longname		= "zonedev persistent memory",
	.version		= ZD_VERSION,
	.description		= "A region of persistent memory, in a file or a device.",
	.magic_config_key	= "path",
	.config			= params_set,
	.config_complete	= params_complete,
	.config_help		= PARAMS_HELP,
	.dump_plugin		= plugin_dump,
	.get_ready		= params_check,
	.after_fork		= plugin_after_fork,
	.cleanup		= plugin_cleanup,
	.unload			= params_free,
	.open			= plugin_open,
	.get_size		= plugin_get_size,
	.block_size		= plugin_block_size,
	.can_write		= writable,
	.can_trim		= writable,
	.can_zero		= writable,
	.can_fast_zero		= writable,
	.can_flush		= yes,
	.can_fua		= plugin_can_fua,
	.can_multi_conn		= yes,
	.can_extents		= yes,
	.pread			= plugin_pread,
	.pwrite			= plugin_pwrite,
	.flush			= plugin_flush,
	.trim			= plugin_trim,
	.zero			= plugin_zero,
	.extents		= plugin_extents,
};

NBDKIT_REGISTER_PLUGIN(plugin)
