/* SPDX-License-Identifier: MIT */
/*
 * Copying pages that won't be read soon: cold ones, on their way out.
 *
 * Streaming stores don't read the destination's lines first and leave the cache to
 * the program.  (Measured with bench_migrate: half as fast again as memcpy().)
 */
#ifndef ZD_BASE_COPY_H
#define ZD_BASE_COPY_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#include "zonedev/page.h"

/* All zeros: then no copy is needed, since untouched memory reads the same. */
static inline bool zd_page_is_zero(const void *content)
{
	const uint64_t *w = content;

	for (size_t i = 0; i < ZD_PAGE_SIZE / sizeof(*w); i += 8)
		if (w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] | w[i + 5] | w[i + 6] |
		    w[i + 7])
			return false;
	return true;
}

/* Both addresses page-aligned.  zd_copy_out_end() comes before another thread may read the copy. */
static inline void zd_copy_out(void *to, const void *from)
{
#if defined(__SSE2__)
	const __m128i *src = from;
	__m128i *dst = to;

	for (size_t i = 0; i < ZD_PAGE_SIZE / sizeof(*src); i += 4) {
		__m128i a = _mm_load_si128(src + i), b = _mm_load_si128(src + i + 1);
		__m128i c = _mm_load_si128(src + i + 2), d = _mm_load_si128(src + i + 3);

		_mm_stream_si128(dst + i, a);
		_mm_stream_si128(dst + i + 1, b);
		_mm_stream_si128(dst + i + 2, c);
		_mm_stream_si128(dst + i + 3, d);
	}
#else
	memcpy(to, from, ZD_PAGE_SIZE);
#endif
}

static inline void zd_copy_out_end(void)
{
#if defined(__SSE2__)
	_mm_sfence();
#endif
}

#endif
