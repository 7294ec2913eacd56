/* SPDX-License-Identifier: MIT */
/* malloc -> out to a device -> the device computes on it -> the CPU reads it. */
#include <stdio.h>
#include <stdlib.h>
#include <zonedev.h>

#define PAGES 1024

int main(void)
{
	/* A malloc'ed block doesn't begin on a page: one more, for PAGES whole ones. */
	size_t len = (PAGES + 1) * ZD_PAGE_SIZE;
	long *numbers = calloc(1, len), sum = 0;
	zd_pfn_t pfns[PAGES];
	struct zd_device *dev;
	struct zd_mm *mm;

	if (zd_mm_open(NULL, &mm) || zd_ram_device_create(16 << 20, &dev))
		return 1;	/* `zonedev info` says why */
	for (size_t i = 0; i < len / sizeof(long); i++)
		numbers[i] = i;

	zd_mm_register(mm, numbers, len);
	zd_migrate_to_device(mm, numbers, len, dev, NULL);
	zd_migrate_device_pfns(mm, numbers, len, pfns, PAGES);
	for (int p = 0; p < PAGES; p++) {	/* the device adds one to each */
		long *page = pfns[p] ? dev->ops->direct_access(dev, pfns[p]) : NULL;
		for (size_t i = 0; page && i < ZD_PAGE_SIZE / sizeof(long); i++)
			page[i]++;
	}
	for (size_t i = 0; i < len / sizeof(long); i++)	/* the pages come home */
		sum += numbers[i] - i;
	printf("the device changed %ld numbers\n", sum);
	return zd_mm_close(mm) || zd_device_unregister(dev);
}
