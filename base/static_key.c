/* SPDX-License-Identifier: MIT */
/*
 * Static keys: text that is patched while other threads run it.
 *
 * A branch is compiled as JUMP to a block that looks at the key.  Loading a
 * module makes NOPs of its JUMPs, enabling a key makes JUMPs of its NOPs.
 * Since a JUMP only leads to a look at the key, a branch that is still (or for
 * good) a JUMP is slow but never wrong.
 *
 * Patching on x86-64.  The instructions have five bytes, at any alignment, and
 * other threads may fetch them at any moment, a part before and a part after a
 * store.  The kernel puts a one-byte trap in front meanwhile; a library can't,
 * for the SIGTRAP handler is the program's.  But `test $imm32, %eax` is one byte of
 * opcode and four of anything, changes nothing but the flags (which the asm
 * statement says that it clobbers), and is as long:
 *
 *	0f 1f 44 00 00	NOP	or	e9 r0 r1 r2 r3	JUMP
 *	a9 .. .. .. ..	TEST: first byte only;	then every CPU serialises
 *	a9 XX XX XX XX	TEST: the new tail;	then every CPU serialises
 *	OP XX XX XX XX	the new first byte;	then every CPU serialises
 *
 * Each step stores one byte that decides, or four that don't matter, so any mix
 * of old and new bytes is NOP, TEST or a whole JUMP.  No alignment and no
 * padding are needed, and nobody waits.  "Serialises" is membarrier(2)
 * PRIVATE_EXPEDITED_SYNC_CORE: without the one after the first step a CPU that
 * still has the old first byte could meet the new tail.  What is left to the CPU
 * is the kernel's own assumption for its trap: that changing the first byte
 * alone, to an instruction that ends where the old one ends, is seen wholly or
 * not at all.  (One aligned store of eight bytes would do where AMD's manual
 * holds; Intel's promises nothing for it, and it would need padding.)
 *
 * A failure in the middle leaves TESTs: they do what NOPs do, and the next patch
 * starts from them.
 *
 * On arm64 NOP and B are one aligned word, and the architecture allows one to be
 * replaced by the other under execution: one store, then the same membarrier.
 *
 * How it is written: through /proc/self/mem, which needs no writable mapping and
 * leaves the mapping's protection alone; else, where there is no /proc, by
 * mprotect(2) of the pages to writable and back.
 *
 * Ordering.  @enabled is set before the first site is patched, and the last
 * membarrier comes before inc returns: who then begins a branch sees the JUMP
 * and, behind it, @enabled.  Disabling clears @enabled first, so that the
 * branches are off even where patching fails.
 *
 * Locks: key_lock, for the modules' list, all text and all changes of keys.
 *
 * Fork.  A thread that is lost under key_lock has changed a key's count before it patched,
 * and leaves sites of any kind.  In the child the next thread to take the lock brings every
 * site to where its key says.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <zonedev/log.h>
#include <zonedev/static_key.h>

#include "base/lock.h"
#include "base/rawsys.h"
#include "base/static_key.h"

ZD_STATIC_KEY_MODULE;

void (*zd_static_key_observer)(enum zd_static_key_step step);

static struct zd_mutex key_lock;
static struct zd_static_key_module *modules;

static enum text_mode {
	TEXT_UNKNOWN,	/* there are no sites */
	TEXT_MEM,	/* /proc/self/mem */
	TEXT_MPROTECT,
	TEXT_PLAIN,	/* nothing was patched, nothing ever will be */
} text_mode;

#ifndef ZD_STATIC_KEY_PLAIN

/* --- writing text --- */

static int text_write_mem(void *addr, const void *bytes, size_t len)
{
	/* by no function at which a thread is cancelled: key_lock is held */
	long fd = raw_syscall(SYS_openat, AT_FDCWD, (long)"/proc/self/mem", O_RDWR | O_CLOEXEC,
			      0, 0, 0), n;

	if (fd < 0)
		return (int)fd;
	n = raw_syscall(SYS_pwrite64, fd, (long)bytes, len, (long)addr, 0, 0);
	raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
	return n < 0 ? (int)n : (size_t)n != len ? -EIO : 0;
}

/* The thread sanitizer has no shadow for text. */
__attribute__((no_sanitize_thread))
static void text_read(uint8_t *bytes, const uint8_t *code, size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = ((const volatile uint8_t *)code)[i];
}

__attribute__((no_sanitize_thread))
static void text_store(uint8_t *code, const uint8_t *bytes, size_t len)
{
#if defined(__aarch64__)
	uint32_t word;

	memcpy(&word, bytes, sizeof(word));
	*(volatile uint32_t *)code = word;
	__builtin___clear_cache((char *)code, (char *)code + len);
#else
	for (size_t i = 0; i < len; i++)
		((volatile uint8_t *)code)[i] = bytes[i];
#endif
}

static int text_write_mprotect(void *addr, const void *bytes, size_t len)
{
	uintptr_t page = sysconf(_SC_PAGESIZE);
	uintptr_t first = (uintptr_t)addr & ~(page - 1);
	uintptr_t end = ((uintptr_t)addr + len + page - 1) & ~(page - 1);

	if (mprotect((void *)first, end - first, PROT_READ | PROT_WRITE | PROT_EXEC))
		return -errno;
	text_store(addr, bytes, len);
	/* If this fails the text stays writable, as it was a moment ago. */
	return mprotect((void *)first, end - first, PROT_READ | PROT_EXEC) ? -errno : 0;
}

static int text_write(void *addr, const void *bytes, size_t len)
{
	int err = text_mode == TEXT_MPROTECT ? text_write_mprotect(addr, bytes, len) :
					       text_write_mem(addr, bytes, len);

	if (zd_static_key_observer)
		zd_static_key_observer(ZD_STATIC_KEY_WRITTEN);
	return err;
}

/* Every thread of the process executes a serialising instruction before it goes
 * on in user space. */
static int sync_core(void)
{
	int err;

	if (!syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0))
		return 0;
	err = errno;
	/* EPERM: not registered, or no longer (in a child, say). */
	if (err == EPERM &&
	    !syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) &&
	    !syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0))
		return 0;
	return -err;
}

/* --- one site --- */

#if defined(__x86_64__)
#define SITE_LEN	5
#define NR_STEPS	3
#define OP_JUMP		0xe9
#define OP_TEST		0xa9
static const uint8_t nop_insn[SITE_LEN] = { 0x0f, 0x1f, 0x44, 0x00, 0x00 };
#else
#define SITE_LEN	4
#define NR_STEPS	1
static const uint8_t nop_insn[SITE_LEN] = { 0x1f, 0x20, 0x03, 0xd5 };
#endif

static uint8_t *entry_code(const struct zd_jump_entry *e)
{
	return (uint8_t *)(uintptr_t)&e->code + e->code;
}

static void entry_insn(const struct zd_jump_entry *e, bool jump, uint8_t *insn)
{
	intptr_t to = (intptr_t)&e->target + e->target, at = (intptr_t)entry_code(e);

	if (!jump) {
		memcpy(insn, nop_insn, SITE_LEN);
		return;
	}
#if defined(__x86_64__)
	int32_t rel = (int32_t)(to - (at + SITE_LEN));

	insn[0] = OP_JUMP;
	memcpy(insn + 1, &rel, sizeof(rel));
#else
	uint32_t b = 0x14000000u | (((uint32_t)(to - at) >> 2) & 0x03ffffffu);

	memcpy(insn, &b, sizeof(b));
#endif
}

/* Whether @e holds something of ours: a breakpoint isn't. */
static bool entry_is_ours(const struct zd_jump_entry *e)
{
	uint8_t nop[SITE_LEN], jump[SITE_LEN], code[SITE_LEN];

	text_read(code, entry_code(e), SITE_LEN);
	entry_insn(e, false, nop);
	entry_insn(e, true, jump);
#if defined(__x86_64__)
	if (code[0] == OP_TEST)
		return true;
#endif
	return !memcmp(code, nop, SITE_LEN) || !memcmp(code, jump, SITE_LEN);
}

/* 1: written, 0: needs nothing. */
static int entry_step(const struct zd_jump_entry *e, bool jump, int step)
{
	uint8_t *code = entry_code(e);
	uint8_t insn[SITE_LEN], old[SITE_LEN];
	int err;

	entry_insn(e, jump, insn);
	text_read(old, code, SITE_LEN);
	if (!memcmp(old, insn, SITE_LEN))
		return 0;
#if defined(__x86_64__)
	static const uint8_t test = OP_TEST;

	if (step == 0)
		err = old[0] == test ? 0 : text_write(code, &test, 1);
	else if (step == 1)
		err = text_write(code + 1, insn + 1, SITE_LEN - 1);
	else
		err = text_write(code, insn, 1);
#else
	(void)step;
	err = text_write(code, insn, SITE_LEN);
#endif
	return err ? err : 1;
}

/* --- many sites --- */

/* Of the sites of @m (NULL: every module) those of @key (NULL: each that is
 * disabled); the first error, or how often @fn said 1. */
static int for_each_site(const struct zd_static_key_module *m, const struct zd_static_key *key,
			 int (*fn)(const struct zd_jump_entry *e, bool jump, int step),
			 bool jump, int step)
{
	const struct zd_static_key_module *first = m ? m : modules, *last = m ? m->next : NULL;
	int n = 0, err;

	for (m = first; m != last; m = m->next) {
		for (const struct zd_jump_entry *e = m->start; e < m->stop; e++) {
			if (key ? e->key != key : zd_static_key_enabled(e->key))
				continue;
			err = fn(e, jump, step);
			if (err < 0)
				return err;
			n += err;
		}
	}
	return n;
}

static int check_site(const struct zd_jump_entry *e, bool jump, int step)
{
	(void)jump;
	(void)step;
	return entry_is_ours(e) ? 0 : -EBUSY;
}

static int patch(const struct zd_static_key_module *m, const struct zd_static_key *key, bool jump)
{
	int err;

	if (text_mode == TEXT_PLAIN || text_mode == TEXT_UNKNOWN)
		return 0;
	err = for_each_site(m, key, check_site, jump, 0);
	for (int step = 0; step < NR_STEPS && !err; step++) {
		err = for_each_site(m, key, entry_step, jump, step);
		if (err > 0) {
			err = sync_core();
			if (zd_static_key_observer)
				zd_static_key_observer(ZD_STATIC_KEY_SYNCED);
		}
	}
	return err;
}

/* Find out how text can be written, by writing a site's own bytes over it. */
static void choose_mode(const struct zd_jump_entry *e)
{
	const char *env = getenv("ZONEDEV_STATIC_KEYS");
	uint8_t insn[SITE_LEN];
	int err = sync_core();

	if (env && !strcmp(env, "plain"))
		err = -ECANCELED;
	if (err)
		goto plain;
	text_read(insn, entry_code(e), SITE_LEN);
	if (!env || strcmp(env, "mprotect")) {
		text_mode = TEXT_MEM;
		err = text_write(entry_code(e), insn, SITE_LEN);
		if (!err)
			return;
	}
	if (!env || strcmp(env, "mem")) {
		text_mode = TEXT_MPROTECT;
		err = text_write(entry_code(e), insn, SITE_LEN);
		if (!err)
			return;
	}
plain:
	text_mode = TEXT_PLAIN;
	zd_log(ZD_LOG_WARN, "static keys are plain branches here: %s",
	       err == -ECANCELED ? "ZONEDEV_STATIC_KEYS says so" : strerror(-err));
}

/* Each site to where its key says, whatever it is now. */
static int mend_step(int step)
{
	int n = 0, err;

	for (const struct zd_static_key_module *m = modules; m; m = m->next) {
		for (const struct zd_jump_entry *e = m->start; e < m->stop; e++) {
			if (!entry_is_ours(e))
				continue;
			err = entry_step(e, zd_static_key_enabled(e->key), step);
			if (err < 0)
				return err;
			n += err;
		}
	}
	return n ? sync_core() : 0;
}

static void mend(void)
{
	int err = 0;

	if (text_mode == TEXT_PLAIN || text_mode == TEXT_UNKNOWN)
		return;
	for (int step = 0; step < NR_STEPS && !err; step++)
		err = mend_step(step);
	if (err)
		zd_log(ZD_LOG_WARN, "static keys that another thread was changing at a fork: %s",
		       strerror(-err));
}

#else /* ZD_STATIC_KEY_PLAIN */

static void mend(void)
{
}

static int patch(const struct zd_static_key_module *m, const struct zd_static_key *key, bool jump)
{
	(void)m;
	(void)key;
	(void)jump;
	return 0;
}

static void choose_mode(const struct zd_jump_entry *e)
{
	(void)e;
	text_mode = TEXT_PLAIN;
}

#endif

/* --- modules, loaded and unloaded --- */

static void lock_keys(void)
{
	if (zd_mutex_lock(&key_lock))
		mend();
}

void __zd_static_key_module_add(struct zd_static_key_module *m)
{
	int err;

	lock_keys();
	m->next = modules;
	modules = m;
	if (m->start != m->stop) {
		if (text_mode == TEXT_UNKNOWN)
			choose_mode(m->start);
		err = patch(m, NULL, false);
		if (err)
			zd_log(ZD_LOG_INFO, "some static keys stay plain branches: %s",
			       strerror(-err));
	}
	zd_mutex_unlock(&key_lock);
}

void __zd_static_key_module_del(struct zd_static_key_module *m)
{
	lock_keys();
	for (struct zd_static_key_module **p = &modules; *p; p = &(*p)->next) {
		if (*p == m) {
			*p = m->next;
			break;
		}
	}
	zd_mutex_unlock(&key_lock);
}

bool zd_static_keys_patched(void)
{
	bool patched;

	lock_keys();
	patched = text_mode == TEXT_MEM || text_mode == TEXT_MPROTECT;
	zd_mutex_unlock(&key_lock);
	return patched;
}

/* --- keys --- */

int zd_static_branch_inc(struct zd_static_key *key)
{
	int err = 0;
	int32_t n;

	lock_keys();
	n = __atomic_load_n(&key->enabled, __ATOMIC_RELAXED);
	if (n == INT32_MAX) {
		err = -EOVERFLOW;
		goto out;
	}
	/* Release: pairs with zd_static_key_enabled(), where no site needs
	 * patching. */
	__atomic_store_n(&key->enabled, n + 1, __ATOMIC_RELEASE);
	if (n == 0)
		err = patch(NULL, key, true);
	if (err) {
		__atomic_store_n(&key->enabled, 0, __ATOMIC_RELEASE);
		zd_log(ZD_LOG_WARN, "a static key can't be enabled: %s", strerror(-err));
	}
out:
	zd_mutex_unlock(&key_lock);
	return err;
}

int zd_static_branch_dec(struct zd_static_key *key)
{
	int err = 0;
	int32_t n;

	lock_keys();
	n = __atomic_load_n(&key->enabled, __ATOMIC_RELAXED);
	if (n <= 0) {
		zd_mutex_unlock(&key_lock);
		zd_warn_once("zd_static_branch_dec: the key has no user: an unbalanced call");
		return -EINVAL;
	}
	__atomic_store_n(&key->enabled, n - 1, __ATOMIC_RELEASE);
	if (n == 1)
		err = patch(NULL, key, false);
	zd_mutex_unlock(&key_lock);
	if (err)
		zd_warn_once("a static key that was disabled stays a plain branch: %s",
			     strerror(-err));
	return 0;
}
