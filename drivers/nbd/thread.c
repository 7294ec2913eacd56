/* SPDX-License-Identifier: MIT */
/*
 * drivers/nbd/thread.c - the I/O thread: sleeps, hears, looks at the clock.
 *
 * A turn: take the inbox, handle what the connections have become and what they answered, look
 * at the clock, send, sleep.  The thread sleeps in poll(2) on the connections and on wake_fd.
 *
 * Going to sleep.  The thread says that it is asleep under inbox_lock, and only if the inbox is
 * empty; a batch is put in under the same lock, by a thread that then sees the word and wakes
 * this one.  So a batch never waits for a sleeper, and a busy thread costs no system call.
 *
 * The stack is zonedev's own memory: in a library program the other kind may be managed, and
 * this thread may be the one that has to bring it home.
 */
#include "drivers/nbd/nbd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/time.h"
#include "zonedev/log.h"

#define STACK_BYTES	(2u << 20)	/* of which what is touched is committed */
#define END_NS		(2000 * ZD_NBD_MS)	/* for trimming what a device leaves behind */
#define SPIN_NS		50000
#define SPIN_LIMIT_NS	150000
#define TICK_NS		(100 * ZD_NBD_MS)	/* how late a deadline may be seen */

void zd_nbd_wake(struct zd_nbd *nbd)
{
	/* Fails only when the counter is full: then it is readable anyway. */
	(void)!eventfd_write(nbd->wake_fd, 1);
}

static void enqueue(struct zd_nbd *nbd, struct zd_device_io *io)
{
	io->driver = NULL;
	io->pending = 0;
	if (!zd_io_dir_is_known(io->dir))
		zd_nbd_batch_fail(nbd, io, -EINVAL);
	else if (!io->nr)
		zd_nbd_batch_fail(nbd, io, 0);
	else
		zd_ioq_push(&nbd->queue[io->dir == ZD_TO_DEVICE ? ZD_NBD_WRITE : ZD_NBD_READ], io);
}

/* False: the thread is to end. */
static bool take_inbox(struct zd_nbd *nbd)
{
	struct zd_device_io *io;
	struct zd_ioq inbox;
	bool stop;

	zd_mutex_lock(&nbd->inbox_lock);
	inbox = nbd->inbox;
	nbd->inbox.head = NULL;
	__atomic_store_n(&nbd->has_mail, false, __ATOMIC_RELAXED);
	nbd->asleep = false;
	stop = nbd->stop;
	zd_mutex_unlock(&nbd->inbox_lock);
	while ((io = zd_ioq_pop(&inbox)))
		enqueue(nbd, io);
	return !stop;
}

static bool may_sleep(struct zd_nbd *nbd)
{
	bool may;

	for (unsigned int i = 0; i < nbd->nr_conns; i++)
		if (zd_nbd_conn_has_news(&nbd->conn[i]))
			return false;
	zd_mutex_lock(&nbd->inbox_lock);
	may = !nbd->inbox.head;
	nbd->asleep = may;
	zd_mutex_unlock(&nbd->inbox_lock);
	return may;
}

static bool is_busy(struct zd_nbd *nbd)
{
	bool busy = nbd->stats.in_flight;

	for (int dir = 0; dir < ZD_NBD_DIRS; dir++)
		busy |= nbd->queue[dir].head || !cds_list_empty(&nbd->again[dir]);
	return busy;
}

static int wait_ms(struct zd_nbd *nbd, uint64_t now)
{
	uint64_t until = zd_nbd_next_due(nbd, now);

	for (unsigned int i = 0; i < nbd->nr_conns; i++) {
		const struct zd_nbd_conn *conn = &nbd->conn[i];
		uint64_t t = conn->state == ZD_NBD_DOWN ? conn->retry_ns :
			     conn->state == ZD_NBD_CONNECTING ?
							  conn->started_ns + ZD_NBD_CONNECT_NS :
							  UINT64_MAX;

		if (t < until)
			until = t;
	}
	if ((is_busy(nbd) || nbd->end_ns) && until > now + TICK_NS)
		until = now + TICK_NS;
	if (until == UINT64_MAX)
		return -1;
	return until > now ? (until - now + ZD_NBD_MS - 1) / ZD_NBD_MS : 0;
}

/*
 * Waking a sleeper costs about as much as a server that is near takes to answer.  So while a
 * read is in flight, and the last one was answered soon, look for a while without sleeping, and
 * let other threads have the CPU in between.  True: poll(2) has seen something.
 */
static bool spin(struct zd_nbd *nbd, struct pollfd *fds, unsigned int nr, uint64_t now)
{
	if (nbd->read_ns > SPIN_LIMIT_NS)
		return false;
	for (uint64_t until = now + SPIN_NS; nbd->nr_reads && now < until; now = zd_now_ns()) {
		if (poll(fds, nr, 0) > 0)
			return true;
		/* A batch that is missed here is found before the thread sleeps. */
		if (__atomic_load_n(&nbd->has_mail, __ATOMIC_RELAXED))
			return false;
		sched_yield();
	}
	return false;
}

static void sleep_and_hear(struct zd_nbd *nbd, uint64_t now)
{
	struct pollfd fds[ZD_NBD_MAX_CONNECTIONS + 1];
	unsigned int nr = nbd->nr_conns;
	eventfd_t ticks;

	for (unsigned int i = 0; i < nr; i++) {
		fds[i].events = zd_nbd_conn_events(&nbd->conn[i]);
		fds[i].fd = fds[i].events ? nbd->conn[i].fd : -1;
	}
	fds[nr] = (struct pollfd){ .fd = nbd->wake_fd, .events = POLLIN };
	if (!spin(nbd, fds, nr + 1, now) &&
	    poll(fds, nr + 1, may_sleep(nbd) ? wait_ms(nbd, now) : 0) <= 0)
		return;
	if (fds[nr].revents)
		eventfd_read(nbd->wake_fd, &ticks);
	for (unsigned int i = 0; i < nr; i++)
		if (fds[i].fd >= 0 && fds[i].revents)
			zd_nbd_conn_ready(&nbd->conn[i], fds[i].revents);
}

/* Commands are on a connection's list in the order in which they were sent. */
static void cut_stalled(struct zd_nbd *nbd, uint64_t now)
{
	for (unsigned int i = 0; i < nbd->nr_conns; i++) {
		struct zd_nbd_conn *conn = &nbd->conn[i];

		if (!cds_list_empty(&conn->in_flight) &&
		    now - cds_list_first_entry(&conn->in_flight, struct zd_nbd_cmd, node)
					    ->sent_ns >=
			    nbd->stall_ns)
			zd_nbd_conn_cut(conn, now);
	}
}

/* Of reads that wait for a connection. */
static void time_is_over(struct zd_nbd *nbd)
{
	const char *why = "";

	for (unsigned int i = 0; i < nbd->nr_conns && !*why; i++)
		why = nbd->conn[i].why;
	if (!nbd->told_timeout)
		zd_log(ZD_LOG_ERR,
		       "%s: no server for %g s%s%s: until there is one, a thread that needs what is "
		       "on it gets SIGBUS",
		       nbd->name, nbd->timeout_ns / 1e9, *why ? ", " : "", why);
	nbd->told_timeout = true;
	zd_nbd_fail_waiting(nbd, ZD_NBD_READ, -ETIMEDOUT);
}

static void look_at_clock(struct zd_nbd *nbd, uint64_t now)
{
	uint64_t quiet, patience = ZD_NBD_WRITE_WAIT_NS;
	bool away;

	cut_stalled(nbd, now);
	quiet = now - (nbd->down_ns ? nbd->down_ns : nbd->heard_ns);
	if (nbd->down_ns && nbd->timeout_ns < patience)
		patience = nbd->timeout_ns;
	away = quiet >= patience;
	__atomic_store_n(&nbd->away, away, __ATOMIC_RELAXED);
	if (away)
		zd_nbd_fail_waiting(nbd, ZD_NBD_WRITE, -EAGAIN);
	if (nbd->down_ns && quiet >= nbd->timeout_ns)
		time_is_over(nbd);
	zd_nbd_fail_late(nbd, now);
}

/* The device is going.  Its pages are all free: the server is told, so far as that is quick. */
static bool is_done(struct zd_nbd *nbd, uint64_t now)
{
	if (!nbd->end_ns)
		nbd->end_ns = now + END_NS;
	return !nbd->stats.connections || now >= nbd->end_ns ||
	       (!nbd->stats.in_flight && (!nbd->export.trim || !zd_pool_idle_words(&nbd->pool)));
}

static void *thread_main(void *arg)
{
	struct zd_nbd *nbd = arg;
	uint64_t now;
	bool stop;

	pthread_setname_np(pthread_self(), "zonedev-nbd");
	for (;;) {
		stop = !take_inbox(nbd);
		now = zd_now_ns();
		if (!nbd->stats.in_flight)
			nbd->heard_ns = now;	/* nothing is to be heard */
		for (unsigned int i = 0; i < nbd->nr_conns; i++)
			zd_nbd_conn_check(&nbd->conn[i], now);
		look_at_clock(nbd, now);
		zd_nbd_pump(nbd, now);
		if (stop && is_done(nbd, now))
			return NULL;
		sleep_and_hear(nbd, now);
	}
}

int zd_nbd_thread_start(struct zd_nbd *nbd)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int rc;

	nbd->stack = zd_reserve(STACK_BYTES);
	if (!nbd->stack)
		return -ENOMEM;
	pthread_attr_init(&attr);
	rc = pthread_attr_setstack(&attr, nbd->stack, STACK_BYTES);
	/* Signals are the program's, or the supervisor's main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!rc)
		rc = pthread_create(&nbd->thread, &attr, thread_main, nbd);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (rc) {
		zd_unreserve(nbd->stack, STACK_BYTES);
		nbd->stack = NULL;
		return -rc;
	}
	nbd->generation = zd_fork_generation;
	return 0;
}

void zd_nbd_thread_stop(struct zd_nbd *nbd)
{
	if (!nbd->stack)
		return;
	if (zd_nbd_thread_is_here(nbd)) {
		zd_mutex_lock(&nbd->inbox_lock);
		nbd->stop = true;
		zd_mutex_unlock(&nbd->inbox_lock);
		zd_nbd_wake(nbd);
		pthread_join(nbd->thread, NULL);
	}
	zd_unreserve(nbd->stack, STACK_BYTES);
	nbd->stack = NULL;
}

/*
 * The parent's thread may have been anywhere, with a lock of libnbd's: its handles are left
 * alone, and so are the words that it was about to trim.  wake_fd keeps its number, which other
 * threads use, and becomes this process's own.
 */
int zd_nbd_thread_restart(struct zd_nbd *nbd)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (dup3(fd, nbd->wake_fd, O_CLOEXEC) < 0) {
		close(fd);
		return -errno;
	}
	close(fd);
	for (unsigned int i = 0; i < nbd->nr_conns; i++) {
		if (nbd->conn[i].fd >= 0)
			close(nbd->conn[i].fd);
		zd_nbd_conn_init(nbd, &nbd->conn[i]);
	}
	zd_nbd_cmds_init(nbd);
	nbd->stats.connections = 0;
	nbd->down_ns = zd_now_ns();
	nbd->told_loss = nbd->told_timeout = false;
	if (nbd->stack)
		zd_unreserve(nbd->stack, STACK_BYTES);
	return zd_nbd_thread_start(nbd);
}
