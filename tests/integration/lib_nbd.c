/* SPDX-License-Identifier: MIT */
/*
 * Memory of another machine in a program that links the library, whose heap is managed as well.
 * A server that stops delays the threads that need it and no other; from one that is dead
 * zd_migrate_to_ram() loses nothing, and a touch loses the page that it is for.
 */
#include "tests/integration/lib_test.h"

#include <sys/stat.h>

#define N	64

static char dir[] = "/dev/shm/zd-lib-nbd.XXXXXX";
static char path[64], sock[64], ready[64];
static pid_t server;

static void start_server(void)
{
	struct stat st;

	unlink(sock);
	unlink(ready);
	server = fork();
	if (!server) {
		execlp("nbdkit", "nbdkit", "-f", "--exit-with-parent", "-U", sock, "-P", ready,
		       "file", path, (char *)NULL);
		_exit(127);
	}
	CHECK(server > 0);
	WAIT_FOR(!stat(ready, &st));
}

static void kill_server(void)
{
	CHECK(!kill(server, SIGKILL));
	CHECK_EQ(waitpid(server, NULL, 0), server);
}

static void stop_server(void)
{
	int status;

	CHECK(!kill(server, SIGSTOP));
	CHECK_EQ(waitpid(server, &status, WUNTRACED), server);
	CHECK(WIFSTOPPED(status));
}

static struct zd_device *nbd_device(const char *timeout)
{
	struct zd_device *dev;
	char spec[192], err[256] = "";

	snprintf(spec, sizeof(spec), "nbd:nbd+unix:///?socket=%s,timeout=%s", sock, timeout);
	if (zd_device_open_spec(spec, &dev, err, sizeof(err))) {
		fprintf(stderr, "%s: %s\n", spec, err);
		_exit(1);
	}
	return dev;
}

struct toucher {
	pthread_t thread;
	char *mem;
	bool done;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;

	CHECK_FILLED(t->mem, N, 1);
	__atomic_store_n(&t->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Threads that malloc all the time: the driver's own thread does so, too, beside them. */
static bool stop;

static void *churn(void *arg)
{
	unsigned int n = 0;

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		size_t size = 16 + n++ % 5000;
		char *p = malloc(size);

		CHECK(p);
		memset(p, 1, size);
		free(p);
	}
	return NULL;
}

/* Broken looks like: memory of another device, or untouched memory, that waits for the server. */
static void a_stall(struct zd_mm *mm)
{
	struct zd_device *dev = nbd_device("1m"), *ram = ram_device(2 * N);
	struct toucher t = { .mem = evicted(mm, N, 1, dev) };
	char *other = evicted(mm, N, 2, ram), *fresh = map(N);

	CHECK_EQ(zd_mm_register(mm, fresh, N * PAGE), 0);
	stop_server();
	CHECK(!pthread_create(&t.thread, NULL, touch, &t));
	usleep(20000);
	CHECK_FILLED(other, N, 2);
	CHECK(is_zero(fresh, N * PAGE));
	CHECK(!__atomic_load_n(&t.done, __ATOMIC_ACQUIRE));
	CHECK(!kill(server, SIGCONT));
	WAIT_FOR(__atomic_load_n(&t.done, __ATOMIC_ACQUIRE));
	pthread_join(t.thread, NULL);
	munmap(t.mem, N * PAGE);
	munmap(other, N * PAGE);
	munmap(fresh, N * PAGE);
	settle(mm);
	CHECK_EQ(zd_device_unregister(ram), 0);
	CHECK_EQ(zd_device_unregister(dev), 0);
}

static void a_death(struct zd_mm *mm)
{
	struct zd_device *dev = nbd_device("300ms");
	char *p = evicted(mm, N, 1, dev);
	struct zd_migrate_result r;

	kill_server();
	/* Nothing is lost by asking. */
	CHECK(zd_migrate_to_ram(mm, p, N * PAGE, &r) < 0);
	CHECK_EQ(r.device, N);
	CHECK_EQ(stats(mm).pages_poisoned, 0);
	CHECK(zd_device_unregister(dev) < 0);
	/* A touch loses a page, that one alone. */
	CHECK(raises_sigbus(p + 7 * PAGE));
	CHECK_EQ(stats(mm).pages_poisoned, 1);
	start_server();
	WAIT_FOR(!zd_migrate_to_ram(mm, p + 8 * PAGE, (N - 8) * PAGE, &r));
	CHECK_EQ(bad_page(p, 0, 7, 1), 7);
	CHECK_EQ(bad_page(p, 8, N, 1), N);
	CHECK(raises_sigbus(p + 7 * PAGE));
	munmap(p, N * PAGE);
	settle(mm);
	CHECK_EQ(zd_device_unregister(dev), 0);
}

/* A block of malloc's own is managed, and goes out as far as it may. */
static void a_heap(struct zd_mm *mm)
{
	struct zd_device *dev = nbd_device("1m");
	struct zd_migrate_result r;
	pthread_t threads[2];
	char *blocks[200];

	for (int i = 0; i < 2; i++)
		CHECK(!pthread_create(&threads[i], NULL, churn, NULL));
	for (int i = 0; i < 200; i++) {
		blocks[i] = malloc(3 * PAGE + i * 1000);
		CHECK(blocks[i]);
		memset(blocks[i], i + 1, 3 * PAGE);
		CHECK_EQ(zd_mm_register(mm, blocks[i], 3 * PAGE), 0);
	}
	for (int round = 0; round < 5; round++)
		for (int i = 0; i < 200; i++) {
			CHECK_EQ(zd_migrate_to_device(mm, blocks[i], 3 * PAGE, dev, &r), 0);
			for (int k = 0; k < 3 * (int)PAGE; k += 512)
				CHECK_EQ(blocks[i][k], (char)(i + 1));
		}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 200; i++)
		free(blocks[i]);
	settle(mm);
	CHECK_EQ(zd_device_unregister(dev), 0);
}

/* A sanitizer's malloc isn't glibc's, so its memory can't be told from other memory. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC	true
#else
#define OWN_MALLOC	false
#endif

static struct zd_mm *open_for_nbd(void)
{
	const struct zd_mm_attr attr = { .size = sizeof(attr), .flags = ZD_MM_OWN_MAPPINGS };
	struct zd_mm *mm;

	if (!OWN_MALLOC)
		return open_mm();
	CHECK_EQ(zd_mm_close(open_mm()), 0);	/* skips where there is no userfaultfd */
	CHECK_EQ(zd_mm_open(&attr, &mm), 0);
	return mm;
}

int main(void)
{
	static unsigned int logged;
	struct zd_mm *mm;
	char command[96];

	if (system("nbdkit --version >/dev/null 2>&1"))
		skip("needs nbdkit");
	CHECK(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/data", dir);
	snprintf(ready, sizeof(ready), "%s/ready", dir);
	snprintf(sock, sizeof(sock), "%s/s", dir);
	close(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	CHECK(!truncate(path, 16 << 20));
	start_server();
	catch_sigbus();
	zd_set_log(quiet, &logged);
	mm = open_for_nbd();
	a_stall(mm);
	if (!OWN_MALLOC)
		a_heap(mm);
	a_death(mm);
	CHECK_EQ(zd_mm_close(mm), 0);
	kill_server();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) ? 1 : 0;
}
