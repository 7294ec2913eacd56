/* SPDX-License-Identifier: MIT */
/*
 * Copies of memory that may fault.
 *
 * The handler of SIGBUS (fault_sigbus.c) knows a routine by the address of the instruction that
 * faulted, and has the thread go on at its fixup, which returns what is left: the routine is
 * a leaf, and all its state is in registers.
 *
 * The vector loop doesn't know how far it got within its 128 bytes.  Its fixup goes
 * on with the byte copy from where the loop stood, and the byte copy faults again, with the
 * exact count in rcx.
 */
#include <cpuid.h>
#include <pthread.h>
#include <signal.h>

#include "base/fault_guard.h"
#include "base/fault_sigbus.h"
#include "base/tls.h"

/*
 * rdi: destination; rsi: source; rdx: length.  Result in rax (left) and rdx
 * (address), as the ABI returns a struct of two words.  The handler sets rdx at a
 * fault, and rip to the fixup.
 *
 * Where source and destination are aligned to each other nothing is faster than rep
 * movsb, which doesn't read the lines that it writes (a third of the time of a copy
 * that misses the caches).  Where they aren't, rep movsb is up to three times slower than
 * the loop on some CPUs, and on old ones always.
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

bool zd_fault_fix_up(ucontext_t *uc, const siginfo_t *info)
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

static ZD_TLS bool unblocked;

void zd_fault_unblock(void)
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
	static int16_t known = -1;	/* relaxed: every thread finds the same */
	int16_t mask = __atomic_load_n(&known, __ATOMIC_RELAXED);

	if (__builtin_expect(mask < 0, 0)) {
		mask = find_vec_mask();
		__atomic_store_n(&known, mask, __ATOMIC_RELAXED);
	}
	zd_fault_unblock();
	if (mask == NOWHERE || ((uintptr_t)dst ^ (uintptr_t)src) & mask)
		return zd_fault_copy_vec(dst, src, len);
	return zd_fault_copy_bytes(dst, src, len);
}

struct zd_fault_result zd_fault_zero(void *dst, size_t len)
{
	zd_fault_unblock();
	return zd_fault_zero_bytes(dst, len);
}

bool zd_fault_store64(uint64_t *dst, uint64_t value)
{
	zd_fault_unblock();
	return zd_fault_store_8(dst, value);
}

bool zd_fault_load64(const uint64_t *src, uint64_t *value)
{
	struct loaded l;

	zd_fault_unblock();
	l = zd_fault_load_8(src);
	*value = l.value;
	return l.done;
}
