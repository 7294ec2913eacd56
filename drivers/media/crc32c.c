/* SPDX-License-Identifier: MIT */
/* CRC-32C, by the CPU where it can, else by a table for each of a word's bytes. */
#include "drivers/media/crc32c.h"

#include <stdbool.h>
#include <string.h>

#define POLY	UINT32_C(0x82f63b78)

static uint32_t table[8][256];

/* Before main(), and before any thread could look. */
__attribute__((constructor)) static void fill_table(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? c >> 1 ^ POLY : c >> 1;
		table[0][i] = c;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int k = 1; k < 8; k++)
			table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 0xff];
}

static inline uint64_t load(const void *data)
{
	uint64_t word;

	memcpy(&word, data, sizeof(word));
	return word;
}

/* One word; without the inversions, as the instruction does. */
static inline uint32_t step(uint32_t c, uint64_t word)
{
	word ^= c;
	c = 0;
	for (int k = 0; k < 8; k++)
		c ^= table[7 - k][word >> (8 * k) & 0xff];
	return c;
}

uint32_t zd_crc32c_plain(uint32_t crc, const void *data, size_t len)
{
	const unsigned char *p = data;

	crc = ~crc;
	for (; len >= 8; len -= 8, p += 8)
		crc = step(crc, load(p));
	for (; len; len--, p++)
		crc = crc >> 8 ^ table[0][(crc ^ *p) & 0xff];
	return ~crc;
}

uint32_t zd_crc32c_x4_plain(const void *data, size_t len)
{
	const char *p = data;
	uint32_t c[4] = { ~0u, ~0u, ~0u, ~0u };

	for (size_t i = 0; i < len; i += 32)
		for (int k = 0; k < 4; k++)
			c[k] = step(c[k], load(p + i + 8 * k));
	for (int k = 0; k < 4; k++)
		c[k] = ~c[k];
	return zd_crc32c_plain(0, c, sizeof(c));
}

#ifdef __x86_64__
static bool has_instruction(void)
{
	return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2")))
static uint32_t crc_cpu(uint32_t crc, const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t c = (uint32_t)~crc;

	for (; len >= 8; len -= 8, p += 8)
		c = __builtin_ia32_crc32di(c, load(p));
	for (; len; len--, p++)
		c = __builtin_ia32_crc32qi(c, *p);
	return ~(uint32_t)c;
}

__attribute__((target("sse4.2")))
static uint32_t crc_x4_cpu(const void *data, size_t len)
{
	const char *p = data;
	uint64_t a = (uint32_t)~0u, b = a, c = a, d = a;
	uint32_t all[4];

	for (size_t i = 0; i < len; i += 32) {
		a = __builtin_ia32_crc32di(a, load(p + i));
		b = __builtin_ia32_crc32di(b, load(p + i + 8));
		c = __builtin_ia32_crc32di(c, load(p + i + 16));
		d = __builtin_ia32_crc32di(d, load(p + i + 24));
	}
	all[0] = ~a;
	all[1] = ~b;
	all[2] = ~c;
	all[3] = ~d;
	return crc_cpu(0, all, sizeof(all));
}
#else
static bool has_instruction(void)
{
	return false;
}
#define crc_cpu		zd_crc32c_plain
#define crc_x4_cpu	zd_crc32c_x4_plain
#endif

uint32_t zd_crc32c(uint32_t crc, const void *data, size_t len)
{
	return has_instruction() ? crc_cpu(crc, data, len) : zd_crc32c_plain(crc, data, len);
}

uint32_t zd_crc32c_x4(const void *data, size_t len)
{
	return has_instruction() ? crc_x4_cpu(data, len) : zd_crc32c_x4_plain(data, len);
}
