/* SPDX-License-Identifier: MIT */
/*
 * Where mappings lie.  A device-dax node refuses a mapping whose address, offset or length
 * isn't a multiple of its alignment; and 2 MiB or more of a file can be mapped by huge
 * pages only if the mapping lies as the file does.
 *
 * The test has no such device: /dev/zero stands in for one.  zd_devdax_probe() says what
 * sysfs would, and mmap() maps a memfd, and refuses what the kernel's dax_mmap() does.
 */
#include "pmem_test.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <libpmem2.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "drivers/dax/devdax.h"

#define GIB		(1024 * MIB)
#define DEVICE		"/dev/zero"
#define BYTES		(16 * MIB)

static uint64_t device_align, device_bytes;
static int memory = -1;
static unsigned int refused;

int zd_devdax_probe(dev_t rdev, uint64_t *size, uint64_t *align)
{
	if (rdev != makedev(1, 5))
		return -ENODEV;
	*size = device_bytes;
	*align = device_align;
	return 0;
}

static bool is_device(int fd)
{
	struct stat st;

	return fd >= 0 && !fstat(fd, &st) && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 5);
}

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	char *room, *at;

	if (is_device(fd)) {
		if ((len | offset | (flags & MAP_FIXED ? (uintptr_t)addr : 0)) &
		    (device_align - 1)) {
			refused++;
			errno = EINVAL;
			return MAP_FAILED;
		}
		/* the kernel finds an aligned place by itself */
		if (!(flags & MAP_FIXED)) {
			room = mmap(NULL, len + device_align, PROT_NONE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			at = (char *)(((uintptr_t)room + device_align - 1) & ~(device_align - 1));
			munmap(room, len + device_align);
			addr = at;
		}
		fd = memory;
	}
	at = (char *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);
	return at == (char *)-1 ? MAP_FAILED : at;
}

/* libpmem2 maps the memfd: it knows no device-dax node of /dev/zero's number. */
int pmem2_source_from_fd(struct pmem2_source **src, int fd)
{
	int (*real)(struct pmem2_source * *src, int fd) = dlsym(RTLD_NEXT, "pmem2_source_from_fd");

	return real(src, is_device(fd) ? memory : fd);
}

static void plug(uint64_t align, uint64_t bytes)
{
	device_align = align;
	device_bytes = bytes;
	refused = 0;
	memory = memfd_create("device", MFD_CLOEXEC);
	assert_true(memory >= 0);
	assert_int_equal(ftruncate(memory, bytes), 0);
}

static void unplug(void)
{
	close(memory);
	memory = -1;
}

/* A device's mappings are aligned, wherever they begin, and are of the right bytes. */
static void map_device(uint64_t align, uint64_t bytes)
{
	struct zd_dax *dax;
	struct zd_dax_mapping *map, *two;
	char byte = 0;

	plug(align, bytes);
	assert_int_equal(zd_dax_open(DEVICE, NULL, &dax), 0);
	assert_int_equal(zd_dax_align(dax), align);
	assert_int_equal(zd_dax_size(dax), bytes);
	assert_int_equal(zd_dax_mmap(dax, NULL, NULL, 0, bytes, PROT_READ | PROT_WRITE, 0, &map),
			 0);
	assert_int_equal((uintptr_t)zd_dax_mapping_addr(map) % align, 0);
	assert_int_equal(zd_dax_mmap(dax, NULL, NULL, bytes - align, align, PROT_READ, 0, &two), 0);
	assert_int_equal((uintptr_t)zd_dax_mapping_addr(two) % align, 0);
	assert_int_equal(zd_dax_write(map, bytes - align, "x", 1), 0);
	assert_int_equal(zd_dax_read(two, 0, &byte, 1), 0);
	assert_int_equal(byte, 'x');
	/* a place that the caller wants, but the device doesn't take */
	assert_int_equal(zd_dax_munmap(two), 0);
	assert_int_equal(zd_dax_mmap(dax, NULL, (char *)zd_dax_mapping_addr(map) - ZD_PAGE_SIZE, 0,
				     align, PROT_READ, 0, &two),
			 0);
	assert_int_equal((uintptr_t)zd_dax_mapping_addr(two) % align, 0);
	assert_int_equal(zd_dax_munmap(two), 0);
	/* lengths and offsets that the kernel would refuse are refused before */
	if (align > ZD_PAGE_SIZE) {
		assert_int_equal(zd_dax_mmap(dax, NULL, NULL, ZD_PAGE_SIZE, align, PROT_READ, 0,
					     &two),
				 -EINVAL);
		assert_int_equal(zd_dax_mmap(dax, NULL, NULL, 0, ZD_PAGE_SIZE, PROT_READ, 0, &two),
				 -EINVAL);
	}
	assert_int_equal(zd_dax_munmap(map), 0);
	assert_int_equal(zd_dax_close(dax), 0);
	assert_int_equal(refused, 0);
	unplug();
}

static void test_device(void **state)
{
	(void)state;
	map_device(ZD_PAGE_SIZE, BYTES);
	map_device(2 * MIB, BYTES);
	map_device(GIB, 2 * GIB);
}

/* An alignment below the device's is refused; one above is taken. */
static void test_opts(void **state)
{
	struct zd_dax_opts opts = { .size = sizeof(opts), .align = ZD_PAGE_SIZE };
	struct zd_dax *dax;

	(void)state;
	plug(2 * MIB, BYTES);
	assert_int_equal(zd_dax_open(DEVICE, &opts, &dax), -EINVAL);
	opts.align = 4 * MIB;
	assert_int_equal(zd_dax_open(DEVICE, &opts, &dax), 0);
	assert_int_equal(zd_dax_align(dax), 4 * MIB);
	assert_int_equal(zd_dax_close(dax), 0);
	assert_int_equal(refused, 0);
	unplug();
}

/* A file's mappings of 2 MiB and more lie as the file does; shorter ones lie anywhere. */
static void test_file(void **state)
{
	static const uint64_t offsets[] = { 0, 4096, 3 * MIB, 2 * MIB - 4096 };
	struct zd_dax_opts opts = { .size = sizeof(opts), .offset = 4096 };
	const char *path = tmp_path("aligned");
	struct zd_dax_mapping *map;
	struct zd_dax *dax;
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BYTES), 0);
	close(fd);
	assert_int_equal(zd_dax_open(path, &opts, &dax), 0);
	for (int round = 0; round < 8; round++) {
		uint64_t offset = offsets[round % 4];

		/* so that the next place is one that doesn't fit by accident */
		assert_true(mmap(NULL, ZD_PAGE_SIZE * (round + 1), PROT_NONE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
		assert_int_equal(zd_dax_mmap(dax, NULL, NULL, offset, 4 * MIB, PROT_READ, 0, &map),
				 0);
		assert_int_equal(((uintptr_t)zd_dax_mapping_addr(map) - opts.offset - offset) %
					 (2 * MIB),
				 0);
		assert_int_equal(zd_dax_munmap(map), 0);
	}
	assert_int_equal(zd_dax_close(dax), 0);
	unlink(path);
}

/* A region's own mapping, and a program's. */
static void test_pmem(void **state)
{
	const char *path = tmp_path("region");
	struct zd_pmem *pmem = open_new(path, 0, BYTES);
	zd_pfn_t pfn;
	void *kaddr;

	(void)state;
	assert_non_null(pmem);
	assert_int_equal(zd_pmem_direct_access(pmem, 0, 1, &kaddr, &pfn), 1);
	assert_int_equal((uintptr_t)kaddr % (2 * MIB), 0);
	zd_put_page(zd_pfn_to_page(pfn));
	zd_pmem_close(pmem);
	unlink(path);
}

/* The same on a device: programs map it at its alignment, not at less. */
static void test_pmem_device(void **state)
{
	struct zd_dax_mapping *map;
	struct zd_pmem *pmem;
	struct zd_dax *dax;

	(void)state;
	plug(2 * MIB, BYTES);
	pmem = open_at(DEVICE, 0, 0);
	assert_non_null(pmem);
	dax = zd_pmem_dax(pmem);
	assert_int_equal(zd_dax_align(dax), 2 * MIB);
	assert_int_equal(zd_dax_mmap(dax, NULL, NULL, 4096, 2 * MIB, PROT_READ, 0, &map), -EINVAL);
	assert_int_equal(zd_dax_mmap(dax, NULL, NULL, 2 * MIB, 4 * MIB, PROT_READ, 0, &map), 0);
	assert_int_equal((uintptr_t)zd_dax_mapping_addr(map) % (2 * MIB), 0);
	assert_int_equal(zd_dax_munmap(map), 0);
	zd_pmem_close(pmem);
	assert_int_equal(refused, 0);
	unplug();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_device),	    cmocka_unit_test(test_opts),
		cmocka_unit_test(test_file),	    cmocka_unit_test(test_pmem),
		cmocka_unit_test(test_pmem_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
