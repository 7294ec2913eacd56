/* SPDX-License-Identifier: MIT */
/*
 * The text of static keys: instructions that are replaced while other threads run them.
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
 * padding are needed, and no thread waits.  "Serialises" is membarrier(2)
 * PRIVATE_EXPEDITED_SYNC_CORE: without the one after the first step a CPU that
 * still has the old first byte could meet the new tail.  What is left to the CPU
 * is the kernel's own assumption for its trap: that changing the first byte
 * alone, to an instruction that ends where the old one ends, is seen wholly or
 * not at all.  (One aligned store of eight bytes would do where AMD's manual
 * holds; Intel's promises nothing for it, and it would need padding.)
 *
 * A failure in the middle leaves TESTs, which do what NOPs do, and the next patch
 * starts from them.
 *
 * On arm64 NOP and B are one aligned word, and the architecture allows one to be
 * replaced by the other under execution: one store, then the same membarrier.
 *
 * How text is written: through /proc/self/mem, which needs no writable mapping and
 * leaves the mapping's protection alone; else, where there is no /proc, by
 * mprotect(2) of the pages to writable and back.
 *
 * Fork.  A thread that is lost in a batch leaves its descriptor of /proc/self/mem to the
 * child.  The descriptor is of the parent's memory, and the child opens its own.
 *
 * Locks: all of it with static_key.c's key_lock.
 */
#include "base/static_key_text.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <zonedev/log.h>

#include "base/rawsys.h"
#include "base/static_key.h"

void (*zd_static_key_observer)(enum zd_static_key_step step);

static enum text_mode {
	TEXT_UNKNOWN,	/* there are no sites */
	TEXT_MEM,	/* /proc/self/mem */
	TEXT_MPROTECT,
	TEXT_PLAIN,	/* nothing was patched, nothing ever will be */
} text_mode;

bool zd_text_can_be_patched(void)
{
	return text_mode == TEXT_MEM || text_mode == TEXT_MPROTECT;
}

#ifndef ZD_STATIC_KEY_PLAIN

/* --- writing --- */

/* The system calls by no function at which a thread is cancelled: key_lock is held. */
static int write_mem(struct zd_text_batch *batch, void *addr, const void *bytes, size_t len)
{
	long n;

	if (batch->mem < 0)
		batch->mem = raw_syscall(SYS_openat, AT_FDCWD, (long)"/proc/self/mem",
					 O_RDWR | O_CLOEXEC, 0, 0, 0);
	if (batch->mem < 0)
		return batch->mem;
	n = raw_syscall(SYS_pwrite64, batch->mem, (long)bytes, len, (long)addr, 0, 0);
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

static int write_mprotect(void *addr, const void *bytes, size_t len)
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

static int text_write(struct zd_text_batch *batch, void *addr, const void *bytes, size_t len)
{
	int err = text_mode == TEXT_MPROTECT ? write_mprotect(addr, bytes, len) :
					       write_mem(batch, addr, bytes, len);

	batch->written |= !err;
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
#define OP_JUMP		0xe9
#define OP_TEST		0xa9
static const uint8_t nop_insn[SITE_LEN] = { 0x0f, 0x1f, 0x44, 0x00, 0x00 };
#else
#define SITE_LEN	4
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

bool zd_text_is_ours(const struct zd_jump_entry *e)
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

/* --- many sites --- */

void zd_text_begin(struct zd_text_batch *batch, int step)
{
	*batch = (struct zd_text_batch){ .step = step, .mem = -1 };
}

int zd_text_step(struct zd_text_batch *batch, const struct zd_jump_entry *e, bool jump)
{
	uint8_t *code = entry_code(e);
	uint8_t insn[SITE_LEN], old[SITE_LEN];

	entry_insn(e, jump, insn);
	text_read(old, code, SITE_LEN);
	if (!memcmp(old, insn, SITE_LEN))
		return 0;
#if defined(__x86_64__)
	static const uint8_t test = OP_TEST;

	if (batch->step == 0 && old[0] == test) {
		/* by an earlier batch, whose sync may have failed */
		batch->written = true;
		return 0;
	}
	if (batch->step == 0)
		return text_write(batch, code, &test, 1);
	if (batch->step == 1)
		return text_write(batch, code + 1, insn + 1, SITE_LEN - 1);
	return text_write(batch, code, insn, 1);
#else
	return text_write(batch, code, insn, SITE_LEN);
#endif
}

int zd_text_end(struct zd_text_batch *batch)
{
	int err = 0;

	if (batch->mem >= 0)
		raw_syscall(SYS_close, batch->mem, 0, 0, 0, 0, 0);
	if (batch->written) {
		err = sync_core();
		if (zd_static_key_observer)
			zd_static_key_observer(ZD_STATIC_KEY_SYNCED);
	}
	return err;
}

/* Write a site's own bytes over it.  0, and @mode is the one; or -errno. */
static int try_mode(enum text_mode mode, const struct zd_jump_entry *e)
{
	struct zd_text_batch batch;
	uint8_t insn[SITE_LEN];
	int err;

	text_mode = mode;
	zd_text_begin(&batch, 0);
	text_read(insn, entry_code(e), SITE_LEN);
	err = text_write(&batch, entry_code(e), insn, SITE_LEN);
	zd_text_end(&batch);
	return err;
}

void zd_text_choose(const struct zd_jump_entry *e)
{
	const char *env = getenv("ZONEDEV_STATIC_KEYS");
	int err;

	if (text_mode != TEXT_UNKNOWN)
		return;
	err = env && !strcmp(env, "plain") ? -ECANCELED : sync_core();
	if (err)
		goto plain;
	if (!env || strcmp(env, "mprotect")) {
		err = try_mode(TEXT_MEM, e);
		if (!err)
			return;
	}
	if (!env || strcmp(env, "mem")) {
		err = try_mode(TEXT_MPROTECT, e);
		if (!err)
			return;
	}
plain:
	text_mode = TEXT_PLAIN;
	zd_log(ZD_LOG_WARN, "static keys are plain branches here: %s",
	       err == -ECANCELED ? "ZONEDEV_STATIC_KEYS says so" : strerror(-err));
}

#else /* ZD_STATIC_KEY_PLAIN */

void zd_text_choose(const struct zd_jump_entry *e)
{
	(void)e;
	text_mode = TEXT_PLAIN;
}

bool zd_text_is_ours(const struct zd_jump_entry *e)
{
	(void)e;
	return true;
}

void zd_text_begin(struct zd_text_batch *batch, int step)
{
	(void)batch;
	(void)step;
}

int zd_text_step(struct zd_text_batch *batch, const struct zd_jump_entry *e, bool jump)
{
	(void)batch;
	(void)e;
	(void)jump;
	return 0;
}

int zd_text_end(struct zd_text_batch *batch)
{
	(void)batch;
	return 0;
}

#endif
