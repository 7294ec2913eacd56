/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/uapi.h"
#include "space/uffd.h"
#include "zonedev/page.h"

int zd_uffd_open(void)
{
	int flags = O_CLOEXEC | O_NONBLOCK;
	int fd = syscall(SYS_userfaultfd, flags);
	int dev;

	if (fd >= 0)
		return fd;
	if (errno != EPERM)
		return -errno;

	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return -EPERM;
	fd = ioctl(dev, USERFAULTFD_IOC_NEW, flags);
	if (fd < 0)
		fd = -errno;
	close(dev);
	return fd;
}

int zd_uffd_api(int uffd, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };

	if (!ioctl(uffd, UFFDIO_API, &api))
		return 0;
	return errno == EINVAL ? -EOPNOTSUPP : -errno;
}

static int do_register(int uffd, uint64_t addr, uint64_t len, uint64_t mode)
{
	struct uffdio_register reg = { .range = { addr, len }, .mode = mode };

	return ioctl(uffd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

int zd_uffd_register(int uffd, uint64_t addr, uint64_t len)
{
	return do_register(uffd, addr, len, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP);
}

int zd_uffd_register_own(int uffd, uint64_t addr, uint64_t len)
{
	return do_register(uffd, addr, len, UFFDIO_REGISTER_MODE_MISSING);
}

int zd_uffd_unregister(int uffd, uint64_t addr, uint64_t len)
{
	struct uffdio_range range = { addr, len };

	return ioctl(uffd, UFFDIO_UNREGISTER, &range) ? -errno : 0;
}

/* COPY, ZEROPAGE and MOVE all report progress the same way: ioctl -1/EAGAIN
 * with bytes > 0 is a partial success, a negative count repeats the errno. */
static ssize_t progress(int rc, int64_t done, uint64_t len)
{
	if (!rc)
		return len;
	if (done > 0)
		return done;
	return -errno;
}

/* The kernel wants a range to lie in one mapping; a managed range may be two mappings that
 * touch and can't merge.  Then a shorter range may do. */
static bool shorten(ssize_t rc, int spans, uint64_t *len)
{
	if (rc != spans || *len <= ZD_PAGE_SIZE)
		return false;
	*len = (*len / 2) & ~(ZD_PAGE_SIZE - 1);
	return true;
}

ssize_t zd_uffd_copy(int uffd, uint64_t dst, const void *src, uint64_t len, bool wake)
{
	ssize_t rc;

	do {
		struct uffdio_copy copy = {
			.dst = dst, .src = (uintptr_t)src, .len = len,
			.mode = wake ? 0 : UFFDIO_COPY_MODE_DONTWAKE,
		};

		rc = ioctl(uffd, UFFDIO_COPY, &copy);
		rc = progress(rc, copy.copy, len);
	} while (shorten(rc, -ENOENT, &len));
	return rc;
}

ssize_t zd_uffd_zeropage(int uffd, uint64_t dst, uint64_t len, bool wake)
{
	ssize_t rc;

	do {
		struct uffdio_zeropage zero = {
			.range = { dst, len },
			.mode = wake ? 0 : UFFDIO_ZEROPAGE_MODE_DONTWAKE,
		};

		rc = ioctl(uffd, UFFDIO_ZEROPAGE, &zero);
		rc = progress(rc, zero.zeropage, len);
	} while (shorten(rc, -ENOENT, &len));
	return rc;
}

ssize_t zd_uffd_move(int uffd, uint64_t dst, uint64_t src, uint64_t len)
{
	ssize_t rc;

	do {
		struct uffdio_move move = {
			.dst = dst, .src = src, .len = len,
			.mode = UFFDIO_MOVE_MODE_DONTWAKE,
		};

		rc = ioctl(uffd, UFFDIO_MOVE, &move);
		rc = progress(rc, move.move, len);
	} while (shorten(rc, -EINVAL, &len));
	return rc;
}

int zd_uffd_poison(int uffd, uint64_t dst, uint64_t len)
{
	struct uffdio_poison poison = { .range = { dst, len } };

	return ioctl(uffd, UFFDIO_POISON, &poison) ? -errno : 0;
}

static int writeprotect(int uffd, uint64_t addr, uint64_t len, uint64_t mode)
{
	struct uffdio_writeprotect wp = { .range = { addr, len }, .mode = mode };

	return ioctl(uffd, UFFDIO_WRITEPROTECT, &wp) ? -errno : 0;
}

int zd_uffd_mark(int uffd, uint64_t addr, uint64_t len)
{
	return writeprotect(uffd, addr, len, UFFDIO_WRITEPROTECT_MODE_WP);
}

int zd_uffd_unmark(int uffd, uint64_t addr, uint64_t len)
{
	return writeprotect(uffd, addr, len, UFFDIO_WRITEPROTECT_MODE_DONTWAKE);
}

int zd_uffd_wake(int uffd, uint64_t addr, uint64_t len)
{
	struct uffdio_range range = { addr, len };

	return ioctl(uffd, UFFDIO_WAKE, &range) ? -errno : 0;
}

bool zd_uffd_changing(int uffd)
{
	/* the kernel checks for changes first, then the arguments, which are invalid */
	struct uffdio_zeropage zero = { 0 };

	return ioctl(uffd, UFFDIO_ZEROPAGE, &zero) && errno == EAGAIN;
}

int zd_uffd_has(int uffd, uint64_t addr, uint64_t len)
{
	struct uffdio_continue cont = {
		.range = { addr, len }, .mode = UFFDIO_CONTINUE_MODE_DONTWAKE,
	};

	/* The kernel looks up the mapping first, then checks for changes, and then refuses
	 * (EINVAL), since private memory can't be continued. */
	if (!ioctl(uffd, UFFDIO_CONTINUE, &cont))
		return 1;
	return errno == EINVAL ? 1 : errno == ENOENT ? 0 : -errno;
}

bool zd_uffd_mm_alive(int uffd)
{
	/* No mapping can lie at the first page that vm.mmap_min_addr allows in
	 * practice.  The order of the kernel's checks tells: for a dead address space
	 * it answers ESRCH before a mapping is looked up. */
	struct uffdio_zeropage zero = { .range = { ZD_PAGE_SIZE, ZD_PAGE_SIZE } };

	return !(ioctl(uffd, UFFDIO_ZEROPAGE, &zero) && errno == ESRCH);
}
