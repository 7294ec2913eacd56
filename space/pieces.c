/* SPDX-License-Identifier: MIT */
#include "space/pieces.h"

bool zd_pieces_overlap(const struct zd_pieces *s, uint64_t start, uint64_t end)
{
	for (unsigned int i = 0; i < s->nr; i++)
		if (s->v[i].start < end && s->v[i].end > start)
			return true;
	return false;
}

static bool add(struct zd_pieces *s, struct zd_piece p)
{
	if (s->nr == ZD_PIECES_MAX)
		return false;
	s->v[s->nr++] = p;
	return true;
}

bool zd_pieces_cut(struct zd_pieces *s, uint64_t at)
{
	for (unsigned int i = 0, nr = s->nr; i < nr; i++) {
		struct zd_piece *p = &s->v[i], rest = *p;

		if (p->start >= at || p->end <= at)
			continue;
		rest.start = at;
		if (rest.was != ZD_PIECE_NEW)
			rest.was += at - p->start;
		p->end = at;
		if (!add(s, rest))
			return false;
	}
	return true;
}

void zd_pieces_unmap(struct zd_pieces *s, uint64_t start, uint64_t end)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < s->nr; i++)
		if (s->v[i].end <= start || s->v[i].start >= end)
			s->v[kept++] = s->v[i];
	s->nr = kept;
}

bool zd_pieces_fill(struct zd_pieces *s, uint64_t start, uint64_t end, bool known)
{
	while (start < end) {
		uint64_t stop = end, skip = 0;

		for (unsigned int i = 0; i < s->nr; i++) {
			const struct zd_piece *p = &s->v[i];

			if (p->start <= start && p->end > start)
				skip = p->end;
			else if (p->start > start && p->start < stop)
				stop = p->start;
		}
		if (!skip &&
		    !add(s, (struct zd_piece){ start, stop, known ? start : ZD_PIECE_NEW }))
			return false;
		start = skip ? skip : stop;
	}
	return true;
}

bool zd_pieces_move(struct zd_pieces *s, uint64_t start, uint64_t end, uint64_t to)
{
	for (unsigned int i = 0; i < s->nr; i++) {
		struct zd_piece *p = &s->v[i];

		if (p->start < start || p->end > end)
			continue;
		p->start += to - start;
		p->end += to - start;
	}
	return zd_pieces_fill(s, to, to + (end - start), false);
}

void zd_pieces_normalize(struct zd_pieces *s)
{
	unsigned int kept = 0;

	for (unsigned int i = 1, k; i < s->nr; i++) {
		struct zd_piece p = s->v[i];

		for (k = i; k && s->v[k - 1].start > p.start; k--)
			s->v[k] = s->v[k - 1];
		s->v[k] = p;
	}
	for (unsigned int i = 1; i < s->nr; i++) {
		struct zd_piece *a = &s->v[kept], *b = &s->v[i];

		if (a->end == b->start &&
		    (a->was == ZD_PIECE_NEW ? b->was == ZD_PIECE_NEW :
					      b->was == a->was + (a->end - a->start)))
			a->end = b->end;
		else
			s->v[++kept] = *b;
	}
	s->nr = s->nr ? kept + 1 : 0;
}

bool zd_pieces_equal(const struct zd_pieces *a, const struct zd_pieces *b)
{
	if (a->nr != b->nr)
		return false;
	for (unsigned int i = 0; i < a->nr; i++)
		if (a->v[i].start != b->v[i].start || a->v[i].end != b->v[i].end ||
		    a->v[i].was != b->v[i].was)
			return false;
	return true;
}
