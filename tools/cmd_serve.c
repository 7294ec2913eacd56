/* SPDX-License-Identifier: MIT */
/*
 * `zonedev serve`: the command line, and the life of a server: its socket, the region, the
 * control socket and clients are set up in this order, and taken down in the reverse one.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zonedev.h>

#include "drivers/pmem/driver.h"
#include "drivers/registry/registry.h"
#include "drivers/registry/spec.h"
#include "nbd/server.h"
#include "serve/control.h"
#include "serve/region.h"
#include "serve/say.h"
#include "tools/cmd.h"
#include "tools/serve_socket.h"

#define EXIT_FAILED	1

struct serve {
	struct zd_spec spec;
	struct serve_socket socket;
	unsigned int max_clients;
	bool readonly;
};

static const struct option long_options[] = {
	{ "socket", required_argument, NULL, 's' },
	{ "port", required_argument, NULL, 'p' },
	{ "bind", required_argument, NULL, 'b' },
	{ "read-only", no_argument, NULL, 'r' },
	{ "max-clients", required_argument, NULL, 'c' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static int help(void)
{
	char usage[1024];

	zd_drivers_usage(ZD_DRIVER_SERVE, ZD_USAGE_FULL, " | ", usage, sizeof(usage));
	printf("usage: zonedev serve %s [OPTION...]\n"
	       "\n"
	       "Serve a region of persistent memory to NBD clients, until SIGTERM or SIGINT.\n"
	       "One that isn't there is made, and needs a size.  With btt=on each aligned 4 KiB is\n"
	       "written as a whole or not at all.  Prints the address, as an NBD URI.\n"
	       "\n"
	       "It listens on a unix socket, for this user only, unless it is told to use TCP, where\n"
	       "whoever can connect can write.\n"
	       "\n"
	       "  --socket PATH    the unix socket (default: in a directory of this user's)\n"
	       "  --port N         listen on a TCP port; 0: any that is free (default: " SERVE_PORT
	       ")\n"
	       "  --bind ADDR      listen on TCP for others than this host: 0.0.0.0, :: or an\n"
	       "                   address of this host (default: 127.0.0.1)\n"
	       "  --read-only      nobody may write\n"
	       "  --max-clients N  so many connections at a time (default: %u)\n"
	       "  --help, -h       this text\n"
	       "\n"
	       "SIZE is in bytes, or with K, M, G or T (1.5G, 512MiB).  Exit status: 0 if it was\n"
	       "ended by a signal and the region is durable, 1 if that or the server failed, 2 for\n"
	       "bad usage or a region that can't be served.\n",
	       usage, NBD_DEFAULT_CLIENTS);
	return 0;
}

/* -1: go on; else the exit status. */
static int check_options(const struct serve *s)
{
	const struct serve_socket *at = &s->socket;
	char *end;

	if (at->path && (at->port || at->bind))
		return cmd_error("--socket and --%s exclude each other",
				 at->port ? "port" : "bind");
	if (at->port &&
	    (*at->port < '0' || *at->port > '9' || strtoul(at->port, &end, 10) > 65535 || *end))
		return cmd_error("--port %s: not a port (try 10809, or 0 for any)", at->port);
	return -1;
}

/* False if @text isn't a number of clients. */
static bool parse_clients(const char *text, unsigned int *clients)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || !value || value > NBD_MOST_CLIENTS)
		return false;
	*clients = value;
	return true;
}

/* Where the text of option @c goes; NULL: the option takes none. */
static const char **text_of(struct serve *s, int c)
{
	return c == 's' ? &s->socket.path :
	       c == 'p' ? &s->socket.port :
	       c == 'b' ? &s->socket.bind :
			  NULL;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct serve *s)
{
	char err[512];
	int c;

	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
		if (text_of(s, c) && *text_of(s, c))
			return cmd_error("--%s is given twice: leave one out", c == 's' ? "socket" :
									       c == 'p' ? "port" :
											  "bind");
		switch (c) {
		case 's':
		case 'p':
		case 'b':
			*text_of(s, c) = optarg;
			break;
		case 'c':
			if (!parse_clients(optarg, &s->max_clients))
				return cmd_error("--max-clients %s: not a number from 1 to %u",
						 optarg, NBD_MOST_CLIENTS);
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
	if (zd_spec_parse(argv[optind], ZD_DRIVER_SERVE, &s->spec, err, sizeof(err)))
		return cmd_error("%s", err);
	return check_options(s);
}

/* --- what is told --- */

/* Standard error.  A line may be lost, but no thread waits for a reader: there may be none any
 * more, or one that doesn't read. */
static void say_line(const char *fmt, va_list ap)
{
	static pthread_mutex_t saying = PTHREAD_MUTEX_INITIALIZER;
	struct pollfd err = { .fd = STDERR_FILENO, .events = POLLOUT };
	char line[1024] = "zonedev: ";
	size_t n = strlen(line);

	vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	n = strlen(line);
	line[n++] = '\n';
	/* A pipe that can be written to has room for a line, if one thread writes. */
	pthread_mutex_lock(&saying);
	if (poll(&err, 1, 0) == 1 && err.revents & POLLOUT && write(STDERR_FILENO, line, n) < 0) {
		/* There is no other place to say so. */
	}
	pthread_mutex_unlock(&saying);
}

static void log_line(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)ctx;
	if (level <= ZD_LOG_WARN)
		server_say("%s", msg);
}

/* --- the server --- */

static struct serve serve = { .max_clients = NBD_DEFAULT_CLIENTS };

static int open_region(struct serve *s)
{
	static struct region_config config;
	char err[1024] = "";

	config.path = s->spec.text;
	zd_pmem_attr_by_values(&config.attr, s->spec.values);
	if (s->readonly)
		config.attr.flags |= ZD_PMEM_READONLY;
	if (!region_open(&config, err, sizeof(err)))
		return 0;
	return strstr(err, s->spec.text) ? cmd_error("%s", err) :
					   cmd_error("%s: %s", s->spec.text, err);
}

/* Writes the address to standard output, which is closed then: its reader finds the end. */
static int announce(const struct serve *s)
{
	char uri[3 * PATH_MAX + 64];
	int null;

	serve_uri(&s->socket, uri, sizeof(uri));
	if (printf("%s\n", uri) < 0 || fflush(stdout)) {
		server_say("can't write the address: %s", strerrordesc_np(errno));
		return EXIT_FAILED;
	}
	null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDOUT_FILENO);
		close(null);
	}
	return 0;
}

/* Called before the listening socket is closed: once it is, another server may take its name. */
static void stop_listening(void)
{
	serve_unlisten(&serve.socket);
}

/* Makes durable what was written, and tells the user where that fails. */
static int sync_region(const struct serve *s)
{
	int ret = s->readonly || !region_is_live() ? 0 : region_rw(ZD_PMEM_FLUSH, 0, 0, 0, NULL);

	if (!ret || ret == -ESHUTDOWN)
		return 0;
	server_say("%s: what was written last may not be durable: %s", s->spec.text,
		   strerrordesc_np(-ret));
	return EXIT_FAILED;
}

/* The socket listens; the region is open. */
static int run(struct serve *s)
{
	int rc, ret = control_start(s->spec.text);

	if (ret) {
		server_say("no control thread: %s", strerrordesc_np(-ret));
		return EXIT_FAILED;
	}
	rc = announce(s);
	if (!rc) {
		nbd_server_run(s->socket.fd, stop_listening);
		rc = sync_region(s);
	}
	control_stop();
	return rc;
}

int cmd_serve(int argc, char **argv)
{
	struct serve *s = &serve;
	int rc = parse(argc, argv, s);

	if (rc >= 0)
		return rc;
	server_say_by(say_line);
	rc = nbd_server_init(s->max_clients);
	if (rc) {
		cmd_error("can't wait for signals: %s", strerrordesc_np(-rc));
		return EXIT_FAILED;
	}
	/* The socket first: no region is made for a server that can't listen. */
	rc = serve_listen(&s->socket, s->spec.text);
	if (rc)
		return rc;
	zd_set_log(log_line, NULL);
	rc = open_region(s);
	if (!rc) {
		rc = run(s);
		region_close();
	}
	serve_unlisten(&s->socket);
	return rc;
}
