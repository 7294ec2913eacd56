/* SPDX-License-Identifier: MIT */
/* What the library refuses, with which error, and that a refusal changes
 * nothing. */
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "base/alloc.h"
#include "tests/integration/lib_test.h"

static struct zd_mm *mm;
static struct zd_device *dev;

static void ranges(void)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	char *file = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	char *shared = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			    0);
	char *hole = map(12);
	char *stack = (char *)((uintptr_t)__builtin_frame_address(0) & ~(PAGE - 1));

	CHECK(file != MAP_FAILED && shared != MAP_FAILED);
	CHECK(!munmap(hole + 4 * PAGE, 4 * PAGE));
	CHECK_EQ(zd_mm_register(mm, hole, 0), -EINVAL);
	CHECK_EQ(zd_mm_register(mm, hole, PAGE - 1), -EINVAL);
	CHECK_EQ(zd_mm_register(mm, hole + 1, 2 * PAGE - 2), -EINVAL);	/* no whole page */
	CHECK_EQ(zd_mm_register(mm, hole, (size_t)-1), -EINVAL);
	CHECK_EQ(zd_mm_register(NULL, hole, PAGE), -EINVAL);
	CHECK_EQ(zd_mm_register(mm, hole, 12 * PAGE), -EINVAL);
	CHECK_EQ(zd_mm_register(mm, hole + 4 * PAGE, 4 * PAGE), -EINVAL);
	CHECK_EQ(zd_mm_register(mm, hole + 6 * PAGE, 4 * PAGE), -EINVAL);
	CHECK_EQ(zd_mm_register(mm, file, 4 * PAGE), -EINVAL);
	CHECK_EQ(zd_mm_register(mm, shared, 4 * PAGE), -EINVAL);
	CHECK_EQ(zd_mm_register(mm, stack, PAGE), -EINVAL);
	CHECK_EQ(zd_mm_register(mm, hole, 4 * PAGE), 0);
	CHECK_EQ(zd_mm_register(mm, hole, 4 * PAGE), 0);	/* twice is once */
	munmap(hole, 4 * PAGE);		/* not the hole: it may be mapped anew */
	munmap(hole + 8 * PAGE, 4 * PAGE);
	munmap(file, 4 * PAGE);
	munmap(shared, 4 * PAGE);
	close(fd);
}

/* zonedev's own memory, however much of it there is. */
static void own(void)
{
	void *r[100];

	for (int i = 0; i < 100; i++) {
		r[i] = zd_reserve(4 * PAGE);
		CHECK(r[i]);
	}
	for (int i = 0; i < 100; i++)
		CHECK_EQ(zd_mm_register(mm, r[i], 4 * PAGE), -EINVAL);
	for (int i = 0; i < 100; i++)
		zd_unreserve(r[i], 4 * PAGE);
}

/* A range of which a part is registered with another userfaultfd is refused as a whole, and
 * the part that was managed already keeps its pages. */
static void foreign(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	char *p = map(32);
	struct uffdio_register reg = {
		.range = { (uintptr_t)p + 16 * PAGE, 16 * PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	CHECK(uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api));
	fill(p, 32, 1);
	CHECK(!ioctl(uffd, UFFDIO_REGISTER, &reg));
	CHECK_EQ(zd_mm_register(mm, p, 16 * PAGE), 0);
	evict(mm, p, 16, dev);
	CHECK_EQ(zd_mm_register(mm, p, 32 * PAGE), -EBUSY);
	CHECK_EQ(zd_device_live_pages(dev), 16);
	CHECK_FILLED(p, 32, 1);
	evict(mm, p, 16, dev);		/* still managed */
	CHECK_FILLED(p, 32, 1);
	close(uffd);
	munmap(p, 32 * PAGE);
}

static void migration(void)
{
	char *p = map(16);
	zd_pfn_t pfns[16];
	struct zd_mm *mm2 = open_mm();
	struct zd_device *dev2 = ram_device(64);
	struct zd_migrate_result r;

	fill(p, 16, 1);
	CHECK_EQ(zd_migrate_to_device(mm, p, 16 * PAGE, dev, NULL), -EINVAL);
	CHECK_EQ(zd_migrate_to_ram(mm, p, 16 * PAGE, NULL), -EINVAL);
	CHECK_EQ(zd_mm_register(mm, p, 8 * PAGE), 0);
	CHECK_EQ(zd_migrate_to_device(mm, p, 16 * PAGE, dev, NULL), -EINVAL);
	CHECK_EQ(zd_migrate_to_device(mm, p, PAGE / 2, dev, NULL), -EINVAL);
	CHECK_EQ(zd_migrate_to_device(mm, p, 8 * PAGE, NULL, NULL), -EINVAL);
	CHECK_EQ(zd_migrate_to_device(NULL, p, 8 * PAGE, dev, NULL), -EINVAL);
	CHECK_EQ(zd_migrate_to_device(mm2, p, 8 * PAGE, dev2, NULL), -EINVAL);
	CHECK_EQ(zd_migrate_to_ram(NULL, p, 8 * PAGE, NULL), -EINVAL);
	CHECK_EQ(zd_migrate_device_pfns(mm, p, 8 * PAGE, pfns, 7), -EINVAL);
	CHECK_EQ(zd_migrate_device_pfns(mm, p, 16 * PAGE, pfns, 16), -EINVAL);
	CHECK_EQ(zd_migrate_device_pfns(mm, p, 8 * PAGE, NULL, 8), -EINVAL);

	evict(mm, p, 8, dev);
	CHECK_EQ(zd_mm_register(mm2, p + 8 * PAGE, 8 * PAGE), 0);
	migrate_out(mm2, p + 8 * PAGE, 8 * PAGE, 8, dev2, &r);
	/* a device that another mm has */
	CHECK_EQ(zd_migrate_to_device(mm, p, 8 * PAGE, dev2, NULL), -EBUSY);
	CHECK_EQ(zd_migrate_to_device(mm2, p + 8 * PAGE, 8 * PAGE, dev, NULL), -EBUSY);
	CHECK_EQ(r.moved, 8);
	/* another zd_mm's range */
	CHECK_EQ(zd_mm_register(mm2, p, 8 * PAGE), -EBUSY);
	CHECK_FILLED(p, 16, 1);
	close_mm(mm2, dev2);
	munmap(p, 16 * PAGE);
}

static void steps(void)
{
	uint64_t src[ZD_MIGRATE_VMA_MAX + 1], dst[ZD_MIGRATE_VMA_MAX + 1];
	const void *data[ZD_MIGRATE_VMA_MAX + 1];
	char *p = map(ZD_MIGRATE_VMA_MAX + 1);
	struct zd_migrate_vma good = {
		.mm = mm, .dev = dev, .start = p, .end = p + 8 * PAGE,
		.src = src, .dst = dst, .data = data,
	}, a;

	fill(p, 8, 1);
	CHECK_EQ(zd_migrate_vma_setup(NULL), -EINVAL);
	CHECK_EQ(zd_migrate_vma_setup(&good), -EINVAL);		/* not registered */
	CHECK_EQ(zd_mm_register(mm, p, (ZD_MIGRATE_VMA_MAX + 1) * PAGE), 0);
	a = good, a.mm = NULL;
	CHECK_EQ(zd_migrate_vma_setup(&a), -EINVAL);
	a = good, a.dev = NULL;
	CHECK_EQ(zd_migrate_vma_setup(&a), -EINVAL);
	a = good, a.start = p + 1;
	CHECK_EQ(zd_migrate_vma_setup(&a), -EINVAL);
	a = good, a.end = a.start;
	CHECK_EQ(zd_migrate_vma_setup(&a), -EINVAL);
	a = good, a.end = p + (ZD_MIGRATE_VMA_MAX + 1) * PAGE;
	CHECK_EQ(zd_migrate_vma_setup(&a), -EINVAL);
	a = good, a.src = NULL;
	CHECK_EQ(zd_migrate_vma_setup(&a), -EINVAL);
	CHECK_FILLED(p, 8, 1);
	munmap(p, (ZD_MIGRATE_VMA_MAX + 1) * PAGE);
}

/* Results are as long as the caller says. */
static void sizes(void)
{
	struct {
		struct zd_migrate_result s;
		uint64_t more[2];
	} r;
	uint64_t src[8], dst[8];
	const void *data[8];
	struct {
		struct zd_migrate_vma s;
		uint64_t more[2];
	} a = { .s = {
		.src = src, .dst = dst, .data = data, .mm = mm, .dev = dev,
		} };
	char *p = map(8);

	fill(p, 8, 1);
	CHECK_EQ(zd_mm_register(mm, p, 8 * PAGE), 0);
	memset(&r, 0x5a, sizeof(r));
	CHECK_EQ(zd_migrate_to_device_sized(mm, p, 8 * PAGE, dev, &r.s, 8), 0);
	CHECK_EQ(r.s.moved, 8);
	CHECK_EQ(r.s.zero, 0x5a5a5a5a5a5a5a5a);
	CHECK_EQ(zd_migrate_to_ram_sized(mm, p, 8 * PAGE, &r.s, sizeof(r)), 0);
	CHECK_EQ(r.s.moved, 8);
	CHECK_EQ(r.s.device, 0);
	CHECK(is_zero(r.more, sizeof(r.more)));
	memset(&r, 0x5a, sizeof(r));
	CHECK_EQ(zd_migrate_to_device(NULL, p, 8 * PAGE, dev, &r.s), -EINVAL);
	CHECK(is_zero(&r.s, sizeof(r.s)));	/* not garbage, whatever the call returns */
	CHECK_EQ(r.more[0], 0x5a5a5a5a5a5a5a5a);

	a.s.start = p;
	a.s.end = p + 8 * PAGE;
	CHECK_EQ(zd_migrate_vma_setup_sized(&a.s, offsetof(struct zd_migrate_vma, result) - 1),
		 -EINVAL);
	memset(a.more, 0x5a, sizeof(a.more));
	memset(&a.s.result, 0x5a, sizeof(a.s.result));
	CHECK_EQ(zd_migrate_vma_setup_sized(&a.s, offsetof(struct zd_migrate_vma, result) + 8), 0);
	zd_migrate_vma_pages(&a.s);
	zd_migrate_vma_finalize(&a.s);
	CHECK_EQ(a.s.result.moved, 0);
	CHECK_EQ(a.s.result.zero, 0x5a5a5a5a5a5a5a5a);
	CHECK_EQ(zd_migrate_vma_setup_sized(&a.s, sizeof(a)), 0);
	zd_migrate_vma_pages(&a.s);
	zd_migrate_vma_finalize(&a.s);
	CHECK_EQ(a.s.result.device, 8);
	CHECK(is_zero(a.more, sizeof(a.more)));
	CHECK_FILLED(p, 8, 1);
	munmap(p, 8 * PAGE);
}

static void handles(void)
{
	struct zd_mm_attr attr = { .size = 1 };
	struct zd_mm_stats s;
	struct {
		struct zd_mm_stats s;
		uint64_t more;
	} newer = { .more = 1 };
	struct zd_mm *m;

	CHECK_EQ(zd_mm_open(NULL, NULL), -EINVAL);
	CHECK_EQ(zd_mm_open(&attr, &m), -EINVAL);
	CHECK_EQ(zd_mm_close(NULL), -EINVAL);
	CHECK_EQ(zd_mm_unregister(NULL, &attr, PAGE), -EINVAL);
	CHECK_EQ(zd_mm_get_stats(NULL, &s), -EINVAL);
	CHECK_EQ(zd_mm_get_stats(mm, NULL), -EINVAL);
	CHECK_EQ(zd_mm_get_stats_sized(mm, &s, 0), -EINVAL);
	CHECK_EQ(zd_mm_get_stats_sized(mm, &newer.s, sizeof(newer)), 0);
	CHECK_EQ(newer.more, 0);
	CHECK_EQ(zd_mm_get_stats_sized(mm, &s, sizeof(s.faults)), 0);	/* an older program */
}

int main(void)
{
	mm = open_mm();
	dev = ram_device(1024);
	ranges();
	own();
	foreign();
	migration();
	steps();
	sizes();
	handles();
	close_mm(mm, dev);
	return 0;
}
