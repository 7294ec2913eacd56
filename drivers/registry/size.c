/* SPDX-License-Identifier: MIT */
/* Sizes as a user writes them: see zonedev/spec.h. */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "zonedev/spec.h"

/* The shift of the unit, K to E, with or without iB.  MB is refused: 1 MB is 1000000 bytes to some,
 * and 1048576 to others. */
static int parse_unit(const char *p)
{
	static const char units[] = "KMGTPE";
	const char *unit;

	if (!*p)
		return 0;
	/* & ~0x20: to upper case, for letters */
	unit = strchr(units, *p & ~0x20);
	if (!unit || !*unit || (p[1] && strcasecmp(p + 1, "iB")))
		return -EINVAL;
	return 10 * (unit - units + 1);
}

int zd_parse_size(const char *text, uint64_t *bytes)
{
	uint64_t n = 0, part = 0, of = 1;
	const char *p = text, *digits;
	int shift;

	if (!text || *p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
			return -ERANGE;
	if (*p == '.') {
		for (digits = ++p; *p >= '0' && *p <= '9'; p++) {
			if (of > UINT64_MAX / 100)
				continue;	/* less than a byte */
			of *= 10;
			part = part * 10 + (*p - '0');
		}
		if (p == digits || !*p)
			return -EINVAL;
	}
	shift = parse_unit(p);
	if (shift < 0)
		return shift;
	if (n > UINT64_MAX >> shift)
		return -ERANGE;
	*bytes = (n << shift) + (uint64_t)(((unsigned __int128)part << shift) / of);
	return 0;
}
