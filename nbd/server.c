/* SPDX-License-Identifier: MIT */
/*
 * nbd/server.c - lets clients in, and sends them away; see server.h.
 *
 * One thread, the program's own: it waits for clients and for the signal that ends the
 * server, and looks after connections that take too long.  It never sends or reads a
 * byte itself, so no client can hold it up.
 *
 * The end.  A request that was read is done and answered.  One that is read after the
 * signal is answered with ESHUTDOWN.  A connection without either is shut down for
 * reading, and its thread goes; what is left after ENDING_MS, a client that doesn't read
 * or that goes on sending, is cut off.
 */
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "nbd/conn.h"
#include "nbd/server.h"
#include "serve/say.h"

#define ENDING_MS	5000
#define TURN_MS		20		/* between two looks at connections that are to go */
#define FULL_MS		1000		/* a handshake's time where others wait to be let in */
#define OTHER_FDS	64		/* not clients': the region's, the control sockets */

static struct {
	unsigned int max_clients;	/* constant, as these */
	bool readonly;
	int listener, signals;
	/* Before any conn->lock: */
	pthread_mutex_t lock;
	struct cds_list_head conns;	/* the oldest first */
	unsigned int nr;
	int64_t ending;			/* atomic: since when, in ms; 0: it isn't */
	int64_t pause;			/* until then no client can be let in */
} server = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.conns = CDS_LIST_HEAD_INIT(server.conns),
};

bool nbd_server_is_ending(void)
{
	return __atomic_load_n(&server.ending, __ATOMIC_RELAXED);
}

bool nbd_server_is_readonly(void)
{
	return server.readonly;
}

/* --- what is told --- */

static void say_line(const char *fmt, va_list ap)
{
	static pthread_mutex_t saying = PTHREAD_MUTEX_INITIALIZER;
	struct pollfd err = { .fd = STDERR_FILENO, .events = POLLOUT };
	char line[1024] = "zonedev: ";
	size_t n = strlen(line);

	vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	n = strlen(line);
	line[n++] = '\n';
	/* Nobody may be listening any more; and who doesn't read the pipe must not stop the
	 * thread.  A pipe that can be written to has room for a line, if one thread writes. */
	pthread_mutex_lock(&saying);
	if (poll(&err, 1, 0) == 1 && err.revents & POLLOUT && write(STDERR_FILENO, line, n) < 0) {
		/* nor is there where to say so */
	}
	pthread_mutex_unlock(&saying);
}

void server_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_line(fmt, ap);
	va_end(ap);
}

void nbd_complain(const char *fmt, ...)
{
	static uint64_t last, left_out;
	uint64_t now = zd_now_ms() / 1000 + 1, before;
	va_list ap;

	if (__atomic_exchange_n(&last, now, __ATOMIC_RELAXED) == now) {
		__atomic_fetch_add(&left_out, 1, __ATOMIC_RELAXED);
		return;
	}
	before = __atomic_exchange_n(&left_out, 0, __ATOMIC_RELAXED);
	if (before)
		server_say("and %llu times more", (unsigned long long)before);
	va_start(ap, fmt);
	say_line(fmt, ap);
	va_end(ap);
}

/* --- connections --- */

void nbd_server_enter(struct nbd_conn *c)
{
	pthread_mutex_lock(&server.lock);
	cds_list_add_tail(&c->node, &server.conns);
	server.nr++;
	pthread_mutex_unlock(&server.lock);
}

void nbd_server_leave(struct nbd_conn *c)
{
	pthread_mutex_lock(&server.lock);
	cds_list_del(&c->node);
	server.nr--;
	pthread_mutex_unlock(&server.lock);
}

static unsigned int nr_conns(void)
{
	unsigned int nr;

	pthread_mutex_lock(&server.lock);
	nr = server.nr;
	pthread_mutex_unlock(&server.lock);
	return nr;
}

static bool is_ready(const struct nbd_conn *c)
{
	return __atomic_load_n(&c->ready, __ATOMIC_RELAXED);
}

static bool has_requests(struct nbd_conn *c)
{
	bool has;

	pthread_mutex_lock(&c->lock);
	has = c->in_flight;
	pthread_mutex_unlock(&c->lock);
	return has || nbd_conn_has_input(c);
}

/* Ends what has had its time. */
static void tend(int64_t now)
{
	struct nbd_conn *c;

	pthread_mutex_lock(&server.lock);
	cds_list_for_each_entry(c, &server.conns, node) {
		if (is_ready(c) ? server.ending && now - server.ending > ENDING_MS :
		    server.ending || now - c->since > NBD_HANDSHAKE_MS)
			shutdown(c->fd, SHUT_RDWR);
		else if (server.ending && !has_requests(c))
			shutdown(c->fd, SHUT_RD);
	}
	pthread_mutex_unlock(&server.lock);
}

/* The server is full.  True: soon it won't be, since there is a handshake, which is given
 * little time now. */
static bool will_have_room(int64_t now)
{
	struct nbd_conn *c;
	bool will = false;

	pthread_mutex_lock(&server.lock);
	cds_list_for_each_entry(c, &server.conns, node) {
		if (is_ready(c))
			continue;
		if (now - c->since > FULL_MS)
			shutdown(c->fd, SHUT_RDWR);
		will = true;
		break;
	}
	will |= server.nr < server.max_clients;
	pthread_mutex_unlock(&server.lock);
	return will;
}

/* --- new clients --- */

static void accept_client(bool full)
{
	int fd = accept4(server.listener, NULL, NULL, SOCK_CLOEXEC);
	int on = 1, ret;

	if (fd < 0) {
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return;
		nbd_complain("no client can be let in: %s", strerrordesc_np(errno));
		server.pause = zd_now_ms() + 5 * TURN_MS;
		return;
	}
	if (full) {
		close(fd);
		nbd_complain("a client was turned away: there are %u already (see --max-clients)",
			     server.max_clients);
		return;
	}
	/* of TCP: no reply waits for another, and a host that has vanished is noticed */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	ret = nbd_conn_start(fd);
	if (ret) {
		nbd_complain("no client can be let in: %s", strerrordesc_np(-ret));
		server.pause = zd_now_ms() + 5 * TURN_MS;
	}
}

static bool any_handshake(void)
{
	struct nbd_conn *c;
	bool any = false;

	pthread_mutex_lock(&server.lock);
	cds_list_for_each_entry(c, &server.conns, node)
		any |= !is_ready(c);
	pthread_mutex_unlock(&server.lock);
	return any;
}

/* One wait, and what came of it. */
static void turn(void)
{
	int64_t now = zd_now_ms();
	bool full = nr_conns() >= server.max_clients;
	bool wait = nbd_server_is_ending() || now < server.pause || (full && will_have_room(now));
	struct pollfd fds[] = {
		{ server.signals, POLLIN, 0 },
		{ wait ? -1 : server.listener, POLLIN, 0 },
	};

	if (poll(fds, 2, wait ? TURN_MS : any_handshake() ? 5 * TURN_MS : -1) < 0)
		return;
	if (fds[1].revents)
		accept_client(full);
}

/* --- start and end --- */

static void raise_fd_limit(unsigned int clients)
{
	struct rlimit limit;
	rlim_t want = clients + OTHER_FDS;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= want)
		return;
	limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int nbd_server_init(unsigned int max_clients, bool readonly)
{
	static const int ending[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP };
	struct sigaction old;
	sigset_t set;

	server.max_clients = max_clients;
	server.readonly = readonly;
	sigemptyset(&set);
	/* what is ignored, as by nohup or in a shell's background, is blocked nevertheless
	 * and would be read here */
	for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
		if (!sigaction(ending[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaddset(&set, ending[i]);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	server.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (server.signals < 0)
		return -errno;
	raise_fd_limit(max_clients);
	/* what a client had asked for isn't kept when it was large */
	mallopt(M_MMAP_THRESHOLD, 1 << 20);
	mallopt(M_TRIM_THRESHOLD, 4 << 20);
	return 0;
}

static bool told_to_end(void)
{
	struct signalfd_siginfo info;

	return read(server.signals, &info, sizeof(info)) == sizeof(info);
}

void nbd_server_run(int listener, void (*stop_listening)(void))
{
	server.listener = listener;
	while (!nbd_server_is_ending() || nr_conns()) {
		turn();
		if (told_to_end() && !nbd_server_is_ending()) {
			__atomic_store_n(&server.ending, zd_now_ms(), __ATOMIC_RELAXED);
			stop_listening();
			close(server.listener);
		}
		tend(zd_now_ms());
	}
}
