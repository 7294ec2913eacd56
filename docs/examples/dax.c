/* SPDX-License-Identifier: MIT */
/* A region of memory that is taken away under the program that uses it. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zonedev.h>

static int sum(void *ctx)
{
	int *numbers = ctx, s = 0;

	for (int i = 0; i < 1024; i++)
		s += numbers[i];
	return s;
}

int main(void)
{
	int fd = memfd_create("region", 0);	/* or a file, or /dev/dax0.0 */
	struct zd_dax_mapping *map;
	struct zd_dax *dax;
	int *numbers;

	if (fd < 0 || ftruncate(fd, 1 << 20) || zd_dax_open_fd(fd, NULL, &dax))
		return 1;
	if (zd_dax_mmap(dax, NULL, NULL, 0, 1 << 20, PROT_READ | PROT_WRITE, ZD_DAX_POPULATE, &map))
		return 1;
	numbers = zd_dax_mapping_addr(map);
	for (int i = 0; i < 1024; i++)
		numbers[i] = i;
	printf("sum: %d\n", zd_dax_access_guard(map, sum, numbers));

	zd_dax_close(dax);	/* the mapping is still there, and raises SIGBUS */
	printf("afterwards: %d\n", zd_dax_access_guard(map, sum, numbers));	/* -ENODEV */
	zd_dax_munmap(map);
	return 0;
}
