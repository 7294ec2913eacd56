/* SPDX-License-Identifier: MIT */
/*
 * SIGBUS as a result.
 *
 * Mechanism.  One handler for the process.  It looks at where the thread was:
 *
 *	in the copy routine	go on at the fixup of that instruction, which
 *				returns what is left (the routine is a leaf, and all
 *				its state is in registers)
 *	in zd_fault_guard_call	the innermost guard of this thread whose range has
 *				the address: longjmp there
 *	elsewhere		whoever had the signal before us gets it
 *
 * The vector loop doesn't know how far it got within its 128 bytes.  Its fixup goes
 * on with the byte copy from where the loop stood, and that faults again, with the
 * exact count in rcx.
 *
 * The handlers in front of others' handlers.  A program that sets its own handler
 * after us and chains to ours must not be chained to by that same one of ours: the
 * two would call each other for ever.  So each time that we have to go in front of
 * another one a further copy of the handler does, with a predecessor of its own; and
 * a program that takes its handler away, by putting back what it found, puts back
 * one that knows nothing of it.  The same copy goes in front of the same handler
 * again.  That can close a circle after all, if the other one forgot its first
 * predecessor over that: a bit in siginfo's si_errno, which the kernel leaves 0, says
 * that a copy has had this signal already, and the one before it goes on.
 *
 * SA_NODEFER: the signal isn't blocked inside the handler, so that a handler of
 * theirs may be left by longjmp.  Guards live in TLS of the
 * initial-exec kind: a signal handler can't allocate.
 *
 * Locks: install_lock, over a few system calls, in zd_fault_guard_init() alone.
 */
#include "core/fault_guard.h"

#include <cpuid.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "core/lock.h"
#include "core/tls.h"
#include "zonedev/log.h"

#define MAX_INSTALLED	8
#define HAD_IT(which)	(1 << (16 + (which)))	/* in si_errno */

/* --- the routines that may fault --- */

/*
 * rdi: destination; rsi: source; rdx: length.  Result in rax (left) and rdx
 * (address), as the ABI returns a struct of two words.  The handler sets rdx at a
 * fault, and rip to the fixup.
 *
 * Where source and destination are aligned to each other nothing is faster than rep
 * movsb, which doesn't read the lines that it writes (a third of the time of a copy
 * that misses the caches).  Where they aren't it is up to three times slower than the
 * loop on some CPUs, and on old ones always.
 */
__asm__(
"	.pushsection .text\n"
"	.p2align 6\n"
"	.type zd_fault_copy_vec, @function\n"
"zd_fault_copy_vec:\n"
"	.cfi_startproc\n"
"	mov	%rdx, %rcx\n"
"	sub	$128, %rcx\n"
"	jb	2f\n"
"	.p2align 5\n"
"zd_fault_vec_begin:\n"
"1:	vmovdqu	(%rsi), %ymm0\n"
"	vmovdqu	32(%rsi), %ymm1\n"
"	vmovdqu	64(%rsi), %ymm2\n"
"	vmovdqu	96(%rsi), %ymm3\n"
"	vmovdqu	%ymm0, (%rdi)\n"
"	vmovdqu	%ymm1, 32(%rdi)\n"
"	vmovdqu	%ymm2, 64(%rdi)\n"
"	vmovdqu	%ymm3, 96(%rdi)\n"
"zd_fault_vec_end:\n"
"	sub	$-128, %rsi\n"
"	sub	$-128, %rdi\n"
"	sub	$128, %rcx\n"
"	jae	1b\n"
"zd_fault_vec_fixup:\n"
"	vzeroupper\n"
"2:	add	$128, %rcx\n"
"	jz	3f\n"
"zd_fault_vec_tail:\n"
"	rep movsb\n"
"3:	xor	%eax, %eax\n"
"	xor	%edx, %edx\n"
"	ret\n"
"	.cfi_endproc\n"
"	.size zd_fault_copy_vec, . - zd_fault_copy_vec\n"

"	.type zd_fault_copy_bytes, @function\n"
"zd_fault_copy_bytes:\n"
"	.cfi_startproc\n"
"	mov	%rdx, %rcx\n"
"zd_fault_movsb:\n"
"	rep movsb\n"
"	xor	%eax, %eax\n"
"	xor	%edx, %edx\n"
"	ret\n"
"	.cfi_endproc\n"
"	.size zd_fault_copy_bytes, . - zd_fault_copy_bytes\n"

"	.type zd_fault_zero_bytes, @function\n"
"zd_fault_zero_bytes:\n"
"	.cfi_startproc\n"
"	mov	%rsi, %rcx\n"
"	xor	%eax, %eax\n"
"zd_fault_stosb:\n"
"	rep stosb\n"
"	xor	%edx, %edx\n"
"	ret\n"
"zd_fault_left:\n"
"	mov	%rcx, %rax\n"
"	ret\n"
"	.cfi_endproc\n"
"	.size zd_fault_zero_bytes, . - zd_fault_zero_bytes\n"

"	.type zd_fault_store_8, @function\n"
"zd_fault_store_8:\n"
"	.cfi_startproc\n"
"zd_fault_mov8:\n"
"	mov	%rsi, (%rdi)\n"
"	mov	$1, %eax\n"
"	ret\n"
"zd_fault_not_done:\n"
"	xor	%eax, %eax\n"
"	ret\n"
"	.cfi_endproc\n"
"	.size zd_fault_store_8, . - zd_fault_store_8\n"

/* the result in rax, the value in rdx */
"	.type zd_fault_load_8, @function\n"
"zd_fault_load_8:\n"
"	.cfi_startproc\n"
"zd_fault_get8:\n"
"	mov	(%rdi), %rdx\n"
"	mov	$1, %eax\n"
"	ret\n"
"	.cfi_endproc\n"
"	.size zd_fault_load_8, . - zd_fault_load_8\n"
"	.popsection\n");

struct loaded {
	uint64_t done, value;
};

struct zd_fault_result zd_fault_copy_vec(void *dst, const void *src, size_t len);
struct zd_fault_result zd_fault_copy_bytes(void *dst, const void *src, size_t len);
struct zd_fault_result zd_fault_zero_bytes(void *dst, size_t len);
int zd_fault_store_8(uint64_t *dst, uint64_t value);
struct loaded zd_fault_load_8(const uint64_t *src);
extern const char zd_fault_mov8[], zd_fault_get8[], zd_fault_not_done[];
extern const char zd_fault_vec_begin[], zd_fault_vec_end[], zd_fault_vec_fixup[];
extern const char zd_fault_vec_tail[], zd_fault_movsb[], zd_fault_stosb[], zd_fault_left[];

/* Is the thread in the routine?  Then it goes on at the fixup. */
static bool fix_up(ucontext_t *uc, const siginfo_t *info)
{
	greg_t *regs = uc->uc_mcontext.gregs;
	uintptr_t ip = (uintptr_t)regs[REG_RIP];

	if (ip >= (uintptr_t)zd_fault_vec_begin && ip < (uintptr_t)zd_fault_vec_end) {
		regs[REG_RIP] = (greg_t)(uintptr_t)zd_fault_vec_fixup;
		return true;
	}
	if (ip == (uintptr_t)zd_fault_mov8 || ip == (uintptr_t)zd_fault_get8) {
		regs[REG_RIP] = (greg_t)(uintptr_t)zd_fault_not_done;
		return true;
	}
	if (ip != (uintptr_t)zd_fault_vec_tail && ip != (uintptr_t)zd_fault_movsb &&
	    ip != (uintptr_t)zd_fault_stosb)
		return false;
	regs[REG_RDX] = (greg_t)(uintptr_t)info->si_addr;
	regs[REG_RIP] = (greg_t)(uintptr_t)zd_fault_left;
	return true;
}

/* --- guarded calls --- */

struct guard {
	struct guard *outer;
	uintptr_t start, end;
	uintptr_t addr;
	jmp_buf env;
};

static ZD_TLS struct guard *guards;	/* innermost first */
static ZD_TLS bool unblocked;

/* Blocked, a SIGBUS by a fault kills. */
static void unblock(void)
{
	sigset_t set;

	if (unblocked)
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGBUS);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	unblocked = true;
}

#define CPUID_7_EBX_ERMS	(1u << 9)	/* a fast rep movsb */

/* The bits in which source and destination must agree for rep movsb to be used. */
#define ANYWHERE	0
#define SAME_IN_LINE	63
#define NOWHERE		UINT8_MAX

static uint8_t find_vec_mask(void)
{
	unsigned int eax, ebx = 0, ecx, edx;

	if (!__builtin_cpu_supports("avx"))
		return ANYWHERE;
	if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !(ebx & CPUID_7_EBX_ERMS))
		return NOWHERE;
	return SAME_IN_LINE;
}

struct zd_fault_result zd_fault_copy(void *dst, const void *src, size_t len)
{
	static int16_t known = -1;	/* relaxed: everybody finds the same */
	int16_t mask = __atomic_load_n(&known, __ATOMIC_RELAXED);

	if (__builtin_expect(mask < 0, 0)) {
		mask = find_vec_mask();
		__atomic_store_n(&known, mask, __ATOMIC_RELAXED);
	}
	unblock();
	if (mask == NOWHERE || ((uintptr_t)dst ^ (uintptr_t)src) & mask)
		return zd_fault_copy_vec(dst, src, len);
	return zd_fault_copy_bytes(dst, src, len);
}

struct zd_fault_result zd_fault_zero(void *dst, size_t len)
{
	unblock();
	return zd_fault_zero_bytes(dst, len);
}

bool zd_fault_store64(uint64_t *dst, uint64_t value)
{
	unblock();
	return zd_fault_store_8(dst, value);
}

bool zd_fault_load64(const uint64_t *src, uint64_t *value)
{
	struct loaded l;

	unblock();
	l = zd_fault_load_8(src);
	*value = l.value;
	return l.done;
}

int zd_fault_guard_call(void (*fn)(void *arg), void *arg, const void *start, size_t len,
			uintptr_t *addr)
{
	struct guard guard;

	guard.outer = guards;
	guard.start = (uintptr_t)start;
	guard.end = guard.start + len;
	unblock();
	if (_setjmp(guard.env)) {
		/* the handler has taken it off the list */
		if (addr)
			*addr = guard.addr;
		return -EFAULT;
	}
	/* The handler of this thread reads it: the guard is complete before. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	guards = &guard;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	fn(arg);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	guards = guard.outer;
	return 0;
}

static void jump_out(const ucontext_t *uc, uintptr_t addr)
{
	for (struct guard *g = guards; g; g = g->outer) {
		if (addr < g->start || addr >= g->end)
			continue;
		g->addr = addr;
		guards = g->outer;
		/* ours is set to change nothing, but who wraps handlers may have.  Eight
		 * bytes: all that the kernel has put there */
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, &uc->uc_sigmask, NULL, 8);
		longjmp(g->env, 1);	/* by this name a sanitizer knows it */
	}
}

/* --- the handler --- */

static struct zd_mutex install_lock;
static struct sigaction before[MAX_INSTALLED];	/* each written before its handler is set */
static unsigned int nr_installed;

/* Die of it as if we weren't here: at the faulting instruction if there is one,
 * when that is tried again. */
static void die(bool fault)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };

	sigaction(SIGBUS, &dfl, NULL);
	if (!fault)
		syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), SIGBUS);
}

/* As the kernel would have called it. */
static void call_before(struct sigaction *old, siginfo_t *info, void *uc, bool fault)
{
	struct sigaction act = *old;
	sigset_t mask = act.sa_mask, saved;

	if (act.sa_handler == SIG_IGN && !fault)
		return;
	if (act.sa_handler == SIG_DFL || act.sa_handler == SIG_IGN) {
		die(fault);
		return;
	}
	if (act.sa_flags & SA_RESETHAND)
		old->sa_handler = SIG_DFL;
	if (!(act.sa_flags & SA_NODEFER))
		sigaddset(&mask, SIGBUS);
	pthread_sigmask(SIG_BLOCK, &mask, &saved);
	if (act.sa_flags & SA_SIGINFO)
		act.sa_sigaction(SIGBUS, info, uc);
	else
		act.sa_handler(SIGBUS);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
}

static void handle(unsigned int which, siginfo_t *info, void *context)
{
	/* else somebody sent it; or it is news of a page that this thread may never touch */
	bool fault = info->si_code > 0 && info->si_code != BUS_MCEERR_AO;
	int saved = errno;

	if (fault) {
		if (fix_up(context, info))
			return;
		jump_out(context, (uintptr_t)info->si_addr);
	}
	while (info->si_errno & HAD_IT(which)) {
		if (!which--) {
			die(fault);
			return;
		}
	}
	info->si_errno |= HAD_IT(which);
	call_before(&before[which], info, context, fault);
	errno = saved;
}

#define HANDLER(n)								\
	static void handler_##n(int sig, siginfo_t *info, void *uc)		\
	{									\
		(void)sig;							\
		handle(n, info, uc);						\
	}
HANDLER(0) HANDLER(1) HANDLER(2) HANDLER(3) HANDLER(4) HANDLER(5) HANDLER(6) HANDLER(7)

static void (*const handlers[MAX_INSTALLED])(int, siginfo_t *, void *) = {
	handler_0, handler_1, handler_2, handler_3, handler_4, handler_5, handler_6, handler_7,
};

static bool is_ours(const struct sigaction *act)
{
	for (unsigned int i = 0; i < nr_installed; i++)
		if (act->sa_flags & SA_SIGINFO && act->sa_sigaction == handlers[i])
			return true;
	return false;
}

/* The copy that was in front of the same handler, or the next one. */
static unsigned int copy_for(const struct sigaction *act)
{
	unsigned int i;

	for (i = 0; i < nr_installed; i++)
		if (before[i].sa_handler == act->sa_handler)
			break;
	return i;
}

/* A plugin's host may unload it; a handler must stay. */
static void stay_loaded(void)
{
	Dl_info info;

	if (dladdr((void *)handlers[0], &info) && info.dli_fname)
		dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

static int install(void)
{
	struct sigaction act = { .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER }, theirs;
	unsigned int which;

	if (sigaction(SIGBUS, NULL, &theirs))
		return -errno;
	if (is_ours(&theirs))
		return 0;
	which = copy_for(&theirs);
	if (which == MAX_INSTALLED) {
		zd_warn_once("SIGBUS has been given a new handler too often");
		return -EBUSY;
	}
	if (!nr_installed)
		stay_loaded();
	before[which] = theirs;
	sigemptyset(&act.sa_mask);
	act.sa_sigaction = handlers[which];
	if (sigaction(SIGBUS, &act, NULL))
		return -errno;
	if (which == nr_installed)
		nr_installed++;
	return 0;
}

int zd_fault_guard_init(void)
{
	int err;

	zd_mutex_lock(&install_lock);
	err = install();
	zd_mutex_unlock(&install_lock);
	return err;
}
