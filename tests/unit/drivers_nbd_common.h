/* SPDX-License-Identifier: MIT */
/* What the tests of the nbd driver share: real servers (nbdkit), and devices on them. */
#ifndef TESTS_DRIVERS_NBD_COMMON_H
#define TESTS_DRIVERS_NBD_COMMON_H

#include "drivers_common.h"

#include <signal.h>
#include <sys/wait.h>

#include "base/time.h"
#include "drivers/nbd/nbd.h"

#define SIZE_MIB	16
#define NR_PAGES	(SIZE_MIB << 8)

static char dir[64];		/* of the test: the socket, and what is exported */
static char socket_path[96], ready_path[96], log_path[96], uri[128];
static const char *listen_option;	/* -U: at socket_path; -i: at the address that is there */
static pid_t server;

static inline bool have_nbdkit(void)
{
	return !system("nbdkit --version >/dev/null 2>&1");
}

/* nbdkit with these arguments, up to NULL. */
static inline void start_server(const char *const *args)
{
	const char *argv[24] = { "nbdkit",	"-f",	     "--exit-with-parent",
				 listen_option, socket_path, "-P",
				 ready_path };
	uint64_t until = zd_now_ns() + PATIENCE_MS * UINT64_C(1000000);
	unsigned int n = 7;

	while (*args)
		argv[n++] = *args++;
	unlink(socket_path);
	unlink(ready_path);
	server = fork();
	if (!server) {
		dup2(open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600), 2);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	assert_true(server > 0);
	while (access(ready_path, F_OK)) {
		assert_true(zd_now_ns() < until);
		assert_int_equal(waitpid(server, NULL, WNOHANG), 0);
		usleep(1000);
	}
}
#define start_nbdkit(...)	start_server((const char *const[]){ __VA_ARGS__, NULL })

static inline void kill_server(void)
{
	if (server <= 0)
		return;
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	server = 0;
}

/* When it returns, none of the server's threads runs any more. */
static inline void stop_server(void)
{
	int status;

	assert_int_equal(kill(server, SIGSTOP), 0);
	assert_int_equal(waitpid(server, &status, WUNTRACED), server);
	assert_true(WIFSTOPPED(status));
}

static inline int make_dir(void **state)
{
	(void)state;
	listen_option = "-U";
	snprintf(dir, sizeof(dir), "/dev/shm/zd-nbd.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(socket_path, sizeof(socket_path), "%s/s", dir);
	snprintf(ready_path, sizeof(ready_path), "%s/ready", dir);
	snprintf(log_path, sizeof(log_path), "%s/log", dir);
	snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", socket_path);
	return 0;
}

static inline int remove_dir(void **state)
{
	char command[96];

	(void)state;
	kill_server();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static inline struct zd_nbd *open_device(uint64_t timeout_ms, unsigned int connections)
{
	const struct zd_nbd_options options = {
		.uri = uri, .connections = connections, .timeout_ms = timeout_ms,
	};
	struct zd_device *dev;
	char err[512] = "";
	int rc = zd_nbd_device_create(&options, &dev, err, sizeof(err));

	if (rc)
		fail_msg("%d: %s", rc, err);
	return dev->private_data;
}

static inline void close_device(struct zd_nbd *nbd)
{
	assert_int_equal(zd_device_live_pages(&nbd->dev), 0);
	assert_int_equal(zd_device_unregister(&nbd->dev), 0);
}

static inline double stat_of(struct zd_nbd *nbd, const char *name)
{
	struct zd_device_stat stats[32];
	int nr = nbd->dev.ops->stats(&nbd->dev, stats, 32);

	assert_in_range(nr, 1, 32);
	while (nr--)
		if (!strcmp(stats[nr].name, name))
			return stats[nr].value;
	fail_msg("no statistic %s", name);
	return 0;
}

/* Pages of a device with buffers, and what they were filled with. */
struct set {
	struct zd_nbd *nbd;
	unsigned int nr;
	zd_pfn_t *pfns;
	struct zd_io_page *pages;
	char *mem;
};

/* Freed pages that the server is being told of can't be allocated before it has answered. */
static inline void alloc_pages(struct zd_nbd *nbd, unsigned int nr, zd_pfn_t *pfns)
{
	uint64_t until = zd_now_ns() + PATIENCE_MS * UINT64_C(1000000);
	unsigned int got = 0;

	for (;;) {
		int rc = nbd->dev.ops->alloc_pages(&nbd->dev, nr - got, pfns + got);

		assert_in_range(rc, 0, nr - got);
		got += rc;
		if (got == nr)
			break;
		assert_true(zd_now_ns() < until);
		usleep(1000);
	}
}

static inline void make_set(struct set *set, struct zd_nbd *nbd, unsigned int nr)
{
	set->nbd = nbd;
	set->nr = nr;
	set->pfns = calloc(nr, sizeof(*set->pfns));
	set->pages = calloc(nr, sizeof(*set->pages));
	set->mem = map_pages(nr);
	alloc_pages(nbd, nr, set->pfns);
	set_pages(set->pages, set->pfns, nr, set->mem);
}

static inline void free_set(struct set *set)
{
	set->nbd->dev.ops->unalloc_pages(&set->nbd->dev, set->nr, set->pfns);
	munmap(set->mem, set->nr * ZD_PAGE_SIZE);
	free(set->pages);
	free(set->pfns);
}

static inline void fill_set(struct set *set, uint64_t tag)
{
	for (unsigned int i = 0; i < set->nr; i++)
		fill(set->pages[i].buf, set->pages[i].pfn * 16 + tag);
}

static inline void write_set(struct set *set, uint64_t tag)
{
	fill_set(set, tag);
	do_io_ok(&set->nbd->dev, ZD_TO_DEVICE, set->pages, set->nr);
}

static inline void expect_set(const struct set *set, uint64_t tag)
{
	for (unsigned int i = 0; i < set->nr; i++) {
		assert_int_equal(set->pages[i].error, 0);
		assert_true(filled(set->pages[i].buf, set->pages[i].pfn * 16 + tag));
	}
}

static inline void read_set(struct set *set, uint64_t tag)
{
	memset(set->mem, 0xee, set->nr * ZD_PAGE_SIZE);
	do_io(&set->nbd->dev, ZD_FROM_DEVICE, set->pages, set->nr);
	expect_set(set, tag);
}

static inline void wait_until(struct zd_nbd *nbd, bool (*cond)(struct zd_nbd *nbd))
{
	uint64_t until = zd_now_ns() + PATIENCE_MS * UINT64_C(1000000);

	while (!cond(nbd)) {
		assert_true(zd_now_ns() < until);
		usleep(1000);
	}
}

#endif
