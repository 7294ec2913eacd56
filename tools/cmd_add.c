/* SPDX-License-Identifier: MIT */
/* `zonedev add`: the servers of a region that was removed bring it back. */
#include <getopt.h>
#include <stdio.h>

#include "tools/cmd.h"
#include "tools/control_client.h"

static int help(void)
{
	printf("usage: zonedev add PATH\n"
	       "\n"
	       "Bring a region back that `zonedev remove` took away: its server opens it again,\n"
	       "and clients that are still connected go on.\n"
	       "\n"
	       "  --help, -h  this text\n"
	       "\n"
	       "Exit status: 0 if it is back, 2 if not.\n");
	return 0;
}

int cmd_add(int argc, char **argv)
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'h')
			return help();
		return cmd_error("unknown option %s (see: zonedev add --help)", argv[optind - 1]);
	}
	if (optind + 1 != argc)
		return cmd_error("add: give the path of one region (see: zonedev add --help)");
	return control_ask(argv[optind], "add", -1);
}
