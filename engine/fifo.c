/* SPDX-License-Identifier: MIT */
/* The queue of fifo.h: a list of chunks. */
#include <errno.h>

#include "base/alloc.h"
#include "engine/fifo.h"

#define CHUNK_RUNS	255

struct zd_fifo_chunk {
	struct zd_fifo_chunk *next;
	struct zd_run run[CHUNK_RUNS];
};

int zd_fifo_push(struct zd_fifo *f, const struct zd_run *run)
{
	if (!f->tail || f->tail_pos == CHUNK_RUNS) {
		struct zd_fifo_chunk *chunk = zd_alloc(sizeof(*chunk));

		if (!chunk)
			return -ENOMEM;
		if (f->tail)
			f->tail->next = chunk;
		else
			f->head = chunk;
		f->tail = chunk;
		f->tail_pos = 0;
	}
	f->tail->run[f->tail_pos++] = *run;
	f->runs++;
	f->pages += zd_run_nr(run);
	return 0;
}

bool zd_fifo_peek(const struct zd_fifo *f, struct zd_run *run)
{
	if (!f->runs)
		return false;
	*run = f->head->run[f->head_pos];
	return true;
}

void zd_fifo_pop(struct zd_fifo *f)
{
	struct zd_fifo_chunk *chunk = f->head;

	f->pages -= zd_run_nr(&chunk->run[f->head_pos]);
	f->runs--;
	f->head_pos++;
	if (f->head_pos < (chunk == f->tail ? f->tail_pos : CHUNK_RUNS))
		return;
	f->head = chunk->next;
	f->head_pos = 0;
	if (!f->head)
		f->tail = NULL;
	zd_free(chunk);
}

void zd_fifo_shorten(struct zd_fifo *f, unsigned int nr)
{
	struct zd_run *run = &f->head->run[f->head_pos];
	unsigned int left = zd_run_nr(run) - nr;

	if (!left) {
		zd_fifo_pop(f);
		return;
	}
	run->addr = (zd_run_addr(run) + nr * ZD_PAGE_SIZE) | (left - 1);
	f->pages -= nr;
}

struct zd_run *zd_fifo_tail(const struct zd_fifo *f)
{
	return f->runs ? &f->tail->run[f->tail_pos - 1] : NULL;
}

void zd_fifo_destroy(struct zd_fifo *f)
{
	while (f->runs)
		zd_fifo_pop(f);
}
