/* SPDX-License-Identifier: MIT */
/*
 * What is where in a part of an address space, while changes are tried on it: a small set
 * of pieces, each of which says that [start, end) now holds what was at `was` before the
 * first change.  Pieces don't overlap.  Plain data: any thread, its own set.
 *
 * Calls that add pieces return false when there is no room for another.
 */
#ifndef ZD_SPACE_PIECES_H
#define ZD_SPACE_PIECES_H

#include <stdbool.h>
#include <stdint.h>

#define ZD_PIECES_MAX	48
#define ZD_PIECE_NEW	UINT64_MAX	/* zd_piece.was: of a mapping that wasn't there */

struct zd_piece {
	uint64_t start, end, was;
};

struct zd_pieces {
	unsigned int nr;
	struct zd_piece v[ZD_PIECES_MAX];
};

/* Does a piece lie in [start, end), or reach into it? */
bool zd_pieces_overlap(const struct zd_pieces *s, uint64_t start, uint64_t end);
/* Make two pieces of the one that crosses @at. */
bool zd_pieces_cut(struct zd_pieces *s, uint64_t at);
/* The pieces in [start, end) go; at both ends they have been cut. */
void zd_pieces_unmap(struct zd_pieces *s, uint64_t start, uint64_t end);
/* New pieces for those parts of [start, end) that have none; @known: they hold what was in
 * the same place before, else something new. */
bool zd_pieces_fill(struct zd_pieces *s, uint64_t start, uint64_t end, bool known);
/* The pieces in [start, end), cut at both ends, move to @to, where none is; what else moves
 * along is new. */
bool zd_pieces_move(struct zd_pieces *s, uint64_t start, uint64_t end, uint64_t to);

/* Sort, and join pieces that are one: then two sets are equal if and only if they say the
 * same. */
void zd_pieces_normalize(struct zd_pieces *s);
bool zd_pieces_equal(const struct zd_pieces *a, const struct zd_pieces *b);

#endif
