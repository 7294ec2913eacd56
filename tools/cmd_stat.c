/* SPDX-License-Identifier: MIT */
/* `zonedev stat`: how the user's runs stand. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/time.h"
#include "tools/cmd.h"
#include "tools/control_client.h"
#include "tools/run_client.h"
#include "tools/stat_text.h"

struct stat_options {
	double interval;		/* seconds; 0: once */
	bool json;
	long pid;			/* 0: a list of all */
};

static int help(void)
{
	printf("usage: zonedev stat [OPTION...] [PID]\n"
	       "\n"
	       "How a `zonedev run` stands: RAM, what is on which device, faults a second, and the\n"
	       "drivers' own statistics.  PID is zonedev's or that of a process under it; without\n"
	       "PID: a list of this user's runs (for root: of all).\n"
	       "\n"
	       "  --interval SECONDS  again and again, until the run ends; -i is the same\n"
	       "  --json              as JSON; with --interval an object, or array, a line\n"
	       "  --help, -h          this text\n"
	       "\n"
	       "Rates are since the run's start, with --interval since the last look.\n"
	       "Exit status: 0, 1 if a run doesn't answer, 2 for bad usage, or no such run.\n");
	return 0;
}

static int parse_interval(const char *text, double *seconds)
{
	char *end;

	if (*seconds)
		return cmd_error("--interval is given twice: leave one out");
	*seconds = strtod(text, &end);
	if (end == text || *end || !isfinite(*seconds) || *seconds < 0.05 || *seconds > 1e6)
		return cmd_error("--interval %s: not a time in seconds, 0.05 at least (try 1)",
				 text);
	return -1;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct stat_options *opt)
{
	static const struct option options[] = {
		{ "interval", required_argument, NULL, 'i' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c, rc = -1;

	optind = 0;
	opterr = 0;
	while (rc < 0 && (c = getopt_long(argc, argv, ":i:h", options, NULL)) != -1) {
		switch (c) {
		case 'i':
			rc = parse_interval(optarg, &opt->interval);
			break;
		case 'j':
			opt->json = true;
			break;
		case 'h':
			return help();
		case ':':
			return cmd_error("%s needs a value (see: zonedev stat --help)",
					 argv[optind - 1]);
		default:
			return cmd_error("unknown option %s (see: zonedev stat --help)",
					 argv[optind - 1]);
		}
	}
	if (rc >= 0)
		return rc;
	if (optind + 1 < argc)
		return cmd_error("stat: one PID, or none (see: zonedev stat --help)");
	opt->pid = optind < argc ? run_parse_pid(argv[optind]) : 0;
	if (opt->pid < 0)
		return cmd_error("stat %s: not a process id", argv[optind]);
	return -1;
}

static json_t *parse_answer(const struct run_answer *a)
{
	return a->text ? json_loads(a->text, 0, NULL) : NULL;
}

static void print_json(const struct stat_options *opt, json_t *what)
{
	json_dumpf(what, stdout, opt->interval ? JSON_COMPACT : JSON_INDENT(2));
	printf("\n");
}

static int by_pid(const void *a, const void *b)
{
	json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "pid"));
	json_int_t y = json_integer_value(json_object_get(*(json_t *const *)b, "pid"));

	return x < y ? -1 : x > y;
}

/* The runs that answered, by pid.  Returns how many did not; or -errno. */
static int ask_list(json_t *list)
{
	struct run_answer *all = NULL;
	int nr = run_ask_all(0, &all), silent = 0, got = 0;
	json_t **runs = calloc(nr > 0 ? nr : 1, sizeof(*runs));

	if (nr < 0 || !runs) {
		free(runs);
		return nr < 0 ? nr : -ENOMEM;
	}
	for (int i = 0; i < nr; i++) {
		runs[got] = parse_answer(&all[i]);
		if (runs[got])
			got++;
		else
			silent++;
	}
	qsort(runs, got, sizeof(*runs), by_pid);
	for (int i = 0; i < got; i++)
		json_array_append_new(list, runs[i]);
	free(runs);
	run_answers_free(all, nr);
	return silent;
}

static int look_at_all(const struct stat_options *opt)
{
	json_t *list = json_array();
	int silent = ask_list(list);

	if (silent < 0) {
		json_decref(list);
		return cmd_error("/proc/net/unix: %s", strerrordesc_np(-silent));
	}
	if (opt->json)
		print_json(opt, list);
	else if (json_array_size(list))
		stat_list(list);
	else if (!silent)
		printf("nothing runs under zonedev\n");
	json_decref(list);
	if (silent)
		cmd_error("%d `zonedev run` of this user's did not answer (stopped?)", silent);
	return silent ? EXIT_HELD : 0;
}

/* What was seen last, and when. */
struct look {
	json_t *run;
	int64_t ms;
};

static int look_at_one(const struct stat_options *opt, struct look *last)
{
	struct look now = { .ms = zd_now_ms() };
	struct run_answer answer;
	int rc = run_ask_one(opt->pid, &answer, last->run);

	if (rc)
		return rc;
	now.run = parse_answer(&answer);
	free(answer.text);
	if (!now.run)
		return cmd_error("%ld: its answer is no JSON", opt->pid);
	if (opt->json)
		print_json(opt, now.run);
	else
		stat_one(now.run, last->run, (now.ms - last->ms) / 1000.0);
	json_decref(last->run);
	*last = now;
	return 0;
}

static void pause_for(double seconds)
{
	struct timespec ts = { (time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9) };

	nanosleep(&ts, NULL);
}

int cmd_stat(int argc, char **argv)
{
	struct stat_options opt = { 0 };
	struct look last = { NULL, 0 };
	int rc = parse(argc, argv, &opt);

	if (rc >= 0)
		return rc;
	for (;;) {
		rc = opt.pid ? look_at_one(&opt, &last) : look_at_all(&opt);
		if (fflush(stdout) || ferror(stdout))
			rc = cmd_error("can't write to standard output: %s",
				       strerrordesc_np(errno));
		if (rc || !opt.interval)
			break;
		pause_for(opt.interval);
		if (!opt.json)
			printf("\n");
	}
	json_decref(last.run);
	/* the run has ended while it was looked at */
	return rc < 0 ? 0 : rc;
}
