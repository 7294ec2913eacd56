/* SPDX-License-Identifier: MIT */
/*
 * serve/writes.c - writes that must not meet.
 *
 * A write of less than a sector reads the sector, and writes the whole sector: another write
 * of that sector in between would be undone.  So every write of the region stands in a list
 * while it is under way.  A write that is to be alone waits for the overlapping writes before
 * it, and overlapping writes that come later wait for that write.  Reads take no part: a read
 * finds the sector before or after the write.
 *
 * The list has an entry for each write in flight, some dozens.  It is in the order of arrival,
 * and a write may go when no write before it is in its way: so no write starves, and since
 * each waits only for earlier ones they can't wait in a circle.
 *
 * A write that isn't to be alone does its sync (FUA) while it stands in the list, one that is
 * to be alone after it has left: so only writes of less than a sector, in the same sectors,
 * wait for the sync of another write.
 */
#include <pthread.h>
#include <stddef.h>

#include "serve/clock.h"
#include "serve/writes.h"

#define TURN_MS		200	/* of a wait, then ask whether to go on */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
/* Under the lock: the list, in the order of arrival, and how many of its writes wait. */
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
	struct timespec until = clock_in_ms(TURN_MS);

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
