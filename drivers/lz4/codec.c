/* SPDX-License-Identifier: MIT */
/* Pages and their compressed form.  No call of liblz4 here allocates. */
#include <errno.h>
#include <lz4.h>
#include <lz4hc.h>
#include <string.h>

#include "base/alloc.h"
#include "drivers/lz4/lz4.h"
#include "zonedev/lz4.h"

#define WORDS	(ZD_PAGE_SIZE / sizeof(uint64_t))

int zd_lz4_codec_init(struct zd_lz4_codec *codec, int level)
{
	codec->level = level;
	codec->state_bytes = level == ZD_LZ4_LEVEL_FAST ? LZ4_sizeofState() : LZ4_sizeofStateHC();
	codec->state = zd_reserve(codec->state_bytes);
	return codec->state ? 0 : -ENOMEM;
}

void zd_lz4_codec_exit(struct zd_lz4_codec *codec)
{
	zd_unreserve(codec->state, codec->state_bytes);
	codec->state = NULL;
}

unsigned int zd_lz4_compress(struct zd_lz4_codec *codec, const void *page)
{
	int n;

	if (codec->level == ZD_LZ4_LEVEL_FAST)
		n = LZ4_compress_fast_extState(codec->state, page, codec->out, ZD_PAGE_SIZE,
					       sizeof(codec->out), 1);
	else
		n = LZ4_compress_HC_extStateHC(codec->state, page, codec->out, ZD_PAGE_SIZE,
					       sizeof(codec->out), codec->level);
	return n > 0 ? n : 0;
}

bool zd_lz4_decompress(const void *from, unsigned int bytes, void *page)
{
	return LZ4_decompress_safe(from, page, bytes, ZD_PAGE_SIZE) == (int)ZD_PAGE_SIZE;
}

bool zd_lz4_page_is_same(const void *page, uint64_t *word)
{
	const uint64_t *w = page;

	/* the last word first: pages that only begin so are common */
	if (w[0] != w[WORDS - 1])
		return false;
	for (size_t i = 1; i < WORDS - 1; i++)
		if (w[i] != w[0])
			return false;
	*word = w[0];
	return true;
}

void zd_lz4_page_fill(void *page, uint64_t word)
{
	uint64_t *w = page;

	for (size_t i = 0; i < WORDS; i++)
		w[i] = word;
}
