/* SPDX-License-Identifier: MIT */
/*
 * zonedev/static_key.h - branches that cost one NOP until they are wanted: the kernel's
 * static keys (jump labels) in user space.
 *
 *	ZD_DEFINE_STATIC_KEY(my_key);		// in one file
 *	ZD_STATIC_KEY_MODULE;			// once a program or shared library
 *
 *	if (zd_static_branch_unlikely(my_key))	// anywhere: a NOP
 *		rare_and_slow();
 *
 *	zd_static_branch_inc(&my_key);		// from now on: a jump
 *
 * The compiler emits a jump to "look at the key".  When the module is loaded
 * its jumps become NOPs, and the first zd_static_branch_inc() of a key turns
 * the NOPs of that key back into jumps, while other threads run through them.
 * So what the text can't be patched for (a seccomp filter, no /proc and no
 * writable text, an architecture that isn't known here) still works: the
 * branches stay jumps to a load and a test.  The log says so once.
 *
 * Differences from the kernel: keys start as false and branches are unlikely
 * (there is no other kind); enabling may fail; a key in use in a module must
 * be a global variable with C linkage, since the branch names its symbol.  Hence a
 * branch is given the key's name, where the calls are given its address: the assembler
 * needs the symbol, and position-independent code has no constant for its address.
 *
 * ZONEDEV_STATIC_KEYS in the environment: "plain" leaves every branch a jump,
 * "mem" and "mprotect" choose how text is written (for tests).
 * -DZD_STATIC_KEY_PLAIN compiles plain branches, with no jump and no table.
 */
#ifndef ZONEDEV_STATIC_KEY_H
#define ZONEDEV_STATIC_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* A key.  All zero = disabled.  @enabled is zonedev's.  Its size is fixed for ever: keys
 * are variables of programs, and branches know it. */
struct zd_static_key {
	int32_t enabled;
};

/*
 * ZD_DEFINE_STATIC_KEY - a key at file scope, disabled; not static, so that
 * the symbol keeps its name.  ZD_DECLARE_STATIC_KEY - in a header.
 */
#define ZD_DEFINE_STATIC_KEY(key) struct zd_static_key key __attribute__((used)) = { 0 }
#define ZD_DECLARE_STATIC_KEY(key) extern struct zd_static_key key

/*
 * zd_static_branch_inc - one more user wants the branches of @key taken.  Calls
 * nest; the first patches.  Mirrors Linux static_branch_inc() (and
 * static_key_slow_inc()).
 *
 * When it returns 0 every branch on @key that any thread begins from then on is
 * taken, in every module; what the caller wrote before is seen there.
 *
 * Returns 0; -EOVERFLOW: 2^31 - 1 users; -errno: NOPs are there, but text can't
 * be written any more (the program has locked itself down since it was
 * loaded), or -EBUSY: something else has been written over a branch, such as a
 * debugger's breakpoint.  The key is then as it was.
 *
 * Context: may block, for a lock and, when it patches, for three membarrier(2)s (tens of
 * microseconds); fork-safe.
 */
int zd_static_branch_inc(struct zd_static_key *key);

/*
 * zd_static_branch_dec - the reverse; the last turns the branches into NOPs.
 * When it returns 0 from the last one, no branch that begins from then on is
 * taken; threads may still be inside one that they began before.
 *
 * Returns 0, or -EINVAL and a warning (once) if there was no user: unbalanced.
 * Where text can't be written any more the branches stay plain ones: also 0.
 * Context: as zd_static_branch_inc().
 */
int zd_static_branch_dec(struct zd_static_key *key);

/* zd_static_key_enabled - whether @key has users.  Context: signal-safe, fork-safe. */
static inline bool zd_static_key_enabled(const struct zd_static_key *key)
{
	return __atomic_load_n(&key->enabled, __ATOMIC_ACQUIRE) > 0;
}

/* zd_static_keys_patched - whether branches are patched here, or are plain.  A snapshot.
 * Context: any thread, fork-safe. */
bool zd_static_keys_patched(void);

/* What the branches of one program or shared library leave behind.  Entries are
 * relative to themselves, so text has no relocations.  Both sizes are fixed for ever. */
struct zd_jump_entry {
	int32_t code;			/* site - &code */
	int32_t target;			/* where its jump goes - &target */
	struct zd_static_key *key;
};

struct zd_static_key_module {
	const struct zd_jump_entry *start, *stop;
	struct zd_static_key_module *next;
};

/* By ZD_STATIC_KEY_MODULE; never call them. */
void __zd_static_key_module_add(struct zd_static_key_module *module);
void __zd_static_key_module_del(struct zd_static_key_module *module);

#pragma GCC visibility pop

#if !defined(ZD_STATIC_KEY_PLAIN) && !defined(__x86_64__) && !defined(__aarch64__)
#define ZD_STATIC_KEY_PLAIN 1
#endif

#ifdef ZD_STATIC_KEY_PLAIN

#define ZD_STATIC_KEY_MODULE	struct zd_static_key_module
#define zd_static_branch_unlikely(key) \
	__builtin_expect(zd_static_key_enabled(&(key)), 0)

#else

/*
 * ZD_STATIC_KEY_MODULE - once, at file scope, in each program or shared library
 * that branches on keys: tells zonedev of its branches when it is loaded, and
 * when it goes.  Without it the link fails: zd_static_key_module is undefined.
 */
#define ZD_STATIC_KEY_MODULE							\
	extern const struct zd_jump_entry __start_zd_jump_table[]		\
		__attribute__((weak, visibility("hidden")));			\
	extern const struct zd_jump_entry __stop_zd_jump_table[]		\
		__attribute__((weak, visibility("hidden")));			\
	extern struct zd_static_key_module zd_static_key_module;		\
	__attribute__((visibility("hidden")))					\
	struct zd_static_key_module zd_static_key_module = {			\
		__start_zd_jump_table, __stop_zd_jump_table, NULL,		\
	};									\
	__attribute__((constructor)) static void zd_static_key_module_init(void) \
	{									\
		__zd_static_key_module_add(&zd_static_key_module);		\
	}									\
	__attribute__((destructor)) static void zd_static_key_module_exit(void)	\
	{									\
		__zd_static_key_module_del(&zd_static_key_module);		\
	}									\
	struct zd_static_key_module

/* The jump is spelled in bytes so that the assembler doesn't choose the short
 * form, which has no room for the long one's target. */
#if defined(__x86_64__)
#define ZD_JUMP_INSN_ ".byte 0xe9\n\t.long %l[zd_check_] - . - 4\n\t"
#define ZD_JUMP_CLOBBER_ "cc"	/* base/static_key_text.c: between NOP and jump */
#else
#define ZD_JUMP_INSN_ "b %l[zd_check_]\n\t"
#define ZD_JUMP_CLOBBER_
#endif

/* "?": in the group of the function's section, which the linker may drop.  The
 * hidden symbol is what makes a forgotten ZD_STATIC_KEY_MODULE an error. */
#define ZD_JUMP_SITE_(key)							\
	"1:\t" ZD_JUMP_INSN_							\
	".pushsection zd_jump_table, \"aw?\"\n\t"				\
	".balign 8\n\t"								\
	".hidden zd_static_key_module\n\t"					\
	".long 1b - .\n\t"							\
	".long %l[zd_check_] - .\n\t"						\
	".quad " #key "\n\t"							\
	".reloc ., " ZD_JUMP_RELOC_NONE_ ", zd_static_key_module\n\t"		\
	".popsection"
#if defined(__x86_64__)
#define ZD_JUMP_RELOC_NONE_ "R_X86_64_NONE"
#else
#define ZD_JUMP_RELOC_NONE_ "R_AARCH64_NONE"
#endif

#ifdef __clang__
#define ZD_JUMP_COLD_
#else
#define ZD_JUMP_COLD_ __attribute__((cold));
#endif

/*
 * zd_static_branch_unlikely - bool: whether @key, the name of a struct
 * zd_static_key, is enabled.  Off: one NOP.  On: a jump, a load and a test.
 * Context: signal-safe, fork-safe.
 */
#define zd_static_branch_unlikely(key) __extension__ ({				\
	__label__ zd_check_, zd_done_;						\
	bool zd_on_ = false;							\
	__asm__ goto(ZD_JUMP_SITE_(key) : : : ZD_JUMP_CLOBBER_ : zd_check_);	\
	goto zd_done_;								\
zd_check_: ZD_JUMP_COLD_							\
	zd_on_ = zd_static_key_enabled(&(key));					\
zd_done_:									\
	zd_on_;									\
})

#endif

#ifdef __cplusplus
}
#endif
#endif
