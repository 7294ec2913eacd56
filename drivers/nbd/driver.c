/* SPDX-License-Identifier: MIT */
/* The nbd driver by its name. */
#include "drivers/driver.h"
#include "drivers/nbd/nbd.h"

enum { NBD_URI, NBD_CONNECTIONS, NBD_TIMEOUT, NBD_SIZE, NBD_FUA };

static int nbd_create_device(const struct zd_driver_value *values, struct zd_device **dev,
			     char *err, size_t errlen)
{
	const struct zd_driver_value *connections = &values[NBD_CONNECTIONS];
	const struct zd_driver_value *timeout = &values[NBD_TIMEOUT];
	const struct zd_driver_value *fua = &values[NBD_FUA];
	const struct zd_nbd_options options = {
		.uri = values[NBD_URI].text,
		.connections = connections->given ? connections->number : ZD_NBD_CONNECTIONS,
		.timeout_ms = timeout->given ? timeout->number : ZD_NBD_TIMEOUT_MS,
		.size = values[NBD_SIZE].number,
		.no_fua = fua->given && !fua->number,
	};

	return zd_nbd_device_create(&options, dev, err, errlen);
}

static const struct zd_driver_key nbd_keys[] = {
	[NBD_URI] = {
		.name = "uri", .type = ZD_KEY_TEXT,
		.help = "an export, as libnbd writes it (nbd_connect_uri(3)): nbds:// for TLS, nbd+unix:// for a socket of this machine",
	},
	[NBD_CONNECTIONS] = {
		.name = "connections", .type = ZD_KEY_NUMBER, .min = 1,
		.max = ZD_NBD_MAX_CONNECTIONS,
		.without = "2",
		.help = "how many connections are made, if the server allows more than one",
	},
	[NBD_TIMEOUT] = {
		.name = "timeout", .type = ZD_KEY_TIME,
		.without = "30s",
		.help = "how long a page that is needed waits for a server that can't be reached or doesn't answer; then it is lost",
	},
	[NBD_SIZE] = {
		.name = "size", .type = ZD_KEY_SIZE, .min = ZD_DRIVER_MIN_BYTES,
		.without = "all of the export",
		.help = "how much of the export is used",
	},
	[NBD_FUA] = {
		.name = "fua", .type = ZD_KEY_SWITCH,
		.without = "on, if the server can",
		.help = "off: a page counts as written before it is on the server's medium, which is faster, and lost if the server's machine dies",
	},
	{ 0 }
};

static const char *const nbd_schemes[] = { "nbd",	"nbds",	      "nbd+unix", "nbds+unix",
					   "nbd+vsock", "nbds+vsock", NULL };

const struct zd_driver zd_nbd_driver = {
	.size = sizeof(zd_nbd_driver),
	.version = ZD_DRIVER_VERSION,
	.commands = ZD_DRIVER_RUN,
	.name = "nbd",
	.summary = "memory of another machine: an export of an NBD server",
	.example = "nbd:nbd://host:10809/export",
	.keys = nbd_keys,
	.create = nbd_create_device,
	.schemes = nbd_schemes,
};
