/* SPDX-License-Identifier: MIT */
/* The supervisor as the host of its server. */
#ifndef ZD_RUN_HOST_H
#define ZD_RUN_HOST_H

#include "engine/server.h"

extern const struct zd_server_host run_host;

#endif
