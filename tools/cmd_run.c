/* SPDX-License-Identifier: MIT */
/* `zonedev run`: options, and everything that can be wrong before the program
 * starts. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drivers/registry/registry.h"
#include "tools/cmd.h"
#include "tools/probe.h"
#include "tools/run_devices.h"
#include "run/command.h"
#include "run/front.h"
#include "run/report.h"
#include "run/run.h"
#include "run/signals.h"
#include "run/supervise.h"
#include "run/user_fds.h"
#include "zonedev/log.h"

#define RAM_MIN		(8ull << 20)

static const struct option long_options[] = {
	{ "device", required_argument, NULL, 'd' },
	{ "ram", required_argument, NULL, 'r' },
	{ "report", required_argument, NULL, 'o' },
	{ "progress", no_argument, NULL, 'p' },
	{ "no-children", no_argument, NULL, 'c' },
	{ "quiet", no_argument, NULL, 'q' },
	{ "verbose", no_argument, NULL, 'v' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static int help(void)
{
	char devices[1024];

	zd_drivers_usage(ZD_DRIVER_RUN, ZD_USAGE_FULL, ", or ", devices, sizeof(devices));
	printf("usage: zonedev run [OPTION...] -- CMD [ARG...]\n"
	       "\n"
	       "Run CMD with at most --ram of its anonymous memory in RAM, the rest on a device.\n"
	       "\n"
	       "  --device SPEC  %s,\n"
	       "                 or plugin:FILE (see zonedev-plugin(7))\n"
	       "                 (default: lz4, then an unlinked file in $TMPDIR or /var/tmp);\n"
	       "                 several, fastest first: pages go to the first that has room\n"
	       "  --ram SIZE     RAM for CMD and its children together\n"
	       "                 (default: half of what is available)\n"
	       "  --report FILE  write a JSON report instead of the summary; -: to standard output\n"
	       "  --progress     say every second how it goes\n"
	       "  --no-children  leave programs that CMD starts alone\n"
	       "  --quiet        no summary and no warnings\n"
	       "  --verbose      say more\n"
	       "  --help, -h     this text\n"
	       "\n"
	       "SIZE is in bytes, or with K, M, G or T (1.5G, 512MiB); at least 8M for --ram, 2M for\n"
	       "a device.  The exit status is CMD's; 2: zonedev could not start it, or not write the\n"
	       "report; 126: CMD is not executable, 127: not found.\n",
	       devices);
	return 0;
}

static void log_line(enum zd_log_level level, const char *msg, void *ctx)
{
	const struct options *opt = ctx;
	enum zd_log_level max = opt->quiet ? ZD_LOG_ERR : opt->verbose ? ZD_LOG_DEBUG : ZD_LOG_WARN;

	if (level <= max)
		cmd_error("%s", msg);
}

/* Half of what is available, in bytes; 0: unknown. */
static uint64_t default_ram(void)
{
	unsigned long long kib = 0;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib * 1024 / 2;
}

/* Returns -1: go on; or the exit status. */
static int parse(int argc, char **argv, struct options *opt)
{
	int c, rc;

	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:h", long_options, NULL)) != -1) {
		if ((c == 'r' && opt->ram) || (c == 'o' && opt->report))
			return cmd_error("--%s is given twice: leave one out",
					 c == 'r' ? "ram" : "report");
		switch (c) {
		case 'd':
			if (opt->nr_devices == ZD_TIERS_MAX)
				return cmd_error("--device %s: there can be %d devices, no more",
						 optarg, ZD_TIERS_MAX);
			opt->device[opt->nr_devices++] = optarg;
			break;
		case 'r':
			rc = zd_parse_size(optarg, &opt->ram);
			if (rc || !opt->ram)
				return cmd_error("--ram %s: not a size (try 512M or 1.5G)", optarg);
			if (opt->ram < RAM_MIN)
				return cmd_error("--ram %s: too small, give at least 8M", optarg);
			break;
		case 'o':
			opt->report = optarg;
			break;
		case 'p':
			opt->progress = true;
			break;
		case 'c':
			opt->no_children = true;
			break;
		case 'q':
			opt->quiet = true;
			break;
		case 'v':
			opt->verbose = true;
			break;
		case 'h':
			return help();
		case ':':
			return cmd_error("%s needs a value (see: zonedev run --help)",
					 argv[optind - 1]);
		default:
			return cmd_error("unknown option %s (see: zonedev run --help)",
					 argv[optind - 1]);
		}
	}
	opt->argv = argv + optind;
	if (!opt->argv[0])
		return cmd_error(
			"no command to run (usage: zonedev run [OPTION...] -- CMD [ARG...])");
	if (opt->quiet && opt->verbose)
		return cmd_error("--quiet and --verbose exclude each other");
	return -1;
}

static int check_host(void)
{
	struct probe_problem problem[PROBE_MAX_PROBLEMS];
	struct probe probe;

	probe_host(&probe);
	if (probe_problems(&probe, problem))
		return cmd_error("%s: %s", problem[0].what, problem[0].fix);
	return 0;
}

int cmd_run(int argc, char **argv)
{
	char preload[PATH_MAX], path[PATH_MAX];
	static struct run run;
	int rc;

	user_fds_occupy();
	inherit_begin(&run.in);
	rc = parse(argc, argv, &run.opt);
	if (rc >= 0)
		return rc;
	zd_set_log(log_line, &run.opt);
	rc = command_check(run.opt.argv[0], path, sizeof(path));
	if (rc)
		return rc;
	rc = check_host();
	if (rc)
		return rc;
	if (cmd_find_preload(preload, sizeof(preload)))
		return cmd_error("%s is missing: build or install zonedev again", preload);
	if (strpbrk(preload, ": "))
		return cmd_error("%s: the loader can't preload from a path with a colon or a space",
				 preload);
	if (run.opt.report) {
		rc = report_open(&run);
		if (rc)
			return cmd_error("--report %s: %s", run.opt.report, strerrordesc_np(-rc));
	}
	if (!run.opt.ram)
		run.opt.ram = default_ram();
	if (run.opt.ram < RAM_MIN)
		return cmd_error("too little memory is available: say with --ram how much to use");
	/* before the device has threads, which would take signals; and the witness, a copy of
	 * this process, must have no threads either */
	signals_block();
	rc = witness_start(&run.witness);
	if (rc)
		return cmd_error("can't start: %s", strerrordesc_np(-rc));
	run.front.fd = run.sig.fd = run.pass_on.answers.fd = -1;
	if (run.in.cpu_seconds) {
		rc = front_run(&run, path, preload);
		if (rc >= 0)
			return rc;
	}
	rc = run_devices_open(&run);
	if (rc && run.front.fd >= 0)
		front_failed(&run, rc);
	if (rc)
		return rc;
	inherit_leave_cwd(&run.in);
	return supervise(&run, path, preload);
}
