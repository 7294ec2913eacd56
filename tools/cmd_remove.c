/* SPDX-License-Identifier: MIT */
/* `zonedev remove`: the servers of a region take it away from their clients; or a run takes a
 * device away from its program. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run/control.h"
#include "serve/control.h"
#include "tools/cmd.h"
#include "tools/control_client.h"
#include "tools/run_client.h"

static int help(void)
{
	printf("usage: zonedev remove [--timeout SECONDS] PATH\n"
	       "       zonedev remove [--timeout SECONDS] PID DEVICE\n"
	       "\n"
	       "Take a region that `zonedev serve` serves away from its clients.  Requests in\n"
	       "flight finish; later ones fail with ESHUTDOWN.  The server lives: `zonedev add`\n"
	       "brings the region back.\n"
	       "\n"
	       "Or take DEVICE (as `zonedev stat PID` calls it) away from a `zonedev run`, while the\n"
	       "program goes on: what is on it moves to the next device, or into RAM.  PID is\n"
	       "zonedev's or that of a process under it.\n"
	       "\n"
	       "  --timeout SECONDS  how long to wait for requests in flight, or pages (default:\n"
	       "                     for ever)\n"
	       "  --help, -h         this text\n"
	       "\n"
	       "Exit status: 0 if it is gone, 1 if it is still held (it goes as soon as it isn't), or\n"
	       "stays, since what is on a device can't be read or has no room, 2 for bad usage, or a\n"
	       "region or a run that isn't there, 3 if it is gone, but not all that was written could\n"
	       "be made durable.\n");
	return 0;
}

static int parse_timeout(const char *text, long long *ms)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end || !isfinite(seconds) || seconds < 0 || seconds > 1e9)
		return -EINVAL;
	*ms = (long long)(seconds * 1000);
	return 0;
}

/* -1: go on, with the path at argv[optind]; else the exit status. */
static int parse(int argc, char **argv, long long *ms)
{
	static const struct option options[] = {
		{ "timeout", required_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (c) {
		case 't':
			if (*ms >= 0)
				return cmd_error("--timeout is given twice: leave one out");
			if (parse_timeout(optarg, ms))
				return cmd_error("--timeout %s: not a time in seconds (try 10)",
						 optarg);
			break;
		case 'h':
			return help();
		case ':':
			return cmd_error("%s needs a value (see: zonedev remove --help)",
					 argv[optind - 1]);
		default:
			return cmd_error("unknown option %s (see: zonedev remove --help)",
					 argv[optind - 1]);
		}
	}
	if (optind + 1 != argc && optind + 2 != argc)
		return cmd_error(
			"remove: give the path of one region, or a PID and a device (see: zonedev remove --help)");
	return -1;
}

static int remove_from_run(const char *pid_text, const char *device, long long ms)
{
	char request[CONTROL_MESSAGE], why[CONTROL_MESSAGE], what[CONTROL_MESSAGE];
	long pid = run_parse_pid(pid_text);
	struct run_answer answer;
	int fd, rc;

	if (pid < 0)
		return cmd_error("remove %s %s: %s is not a process id", pid_text, device,
				 pid_text);
	rc = run_ask_one(pid, &answer, false);
	if (rc)
		return rc;
	free(answer.text);
	fd = run_connect(&answer);
	if (fd < 0)
		return cmd_error("%ld: %s", pid, strerrordesc_np(-fd));
	if ((size_t)snprintf(request, sizeof(request), "remove %ld %lld %s", pid, ms, device) >=
	    RUN_CONTROL_TEXT)
		rc = cmd_error("there is no device of that name (see: zonedev stat %ld)", pid);
	control_set_bound(fd, ms);
	/* a run that has ended is noticed when it doesn't answer */
	if (!rc && send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
		rc = 0;
	snprintf(what, sizeof(what), "%.64s", device);
	if (!rc)
		rc = control_hear(what, "the removal goes on by itself", fd, why);
	close(fd);
	return rc == CONTROL_NOT_CONCERNED ? cmd_error("%ld: the process has ended", pid) : rc;
}

int cmd_remove(int argc, char **argv)
{
	char request[64];
	long long ms = -1;
	int rc = parse(argc, argv, &ms);

	if (rc >= 0)
		return rc;
	if (optind + 2 == argc)
		return remove_from_run(argv[optind], argv[optind + 1], ms);
	snprintf(request, sizeof(request), "remove %lld", ms);
	return control_ask(argv[optind], request, ms);
}
