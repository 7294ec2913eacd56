/* SPDX-License-Identifier: MIT */
#include "drivers/nbd/lib.h"

#include <dlfcn.h>
#include <errno.h>

int zd_nbd_load(struct zd_nbd_lib *lib)
{
	void *so = dlopen("libnbd.so.0", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);

	if (!so)
		return -ENOENT;
#define LOAD(name)						\
	lib->name = (__typeof__(lib->name))dlsym(so, "nbd_" #name); \
	if (!lib->name)						\
		goto err;
	ZD_NBD_CALLS(LOAD)
#undef LOAD
	dlclose(so);	/* of which NODELETE leaves the library where it is */
	return 0;

err:
	dlclose(so);
	return -ENOENT;
}
