/* SPDX-License-Identifier: MIT */
/* The form of a region's record: record_form.h has it. */
#include "drivers/media/record_form.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "drivers/media/crc32c.h"

#define MAGIC		"ZDREGION"
#define ELSEWHERE	UINT32_MAX
#define MAX_NUMBER	10u		/* bytes of a u64, 7 bits a byte */

/* A hash that names this boot of the system.  0: it can't be found out, and equals no other. */
static uint64_t boot_hash(void)
{
	char id[48] = "";	/* 36 digits */
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, id, sizeof(id));

	if (fd >= 0)
		close(fd);
	return n > 0 ? (uint64_t)zd_crc32c(1, id, sizeof(id)) << 32 | zd_crc32c(2, id, sizeof(id)) |
			       1 :
		       0;
}

static uint64_t checksum(const struct zd_record_head *head, const unsigned char *rest, size_t len)
{
	uint32_t crc = zd_crc32c(0, head, offsetof(struct zd_record_head, checksum));

	return zd_crc32c(crc, rest, len);
}

static size_t put_number(unsigned char *to, uint64_t n)
{
	size_t len = 0;

	for (; n > 127; n >>= 7)
		to[len++] = n | 128;
	to[len++] = n;
	return len;
}

/* How many bytes the number takes; 0: there is no number. */
static size_t get_number(const unsigned char *from, const unsigned char *end, uint64_t *n)
{
	*n = 0;
	for (size_t len = 0; from + len < end && len < MAX_NUMBER; len++) {
		*n |= (uint64_t)(from[len] & 127) << (7 * len);
		if (!(from[len] & 128))
			return len + 1;
	}
	return 0;
}

static unsigned char *put_ranges(unsigned char *p, const struct zd_badblocks *bb)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < bb->nr; i++) {
		p += put_number(p, bb->ranges[i].first - at);
		p += put_number(p, bb->ranges[i].end - bb->ranges[i].first);
		at = bb->ranges[i].end;
	}
	return p;
}

char *zd_record_encode(const struct zd_media_identity *id, const struct zd_record *r,
		       bool elsewhere, size_t *len)
{
	size_t nr = elsewhere ? 0 : (size_t)r->bad.nr + r->mended.nr;
	char *buf = zd_alloc(sizeof(struct zd_record_head) + 2 * nr * MAX_NUMBER +
			     sizeof(uint64_t));
	struct zd_record_head *head = (struct zd_record_head *)buf;
	unsigned char *rest, *p;

	if (!buf)
		return NULL;
	p = rest = (unsigned char *)(head + 1);
	if (!elsewhere)
		p = put_ranges(put_ranges(p, &r->bad), &r->mended);
	p += -(p - rest) & 7;
	memcpy(head->magic, MAGIC, sizeof(head->magic));
	head->bytes = htole64(r->bytes);
	head->nr_bad = htole32(elsewhere ? ELSEWHERE : r->bad.nr);
	head->nr_mended = htole32(elsewhere ? 0 : r->mended.nr);
	head->boot = htole64(boot_hash());
	head->ino = htole64(id->ino);
	head->born_ns = htole64(id->born_ns);
	head->checksum = htole64(checksum(head, rest, p - rest));
	*len = p - (unsigned char *)buf;
	return buf;
}

static int get_ranges(const unsigned char **p, const unsigned char *end, uint32_t count,
		      uint64_t sectors, struct zd_badblocks *bb)
{
	uint64_t at = 0, skip, nr;
	int rc = 0;

	for (uint32_t i = 0; i < count && !rc; i++) {
		size_t n = get_number(*p, end, &skip), k = n ? get_number(*p + n, end, &nr) : 0;

		if (!k || skip > sectors - at || !nr || nr > sectors - at - skip)
			return -EUCLEAN;
		at += skip + nr;
		rc = zd_badblocks_set(bb, at - nr, nr);
		*p += n + k;
	}
	return rc;
}

int zd_record_decode(const char *buf, size_t len, struct zd_record *r, struct zd_record_head *head)
{
	const unsigned char *rest = (unsigned char *)buf + sizeof(*head), *p = rest;
	const unsigned char *end = (unsigned char *)buf + len;
	uint64_t sectors, boot = boot_hash();
	int rc;

	if (len < sizeof(*head) || len % sizeof(uint64_t))
		return -EUCLEAN;
	memcpy(head, buf, sizeof(*head));
	r->bytes = le64toh(head->bytes);
	sectors = r->bytes >> ZD_SECTOR_SHIFT;
	if (memcmp(head->magic, MAGIC, sizeof(head->magic)) ||
	    le64toh(head->checksum) != checksum(head, rest, end - rest))
		return -EUCLEAN;
	if (le32toh(head->nr_bad) == ELSEWHERE)
		return 1;
	rc = get_ranges(&p, end, le32toh(head->nr_bad), sectors, &r->bad);
	if (!rc)
		rc = get_ranges(&p, end, le32toh(head->nr_mended), sectors,
				boot && boot == le64toh(head->boot) ? &r->mended : &r->bad);
	if (rc)
		zd_record_exit(r);
	return rc;
}

void zd_record_exit(struct zd_record *r)
{
	zd_badblocks_exit(&r->bad);
	zd_badblocks_exit(&r->mended);
}
