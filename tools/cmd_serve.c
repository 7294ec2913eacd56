/* SPDX-License-Identifier: MIT */
/*
 * `zonedev serve`: everything that can be wrong before there is a server; then
 * this process becomes nbdkit, which takes over the listening socket (socket
 * activation); signals and the exit status are nbdkit's own.  The address is
 * printed by the plugin, when all is up.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "drivers/spec.h"
#include "nbdkit/control.h"
#include "tools/cmd.h"
#include "zonedev/pmem.h"

#define DEFAULT_PORT	"10809"	/* NBD's */
#define BACKLOG		128
#define ACTIVATION_FD	3	/* where socket activation has the first one */

struct serve {
	struct zd_pmem_spec spec;
	const char *socket_path, *port, *bind;
	char socket_absolute[PATH_MAX];
	char plugin[PATH_MAX];
	bool readonly;
};

static const struct option long_options[] = {
	{ "socket", required_argument, NULL, 's' },
	{ "port", required_argument, NULL, 'p' },
	{ "bind", required_argument, NULL, 'b' },
	{ "read-only", no_argument, NULL, 'r' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static int help(void)
{
	printf("usage: zonedev serve pmem:PATH[,size=SIZE][,btt=on] [OPTION...]\n"
	       "\n"
	       "Serve a region of persistent memory to NBD clients, until SIGTERM or SIGINT.\n"
	       "One that isn't there is made, and needs a size.  With btt=on each aligned 4 KiB is\n"
	       "written as a whole or not at all.  Prints the address, as an NBD URI.\n"
	       "\n"
	       "  --socket PATH  listen on a unix socket, for this user\n"
	       "  --port N       listen on a TCP port; 0: any that is free (default: " DEFAULT_PORT ")\n"
	       "  --bind ADDR    listen for others than this host: 0.0.0.0, :: or an address\n"
	       "                 of this host (default: 127.0.0.1)\n"
	       "  --read-only    nobody may write\n"
	       "  --help, -h     this text\n"
	       "\n"
	       "SIZE is in bytes, or with K, M, G or T (1.5G, 512MiB).  Exit status: 0 if it was\n"
	       "ended by a signal, 1 if nbdkit failed, 2 for bad usage or a region that can't be\n"
	       "served.\n");
	return 0;
}

/* -1: go on; else the exit status. */
static int check_options(const struct serve *s)
{
	char *end;

	if (s->socket_path && (s->port || s->bind))
		return cmd_error("--socket and --%s exclude each other", s->port ? "port" : "bind");
	if (s->port && (*s->port < '0' || *s->port > '9' ||
			strtoul(s->port, &end, 10) > 65535 || *end))
		return cmd_error("--port %s: not a port (try 10809, or 0 for any)", s->port);
	return -1;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct serve *s)
{
	char err[512];
	int c;

	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
		if ((c == 's' && s->socket_path) || (c == 'p' && s->port) || (c == 'b' && s->bind))
			return cmd_error("--%s is given twice: leave one out",
					 c == 's' ? "socket" : c == 'p' ? "port" : "bind");
		switch (c) {
		case 's':
			s->socket_path = optarg;
			break;
		case 'p':
			s->port = optarg;
			break;
		case 'b':
			s->bind = optarg;
			break;
		case 'r':
			s->readonly = true;
			break;
		case 'h':
			return help();
		case ':':
			return cmd_error("%s needs a value (see: zonedev serve --help)",
					 argv[optind - 1]);
		default:
			return cmd_error("unknown option %s (see: zonedev serve --help)",
					 argv[optind - 1]);
		}
	}
	if (optind == argc)
		return cmd_error("nothing to serve (usage: zonedev serve pmem:PATH[,size=SIZE])");
	if (optind + 1 < argc)
		return cmd_error("one region a server: what is '%s'? (see: zonedev serve --help)",
				 argv[optind + 1]);
	if (zd_pmem_parse_spec(argv[optind], &s->spec, err, sizeof(err)))
		return cmd_error("%s", err);
	return check_options(s);
}

/* Open it once, for what the user would have to look for in nbdkit's words; a new
 * region is made here. */
static int check_region(const struct serve *s)
{
	struct zd_pmem_attr attr = {
		.size = sizeof(attr),
		.bytes = s->spec.bytes,
		.flags = (s->spec.btt ? ZD_PMEM_BTT : 0) |
			 (s->readonly ? ZD_PMEM_READONLY : ZD_PMEM_CREATE),
	};
	struct zd_pmem *pmem;
	char err[512] = "";
	int ret;

	ret = zd_pmem_open(s->spec.path, &attr, &pmem, err, sizeof(err));
	if (ret && strstr(err, s->spec.path))
		return cmd_error("%s", err);
	if (ret)
		return cmd_error("%s: %s", s->spec.path, *err ? err : strerrordesc_np(-ret));
	zd_pmem_close(pmem);
	return 0;
}

/* --- the socket --- */

static int bind_unix(int fd, const struct sockaddr_un *addr)
{
	/* Who may write to the socket may write to the region. */
	mode_t mask = umask(0177);
	int ret = bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) ? -errno : 0;

	umask(mask);
	return ret;
}

/* The descriptor, or minus the exit status. */
static int listen_unix(struct serve *s)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char dir[PATH_MAX];
	int fd, ret;

	/* an empty name would be an abstract one, which anybody may connect to */
	if (!*s->socket_path)
		return -cmd_error("--socket: give the path of the socket");
	if (strlen(s->socket_path) >= sizeof(addr.sun_path))
		return -cmd_error("--socket %s: longer than the %zu bytes that a socket may have",
				  s->socket_path, sizeof(addr.sun_path) - 1);
	strcpy(addr.sun_path, s->socket_path);
	if (*s->socket_path == '/')
		strcpy(s->socket_absolute, s->socket_path);
	else if (!getcwd(dir, sizeof(dir)) ||
		 snprintf(s->socket_absolute, PATH_MAX, "%s/%s", dir, s->socket_path) >= PATH_MAX)
		return -cmd_error("--socket %s: give a path from /", s->socket_path);
	if (strlen(s->socket_absolute) >= sizeof(addr.sun_path))
		return -cmd_error("--socket %s: longer from / than the %zu bytes that a client can name",
				  s->socket_path, sizeof(addr.sun_path) - 1);

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -cmd_error("no socket: %s", strerrordesc_np(errno));
	ret = bind_unix(fd, &addr);
	if (ret == -EADDRINUSE && control_is_stale(&addr) && !unlink(addr.sun_path))
		ret = bind_unix(fd, &addr);
	if (!ret && listen(fd, BACKLOG))
		ret = -errno;
	if (!ret)
		return fd;
	close(fd);
	return -cmd_error("--socket %s: %s", s->socket_path, ret == -EADDRINUSE ?
			  "it is there already: end who listens on it, or name another" :
			  strerrordesc_np(-ret));
}

static int listen_tcp(const struct serve *s)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST |
				  AI_NUMERICSERV | AI_PASSIVE }, *ai;
	const char *bind_to = s->bind ? s->bind : "127.0.0.1";
	const char *port = s->port ? s->port : DEFAULT_PORT;
	int fd, ret, on = 1;

	if (getaddrinfo(bind_to, port, &hints, &ai))
		return -cmd_error("--bind %s: not an address (try 0.0.0.0 or 192.168.1.2)", bind_to);
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, BACKLOG)) {
		ret = cmd_error("can't listen on port %s of %s: %s", port, bind_to,
				strerrordesc_np(errno));
		if (fd >= 0)
			close(fd);
		fd = -ret;
	}
	freeaddrinfo(ai);
	return fd;
}

/* RFC 3986 and NBD's URI specification: what isn't plain is %XX. */
static void escape(const char *path, char *out, size_t len)
{
	size_t n = 0;

	for (; *path && n + 4 <= len; path++) {
		if ((*path >= '0' && *path <= '9') || (*path >= 'A' && *path <= 'Z') ||
		    (*path >= 'a' && *path <= 'z') || strchr("/-._~", *path))
			out[n++] = *path;
		else
			n += snprintf(out + n, len - n, "%%%02X", (unsigned char)*path);
	}
	out[n] = '\0';
}

static void make_uri(const struct serve *s, int fd, char *uri, size_t len)
{
	char host[64] = "", port[16] = "", path[3 * PATH_MAX];
	struct sockaddr_storage addr;
	socklen_t addrlen = sizeof(addr);
	bool v6;

	if (s->socket_path) {
		escape(s->socket_absolute, path, sizeof(path));
		snprintf(uri, len, "nbd+unix:///?socket=%s", path);
		return;
	}
	getsockname(fd, (struct sockaddr *)&addr, &addrlen);
	getnameinfo((struct sockaddr *)&addr, addrlen, host, sizeof(host), port, sizeof(port),
		    NI_NUMERICHOST | NI_NUMERICSERV);
	v6 = addr.ss_family == AF_INET6;
	snprintf(uri, len, "nbd://%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

/* --- nbdkit --- */

/* The socket where nbdkit looks for it, and nowhere else. */
static int hand_over(int fd)
{
	char pid[16];

	if (fd == ACTIVATION_FD) {
		if (fcntl(fd, F_SETFD, 0))
			return -errno;
	} else if (dup2(fd, ACTIVATION_FD) < 0) {
		return -errno;
	}
	snprintf(pid, sizeof(pid), "%d", getpid());
	if (setenv("LISTEN_PID", pid, 1) || setenv("LISTEN_FDS", "1", 1))
		return -errno;
	return 0;
}

/* Returns only if it fails. */
static int become_nbdkit(const struct serve *s, int fd)
{
	char path[PATH_MAX + 8], size[32], unlink_it[PATH_MAX + 8];
	char announce[3 * PATH_MAX + 64] = "announce=";
	const char *argv[16];
	int n = 0, ret;

	snprintf(path, sizeof(path), "path=%s", s->spec.path);
	make_uri(s, fd, announce + strlen(announce), sizeof(announce) - strlen(announce));
	argv[n++] = "nbdkit";
	argv[n++] = "--foreground";
	if (s->readonly)
		argv[n++] = "--readonly";
	argv[n++] = s->plugin;
	argv[n++] = path;
	argv[n++] = "hangup=on";
	argv[n++] = announce;
	if (s->spec.bytes) {
		snprintf(size, sizeof(size), "size=%llu", (unsigned long long)s->spec.bytes);
		argv[n++] = size;
	}
	if (s->spec.btt)
		argv[n++] = "btt=on";
	if (s->readonly)
		argv[n++] = "readonly=on";
	if (s->socket_path) {
		snprintf(unlink_it, sizeof(unlink_it), "unlink=%s", s->socket_absolute);
		argv[n++] = unlink_it;
	}
	argv[n] = NULL;
	ret = hand_over(fd);
	if (!ret) {
		execvp("nbdkit", (char **)argv);
		ret = -errno;
	}
	return cmd_error("can't start nbdkit: %s", strerrordesc_np(-ret));
}

static bool have_nbdkit(void)
{
	const char *path = getenv("PATH") ?: "/usr/bin:/bin";
	char file[PATH_MAX];
	size_t len;

	for (; *path; path += len + (path[len] == ':')) {
		len = strcspn(path, ":");
		snprintf(file, sizeof(file), "%.*s/nbdkit", (int)len, path);
		if (len && !access(file, X_OK))
			return true;
	}
	return false;
}

int cmd_serve(int argc, char **argv)
{
	static struct serve s;
	int fd, rc;

	rc = parse(argc, argv, &s);
	if (rc >= 0)
		return rc;
	if (!have_nbdkit())
		return cmd_error("nbdkit is missing: install the package nbdkit");
	if (cmd_find_plugin(s.plugin, sizeof(s.plugin)))
		return cmd_error("%s is missing: build or install zonedev again, with "
				 "nbdkit-plugin-dev installed", s.plugin);
	/* The socket first: no region is made for a server that can't be. */
	fd = s.socket_path ? listen_unix(&s) : listen_tcp(&s);
	if (fd < 0)
		return -fd;
	rc = check_region(&s);
	if (!rc)
		rc = become_nbdkit(&s, fd);
	if (s.socket_path)
		unlink(s.socket_absolute);
	return rc;
}
