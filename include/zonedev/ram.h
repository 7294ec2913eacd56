/* SPDX-License-Identifier: MIT */
/* zonedev/ram.h - RAM that stands for a device: to try things out, and for tests. */
#ifndef ZONEDEV_RAM_H
#define ZONEDEV_RAM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct zd_device;

/*
 * zd_ram_device_create - a device whose memory is ordinary RAM that the
 * program can't see (an unnamed shared mapping that is not managed).
 *
 * @size: bytes, rounded down to whole pages.  @dev: result; owned by the
 * caller, ended by zd_device_unregister().  Returns 0, -EINVAL (size 0), or
 * -ENOMEM.
 * Context: may block, fork-safe.
 */
int zd_ram_device_create(uint64_t size, struct zd_device **dev);

/*
 * struct zd_ram_faults - what a test may make a ram device do wrong.
 *
 * @latency_us: each batch completes this long after it was submitted.
 * @read_error / @write_error: -errno for pages whose index lies in
 *	[first, first + nr), or 0 for none.
 *
 * Setting any of them turns direct access off, so that every copy goes through
 * ->submit.  Grows at the end: see zonedev.h, "Binary interface".
 */
struct zd_ram_faults {
	uint64_t latency_us;
	int read_error;
	int write_error;
	uint64_t first, nr;
};

/*
 * zd_ram_device_inject - make @dev do wrong what @faults says, from now on; a struct of zeros
 * ends it.  Returns 0, or -EINVAL: @dev isn't a ram device, or an error is positive.
 * Context: any thread, fork-safe.
 */
int zd_ram_device_inject_sized(struct zd_device *dev, const struct zd_ram_faults *faults,
			       size_t size);

static inline int zd_ram_device_inject(struct zd_device *dev, const struct zd_ram_faults *faults)
{
	return zd_ram_device_inject_sized(dev, faults, sizeof(*faults));
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
