/* SPDX-License-Identifier: MIT */
/* A connection's threads, and its end; see conn.h. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/time.h"
#include "nbd/conn.h"
#include "nbd/handshake.h"
#include "nbd/request.h"

#define STACK_BYTES	(512u << 10)	/* sanitizers make frames large */

static void *more_requests(void *arg);

static int start_thread(void *(*fn)(void *), struct nbd_conn *c)
{
	pthread_attr_t attr;
	pthread_t thread;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	ret = -pthread_create(&thread, &attr, fn, c);
	pthread_attr_destroy(&attr);
	return ret;
}

/* The last thread's, without locks. */
static void destroy(struct nbd_conn *c)
{
	/* First: once the descriptor is closed its number may be another file's, which the
	 * server must not touch. */
	c->ops->leave(c);
	nbd_stream_destroy(&c->session.stream);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->turn);
	pthread_cond_destroy(&c->room);
	free(c);
}

/* Another thread reads on: an idle or a new one, or else the first that has done its request.
 * Under the lock. */
static void hand_over(struct nbd_conn *c)
{
	c->reading = false;
	if (c->idle) {
		pthread_cond_signal(&c->turn);
	} else if (c->threads < NBD_THREADS) {
		c->threads++;
		if (start_thread(more_requests, c))
			c->threads--;
	}
}

/* Waits until this thread is the reader; false: the connection is over.  Under the lock. */
static bool become_reader(struct nbd_conn *c)
{
	while (c->reading && !c->over) {
		c->idle++;
		pthread_cond_wait(&c->turn, &c->lock);
		c->idle--;
	}
	if (c->over)
		return false;
	c->reading = true;
	return true;
}

/* Counts the request in, when there is room for its buffer.  One that is larger than the
 * room has it alone. */
static void wait_for_room(struct nbd_conn *c, size_t bytes)
{
	pthread_mutex_lock(&c->lock);
	while (bytes && c->bytes && c->bytes + bytes > NBD_ROOM)
		pthread_cond_wait(&c->room, &c->lock);
	c->in_flight++;
	c->bytes += bytes;
	pthread_mutex_unlock(&c->lock);
}

/* Counts the request out.  Under the lock. */
static void give_room(struct nbd_conn *c, size_t bytes)
{
	c->in_flight--;
	c->bytes -= bytes;
	pthread_cond_signal(&c->room);
}

/* The reader's, without the lock. */
static bool read_request(struct nbd_conn *c, struct nbd_request *r)
{
	if (!nbd_request_recv(&c->session, r))
		return false;
	wait_for_room(c, nbd_request_bytes(r));
	if (nbd_request_recv_data(&c->session, r))
		return true;
	pthread_mutex_lock(&c->lock);
	give_room(c, nbd_request_bytes(r));
	pthread_mutex_unlock(&c->lock);
	return false;
}

/* The reader's, without the lock; returns with the lock.  False: there are no more requests. */
static bool read_and_do(struct nbd_conn *c)
{
	struct nbd_request r;
	bool more = read_request(c, &r), stays = false;

	pthread_mutex_lock(&c->lock);
	if (!more)
		return false;
	if (!nbd_request_is_quick(&r) || nbd_stream_has_input(&c->session.stream))
		hand_over(c);
	else
		stays = true;
	pthread_mutex_unlock(&c->lock);
	nbd_request_do(&c->session, &r, c->ops->is_ending());
	pthread_mutex_lock(&c->lock);
	give_room(c, nbd_request_bytes(&r));
	if (stays)
		c->reading = false;
	return true;
}

static void serve_requests(struct nbd_conn *c)
{
	bool last;

	pthread_mutex_lock(&c->lock);
	while (become_reader(c)) {
		pthread_mutex_unlock(&c->lock);
		if (!read_and_do(c)) {
			c->over = true;
			pthread_cond_broadcast(&c->turn);
		}
	}
	last = !--c->threads;
	pthread_mutex_unlock(&c->lock);
	if (last)
		destroy(c);
}

static void *more_requests(void *arg)
{
	serve_requests(arg);
	return NULL;
}

static void *first_thread(void *arg)
{
	struct nbd_conn *c = arg;

	if (nbd_handshake(&c->session)) {
		__atomic_store_n(&c->ready, true, __ATOMIC_RELAXED);
		serve_requests(c);
	} else {
		destroy(c);
	}
	return NULL;
}

bool nbd_conn_has_requests(struct nbd_conn *c)
{
	bool has;

	pthread_mutex_lock(&c->lock);
	has = c->in_flight;
	pthread_mutex_unlock(&c->lock);
	return has || nbd_stream_has_input(&c->session.stream);
}

int nbd_conn_start(int fd, const struct nbd_conn_ops *ops)
{
	struct nbd_conn *c = calloc(1, sizeof(*c));
	int ret;

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->ops = ops;
	c->since = zd_now_ms();
	c->threads = 1;
	nbd_stream_init(&c->session.stream, fd);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->turn, NULL);
	pthread_cond_init(&c->room, NULL);
	ops->enter(c);
	ret = start_thread(first_thread, c);
	if (ret)
		destroy(c);
	return ret;
}
