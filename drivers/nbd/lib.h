/* SPDX-License-Identifier: MIT */
/*
 * drivers/nbd/lib.h - libnbd, loaded when the first nbd device is made.
 *
 * libnbd brings TLS and XML libraries with constructors of their own.  A program that links
 * zonedev and uses no nbd device must not pay for them, nor need them installed.
 */
#ifndef ZD_DRIVERS_NBD_LIB_H
#define ZD_DRIVERS_NBD_LIB_H

#include <libnbd.h>

#define ZD_NBD_CALLS(CALL)								\
	CALL(create) CALL(close) CALL(get_error) CALL(get_errno)			\
	CALL(supports_uri) CALL(set_uri_allow_local_file) CALL(set_pread_initialize)	\
	CALL(aio_connect_uri) CALL(aio_disconnect) CALL(aio_get_fd)			\
	CALL(aio_get_direction) CALL(aio_notify_read) CALL(aio_notify_write)		\
	CALL(aio_is_ready) CALL(aio_is_processing) CALL(aio_is_dead)			\
	CALL(aio_is_closed)								\
	CALL(aio_pread) CALL(aio_pwrite) CALL(aio_trim)					\
	CALL(get_size) CALL(get_block_size) CALL(is_read_only) CALL(can_multi_conn)	\
	CALL(can_fua) CALL(can_trim)

struct zd_nbd_lib {
#define ZD_NBD_MEMBER(name)	__typeof__(nbd_##name) *name;
	ZD_NBD_CALLS(ZD_NBD_MEMBER)
#undef ZD_NBD_MEMBER
};

/*
 * zd_nbd_load - find the calls.  0; -ENOENT: libnbd isn't installed, or is older than 1.12.
 * libnbd stays loaded: TLS libraries don't bear being unloaded.
 * Context: may block; calls malloc.
 */
int zd_nbd_load(struct zd_nbd_lib *lib);

#endif
