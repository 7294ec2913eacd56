/* SPDX-License-Identifier: MIT */
/* Device-dax: from a path to a region. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/sized.h"
#include "drivers/dax/dax.h"
#include "drivers/dax/devdax.h"

#define MAX_ALIGN	(UINT64_C(1) << 30)

/* --- what can become a region --- */

/* The length of the memory and the alignment that its device demands. */
static int probe(int fd, uint64_t *size, uint64_t *align)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	*align = ZD_PAGE_SIZE;
	if (S_ISCHR(st.st_mode))
		return zd_devdax_probe(st.st_rdev, size, align);
	*size = st.st_size;
	return S_ISREG(st.st_mode) ? 0 : -ENODEV;
}

static void destroy(struct zd_dax *dax)
{
	close(dax->cfg.fd);
	zd_free(dax);
}

static int configure(int fd, const struct zd_dax_opts *opts, struct zd_dax_config *cfg)
{
	static const struct zd_dax_opts none = { .size = sizeof(none) };
	uint64_t size, min_align, length;
	int rc = probe(fd, &size, &min_align);

	if (rc)
		return rc;
	if (!opts)
		opts = &none;
	cfg->align = opts->align ? opts->align : min_align;
	if (opts->size < sizeof(*opts) || !zd_tail_is_zero(opts, sizeof(*opts), opts->size) ||
	    opts->flags & ~ZD_DAX_RDONLY || cfg->align & (cfg->align - 1) ||
	    cfg->align < min_align || cfg->align > MAX_ALIGN)
		return -EINVAL;
	if (opts->offset & (cfg->align - 1) || opts->offset > size)
		return -EINVAL;
	length = opts->length ? opts->length : (size - opts->offset) & ~(cfg->align - 1);
	if (!length || length & (cfg->align - 1) || length > size - opts->offset)
		return -EINVAL;
	cfg->type = ZD_MEMORY_GENERIC;
	cfg->fd = fd;
	cfg->offset = opts->offset;
	cfg->nr_pages = length / ZD_PAGE_SIZE;
	cfg->rdonly = opts->flags & ZD_DAX_RDONLY;
	cfg->destroy = destroy;
	return 0;
}

/* --- open and close --- */

/* @fd is the region's from here on, or closed. */
static int open_owned(int fd, const struct zd_dax_opts *opts, struct zd_devm *devm,
		      struct zd_dax **out)
{
	struct zd_dax_config cfg = { .fd = fd };
	struct zd_dax *dax = NULL;
	int rc = configure(fd, opts, &cfg);

	if (rc)
		goto err;
	rc = -ENOMEM;
	dax = zd_alloc(sizeof(*dax));
	if (!dax)
		goto err;
	rc = zd_dax_setup(dax, &cfg);
	if (rc)
		goto err;
	rc = zd_dax_add_steps(dax, devm);
	if (!rc)
		*out = dax;
	return rc;

err:
	zd_free(dax);
	close(fd);
	return rc;
}

static int open_path(const char *path, const struct zd_dax_opts *opts, struct zd_devm *devm,
		     struct zd_dax **dax)
{
	bool rdonly = opts && opts->size >= sizeof(*opts) && opts->flags & ZD_DAX_RDONLY;
	int fd;

	if (!path || !dax)
		return -EINVAL;
	/* O_NONBLOCK: open() of a pipe waits for its other end */
	fd = open(path, (rdonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : open_owned(fd, opts, devm, dax);
}

int zd_dax_open(const char *path, const struct zd_dax_opts *opts, struct zd_dax **dax)
{
	return open_path(path, opts, NULL, dax);
}

int zd_devm_dax_open(struct zd_devm *devm, const char *path, const struct zd_dax_opts *opts,
		     struct zd_dax **dax)
{
	return devm ? open_path(path, opts, devm, dax) : -EINVAL;
}

int zd_dax_open_fd(int fd, const struct zd_dax_opts *opts, struct zd_dax **dax)
{
	int mine;

	if (!dax)
		return -EINVAL;
	mine = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return mine < 0 ? -errno : open_owned(mine, opts, NULL, dax);
}

int zd_dax_close(struct zd_dax *dax)
{
	return zd_dax_teardown(dax, -1, NULL);
}

int zd_dax_close_timeout_sized(struct zd_dax *dax, unsigned int ms, struct zd_pagemap_holders *out,
			       size_t size)
{
	struct zd_pagemap_holders holders = { 0 };
	int err = zd_dax_teardown(dax, ms < INT_MAX ? (int)ms : INT_MAX, &holders);

	if (out)
		zd_fill(out, size, &holders, sizeof(holders));
	return err;
}
