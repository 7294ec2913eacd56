/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/capability.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/uapi.h"
#include "space/uffd.h"
#include "tools/cmd.h"
#include "tools/probe.h"
#include "zonedev/page.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

const char *const probe_feature_names[] = { "PAGEFAULT_FLAG_WP",
					    "EVENT_FORK",
					    "EVENT_REMAP",
					    "EVENT_REMOVE",
					    "MISSING_HUGETLBFS",
					    "MISSING_SHMEM",
					    "EVENT_UNMAP",
					    "SIGBUS",
					    "THREAD_ID",
					    "MINOR_HUGETLBFS",
					    "MINOR_SHMEM",
					    "EXACT_ADDRESS",
					    "WP_HUGETLBFS_SHMEM",
					    "WP_UNPOPULATED",
					    "POISON",
					    "WP_ASYNC",
					    "MOVE",
					    NULL };

/* Returns the length, with a final 0 and no final newline, or -errno. */
static int read_file(const char *path, char *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, len - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	if (n < 0)
		return n;
	if (n && buf[n - 1] == '\n')
		n--;
	buf[n] = '\0';
	return n;
}

static int open_uffd_syscall(int flags)
{
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);

	return fd < 0 ? -errno : fd;
}

static int open_uffd_device(void)
{
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd;

	if (dev < 0)
		return -errno;
	fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		fd = -errno;
	close(dev);
	return fd;
}

/* Close @fd and return 0; or return the error that @fd is. */
static int worked(int fd)
{
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/* A handshake that asks for no features is answered with all that the kernel has. */
static int probe_features(uint64_t *features)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = zd_uffd_open();
	int err = 0;

	if (fd < 0)
		fd = open_uffd_syscall(UFFD_USER_MODE_ONLY);
	if (fd < 0)
		return fd;
	if (ioctl(fd, UFFDIO_API, &api))
		err = -errno;
	else
		*features = api.features;
	close(fd);
	return err;
}

static int probe_events(void)
{
	int fd = zd_uffd_open();
	int err;

	if (fd < 0)
		return fd;
	err = zd_uffd_api(fd, ZD_UFFD_FEATURES);
	close(fd);
	return err;
}

/* Move two pages from @src to @dst, and look at what is where afterwards. */
static int try_move(int fd, unsigned char *dst, unsigned char *src)
{
	const size_t len = 2 * ZD_PAGE_SIZE;
	unsigned char present[2];
	ssize_t n;
	int err;

	memset(src, 0x5a, ZD_PAGE_SIZE);
	memset(src + ZD_PAGE_SIZE, 0xa5, ZD_PAGE_SIZE);
	err = zd_uffd_register(fd, (uintptr_t)dst, len);
	if (err)
		return err;
	n = zd_uffd_move(fd, (uintptr_t)dst, (uintptr_t)src, len);
	if (n < 0)
		return n;
	if ((size_t)n != len || dst[0] != 0x5a || dst[len - 1] != 0xa5)
		return -EIO;
	if (mincore(src, len, present) || (present[0] & 1) || (present[1] & 1))
		return -EIO;
	return 0;
}

static int probe_move(void)
{
	const size_t len = 2 * ZD_PAGE_SIZE;
	unsigned char *src, *dst;
	int fd, err;

	/* UFFDIO_MOVE needs no privilege: the question is whether the kernel has it */
	fd = zd_uffd_open();
	if (fd < 0)
		fd = open_uffd_syscall(UFFD_USER_MODE_ONLY);
	if (fd < 0)
		return fd;
	err = zd_uffd_api(fd, UFFD_FEATURE_MOVE);
	if (err)
		goto close_fd;

	src = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (src == MAP_FAILED) {
		err = -errno;
		goto close_fd;
	}
	dst = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (dst == MAP_FAILED) {
		err = -errno;
		goto unmap_src;
	}
	err = try_move(fd, dst, src);
	munmap(dst, len);
unmap_src:
	munmap(src, len);
close_fd:
	close(fd);
	return err;
}

static void probe_userfaultfd(struct probe *p)
{
	char text[16];

	p->uffd_syscall = worked(open_uffd_syscall(0));
	p->uffd_user_only = worked(open_uffd_syscall(UFFD_USER_MODE_ONLY));
	p->uffd_device = worked(open_uffd_device());
	p->uffd_sysctl = -1;
	if (read_file("/proc/sys/vm/unprivileged_userfaultfd", text, sizeof(text)) > 0)
		p->uffd_sysctl = text[0] == '1';
	p->uffd_api = probe_features(&p->uffd_features);
	p->uffd_events = probe_events();
	p->uffd_move = probe_move();
}

static bool probe_capability(int cap)
{
	char status[8192];
	unsigned long long mask;
	const char *line;

	if (read_file("/proc/self/status", status, sizeof(status)) < 0)
		return false;
	line = strstr(status, "\nCapEff:");
	return line && sscanf(line, " CapEff: %llx", &mask) == 1 && (mask >> cap & 1);
}

static int probe_io_uring(void)
{
	struct io_uring ring;
	int err = io_uring_queue_init(2, &ring, 0);

	if (!err)
		io_uring_queue_exit(&ring);
	return err;
}

/* Does the call find one page that is present? */
static int probe_pagemap_scan(void)
{
	struct page_region region;
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.vec = (uintptr_t)&region, .vec_len = 1,
		.category_mask = PAGE_IS_PRESENT,
		.return_mask = PAGE_IS_PRESENT,
	};
	int fd, n;
	char *page;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	page = mmap(NULL, ZD_PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (page == MAP_FAILED) {
		n = -errno;
		goto close_fd;
	}
	scan.start = (uintptr_t)page;
	scan.end = scan.start + ZD_PAGE_SIZE;
	n = ioctl(fd, PAGEMAP_SCAN, &scan);
	n = n < 0 ? -errno : n == 1 && region.start == scan.start ? 0 : -EIO;
	munmap(page, ZD_PAGE_SIZE);
close_fd:
	close(fd);
	return n;
}

static void probe_membarrier(struct probe *p)
{
	long cmds = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

	p->membarrier = cmds < 0 ? -errno : 0;
	p->membarrier_cmds = cmds < 0 ? 0 : cmds;
}

/* "always [madvise] never": the one in brackets. */
static void probe_thp(struct probe *p)
{
	char text[64], *from, *to;

	p->thp[0] = '\0';
	if (read_file("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text)) <= 0)
		return;
	from = strchr(text, '[');
	to = from ? strchr(from, ']') : NULL;
	if (to)
		snprintf(p->thp, sizeof(p->thp), "%.*s", (int)(to - from - 1), from + 1);
}

static uint64_t meminfo(const char *text, const char *key)
{
	const char *line = strstr(text, key);
	unsigned long long kb;

	if (!line || sscanf(line + strlen(key), ": %llu kB", &kb) != 1)
		return 0;
	return kb << 10;
}

void probe_host(struct probe *p)
{
	struct utsname uts;
	char text[8192];

	memset(p, 0, sizeof(*p));
	if (!uname(&uts))
		snprintf(p->kernel, sizeof(p->kernel), "%s", uts.release);
	probe_userfaultfd(p);
	p->cap_sys_ptrace = probe_capability(CAP_SYS_PTRACE);
	p->io_uring = probe_io_uring();
	p->pagemap_scan = probe_pagemap_scan();
	probe_membarrier(p);
	p->rseq_size = __rseq_size;
	probe_thp(p);
	if (read_file("/proc/meminfo", text, sizeof(text)) > 0) {
		p->mem_total = meminfo(text, "MemTotal");
		p->mem_available = meminfo(text, "MemAvailable");
	}
	p->preload = cmd_find_preload(p->preload_path, sizeof(p->preload_path));
}

static bool no_userfaultfd(const struct probe *p)
{
	return p->uffd_syscall && p->uffd_device;
}

int probe_problems(const struct probe *p, struct probe_problem *problems)
{
	int n = 0;

	if (p->uffd_user_only == -ENOSYS) {
		problems[n++] = (struct probe_problem){ "the kernel has no userfaultfd",
							"use one built with CONFIG_USERFAULTFD" };
	} else if (no_userfaultfd(p) && p->cap_sys_ptrace) {
		problems[n++] = (struct probe_problem){
			"userfaultfd is forbidden although CAP_SYS_PTRACE is there",
			"allow the call in the container's seccomp profile, or run "
			"outside of the user namespace"
		};
	} else if (!p->cap_sys_ptrace) {
		problems[n++] = (struct probe_problem){
			no_userfaultfd(p) ? "CAP_SYS_PTRACE is missing, and userfaultfd with it" :
					    "CAP_SYS_PTRACE is missing",
			"run as root, or in a container with --cap-add SYS_PTRACE"
		};
	}
	if (!p->uffd_api && !(p->uffd_features & UFFD_FEATURE_MOVE)) {
		problems[n++] = (struct probe_problem){ "the kernel has no UFFDIO_MOVE",
							"use Linux 6.8 or later" };
	} else if (!p->uffd_api && p->uffd_move) {
		problems[n++] = (struct probe_problem){ "UFFDIO_MOVE is there but does not work",
							"use another kernel" };
	}
	if (!n && p->uffd_events) {
		problems[n++] = (struct probe_problem){
			"userfaultfd refuses the events of fork, mremap, madvise and munmap",
			p->uffd_events == -EPERM ? "run outside of the user namespace" :
						   "use Linux 6.8 or later"
		};
	}
	if (p->preload) {
		problems[n++] =
			(struct probe_problem){ "the preload library is not beside the command",
						"build or install zonedev again" };
	}
	return n;
}
