/* SPDX-License-Identifier: MIT */
/* serve/writes.h - writes that must not meet are kept apart. */
#ifndef ZD_SERVE_WRITES_H
#define ZD_SERVE_WRITES_H

#include <stdbool.h>
#include <stdint.h>

/* A write in flight, or waiting for its turn: the caller's, from begin to end. */
struct write {
	uint64_t first, end;		/* bytes */
	bool alone;			/* no other write may overlap with it */
	struct write *next, *prev;
};

/*
 * writes_begin - before a write of [first, end).  Waits for earlier writes that overlap, if
 * @w or the earlier write is to be alone.  Between such writes the order is that of the calls;
 * others never wait.  Any thread.
 * @go_on: asked from time to time while @w waits.  Returns false when @go_on said no: then the
 * write is not to be done, and writes_end() not to be called.
 * writes_end - the write is done: those that wait for it may go.
 */
bool writes_begin(struct write *w, bool (*go_on)(void));
void writes_end(struct write *w);

#endif
