/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run/close.h"
#include "run/run.h"
#include "run/tiers.h"
#include "zonedev/device.h"

struct tier *tier_named(struct run *run, const char *name)
{
	for (unsigned int i = 0; i < run->nr_tiers; i++)
		if (!strcmp(run->tiers[i].name, name))
			return &run->tiers[i];
	for (unsigned int i = 0; i < run->nr_tiers; i++)
		if (!strcmp(run->tiers[i].device, name))
			return &run->tiers[i];
	return NULL;
}

static void set_name(struct run *run, struct tier *tier, const char *driver)
{
	char name[TIER_NAME];

	snprintf(name, sizeof(name), "%.*s", TIER_NAME - 4, driver);
	for (unsigned int nr = 2; tier_named(run, name); nr++)
		snprintf(name, sizeof(name), "%.*s-%u", TIER_NAME - 4, driver, nr % 100);
	memcpy(tier->name, name, sizeof(name));
}

int tiers_add(struct run *run, const char *driver, struct zd_device *dev)
{
	struct tier *tier = &run->tiers[run->nr_tiers];

	if (run->nr_tiers == ZD_TIERS_MAX)
		return -ENOSPC;
	tier->device = strdup(dev->name);
	if (!tier->device)
		return -ENOMEM;
	tier->dev = dev;
	tier->size = dev->nr_pages * ZD_PAGE_SIZE;
	set_name(run, tier, driver);
	run->nr_tiers++;
	return 0;
}

int tiers_attach(struct run *run)
{
	int rc = 0;

	for (unsigned int i = 0; i < run->nr_tiers && !rc; i++)
		rc = zd_server_attach(&run->server, run->tiers[i].dev);
	return rc;
}

void tiers_close(struct run *run)
{
	for (unsigned int i = 0; i < run->nr_tiers; i++) {
		if (run->tiers[i].dev)
			close_device(run->tiers[i].dev);
		free(run->tiers[i].device);
	}
	run->nr_tiers = 0;
}

void tiers_count(struct run *run)
{
	for (unsigned int i = 0; i < run->nr_tiers; i++) {
		struct tier *tier = &run->tiers[i];
		const struct zd_tier *t = zd_server_find_tier(&run->server, tier->dev);

		if (t)
			tier->counts = (struct tier_counts){
				.in = t->pages_in,
				.home = t->pages_home,
				.left = t->pages_left,
				.errors = t->nr_errors,
			};
	}
}

uint64_t tiers_live(const struct run *run)
{
	uint64_t nr = 0;

	for (unsigned int i = 0; i < run->nr_tiers; i++)
		if (run->tiers[i].dev)
			nr += zd_device_live_pages(run->tiers[i].dev);
	return nr;
}

uint64_t tier_ram(const struct tier *tier)
{
	struct zd_device *dev = tier->dev;

	return dev && dev->ops->ram_bytes ? dev->ops->ram_bytes(dev) : 0;
}

uint64_t tiers_ram(const struct run *run)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < run->nr_tiers; i++)
		bytes += tier_ram(&run->tiers[i]);
	return bytes;
}
