/* SPDX-License-Identifier: MIT */
/*
 * nbd/server.c - lets clients in, and sends them away; see server.h.
 *
 * One thread, the program's own, waits for clients and for the signal that ends the server,
 * and looks after connections that take too long.  This thread never sends or receives a byte,
 * so no client can hold it up.
 *
 * The end.  A request that was read is done and answered.  One that is read after the
 * signal is answered with ESHUTDOWN.  A connection without requests is shut down for
 * reading, and its thread goes; a connection that is left after ENDING_MS, whose client
 * doesn't read or goes on sending, is cut off.
 */
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
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
#define FULL_MS		1000		/* a handshake's time while others wait to be let in */
#define OTHER_FDS	64		/* descriptors of the region and the control sockets */

static struct {
	unsigned int max_clients;	/* constant, as the descriptors */
	int listener, signals;
	pthread_mutex_t lock;		/* of conns and nr; taken before any conn->lock */
	struct cds_list_head conns;	/* the oldest first */
	unsigned int nr;
	int64_t ending;			/* atomic: since when, as zd_now_ms(); 0: not ending */
	int64_t pause;			/* the thread's own: until then no client can be let in */
} server = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.conns = CDS_LIST_HEAD_INIT(server.conns),
};

static bool is_ending(void)
{
	return __atomic_load_n(&server.ending, __ATOMIC_RELAXED);
}

/* --- connections --- */

static void conn_enters(struct nbd_conn *c)
{
	pthread_mutex_lock(&server.lock);
	cds_list_add_tail(&c->node, &server.conns);
	server.nr++;
	pthread_mutex_unlock(&server.lock);
}

static void conn_leaves(struct nbd_conn *c)
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

static const struct nbd_conn_ops conn_ops = {
	.enter = conn_enters,
	.leave = conn_leaves,
	.is_ending = is_ending,
};

/* Shuts down the connections whose time is over. */
static void shut_down_late(int64_t now)
{
	struct nbd_conn *c;

	pthread_mutex_lock(&server.lock);
	cds_list_for_each_entry(c, &server.conns, node) {
		if (is_ready(c) ? server.ending && now - server.ending > ENDING_MS :
				  server.ending || now - c->since > NBD_HANDSHAKE_MS)
			shutdown(c->session.stream.fd, SHUT_RDWR);
		else if (server.ending && !nbd_conn_has_requests(c))
			shutdown(c->session.stream.fd, SHUT_RD);
	}
	pthread_mutex_unlock(&server.lock);
}

/* The server is full.  Returns true if there will be room soon: since a connection is still
 * shaking hands, which is given little time now, or has left. */
static bool will_have_room(int64_t now)
{
	struct nbd_conn *c;
	bool will = false;

	pthread_mutex_lock(&server.lock);
	cds_list_for_each_entry(c, &server.conns, node) {
		if (is_ready(c))
			continue;
		if (now - c->since > FULL_MS)
			shutdown(c->session.stream.fd, SHUT_RDWR);
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
		server_complain("no client can be let in: %s", strerrordesc_np(errno));
		server.pause = zd_now_ms() + 5 * TURN_MS;
		return;
	}
	if (full) {
		close(fd);
		server_complain(
			"a client was turned away: there are %u already (see --max-clients)",
			server.max_clients);
		return;
	}
	/* Where it is TCP: no reply waits for another, and a host that has vanished is noticed. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	ret = nbd_conn_start(fd, &conn_ops);
	if (ret) {
		server_complain("no client can be let in: %s", strerrordesc_np(-ret));
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

/* Waits once for a client or the signal, and lets the client in. */
static void turn(void)
{
	int64_t now = zd_now_ms();
	bool full = nr_conns() >= server.max_clients;
	bool wait = is_ending() || now < server.pause || (full && will_have_room(now));
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

int nbd_server_init(unsigned int max_clients)
{
	static const int ending[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP };
	struct sigaction old;
	sigset_t set;

	server.max_clients = max_clients;
	sigemptyset(&set);
	/* A signal that is ignored, as by nohup or in a shell's background, stays ignored: the
	 * signalfd would deliver it once it is blocked. */
	for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
		if (!sigaction(ending[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaddset(&set, ending[i]);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	server.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (server.signals < 0)
		return -errno;
	raise_fd_limit(max_clients);
	/* The memory of a large request goes back to the kernel when the request is done. */
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
	while (!is_ending() || nr_conns()) {
		turn();
		if (told_to_end() && !is_ending()) {
			__atomic_store_n(&server.ending, zd_now_ms(), __ATOMIC_RELAXED);
			stop_listening();
			close(server.listener);
		}
		shut_down_late(zd_now_ms());
	}
}
