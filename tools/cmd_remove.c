/* SPDX-License-Identifier: MIT */
/* `zonedev remove`: the servers of a region take it away from their clients. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/cmd.h"
#include "tools/control_client.h"

static int help(void)
{
	printf("usage: zonedev remove [--timeout SECONDS] PATH\n"
	       "\n"
	       "Take a region that `zonedev serve` serves away from its clients.  Requests in\n"
	       "flight finish; later ones fail with ESHUTDOWN.  The server lives: `zonedev add`\n"
	       "brings the region back.\n"
	       "\n"
	       "  --timeout SECONDS  how long to wait for requests in flight (default: for ever)\n"
	       "  --help, -h         this text\n"
	       "\n"
	       "Exit status: 0 if it is gone, 1 if it is still held (it goes as soon as it isn't),\n"
	       "2 for bad usage, or a region that isn't served, 3 if it is gone, but not all that\n"
	       "was written could be made durable.\n");
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
	if (optind + 1 != argc)
		return cmd_error(
			"remove: give the path of one region (see: zonedev remove --help)");
	return -1;
}

int cmd_remove(int argc, char **argv)
{
	char request[64];
	long long ms = -1;
	int rc = parse(argc, argv, &ms);

	if (rc >= 0)
		return rc;
	snprintf(request, sizeof(request), "remove %lld", ms);
	return control_ask(argv[optind], request, ms);
}
