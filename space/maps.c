/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/uapi.h"
#include "space/maps.h"
#include "zonedev/page.h"

static uint64_t hex(const char **p)
{
	uint64_t v = 0;

	for (;; (*p)++) {
		char c = **p;

		if (c >= '0' && c <= '9')
			v = v << 4 | (c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (c - 'a' + 10);
		else
			return v;
	}
}

static void classify(struct zd_vma *vma)
{
	const char *name = vma->name;

	vma->stack = !strcmp(name, "[stack]");
	vma->anon = !vma->shared && !vma->inode &&
		    (!*name || !strcmp(name, "[heap]") || !strncmp(name, "[anon:", 6));
}

/* start-end perms offset major:minor inode    name */
static bool parse(const char *line, struct zd_vma *vma)
{
	const char *p = line;

	memset(vma, 0, sizeof(*vma));
	vma->start = hex(&p);
	if (*p++ != '-')
		return false;
	vma->end = hex(&p);
	if (strlen(p) < 6)
		return false;
	vma->read = p[1] == 'r';
	vma->write = p[2] == 'w';
	vma->exec = p[3] == 'x';
	vma->shared = p[4] == 's';
	p += 6;
	for (int field = 0; field < 2; field++) {	/* offset, device */
		p += strcspn(p, " ");
		p += strspn(p, " ");
	}
	while (*p >= '0' && *p <= '9')
		vma->inode = vma->inode * 10 + (*p++ - '0');
	p += strspn(p, " ");
	vma->name = p;
	classify(vma);
	return true;
}

int zd_maps_walk(int fd, bool (*fn)(const struct zd_vma *vma, void *ctx), void *ctx)
{
	char buf[8192];		/* a line is at most 4 KiB of path and 73 */
	size_t have = 0;
	struct zd_vma vma;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	for (;;) {
		ssize_t n = read(fd, buf + have, sizeof(buf) - 1 - have);
		char *line = buf, *nl;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : 0;
		have += n;
		buf[have] = 0;
		while ((nl = memchr(line, '\n', buf + have - line))) {
			*nl = 0;
			if (parse(line, &vma) && !fn(&vma, ctx))
				return 0;
			line = nl + 1;
		}
		have = buf + have - line;
		memmove(buf, line, have);
		if (have == sizeof(buf) - 1)
			have = 0;	/* no line is this long */
	}
}

struct find {
	uint64_t addr;
	struct zd_vma *vma;
	bool found;
};

static bool is_there(const struct zd_vma *vma, void *ctx)
{
	struct find *f = ctx;

	if (vma->end <= f->addr)
		return true;
	f->found = true;
	*f->vma = *vma;
	return false;
}

int zd_maps_find(int fd, uint64_t addr, struct zd_vma *vma)
{
	char name[4096];
	struct procmap_query q = {
		.size = sizeof(q), .query_addr = addr,
		.query_flags = PROCMAP_QUERY_COVERING_OR_NEXT_VMA,
		.vma_name_addr = (uintptr_t)name, .vma_name_size = sizeof(name),
	};
	struct find f = { .addr = addr, .vma = vma };
	int rc;

	name[0] = '\0';
	if (!ioctl(fd, PROCMAP_QUERY, &q)) {
		*vma = (struct zd_vma){
			.start = q.vma_start, .end = q.vma_end,
			.read = q.vma_flags & PROCMAP_QUERY_VMA_READABLE,
			.write = q.vma_flags & PROCMAP_QUERY_VMA_WRITABLE,
			.exec = q.vma_flags & PROCMAP_QUERY_VMA_EXECUTABLE,
			.shared = q.vma_flags & PROCMAP_QUERY_VMA_SHARED,
			.inode = q.inode,
			.name = q.vma_name_size ? name : "",
		};
		classify(vma);
	} else if (errno != ENOTTY) {
		return -errno;
	} else {
		rc = zd_maps_walk(fd, is_there, &f);
		if (rc || !f.found)
			return rc ? rc : -ENOENT;
	}
	vma->name = "";
	return 0;
}

int zd_present_scan(int pagemap_fd, uint64_t *pos, uint64_t end, struct zd_present *out,
		    unsigned int max, uint64_t max_pages)
{
	struct page_region region[64];
	struct pm_scan_arg arg = {
		.size = sizeof(arg), .start = *pos, .end = end,
		.vec = (uintptr_t)region, .vec_len = max < 64 ? max : 64,
		.max_pages = max_pages,
		.category_inverted = PAGE_IS_PFNZERO,
		.category_mask = PAGE_IS_PRESENT | PAGE_IS_PFNZERO,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_HUGE,
	};
	int n = ioctl(pagemap_fd, PAGEMAP_SCAN, &arg);

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++)
		out[i] = (struct zd_present){
			region[i].start,
			region[i].end,
			region[i].categories & PAGE_IS_HUGE,
		};
	*pos = arg.walk_end;
	return n;
}

int zd_there_scan(int pagemap_fd, uint64_t addr, unsigned int nr, bool *there)
{
	uint64_t end = addr + nr * ZD_PAGE_SIZE;
	struct page_region region[64];
	struct pm_scan_arg arg = {
		.size = sizeof(arg), .start = addr, .end = end,
		.vec = (uintptr_t)region, .vec_len = 64,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
	};

	memset(there, 0, nr * sizeof(*there));
	while (arg.start < end) {
		int n = ioctl(pagemap_fd, PAGEMAP_SCAN, &arg);

		if (n < 0)
			return -errno;
		for (int i = 0; i < n; i++)
			for (uint64_t a = region[i].start; a < region[i].end; a += ZD_PAGE_SIZE)
				there[(a - addr) / ZD_PAGE_SIZE] = true;
		if (arg.walk_end <= arg.start)
			return -ESRCH;
		arg.start = arg.walk_end;
	}
	return 0;
}

#define PM_PRESENT	63
#define PM_UFFD_WP	57

int zd_marks_read(int pagemap_fd, uint64_t addr, unsigned int nr, bool *marked)
{
	uint64_t entry[512];
	size_t len = nr * sizeof(entry[0]);

	if (pread(pagemap_fd, entry, len, (addr >> ZD_PAGE_SHIFT) * sizeof(entry[0])) !=
	    (ssize_t)len)
		return -ESRCH;
	for (unsigned int i = 0; i < nr; i++)
		marked[i] = entry[i] >> PM_UFFD_WP & 1 && !(entry[i] >> PM_PRESENT & 1);
	return 0;
}

int zd_marks_scan(int pagemap_fd, uint64_t *pos, uint64_t end, struct zd_present *out,
		  unsigned int max)
{
	struct page_region region[64];
	/* a mark is an entry that isn't present and isn't "written" */
	struct pm_scan_arg arg = {
		.size = sizeof(arg), .start = *pos, .end = end,
		.vec = (uintptr_t)region, .vec_len = max < 64 ? max : 64,
		.category_inverted = PAGE_IS_WRITTEN,
		.category_mask = PAGE_IS_SWAPPED | PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_SWAPPED,
	};
	int n = ioctl(pagemap_fd, PAGEMAP_SCAN, &arg);

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++)
		out[i] = (struct zd_present){ .start = region[i].start, .end = region[i].end };
	*pos = arg.walk_end;
	return n;
}

bool zd_page_exclusive(int pagemap_fd, uint64_t addr)
{
	uint64_t entry;

	if (pread(pagemap_fd, &entry, sizeof(entry), (addr >> ZD_PAGE_SHIFT) * sizeof(entry)) !=
	    sizeof(entry))
		return false;
	return entry >> 56 & 1;
}
