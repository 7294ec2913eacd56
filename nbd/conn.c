/* SPDX-License-Identifier: MIT */
/* A connection's threads, its socket and its end; see conn.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/time.h"
#include "nbd/conn.h"
#include "nbd/server.h"

#define STACK_BYTES	(512u << 10)	/* sanitizers make frames large */

/* --- the socket --- */

/* Nothing comes in or goes out any more: a thread that sends or reads is woken. */
static void cut(struct nbd_conn *c)
{
	shutdown(c->fd, SHUT_RDWR);
}

static ssize_t recv_some(int fd, void *buf, size_t len)
{
	ssize_t n;

	do
		n = recv(fd, buf, len, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

static size_t take_buffered(struct nbd_conn *c, char *buf, size_t len)
{
	size_t n = c->in_end - c->in_at;

	n = n < len ? n : len;
	memcpy(buf, c->in + c->in_at, n);
	__atomic_store_n(&c->in_at, c->in_at + n, __ATOMIC_RELAXED);
	return n;
}

static bool fill_buffer(struct nbd_conn *c)
{
	ssize_t n = recv_some(c->fd, c->in, sizeof(c->in));

	if (n <= 0)
		return false;
	__atomic_store_n(&c->in_at, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&c->in_end, n, __ATOMIC_RELAXED);
	return true;
}

bool nbd_recv(struct nbd_conn *c, void *buf, size_t len)
{
	size_t done = take_buffered(c, buf, len);
	ssize_t n;

	while (done < len) {
		if (len - done < sizeof(c->in)) {
			if (!fill_buffer(c))
				return false;
			done += take_buffered(c, (char *)buf + done, len - done);
			continue;
		}
		/* long data goes to its place at once */
		n = recv_some(c->fd, (char *)buf + done, len - done);
		if (n <= 0)
			return false;
		done += n;
	}
	return true;
}

bool nbd_conn_has_input(struct nbd_conn *c)
{
	int waiting = 0;

	return __atomic_load_n(&c->in_at, __ATOMIC_RELAXED) !=
		       __atomic_load_n(&c->in_end, __ATOMIC_RELAXED) ||
	       (!ioctl(c->fd, FIONREAD, &waiting) && waiting > 0);
}

/* Skips @n bytes of @msg. */
static void advance(struct msghdr *msg, size_t n)
{
	while (msg->msg_iovlen && n >= msg->msg_iov->iov_len) {
		n -= msg->msg_iov->iov_len;
		msg->msg_iov++;
		msg->msg_iovlen--;
	}
	if (!msg->msg_iovlen)
		return;
	msg->msg_iov->iov_base = (char *)msg->msg_iov->iov_base + n;
	msg->msg_iov->iov_len -= n;
}

bool nbd_send(struct nbd_conn *c, struct iovec *iov, unsigned int nr)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = nr };
	ssize_t n;

	pthread_mutex_lock(&c->write_lock);
	while (!c->broken && msg.msg_iovlen) {
		n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
		if (n >= 0) {
			advance(&msg, n);
		} else if (errno != EINTR) {
			__atomic_store_n(&c->broken, true, __ATOMIC_RELAXED);
			cut(c);
		}
	}
	pthread_mutex_unlock(&c->write_lock);
	return !msg.msg_iovlen;
}

/* --- threads --- */

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

static void destroy(struct nbd_conn *c)
{
	/* First: the server must not look at a descriptor that is another's. */
	nbd_server_leave(c);
	close(c->fd);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->write_lock);
	pthread_cond_destroy(&c->turn);
	pthread_cond_destroy(&c->room);
	free(c);
}

/* Another thread reads on; if there is none to be had, the first that has done its
 * request.  Under the lock. */
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

/* Under the lock; true: this thread is the reader. */
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

/* The reader's, without the lock; returns with it. */
static bool read_and_do(struct nbd_conn *c)
{
	struct nbd_request r;
	bool stays = false;
	enum nbd_next next = nbd_request_read(c, &r);

	pthread_mutex_lock(&c->lock);
	if (next == NBD_OVER)
		return false;
	if (!nbd_request_is_quick(&r) || nbd_conn_has_input(c))
		hand_over(c);
	else
		stays = true;
	pthread_mutex_unlock(&c->lock);
	nbd_request_do(c, &r);
	pthread_mutex_lock(&c->lock);
	c->in_flight--;
	c->bytes -= nbd_request_bytes(&r);
	pthread_cond_signal(&c->room);
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

	if (nbd_handshake(c)) {
		__atomic_store_n(&c->ready, true, __ATOMIC_RELAXED);
		serve_requests(c);
	} else {
		destroy(c);
	}
	return NULL;
}

int nbd_conn_start(int fd)
{
	struct nbd_conn *c = calloc(1, sizeof(*c));
	int ret;

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->fd = fd;
	c->since = zd_now_ms();
	c->threads = 1;
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->write_lock, NULL);
	pthread_cond_init(&c->turn, NULL);
	pthread_cond_init(&c->room, NULL);
	nbd_server_enter(c);
	ret = start_thread(first_thread, c);
	if (ret)
		destroy(c);
	return ret;
}
