/* SPDX-License-Identifier: MIT */
/*
 * A program that uses the library and has its device from a plugin.
 *
 *	plugin_prog SPEC	pages go to the device and come home; exit status 1 and the
 *				reason on stderr if there is no device, 3 if anything reads back
 *				wrong, 4 if no page went, 77 where zd_mm_open() can't work
 *
 * With -DOWN_LIBRARY the program isn't linked to the library but loads it for itself, as a module of
 * an interpreter does.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <zonedev.h>

#define PAGES	1024

#ifdef OWN_LIBRARY
int main(int argc, char **argv)
{
	void *library = dlopen("libzonedev.so.0", RTLD_NOW | RTLD_LOCAL);
	int (*open_spec)(const char *, struct zd_device **, char *, size_t);
	struct zd_device *dev;
	char err[512];

	(void)argc;
	if (!library)
		return 2;
	*(void **)&open_spec = dlsym(library, "zd_device_open_spec");
	if (open_spec(argv[1], &dev, err, sizeof(err))) {
		fprintf(stderr, "%s\n", err);
		return 1;
	}
	return 0;
}
#else
static int round_trip(struct zd_mm *mm, struct zd_device *dev)
{
	size_t len = PAGES * ZD_PAGE_SIZE;
	struct zd_migrate_result res;
	uint64_t *words;
	int rc;

	words = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (words == MAP_FAILED)
		return 5;
	for (size_t i = 0; i < len / 8; i++)
		words[i] = i * 0x9e3779b97f4a7c15ULL + 1;
	if (zd_mm_register(mm, words, len))
		return 5;
	rc = zd_migrate_to_device(mm, words, len, dev, &res);
	fprintf(stderr, "moved %llu of %d pages, %d\n", (unsigned long long)res.moved, PAGES, rc);
	for (size_t i = 0; i < len / 8; i++)
		if (words[i] != i * 0x9e3779b97f4a7c15ULL + 1)
			return 3;
	return res.moved ? 0 : 4;
}

int main(int argc, char **argv)
{
	struct zd_device *dev = NULL;
	struct zd_mm *mm;
	char err[512] = "";
	int status;

	if (argc != 2 || zd_device_open_spec(argv[1], &dev, err, sizeof(err))) {
		fprintf(stderr, "%s\n", err);
		return 1;
	}
	if (zd_mm_open(NULL, &mm))
		return 77;
	status = round_trip(mm, dev);
	if (zd_mm_close(mm) || zd_device_unregister(dev))
		return 5;
	return status;
}
#endif
