/* SPDX-License-Identifier: MIT */
/* A file device's page goes straight into another device's memory, and that page is
 * lent on: the last holder gives it back. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zonedev.h>

int main(void)
{
	int fd = memfd_create("device memory", 0);	/* or a region: zd_p2pdma_add_dax() */
	struct zd_p2pdma_resource res = { .size = sizeof(res), .fd = fd, .length = 1 << 20 };
	struct zd_page *on_file, *peer;
	struct zd_p2pdma_result result;
	struct zd_p2pdma *provider;
	struct zd_device *file;
	zd_pfn_t pfn;
	void *mem;

	if (fd < 0 || ftruncate(fd, 1 << 20) || zd_p2pdma_add_resource(&res, &provider) ||
	    zd_file_device_create(NULL, 1 << 20, 0, &file))
		return 1;
	if (zd_alloc_p2pmem(provider, ZD_PAGE_SIZE, &mem) ||
	    file->ops->alloc_pages(file, 1, &pfn) != 1)
		return 1;
	peer = zd_p2pmem_page(provider, mem);
	on_file = zd_pfn_to_page(pfn);
	zd_page_init(on_file);

	strcpy(mem, "from device to device");
	zd_p2pdma_copy(&on_file, &peer, 1, &result);
	memset(mem, 0, ZD_PAGE_SIZE);
	zd_p2pdma_copy(&peer, &on_file, 1, &result);
	printf("%s, distance %d\n", (char *)mem, zd_p2pdma_distance(provider, &file, 1, true));

	zd_get_page(peer);				/* a second holder */
	zd_free_p2pmem(provider, mem, ZD_PAGE_SIZE);
	printf("freed, %llu bytes held\n",
	       (unsigned long long)(zd_p2pdma_size(provider) - zd_p2pdma_available(provider)));
	zd_put_page(peer);
	zd_put_page(on_file);
	return zd_p2pdma_remove(provider) || zd_device_unregister(file);
}
