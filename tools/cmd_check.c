/* SPDX-License-Identifier: MIT */
/* `zonedev check`: a region of persistent memory examined, and mended. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <zonedev.h>

#include "tools/cmd.h"

/* The exit status, as fsck's but for bad usage, which is 2 with every command. */
enum {
	EXIT_CLEAN = 0,
	EXIT_MENDED = 1,
	EXIT_DAMAGED = 4,
	EXIT_FAILED = 8,
};

static void print_usage(void)
{
	printf("usage: zonedev check [--dry-run] [--data] PATH\n"
	       "\n"
	       "Examine a region of persistent memory that is not in use, and mend it.\n"
	       "\n"
	       "  --dry-run, -n  change nothing: only say what is wrong\n"
	       "  --data         read every block, and name those whose content is broken\n"
	       "  --help, -h     this text\n"
	       "\n"
	       "PATH is what `zonedev serve pmem:PATH` serves; pmem:PATH will do.\n"
	       "\n"
	       "Exit status: 0 nothing is wrong, 1 all that was is mended, 4 something is lost or\n"
	       "was not mended, 8 it can't be examined, 2 bad usage.\n");
}

static void say(void *arg, const char *line)
{
	printf("%s: %s\n", (const char *)arg, line);
}

static int verdict(const char *path, const struct zd_pmem_check *c)
{
	unsigned long long lost = c->nr_lost, bad = c->nr_bad;

	if (!c->btt)
		printf("%s: no BTT: there is nothing to check\n", path);
	else if (c->damaged && !c->mended)
		printf("%s: damaged, and not mended\n", path);
	else if (lost || bad)
		printf("%s: %s%llu of %llu blocks are lost, %llu broken: reads of them fail until they are written\n",
		       path, c->mended ? "mended; " : "", lost, (unsigned long long)c->nr_blocks,
		       bad);
	else
		printf("%s: %s\n", path, c->mended ? "mended; nothing is lost" : "clean");
	if (fflush(stdout)) {
		cmd_error("check: can't write: %s", strerror(errno));
		return EXIT_FAILED;
	}
	if ((c->damaged && !c->mended) || lost || bad)
		return EXIT_DAMAGED;
	return c->mended ? EXIT_MENDED : EXIT_CLEAN;
}

static int check(const char *path, unsigned int flags)
{
	struct zd_pmem_check c;
	char err[256] = "";
	int rc;

	if (!strncmp(path, "pmem:", 5))
		path += 5;
	if (!*path || zd_pmem_memfd_name(path))
		return cmd_error(
			"check: '%s' is no region that stays: give the path of a file or a device",
			path);
	rc = zd_pmem_check(path, flags, say, (void *)path, &c, err, sizeof(err));
	if (!rc)
		return verdict(path, &c);
	fflush(stdout);
	/* Some of these lines name the path themselves. */
	if (strstr(err, path))
		cmd_error("check: %s", err);
	else
		cmd_error("check: %s: %s", path, err);
	return EXIT_FAILED;
}

int cmd_check(int argc, char **argv)
{
	static const struct option options[] = { { "dry-run", no_argument, NULL, 'n' },
						 { "data", no_argument, NULL, 'd' },
						 { "help", no_argument, NULL, 'h' },
						 { 0 } };
	unsigned int flags = 0;
	int c;

	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, "hn", options, NULL)) != -1) {
		switch (c) {
		case 'n':
			flags |= ZD_PMEM_CHECK_LOOK;
			break;
		case 'd':
			flags |= ZD_PMEM_CHECK_DATA;
			break;
		case 'h':
			print_usage();
			return 0;
		default:
			return cmd_error("check: bad option '%s' (try: zonedev check --help)",
					 argv[optind - 1]);
		}
	}
	if (optind == argc)
		return cmd_error("check: which region? (try: zonedev check --help)");
	if (optind + 1 < argc)
		return cmd_error("check: one region at a time, got '%s', too", argv[optind + 1]);
	return check(argv[optind], flags);
}
