/* SPDX-License-Identifier: MIT */
/*
 * drivers/p2p/p2pdma.h - the two halves of p2pdma:
 *
 *	p2pdma.c	providers: memory allocated and freed
 *	copy.c		copies between such memory and devices
 */
#ifndef ZD_DRIVERS_P2P_P2PDMA_H
#define ZD_DRIVERS_P2P_P2PDMA_H

#include "drivers/dax/dax.h"
#include "drivers/pool.h"
#include "zonedev/p2pdma.h"

struct zd_p2pdma {
	struct zd_dax dax;		/* by_owner: a page lives from alloc to its last put */
	struct zd_pool pool;
	struct zd_pagemap *parent;	/* the region that it is a part of, held; or NULL */
	void (*release)(void *data);
	void *data;
};

#endif
