/* SPDX-License-Identifier: MIT */
/* zonedev info: what this host can do, and whether `zonedev run` will work. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <string.h>
#include <zonedev.h>

#include "tools/cmd.h"
#include "tools/info_devices.h"
#include "tools/probe.h"

static const struct {
	const char *name;
	uint64_t bit;
} membarriers[] = {
	{ "global", MEMBARRIER_CMD_GLOBAL },
	{ "global_expedited", MEMBARRIER_CMD_GLOBAL_EXPEDITED },
	{ "private_expedited", MEMBARRIER_CMD_PRIVATE_EXPEDITED },
	{ "private_expedited_sync_core", MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE },
	{ "private_expedited_rseq", MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ },
};

#define NR_MEMBARRIERS (sizeof(membarriers) / sizeof(membarriers[0]))

static void print_usage(void)
{
	printf("usage: zonedev info [--devices [DRIVER | plugin:FILE]] [--json]\n"
	       "\n"
	       "What this host can do, and whether `zonedev run` will work here.\n"
	       "\n"
	       "  --devices   list the drivers and plugins instead, or one, and what each takes\n"
	       "  --json      write JSON\n"
	       "  --help, -h  this text\n"
	       "\n"
	       "Exit status: 0 if `zonedev run` will work, or the drivers are listed; 1 if not; 2 for\n"
	       "bad usage.\n");
}

static const char *yes(int err)
{
	return err ? strerror(-err) : "yes";
}

static void print_features(const struct probe *p)
{
	uint64_t left = p->uffd_features;
	int column = 24;

	printf("  features          ");
	if (p->uffd_api)
		printf(" %s", strerror(-p->uffd_api));
	for (int i = 0; probe_feature_names[i]; i++) {
		if (!(left >> i & 1))
			continue;
		left &= ~(1ULL << i);
		if (column + strlen(probe_feature_names[i]) > 80) {
			printf("\n                    ");
			column = 20;
		}
		column += printf(" %s", probe_feature_names[i]);
	}
	if (left)
		printf(" and %#llx", (unsigned long long)left);
	printf("\n");
}

static void print_verdict(const struct probe_problem *problems, int nr)
{
	printf("zonedev run          %s", nr ? "not ready: " : "ready");
	for (int i = 0; i < nr; i++)
		printf("%s%s (%s)", i ? "; " : "", problems[i].what, problems[i].fix);
	printf("\n");
}

static void print_text(const struct probe *p, const struct probe_problem *problems, int nr)
{
	printf("zonedev              %s\n", zd_version());
	printf("kernel               %s\n", p->kernel);
	printf("memory               %llu MiB, available %llu MiB\n",
	       (unsigned long long)p->mem_total >> 20, (unsigned long long)p->mem_available >> 20);
	printf("userfaultfd\n");
	printf("  system call        %s\n", yes(p->uffd_syscall));
	printf("  user mode only     %s\n", yes(p->uffd_user_only));
	printf("  /dev/userfaultfd   %s\n", yes(p->uffd_device));
	if (p->uffd_sysctl >= 0)
		printf("  unprivileged       %s (vm.unprivileged_userfaultfd = %d)\n",
		       p->uffd_sysctl ? "yes" : "no", p->uffd_sysctl);
	print_features(p);
	printf("  all events         %s\n", yes(p->uffd_events));
	printf("  moving two pages   %s\n", yes(p->uffd_move));
	printf("CAP_SYS_PTRACE       %s\n", p->cap_sys_ptrace ? "yes" : "no");
	printf("huge pages (THP)     %s\n", p->thp[0] ? p->thp : "no");
	printf("io_uring             %s%s\n", yes(p->io_uring),
	       p->io_uring ? ": file devices will be slower" : "");
	printf("PAGEMAP_SCAN         %s\n", yes(p->pagemap_scan));
	printf("membarrier          ");
	if (p->membarrier)
		printf(" %s", strerror(-p->membarrier));
	for (size_t i = 0; i < NR_MEMBARRIERS; i++)
		if (p->membarrier_cmds & membarriers[i].bit)
			printf(" %s", membarriers[i].name);
	printf("\n");
	printf("rseq                 %s\n", p->rseq_size ? "yes" : "no");
	printf("preload library      %s%s\n", p->preload_path, p->preload ? ": not found" : "");
	print_verdict(problems, nr);
}

static json_t *json_features(const struct probe *p)
{
	json_t *list = json_array();

	for (int i = 0; probe_feature_names[i]; i++)
		if (p->uffd_features >> i & 1)
			json_array_append_new(list, json_string(probe_feature_names[i]));
	return list;
}

static json_t *json_membarrier(const struct probe *p)
{
	json_t *list = json_array();

	for (size_t i = 0; i < NR_MEMBARRIERS; i++)
		if (p->membarrier_cmds & membarriers[i].bit)
			json_array_append_new(list, json_string(membarriers[i].name));
	return list;
}

static json_t *json_problems(const struct probe_problem *problems, int nr)
{
	json_t *list = json_array();

	for (int i = 0; i < nr; i++)
		json_array_append_new(list, json_pack("{s:s, s:s}", "what", problems[i].what, "fix",
						      problems[i].fix));
	return list;
}

static json_t *json_userfaultfd(const struct probe *p)
{
	json_t *sysctl = p->uffd_sysctl < 0 ? json_null() : json_integer(p->uffd_sysctl);

	return json_pack("{s:b, s:b, s:b, s:o, s:o, s:b, s:b}", "syscall", !p->uffd_syscall,
			 "user_mode_only", !p->uffd_user_only, "device", !p->uffd_device,
			 "unprivileged_sysctl", sysctl, "features", json_features(p), "events",
			 !p->uffd_events, "move", !p->uffd_move);
}

/* Returns 0 or -ENOMEM. */
static int print_json(const struct probe *p, const struct probe_problem *problems, int nr)
{
	json_t *root;

	root = json_pack(
		"{s:s, s:s, s:{s:I, s:I}, s:o, s:b, s:s?, s:b, s:b, s:o, s:b, s:s?, s:b, s:o}",
		"version", zd_version(), "kernel", p->kernel, "memory", "total",
		(json_int_t)p->mem_total, "available", (json_int_t)p->mem_available, "userfaultfd",
		json_userfaultfd(p), "cap_sys_ptrace", p->cap_sys_ptrace, "thp",
		p->thp[0] ? p->thp : NULL, "io_uring", !p->io_uring, "pagemap_scan",
		!p->pagemap_scan, "membarrier", json_membarrier(p), "rseq", p->rseq_size != 0,
		"preload", p->preload ? NULL : p->preload_path, "ready", nr == 0, "problems",
		json_problems(problems, nr));
	if (!root)
		return -ENOMEM;
	json_dumpf(root, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(root);
	return 0;
}

static int finish(int status)
{
	if (fflush(stdout))
		return cmd_error("info: can't write: %s", strerror(errno));
	return status;
}

/* @name: NULL: all of them. */
static int list_devices(const char *name, bool json)
{
	char err[512];

	if (info_devices(name, json, err, sizeof(err)))
		return cmd_error("info: %s", err);
	return finish(0);
}

int cmd_info(int argc, char **argv)
{
	static const struct option options[] = { { "devices", no_argument, NULL, 'd' },
						 { "json", no_argument, NULL, 'j' },
						 { "help", no_argument, NULL, 'h' },
						 { 0 } };
	struct probe_problem problems[PROBE_MAX_PROBLEMS];
	struct probe probe;
	bool json = false, devices = false;
	int c, nr;

	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			devices = true;
			break;
		case 'j':
			json = true;
			break;
		case 'h':
			print_usage();
			return 0;
		default:
			return cmd_error("info: bad option '%s' (try: zonedev info --help)",
					 argv[optind - 1]);
		}
	}
	if (optind + devices < argc)
		return cmd_error("info: takes no argument, got '%s' (try: zonedev info --help)",
				 argv[optind + devices]);

	if (devices)
		return list_devices(argv[optind], json);
	probe_host(&probe);
	nr = probe_problems(&probe, problems);
	if (!json)
		print_text(&probe, problems, nr);
	else if (print_json(&probe, problems, nr))
		return cmd_error("info: out of memory");
	return finish(nr ? 1 : 0);
}
