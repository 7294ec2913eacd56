/* SPDX-License-Identifier: MIT */
/*
 * serve/writes.c - writes that must not meet.
 *
 * A write of less than a sector reads the sector, and writes it again: another write of
 * that sector in between would be undone.  So every write of the region stands in a list
 * while it is under way, and one that is to be alone waits for those before it that
 * overlap; as those that overlap with it, and come later, wait for it.  Reads take no part:
 * they see a sector as it was or as it will be.
 *
 * The list is as long as there are requests at once, some dozens.  It is in the order of
 * arrival, and a write may go when none before it is in its way: nobody starves, and since
 * each has one range they can't wait in a circle.
 *
 * A write's sync happens while it stands here only for those that aren't to be alone, and
 * so is waited for only by writes of less than a sector in the same sectors.
 */
#include <pthread.h>
#include <stddef.h>
#include <time.h>

#include "serve/writes.h"

#define TURN_NS		200000000	/* then ask whether it is still of interest */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
/* Under the lock: in the order of arrival, and how many of them wait. */
static struct write *oldest, *newest;
static unsigned int waiting;

static void enter(struct write *w)
{
	w->next = NULL;
	w->prev = newest;
	if (newest)
		newest->next = w;
	else
		oldest = w;
	newest = w;
}

static void leave(struct write *w)
{
	if (w->prev)
		w->prev->next = w->next;
	else
		oldest = w->next;
	if (w->next)
		w->next->prev = w->prev;
	else
		newest = w->prev;
	if (waiting)
		pthread_cond_broadcast(&ended);
}

static bool must_wait(const struct write *w)
{
	for (const struct write *o = w->prev; o; o = o->prev)
		if ((o->alone || w->alone) && o->first < w->end && w->first < o->end)
			return true;
	return false;
}

static void wait_a_turn(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += TURN_NS;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	waiting++;
	pthread_cond_timedwait(&ended, &lock, &until);
	waiting--;
}

bool writes_begin(struct write *w, bool (*go_on)(void))
{
	bool may = true;

	pthread_mutex_lock(&lock);
	enter(w);
	while (must_wait(w) && may) {
		wait_a_turn();
		may = go_on();
	}
	if (!may)
		leave(w);
	pthread_mutex_unlock(&lock);
	return may;
}

void writes_end(struct write *w)
{
	pthread_mutex_lock(&lock);
	leave(w);
	pthread_mutex_unlock(&lock);
}
