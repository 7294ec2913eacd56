/* SPDX-License-Identifier: MIT */
/* Bytes from and to a client; see stream.h. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "nbd/stream.h"

void nbd_stream_init(struct nbd_stream *s, int fd)
{
	s->fd = fd;
	s->in_at = 0;
	s->in_end = 0;
	s->broken = false;
	pthread_mutex_init(&s->write_lock, NULL);
}

void nbd_stream_destroy(struct nbd_stream *s)
{
	close(s->fd);
	pthread_mutex_destroy(&s->write_lock);
}

bool nbd_stream_is_broken(const struct nbd_stream *s)
{
	return __atomic_load_n(&s->broken, __ATOMIC_RELAXED);
}

/* Nothing comes in or goes out any more: threads that send or receive are woken. */
static void cut(struct nbd_stream *s)
{
	shutdown(s->fd, SHUT_RDWR);
}

static ssize_t recv_some(int fd, void *buf, size_t len)
{
	ssize_t n;

	do
		n = recv(fd, buf, len, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

static size_t take_buffered(struct nbd_stream *s, char *buf, size_t len)
{
	size_t n = s->in_end - s->in_at;

	n = n < len ? n : len;
	memcpy(buf, s->in + s->in_at, n);
	__atomic_store_n(&s->in_at, s->in_at + n, __ATOMIC_RELAXED);
	return n;
}

static bool fill_buffer(struct nbd_stream *s)
{
	ssize_t n = recv_some(s->fd, s->in, sizeof(s->in));

	if (n <= 0)
		return false;
	__atomic_store_n(&s->in_at, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&s->in_end, n, __ATOMIC_RELAXED);
	return true;
}

bool nbd_recv(struct nbd_stream *s, void *buf, size_t len)
{
	size_t done = take_buffered(s, buf, len);
	ssize_t n;

	while (done < len) {
		if (len - done < sizeof(s->in)) {
			if (!fill_buffer(s))
				return false;
			done += take_buffered(s, (char *)buf + done, len - done);
			continue;
		}
		/* Long data goes straight to its place. */
		n = recv_some(s->fd, (char *)buf + done, len - done);
		if (n <= 0)
			return false;
		done += n;
	}
	return true;
}

bool nbd_stream_has_input(const struct nbd_stream *s)
{
	int waiting = 0;

	return __atomic_load_n(&s->in_at, __ATOMIC_RELAXED) !=
		       __atomic_load_n(&s->in_end, __ATOMIC_RELAXED) ||
	       (!ioctl(s->fd, FIONREAD, &waiting) && waiting > 0);
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

bool nbd_send(struct nbd_stream *s, struct iovec *iov, unsigned int nr)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = nr };
	ssize_t n;

	pthread_mutex_lock(&s->write_lock);
	while (!s->broken && msg.msg_iovlen) {
		n = sendmsg(s->fd, &msg, MSG_NOSIGNAL);
		if (n >= 0) {
			advance(&msg, n);
		} else if (errno != EINTR) {
			__atomic_store_n(&s->broken, true, __ATOMIC_RELAXED);
			cut(s);
		}
	}
	pthread_mutex_unlock(&s->write_lock);
	return !msg.msg_iovlen;
}
