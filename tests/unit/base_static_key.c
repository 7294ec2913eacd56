/* SPDX-License-Identifier: MIT */
/*
 * Static keys.  main() runs everything once for each way of writing text, and
 * once where there is none.
 */
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "unit_test.h"
#include "base/rawsys.h"
#include "base/static_key.h"
#include "zonedev/log.h"
#include "zonedev/static_key.h"

extern const struct zd_jump_entry __start_zd_jump_table[], __stop_zd_jump_table[];

ZD_DEFINE_STATIC_KEY(key);
ZD_DEFINE_STATIC_KEY(other_key);
ZD_DEFINE_STATIC_KEY(race_key);
ZD_DEFINE_STATIC_KEY(lone_key);

static int hits;
__attribute__((noinline, cold)) static void hit(void)
{
	hits++;
}

__attribute__((noinline)) int plus_one(int x);
int plus_one(int x)
{
	if (zd_static_branch_unlikely(key))
		hit();
	return x + 1;
}

static bool is_on(void)
{
	return zd_static_branch_unlikely(key);
}

static bool other_is_on(void)
{
	return zd_static_branch_unlikely(other_key);
}

static const uint8_t *site_of(const struct zd_static_key *k, unsigned int nth)
{
	for (const struct zd_jump_entry *e = __start_zd_jump_table; e < __stop_zd_jump_table; e++)
		if (e->key == k && nth-- == 0)
			return (const uint8_t *)(uintptr_t)&e->code + e->code;
	return NULL;
}

static bool is_nop(const uint8_t *site)
{
#if defined(__x86_64__)
	return !memcmp(site, "\x0f\x1f\x44\x00\x00", 5);
#else
	return !memcmp(site, "\x1f\x20\x03\xd5", 4);
#endif
}

static void write_text(const void *addr, const void *bytes, size_t len)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, (off_t)(uintptr_t)addr), len);
	close(fd);
}

static unsigned int warnings;
static char last_warning[1024];

static void count_warnings(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)ctx;
	if (level != ZD_LOG_WARN)
		return;
	warnings++;
	snprintf(last_warning, sizeof(last_warning), "%s", msg);
}

/* Off is one NOP and nothing else; on is not; and back. */
static void test_site(void **state)
{
	bool patched = zd_static_keys_patched();
	const uint8_t *site;

	(void)state;
	for (unsigned int i = 0; (site = site_of(&key, i)); i++)
		assert_int_equal(is_nop(site), patched);
	assert_true(site_of(&key, 1) != NULL);
#if defined(__x86_64__) && !SANITIZED && defined(__OPTIMIZE__)
	const uint8_t *f = (const uint8_t *)plus_one;

	if (!memcmp(f, "\xf3\x0f\x1e\xfa", 4))	/* endbr64 */
		f += 4;
	/* nopl 0(%rax,%rax,1); lea 1(%rdi),%eax; ret */
	if (patched)
		assert_memory_equal(f, "\x0f\x1f\x44\x00\x00\x8d\x47\x01\xc3", 9);
#endif
	hits = 0;
	assert_int_equal(plus_one(1), 2);
	assert_int_equal(hits, 0);
	assert_int_equal(zd_static_branch_inc(&key), 0);
	for (unsigned int i = 0; (site = site_of(&key, i)); i++)
		assert_false(is_nop(site));
	assert_int_equal(plus_one(1), 2);
	assert_int_equal(hits, 1);
	assert_int_equal(zd_static_branch_dec(&key), 0);
	assert_int_equal(plus_one(1), 2);
	assert_int_equal(hits, 1);
	for (unsigned int i = 0; (site = site_of(&key, i)); i++)
		assert_int_equal(is_nop(site), patched);
}

static void test_nesting(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(zd_static_branch_inc(&key), 0);
		assert_true(is_on());
		assert_true(zd_static_key_enabled(&key));
		assert_false(other_is_on());
	}
	for (int i = 0; i < 3; i++) {
		assert_true(is_on());
		assert_int_equal(zd_static_branch_dec(&key), 0);
	}
	assert_false(is_on());
	assert_false(zd_static_key_enabled(&key));
	/* A key that nothing branches on. */
	assert_int_equal(zd_static_branch_inc(&lone_key), 0);
	assert_true(zd_static_key_enabled(&lone_key));
	assert_int_equal(zd_static_branch_dec(&lone_key), 0);

	key.enabled = INT32_MAX;
	assert_int_equal(zd_static_branch_inc(&key), -EOVERFLOW);
	assert_int_equal(key.enabled, INT32_MAX);
	key.enabled = 0;
}

static void test_unbalanced(void **state)
{
	(void)state;
	warnings = 0;
	zd_set_log(count_warnings, NULL);
	assert_int_equal(zd_static_branch_dec(&key), -EINVAL);
	assert_int_equal(zd_static_branch_dec(&key), -EINVAL);
	zd_set_log(NULL, NULL);
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, "unbalanced"));
	assert_int_equal(key.enabled, 0);
	assert_int_equal(zd_static_branch_inc(&key), 0);
	assert_true(is_on());
	assert_int_equal(zd_static_branch_dec(&key), 0);
	assert_false(is_on());
}

/* Sites at all distances from a cache line's and a page's end; a store that is
 * torn there must not matter. */
#if defined(__x86_64__)
#define PAD(n) __asm__ volatile(".balign 64\n\t.fill " #n ", 1, 0x90")
#else
#define PAD(n) __asm__ volatile("")
#endif
#define RACE_SITE(n)								\
	do {									\
		PAD(n);								\
		on += zd_static_branch_unlikely(race_key);			\
	} while (0)

#define NR_RACERS 2U
#define RACE_SITES 8U
__attribute__((noinline)) static unsigned int race_sites(void)
{
	unsigned int on = 0;

	RACE_SITE(0);
	RACE_SITE(3);
	RACE_SITE(58);
	RACE_SITE(59);
	RACE_SITE(60);
	RACE_SITE(61);
	RACE_SITE(62);
	RACE_SITE(63);
	return on;
}

/* 4n + 1: turning on; 4n + 2: is on; 4n + 3: turning off; 4n: is off. */
static uint32_t race_phase;
static uint32_t race_wrong, race_stop, race_seen_on, race_seen_off;

static void *race_thread(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&race_stop, __ATOMIC_RELAXED)) {
		uint32_t before = __atomic_load_n(&race_phase, __ATOMIC_SEQ_CST);
		unsigned int on = race_sites();
		uint32_t after = __atomic_load_n(&race_phase, __ATOMIC_SEQ_CST);

		if (before != after || before % 2)
			continue;
		if (on != (before % 4 == 2 ? RACE_SITES : 0))
			__atomic_add_fetch(&race_wrong, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(before % 4 == 2 ? &race_seen_on : &race_seen_off, 1,
				   __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_race(void **state)
{
	pthread_t threads[NR_RACERS];
	unsigned int toggles = SANITIZED ? 300 : 1000;
	double enough = now_s() + 10, give_up = enough + 30;

	(void)state;
	for (unsigned int i = 0; i < NR_RACERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race_thread, NULL), 0);
	/* Toggle that often, or for that long, and on until both states have been seen. */
	for (unsigned int i = 0; (i < toggles && now_s() < enough) ||
				 !__atomic_load_n(&race_seen_on, __ATOMIC_RELAXED) ||
				 !__atomic_load_n(&race_seen_off, __ATOMIC_RELAXED);
	     i++) {
		assert_true(now_s() < give_up);
		__atomic_add_fetch(&race_phase, 1, __ATOMIC_SEQ_CST);
		assert_int_equal(zd_static_branch_inc(&race_key), 0);
		__atomic_add_fetch(&race_phase, 1, __ATOMIC_SEQ_CST);
		assert_int_equal(race_sites(), RACE_SITES);
		if (i >= toggles || now_s() >= enough)
			sched_yield();
		__atomic_add_fetch(&race_phase, 1, __ATOMIC_SEQ_CST);
		assert_int_equal(zd_static_branch_dec(&race_key), 0);
		__atomic_add_fetch(&race_phase, 1, __ATOMIC_SEQ_CST);
		assert_int_equal(race_sites(), 0);
	}
	__atomic_store_n(&race_stop, 1, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < NR_RACERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(race_wrong, 0);
}

#if defined(__x86_64__)
/*
 * The protocol, byte by byte: what a thread that fetches a mix of old and new
 * bytes could run.  First the opcode becomes TEST, then all CPUs serialise, then
 * the tail changes, they serialise, the opcode changes, they serialise.
 */
static struct {
	uint8_t bytes[RACE_SITES][5];
	bool dirty[RACE_SITES];		/* written since the last serialisation */
	unsigned int writes, bad;
} watch;

__attribute__((no_sanitize_thread))
static void read_sites(uint8_t bytes[RACE_SITES][5])
{
	for (unsigned int i = 0; i < RACE_SITES; i++) {
		const volatile uint8_t *site = site_of(&race_key, i);

		for (unsigned int b = 0; b < 5; b++)
			bytes[i][b] = site[b];
	}
}

static void observe(enum zd_static_key_step step)
{
	uint8_t now[RACE_SITES][5];
	unsigned int on;

	if (step == ZD_STATIC_KEY_SYNCED) {
		memset(watch.dirty, 0, sizeof(watch.dirty));
		return;
	}
	read_sites(now);
	for (unsigned int i = 0; i < RACE_SITES; i++) {
		bool op = now[i][0] != watch.bytes[i][0];
		bool tail = memcmp(now[i] + 1, watch.bytes[i] + 1, 4);

		if (!op && !tail)
			continue;
		watch.writes++;
		/* One byte that decides, or four that don't matter; and only when
		 * what was written before is seen by all. */
		if ((op && tail) || watch.dirty[i] || (tail && now[i][0] != 0xa9))
			watch.bad++;
		watch.dirty[i] = true;
	}
	memcpy(watch.bytes, now, sizeof(now));
	/* Each of them runs, and none is on too early. */
	on = race_sites();
	if (on > RACE_SITES)
		watch.bad++;
}

static void test_protocol(void **state)
{
	(void)state;
	if (!zd_static_keys_patched())
		return;
	memset(&watch, 0, sizeof(watch));
	read_sites(watch.bytes);
	zd_static_key_observer = observe;
	for (unsigned int i = 1; i <= 4; i++) {
		assert_int_equal(i % 2 ? zd_static_branch_inc(&race_key) :
					 zd_static_branch_dec(&race_key),
				 0);
		assert_int_equal(watch.writes, i * 3 * RACE_SITES);
		for (unsigned int s = 0; s < RACE_SITES; s++)
			assert_false(watch.dirty[s]);
	}
	zd_static_key_observer = NULL;
	assert_int_equal(watch.bad, 0);
}

static unsigned int fail_syncs, nr_steps;
static enum zd_static_key_step first_step;

/* In front of libc's: the next membarrier()s fail. */
long syscall(long nr, ...)
{
	long a[6], ret;
	va_list ap;

	va_start(ap, nr);
	for (unsigned int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (nr == SYS_membarrier && fail_syncs) {
		fail_syncs--;
		errno = ENOMEM;
		return -1;
	}
	ret = raw_syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (ret < 0 && ret > -4096) {
		errno = -ret;
		return -1;
	}
	return ret;
}

static void note_first(enum zd_static_key_step step)
{
	if (!nr_steps++)
		first_step = step;
}

/* The first bytes are written and not every CPU may have seen that: the next patch sees to
 * that before it writes what comes behind them. */
static void test_sync_fails(void **state)
{
	(void)state;
	if (!zd_static_keys_patched())
		return;
	fail_syncs = 1;
	assert_int_equal(zd_static_branch_inc(&key), -ENOMEM);
	assert_int_equal(fail_syncs, 0);
	assert_int_equal(site_of(&key, 0)[0], 0xa9);
	nr_steps = 0;
	zd_static_key_observer = note_first;
	assert_int_equal(zd_static_branch_inc(&key), 0);
	zd_static_key_observer = NULL;
	assert_int_equal(first_step, ZD_STATIC_KEY_SYNCED);
	assert_true(is_on());
	assert_int_equal(zd_static_branch_dec(&key), 0);
}
#endif

/* A breakpoint of somebody's is left alone. */
static void test_breakpoint(void **state)
{
	const uint8_t *site = site_of(&key, 1);
	uint8_t old[5];

	(void)state;
	if (!zd_static_keys_patched())
		return;
	memcpy(old, site, sizeof(old));
	write_text(site, "\xcc", 1);
	zd_set_log(count_warnings, NULL);
	assert_int_equal(zd_static_branch_inc(&key), -EBUSY);
	zd_set_log(NULL, NULL);
	assert_int_equal(site[0], 0xcc);
	assert_false(zd_static_key_enabled(&key));
	assert_true(is_nop(site_of(&key, 0)));
	write_text(site, old, sizeof(old));
	assert_int_equal(zd_static_branch_inc(&key), 0);
	assert_true(is_on());
	assert_int_equal(zd_static_branch_dec(&key), 0);
}

/* Make the system calls that patching needs fail with EPERM from here on. */
static void forbid(bool membarrier_only)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K,
			 MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE |
				 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE,
			 2, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, membarrier_only ? 0xffffffff : SYS_pwrite64, 0,
			 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, membarrier_only ? 0xffffffff : SYS_mprotect, 0,
			 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof(f) / sizeof(f[0]), .filter = f };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		_exit(99);
}

/* Waits for @pid: its exit status. */
static int exit_status(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* NOPs that can't be written any more: enabling fails and changes nothing;
 * disabling works. */
static void test_locked_down(void **state)
{
	pid_t pid;

	(void)state;
	if (!zd_static_keys_patched())
		return;
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int rc = 0;

		warnings = 0;
		zd_set_log(count_warnings, NULL);
		if (zd_static_branch_inc(&other_key))
			_exit(1);
		forbid(false);
		if (zd_static_branch_inc(&key) != -EPERM)
			rc = 2;
		else if (is_on() || zd_static_key_enabled(&key) || warnings != 1)
			rc = 3;
		else if (!other_is_on() || zd_static_branch_dec(&other_key) || other_is_on())
			rc = 4;
		else if (zd_static_branch_inc(&other_key) || !other_is_on())
			rc = 5;
		_exit(rc);
	}
	assert_int_equal(exit_status(pid), 0);
}

/* Another thread's child is registered for membarrier anew. */
static void test_fork(void **state)
{
	pid_t pid;

	(void)state;
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		bool ok = !zd_static_branch_inc(&key) && is_on() && !zd_static_branch_dec(&key) &&
			  !is_on();

		_exit(!ok);
	}
	assert_int_equal(exit_status(pid), 0);
	assert_false(is_on());
}

/* This program again, with ZONEDEV_STATIC_KEYS=@mode (NULL: and without
 * membarrier).  What it says on stderr goes to @err. */
static int run_again(const char *mode, char *err, size_t size)
{
	int fds[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	if (pipe(fds))
		return 1;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		setenv("ZD_STATIC_KEY_TEST", mode ? mode : "filter", 1);
		if (mode)
			setenv("ZONEDEV_STATIC_KEYS", mode, 1);
		else
			forbid(true);
		execl("/proc/self/exe", "base_static_key", (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	while (len < size - 1 && (n = read(fds[0], err + len, size - 1 - len)) > 0)
		len += n;
	err[len] = '\0';
	close(fds[0]);
	waitpid(pid, &status, 0);
	return status;
}

static unsigned int count_text(const char *text, const char *what)
{
	unsigned int n = 0;

	for (; (text = strstr(text, what)); text += strlen(what))
		n++;
	return n;
}

int main(void)
{
	static const char *const modes[] = { "mem", "mprotect", "plain", NULL };
	const char *mode = getenv("ZD_STATIC_KEY_TEST");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_site),
		cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_unbalanced),
		cmocka_unit_test(test_breakpoint),
		cmocka_unit_test(test_locked_down),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_race),
#if defined(__x86_64__)
		cmocka_unit_test(test_protocol),
		cmocka_unit_test(test_sync_fails),
#endif
	};
	static char err[65536];
	int failed = 0;

	if (mode) {
		bool want = !strcmp(mode, "mem") || !strcmp(mode, "mprotect");

		if (zd_static_keys_patched() != want) {
			fprintf(stderr, "%s: patched: %d\n", mode, !want);
			return 1;
		}
		return cmocka_run_group_tests_name(mode, tests, NULL, NULL);
	}
	for (unsigned int i = 0; i < 4; i++) {
		int status = run_again(modes[i], err, sizeof(err));
		bool plain = i >= 2;

		if (status) {
			fprintf(stderr, "%s: status %#x\n%s", modes[i] ? modes[i] : "filter",
				status, err);
			failed = 1;
		}
		if (count_text(err, "static keys are plain branches here") != plain) {
			fprintf(stderr, "%s: %s", modes[i] ? modes[i] : "filter", err);
			failed = 1;
		}
	}
	return failed;
}
