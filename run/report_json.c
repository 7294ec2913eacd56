/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "engine/tier.h"
#include "run/process.h"
#include "run/report_json.h"
#include "run/run.h"
#include "run/tiers.h"

#define STATS_MAX	32	/* of one driver's own */
#define PIDS_MAX	256

double report_latency_us(const struct run *run, double q)
{
	return zd_hist_quantile(&run->server.stats.latency, q) / 1000.0;
}

double report_seconds(const struct run *run)
{
	return ((run->child.end_ns ? run->child.end_ns : zd_now_ns()) - run->start_ns) / 1e9;
}

static json_t *num(uint64_t v)
{
	return json_integer(v);
}

/* A name from the command line; where it is no UTF-8, each byte that isn't ASCII becomes '?'. */
static json_t *text(const char *name)
{
	json_t *string = json_string(name);
	char *copy = string ? NULL : strdup(name);

	if (!copy)
		return string;
	for (char *p = copy; *p; p++)
		*p = *p & 0x80 ? '?' : *p;
	string = json_string(copy);
	free(copy);
	return string;
}

/* --- devices --- */

static json_t *drivers_own(const struct zd_device *dev)
{
	struct zd_device_stat stat[STATS_MAX];
	json_t *own = json_object();
	int nr = dev && dev->ops->stats ?
			 dev->ops->stats((struct zd_device *)dev, stat, STATS_MAX) :
			 0;

	for (int i = 0; i < nr && i < STATS_MAX; i++)
		json_object_set_new(own, stat[i].name, json_real(stat[i].value));
	return own;
}

static const char *state_name(const struct tier *tier)
{
	return tier->state == TIER_USED ? "used" : tier->state == TIER_GONE ? "removed" : "leaving";
}

static json_t *device(const struct run *run, const struct tier *tier)
{
	const struct zd_tier *t = zd_server_find_tier(&run->server, tier->dev);
	const struct tier_counts *c = &tier->counts;
	struct zd_device *dev = tier->dev;

	return json_pack("{s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o}", "name",
			 text(tier->name), "device", text(tier->device), "size", num(tier->size),
			 "state", state_name(tier), "live",
			 num(dev ? zd_device_live_pages(dev) : 0), "out", num(c->in), "home",
			 num(c->home), "moved", num(c->left), "errors", num(c->errors), "full",
			 t && t->full, "ram", num(tier_ram(tier)), "stats", drivers_own(dev));
}

static json_t *devices(const struct run *run)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < run->nr_tiers; i++)
		json_array_append_new(list, device(run, &run->tiers[i]));
	return list;
}

static uint64_t size_of_all(const struct run *run)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < run->nr_tiers; i++)
		bytes += run->tiers[i].size;
	return bytes;
}

/* --- all --- */

static json_t *unmanaged(const struct run *run)
{
	const uint64_t *u = run->unmanaged;

	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "static",
			 num(u[ZD_UNMANAGED_STATIC]), "privileged", num(u[ZD_UNMANAGED_SUID]),
			 "32bit", num(u[ZD_UNMANAGED_32BIT]), "environment",
			 num(u[ZD_UNMANAGED_ENV]), "hidden", num(u[ZD_UNMANAGED_HIDDEN]), "libc",
			 num(u[ZD_UNMANAGED_LIBC]), "refused", num(run->nr_unmanaged));
}

static json_t *status(const struct run *run)
{
	int st = run->child.status;
	bool ended = run->child.done;

	return json_pack("{s:o, s:o}", "exit",
			 ended && WIFEXITED(st) ? num(WEXITSTATUS(st)) : json_null(), "signal",
			 ended && !WIFEXITED(st) ? num(WTERMSIG(st)) : json_null());
}

json_t *report_json(struct run *run)
{
	const struct zd_mm_stats *c = &run->server.stats.c;

	tiers_count(run);
	return json_pack(
		"{s:i, s:o, s:o, s:o, s:o, s:f, s:o, s:o, s:o, s:{s:o,s:o,s:o,s:o,s:o,s:o},"
		" s:o, s:o, s:o, s:{s:f,s:f,s:f,s:f}, s:{s:o,s:o},"
		" s:{s:o,s:o,s:o,s:o,s:o,s:o}, s:o, s:o}",
		"version", 1, "command", text(run->opt.argv[0]), "device",
		text(run->nr_tiers ? run->tiers[0].device : ""), "device_size",
		num(size_of_all(run)), "devices", devices(run), "seconds", report_seconds(run),
		"status", status(run), "ram", num(run->opt.ram), "peak_ram",
		num(run->peak * ZD_PAGE_SIZE), "pages", "out", num(c->pages_out), "home",
		num(c->pages_home), "freed", num(c->pages_freed), "zero", num(c->pages_zero),
		"poisoned", num(c->pages_poisoned), "live", num(tiers_live(run)), "faults",
		num(c->faults), "faults_home", num(c->faults_home), "faults_zero",
		num(c->faults_zero), "fault_latency_us", "p50", report_latency_us(run, 0.5), "p90",
		report_latency_us(run, 0.9), "p99", report_latency_us(run, 0.99), "max",
		run->server.stats.latency.max / 1000.0, "bytes", "to_device",
		num(c->bytes_to_device), "from_device", num(c->bytes_from_device), "refused",
		"pinned", num(c->refused_pinned), "shared", num(c->refused_shared), "absent",
		num(c->refused_absent), "protection", num(c->refused_protection), "busy",
		num(c->refused_busy), "device", num(c->refused_device), "processes",
		num(run->nr_processes), "unmanaged", unmanaged(run));
}

static json_t *pids(const struct run *run)
{
	json_t *list = json_array();
	const struct process *p;

	cds_list_for_each_entry(p, &run->processes, node)
		if (p->pid > 0 && json_array_size(list) < PIDS_MAX)
			json_array_append_new(list, num(p->pid));
	return list;
}

json_t *report_json_live(struct run *run)
{
	json_t *root = report_json(run);

	if (!root)
		return NULL;
	json_object_set_new(root, "pid", num(getpid()));
	json_object_set_new(root, "resident", num(run->server.resident * ZD_PAGE_SIZE));
	json_object_set_new(root, "pids", pids(run));
	return root;
}
