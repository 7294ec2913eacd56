/* SPDX-License-Identifier: MIT */
/* Writes that must not meet: serve/writes.c. */
#ifndef ZD_SERVE_WRITES_H
#define ZD_SERVE_WRITES_H

#include <stdbool.h>
#include <stdint.h>

/* A write in flight, or waiting for its turn: the caller's, from begin to end. */
struct write {
	uint64_t first, end;		/* bytes */
	bool alone;
	struct write *next, *prev;
};

/*
 * writes_begin - before a write of [first, end).  Waits for those before it that overlap,
 * if it is to be @alone in its range, or they are.  Between such writes the order is that
 * of the calls; others never wait.
 * @go_on: asked from time to time while it waits.  False: it said no, and the write is not
 * to be done, nor ended.
 * writes_end - it is done: others are let in.
 */
bool writes_begin(struct write *w, bool (*go_on)(void));
void writes_end(struct write *w);

#endif
