/* SPDX-License-Identifier: MIT */
#include "drivers/nbd/nbd.h"

#include <errno.h>

#include "drivers/driver.h"
#include "drivers/explain.h"

/* -1 of libnbd, an error, is a no. */
void zd_nbd_export_read(const struct zd_nbd *nbd, struct nbd_handle *handle,
			struct zd_nbd_export *export)
{
	const struct zd_nbd_lib *lib = &nbd->lib;
	int64_t bytes = lib->get_size(handle);
	int64_t min = lib->get_block_size(handle, LIBNBD_SIZE_MINIMUM);
	int64_t max = lib->get_block_size(handle, LIBNBD_SIZE_MAXIMUM);

	*export = (struct zd_nbd_export){
		.bytes = bytes > 0 ? bytes : 0,
		.min_bytes = min > 0 ? min : 0,
		.max_bytes = max > 0 && max < ZD_NBD_MAX_BYTES ? max : ZD_NBD_MAX_BYTES,
		.read_only = lib->is_read_only(handle) != 0,
		.multi_conn = lib->can_multi_conn(handle) > 0,
		.fua = lib->can_fua(handle) > 0,
		.trim = lib->can_trim(handle) > 0,
	};
	export->max_bytes &= ZD_PAGE_MASK;
}

int zd_nbd_export_check(const struct zd_nbd_export *export, const char *uri, char *err,
			size_t errlen)
{
	if (export->read_only)
		return zd_explain(err, errlen, -EROFS,
				  "%s is read-only: have the server export it for writing", uri);
	if (export->min_bytes > ZD_PAGE_SIZE || !export->max_bytes)
		return zd_explain(
			err, errlen, -EINVAL,
			"%s can't read and write 4096 bytes: have the server allow blocks of that size",
			uri);
	if (export->bytes < ZD_DRIVER_MIN_BYTES)
		return zd_explain(err, errlen, -EINVAL,
				  "%s has %llu bytes: have the server export 2 MiB or more", uri,
				  (unsigned long long)export->bytes);
	return 0;
}
