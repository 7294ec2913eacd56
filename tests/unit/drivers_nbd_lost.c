/* SPDX-License-Identifier: MIT */
/*
 * The nbd driver and servers that go away: killed and started again, killed for good, stopped.
 */
#include "drivers_nbd_common.h"

#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static char data_path[96];

static void start_threaded_server(const char *threads)
{
	int fd;

	snprintf(data_path, sizeof(data_path), "%s/data", dir);
	fd = open(data_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE_MIB << 20), 0);
	close(fd);
	start_nbdkit("--threads", threads, "file", data_path);
}

static void start_file_server(void)
{
	start_threaded_server("16");
}

static uint64_t ms_since(uint64_t ns)
{
	return (zd_now_ns() - ns) / 1000000;
}

static bool is_down(struct zd_nbd *nbd)
{
	return stat_of(nbd, "connections") == 0;
}

static bool is_up(struct zd_nbd *nbd)
{
	return stat_of(nbd, "connections") > 0;
}

static bool is_away(struct zd_nbd *nbd)
{
	return __atomic_load_n(&nbd->away, __ATOMIC_RELAXED);
}

static bool is_not_away(struct zd_nbd *nbd)
{
	return !is_away(nbd);
}

/* Killed in the middle of all directions, and started again on the same file, many times.
 * Broken looks like: an error, another content, or a batch that is never done. */
static void a_restart_loses_nothing(void **state)
{
	struct zd_device_io io[65] = { 0 };
	struct zd_nbd *nbd;
	struct set old, new;

	(void)state;
	start_file_server();
	nbd = open_device(20000, 3);
	make_set(&old, nbd, 1024);
	make_set(&new, nbd, 1024);
	write_set(&old, 1);
	for (unsigned int round = 0; round < 8; round++) {
		memset(old.mem, 0xee, old.nr * ZD_PAGE_SIZE);
		fill_set(&new, round);
		memset(io, 0, sizeof(io));
		for (unsigned int i = 0; i < 64; i++)
			start_io(&nbd->dev, &io[i], i % 2 ? ZD_FROM_DEVICE : ZD_TO_DEVICE,
				 i % 2 ? &old.pages[i / 2 * 32] : &new.pages[i / 2 * 32], 32);
		usleep(round * 200);
		kill_server();
		wait_until(nbd, is_down);
		start_file_server();
		for (unsigned int i = 0; i < 64; i++)
			wait_io(&nbd->dev, &io[i]);
		expect_set(&old, 1);
		read_set(&new, round);
	}
	assert_true(stat_of(nbd, "reconnects") >= 8);
	free_set(&old);
	free_set(&new);
	close_device(nbd);
}

/* Killed for good.  Broken looks like: a read that waits longer than timeout=, a write that
 * waits as long, or a device that is dead for ever. */
static void reads_wait_for_timeout_and_writes_for_a_second(void **state)
{
	struct zd_device_io read = { 0 }, write = { 0 };
	struct zd_nbd *nbd;
	struct set set, new;
	zd_pfn_t pfn;
	uint64_t start;

	(void)state;
	start_file_server();
	nbd = open_device(2500, 2);
	make_set(&set, nbd, 8);
	make_set(&new, nbd, 8);
	write_set(&set, 1);
	kill_server();
	wait_until(nbd, is_down);
	start = zd_now_ns();
	start_io(&nbd->dev, &read, ZD_FROM_DEVICE, set.pages, set.nr);
	fill_set(&new, 2);
	start_io(&nbd->dev, &write, ZD_TO_DEVICE, new.pages, new.nr);
	wait_io(&nbd->dev, &write);
	assert_in_range(ms_since(start), 500, 2300);
	for (unsigned int i = 0; i < new.nr; i++)
		assert_int_equal(new.pages[i].error, -EAGAIN);
	assert_int_equal(nbd->dev.ops->alloc_pages(&nbd->dev, 1, &pfn), -EAGAIN);
	assert_null(read.owner);
	wait_io(&nbd->dev, &read);
	assert_true(ms_since(start) > 2000);
	for (unsigned int i = 0; i < set.nr; i++)
		assert_int_equal(set.pages[i].error, -ETIMEDOUT);
	/* The time is over: a read fails at once. */
	start = zd_now_ns();
	do_io(&nbd->dev, ZD_FROM_DEVICE, set.pages, set.nr);
	assert_int_equal(set.pages[0].error, -ETIMEDOUT);
	assert_true(ms_since(start) < 2000);
	/* Another server on the same file: all is as it was. */
	start_file_server();
	wait_until(nbd, is_up);
	wait_until(nbd, is_not_away);
	read_set(&set, 1);
	write_set(&new, 3);
	read_set(&new, 3);
	free_set(&set);
	free_set(&new);
	close_device(nbd);
}

static void timeout_0_waits_for_nothing(void **state)
{
	struct zd_nbd *nbd;
	struct set set;
	uint64_t start;

	(void)state;
	start_file_server();
	nbd = open_device(0, 2);
	make_set(&set, nbd, 8);
	write_set(&set, 1);
	kill_server();
	wait_until(nbd, is_down);
	start = zd_now_ns();
	do_io(&nbd->dev, ZD_FROM_DEVICE, set.pages, set.nr);
	assert_int_equal(set.pages[0].error, -ETIMEDOUT);
	do_io(&nbd->dev, ZD_TO_DEVICE, set.pages, set.nr);
	assert_int_equal(set.pages[0].error, -EAGAIN);
	assert_true(ms_since(start) < 900);
	free_set(&set);
	close_device(nbd);
}

/* A server that is stopped for less than timeout=: what it has goes on, what it hasn't been
 * asked yet to write fails soon. */
static void a_pause_is_waited_for(void **state)
{
	struct zd_device_io read = { 0 }, write[65] = { 0 };
	struct zd_nbd *nbd;
	struct set set, new;
	unsigned int refused = 0;

	(void)state;
	start_file_server();
	nbd = open_device(20000, 1);
	make_set(&set, nbd, 8);
	make_set(&new, nbd, 64 * 32);
	write_set(&set, 1);
	stop_server();
	start_io(&nbd->dev, &read, ZD_FROM_DEVICE, set.pages, set.nr);
	fill_set(&new, 2);
	for (unsigned int i = 0; i < 64; i++)	/* 8 MiB: more than are sent at a time */
		start_io(&nbd->dev, &write[i], ZD_TO_DEVICE, &new.pages[i * 32], 32);
	wait_until(nbd, is_away);
	wait_io(&nbd->dev, &write[63]);
	assert_int_equal(new.pages[63 * 32].error, -EAGAIN);
	assert_null(read.owner);
	kill(server, SIGCONT);
	wait_io(&nbd->dev, &read);
	expect_set(&set, 1);
	for (unsigned int i = 0; i < 64; i++) {
		wait_io(&nbd->dev, &write[i]);
		refused += new.pages[i * 32].error == -EAGAIN;
	}
	assert_in_range(refused, 1, 63);
	assert_true(stat_of(nbd, "reconnects") == 0);
	wait_until(nbd, is_not_away);
	free_set(&set);
	free_set(&new);
	close_device(nbd);
}

/* Stopped for longer.  Broken looks like: a wait for ever, or a page whose write the server may
 * still do being used again. */
static void a_stall_is_cut(void **state)
{
	struct zd_device_io read = { 0 }, write = { 0 };
	struct zd_nbd *nbd;
	struct set set, new, rest;
	zd_pfn_t pfn, unanswered[8];

	(void)state;
	/* One thread: nbdkit 1.32 with several may abort when a client goes that has several
	 * requests in flight. */
	start_threaded_server("1");
	nbd = open_device(1500, 1);
	make_set(&set, nbd, 8);
	make_set(&new, nbd, 8);
	write_set(&set, 1);
	fill_set(&new, 2);
	stop_server();
	start_io(&nbd->dev, &read, ZD_FROM_DEVICE, set.pages, set.nr);
	start_io(&nbd->dev, &write, ZD_TO_DEVICE, new.pages, new.nr);
	wait_io(&nbd->dev, &read);
	wait_io(&nbd->dev, &write);
	assert_int_equal(set.pages[0].error, -ETIMEDOUT);
	assert_int_equal(new.pages[0].error, -EAGAIN);
	kill(server, SIGCONT);
	wait_until(nbd, is_up);
	wait_until(nbd, is_not_away);
	read_set(&set, 1);
	assert_true(stat_of(nbd, "retired_pages") == 8);
	memcpy(unanswered, new.pfns, sizeof(unanswered));
	free_set(&new);
	make_set(&rest, nbd, NR_PAGES - 16);
	assert_int_equal(nbd->dev.ops->alloc_pages(&nbd->dev, 1, &pfn), 0);
	for (unsigned int i = 0; i < rest.nr; i++)
		for (unsigned int j = 0; j < 8; j++)
			assert_int_not_equal(rest.pfns[i], unanswered[j]);
	free_set(&rest);
	free_set(&set);
	close_device(nbd);
}

static void set_loopback(bool up)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = up ? IFF_UP : 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	close(fd);
}

/* A network of this test's own, that breaks: the kernel ends the connection.  Broken looks like: pages of writes that the server may yet get
 * to see, and that are used again. */
static void a_broken_way_retires_writes(void **state)
{
	int net = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	struct zd_device_io write = { 0 };
	struct zd_nbd *nbd;
	struct set set, new;

	(void)state;
	if (unshare(CLONE_NEWNET)) {
		print_message("SKIP: a network of its own takes root\n");
		close(net);
		skip();
	}
	set_loopback(true);
	listen_option = "-i";
	snprintf(socket_path, sizeof(socket_path), "127.0.0.1");
	snprintf(uri, sizeof(uri), "nbd://127.0.0.1");
	start_nbdkit("memory", "16M");
	nbd = open_device(6000, 1);
	make_set(&set, nbd, 8);
	make_set(&new, nbd, 8);
	write_set(&set, 1);
	fill_set(&new, 2);
	set_loopback(false);
	start_io(&nbd->dev, &write, ZD_TO_DEVICE, new.pages, new.nr);
	wait_io(&nbd->dev, &write);
	assert_int_equal(new.pages[0].error, -EAGAIN);
	assert_true(stat_of(nbd, "retired_pages") == 8);
	set_loopback(true);
	wait_until(nbd, is_up);
	wait_until(nbd, is_not_away);
	read_set(&set, 1);
	free_set(&new);
	free_set(&set);
	close_device(nbd);
	assert_int_equal(setns(net, CLONE_NEWNET), 0);
	close(net);
}

/* A server whose export has become another one isn't used. */
static void another_export_is_not_used(void **state)
{
	struct zd_nbd *nbd;
	struct set set;

	(void)state;
	start_file_server();
	nbd = open_device(2000, 2);
	make_set(&set, nbd, 8);
	write_set(&set, 1);
	kill_server();
	wait_until(nbd, is_down);
	start_nbdkit("memory", "8M");
	do_io(&nbd->dev, ZD_FROM_DEVICE, set.pages, set.nr);
	assert_int_equal(set.pages[0].error, -ETIMEDOUT);
	free_set(&set);
	close_device(nbd);
}

/* As zonedev run does when the program has left a daemon behind: the copy goes on.  (TSan's runtime
 * starts no threads in the child of a process with threads.) */
static void a_forked_copy_goes_on(void **state)
{
#ifdef __SANITIZE_THREAD__
	(void)state;
	skip();
#else
	struct zd_nbd *nbd;
	struct set set;
	int status;
	pid_t pid;

	(void)state;
	start_file_server();
	nbd = open_device(20000, 2);
	make_set(&set, nbd, 64);
	write_set(&set, 1);
	pid = fork();
	if (!pid) {
		for (int round = 0; round < 20; round++) {
			write_set(&set, 2 + round);
			read_set(&set, 2 + round);
		}
		free_set(&set);
		_exit(zd_device_unregister(&nbd->dev) ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	free_set(&set);
	close_device(nbd);
#endif
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_restart_loses_nothing),
		TEST(reads_wait_for_timeout_and_writes_for_a_second),
		TEST(timeout_0_waits_for_nothing),
		TEST(a_pause_is_waited_for),
		TEST(a_stall_is_cut),
		TEST(a_broken_way_retires_writes),
		TEST(another_export_is_not_used),
		TEST(a_forked_copy_goes_on),
	};

	if (!have_nbdkit()) {
		printf("SKIP: needs nbdkit\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
