/* SPDX-License-Identifier: MIT */
/*
 * An address space that changes while its pages are on their way to a device and
 * back: the kernel's rules for the events of a userfaultfd, and the rules by which
 * the supervisor says where each page is.
 *
 * A place is a page's worth of addresses; 0 to NP-1 are the program's, NP to 2*NP-1
 * those of its forked child.  A page has an identity; what each place must read as
 * is in truth[], which moves and goes with the program's own calls, as if no page
 * had ever left.  Whatever the supervisor puts in place is compared with it.
 *
 * The kernel: a change and the raising of "changing" are one step (the lock).  The
 * thread posts its event at any time after, and waits until it has been read.  Since
 * it may be held up before it posts, events are read in any order at all, and posting
 * and reading are one step.  "changing" is lowered with the reading: the supervisor
 * may ask whether the space is still, but need not, so it may see a space that never
 * was.  A move speaks twice: REMAP, then UNMAP of where it was (the echo); onto a
 * mapping it speaks of the UNMAP there first.  madvise(DONTNEED) takes the pages
 * away when its event has been read and "changing" is lowered again.
 *
 * The supervisor: the rules are numbered below and in space_order.pml.
 */

#ifndef NP
#define NP 3
#endif
#ifndef THREADS
#define THREADS 2		/* of the program, before it forks */
#endif
#ifndef CALLS0
#define CALLS0 2		/* of the threads */
#endif
#ifndef CALLS1
#define CALLS1 1
#endif
#define CALLS2 1
#ifndef MAXLOG
#define MAXLOG 4
#endif

#ifdef FORK
#define CHILD	THREADS		/* the child's only thread */
#define NT	(THREADS + 1)
#define PLACES	(2 * NP)
#else
#define NT	THREADS
#define PLACES	NP
#endif

/* map[] */
#define HOLE	0
#define PLAIN	1		/* mapped, and not registered */
#define REG	2

/* pte[]; from PAGE_X on the identity of the page that is there */
#define NONE	0
#define MARK	1
#define FRESH	2		/* zeros */
#define PAGE_X	3
#define PAGE_Y	4
#define PAGE_Z	5		/* of mmap() */
#define POISON	15
#define PRESENT(p)	(pte[p] >= FRESH)

/* entry[]; from PAGE_X on: that page is on the device, and marked */
#define IN_FLIGHT	8	/* moved, and could not be marked: goes back */
#define ON_DEVICE(e)	((e) >= PAGE_X && (e) < IN_FLIGHT)

/* --- the kernel and the program --- */

byte map[PLACES];
byte pte[PLACES];
byte truth[PLACES];		/* 0: zeros */
bool loose[PLACES];		/* in a DONTNEED's time: truth, or zeros */

/* what a thread is in */
#define IDLE		0
#define UNMAPS_DEST	1	/* waits until this is read */
#define SPEAKS		2	/* and this */
#define ECHOES		3	/* and this */
#define ZAPS		4	/* has been heard, and takes the pages away */

#define UNMAP	1
#define REMAP	2
#define REMOVE	3
#define FORKS	4

byte pend[NT];
byte kind[NT];
byte from[NT], to[NT];
byte span[NT];
bool keeps[NT];			/* DONTUNMAP */
byte doomed[NT];		/* what was at from[] when DONTNEED began, and still is */
byte running;			/* threads that have not ended */

#define IN_CHANGE(t)	(pend[t] >= UNMAPS_DEST && pend[t] <= ECHOES)
#define ZAPPING_BY(t, p)	(pend[t] == ZAPS && from[t] == (p))
#if THREADS == 1
#define CHANGING	IN_CHANGE(0)
#define ZAPPING_P(p)	ZAPPING_BY(0, p)
#elif THREADS == 2
#define CHANGING	(IN_CHANGE(0) || IN_CHANGE(1))
#define ZAPPING_P(p)	(ZAPPING_BY(0, p) || ZAPPING_BY(1, p))
#else
#define CHANGING	(IN_CHANGE(0) || IN_CHANGE(1) || IN_CHANGE(2))
#define ZAPPING_P(p)	(ZAPPING_BY(0, p) || ZAPPING_BY(1, p) || ZAPPING_BY(2, p))
#endif
#ifdef FORK
#define ZAPPING(p)	(ZAPPING_P(p) || ZAPPING_BY(CHILD, p))
#else
#define ZAPPING(p)	ZAPPING_P(p)
#endif

/* --- the supervisor --- */

bool listed[PLACES];
byte entry[PLACES];

byte window;			/* 1 + the place that the agent has moved from */
byte window_page;
byte homing;			/* 1 + the place whose mark has been read */
bool calm;			/* the threads have ended: nothing leaves any more */
bool poisoned;

byte nlog;
byte log_kind[MAXLOG], log_from[MAXLOG], log_to[MAXLOG], log_len[MAXLOG];
bool log_echo[MAXLOG];

#ifdef FORK
bool forked;			/* by the kernel */
bool child_runs;
bool born;			/* is served */
byte child_nlog;
byte child_kind[2], child_from[2], child_to[2], child_len[2];
#define CHILD_CHANGING	IN_CHANGE(CHILD)
#endif

#ifdef FORK
#define STILL(p)	((p) < NP -> !CHANGING : !CHILD_CHANGING)
#define NO_LOG(p)	((p) < NP -> nlog == 0 : born && child_nlog == 0)
#else
#define STILL(p)	(!CHANGING)
#define NO_LOG(p)	(nlog == 0)
#endif

#include "space_kernel.pml"

/* --- rule 1: out.  The agent moves a page, and marks its place --- */

#ifdef MOVE_WHILE_LOGGED
#define MAY_MOVE(p)	true
#else
#define MAY_MOVE(p)	NO_LOG(p)
#endif
#ifdef MOVE_UNDER_ZAP
#define NO_ZAP_OUT(p)	true
#else
#define NO_ZAP_OUT(p)	!ZAPPING(p)
#endif
/* a page that the child has too is not moved by the kernel */
#ifdef FORK
#define SHARED(p)	(pte[NP] == pte[p] || pte[NP + 1] == pte[p] || pte[NP + 2] == pte[p])
#else
#define SHARED(p)	false
#endif

#define CAN_MOVE(p) (!calm && !window && !homing && MAY_MOVE(p) && listed[p] && entry[p] == 0 && \
		     NO_ZAP_OUT(p) && \
		     pte[p] >= PAGE_X && pte[p] != POISON && !CHANGING && !SHARED(p))

inline move(p) {		/* in a d_step */
	window = p + 1;
	window_page = pte[p];
	pte[p] = NONE
}

/* Not marked: something changes, or the place isn't registered. */
inline mark(p) {		/* in a d_step */
	if
	:: !CHANGING && map[p] == REG && pte[p] == NONE -> pte[p] = MARK; entry[p] = window_page
#ifdef MARK_FAILURE_IGNORED
	:: else -> entry[p] = window_page
#else
	:: else -> entry[p] = window_page + IN_FLIGHT
#endif
	fi;
	window = 0;
	window_page = 0
}

#define CAN_PUT_BACK(p)	(entry[p] >= IN_FLIGHT && NO_LOG(p) && !window && !homing && \
			 STILL(p))

inline put_back(p) {		/* in a d_step */
	if
	:: map[p] == REG && pte[p] == NONE ->
		pte[p] = entry[p] - IN_FLIGHT;
		assert(loose[p] || truth[p] == pte[p])
	:: else			/* a plain mapping's thread has read zeros */
	fi;
	entry[p] = 0
}

#include "space_order.pml"

proctype supervisor() {
end:	do
	:: d_step { CAN_READ(0) -> read_event(0) }
#if THREADS > 1
	:: d_step { CAN_READ(1) -> read_event(1) }
#endif
#if THREADS > 2
	:: d_step { CAN_READ(2) -> read_event(2) }
#endif
	:: d_step { CAN_RESOLVE -> resolve() }
#ifdef FORK
	:: d_step { CAN_READ_CHILD -> read_child() }
	:: d_step { CAN_RESOLVE_CHILD -> resolve_child() }
#endif
	od
}

/* --- rules 5 and 6: faults, and pages that go home --- */

#ifdef HOME_UNDER_ZAP
#define NO_ZAP_HOME(p)	true
#else
#define NO_ZAP_HOME(p)	!ZAPPING(p)
#endif

#define CAN_SERVE(p) (map[p] == REG && !PRESENT(p) && !homing && window != (p) + 1 && \
		      entry[p] < IN_FLIGHT && NO_LOG(p) && (entry[p] == 0 || NO_ZAP_HOME(p)))

/*
 * Untouched memory: ZEROPAGE, which a mark refuses.  So it need not wait until the log
 * is empty, if nothing is in flight unmarked.
 */
#ifdef ZEROS_EARLY
#define FLIES(p)	(entry[p] >= IN_FLIGHT)
#if NP > 3
#define ONE_FLIES	(FLIES(0) || FLIES(1) || FLIES(2) || FLIES(3))
#else
#define ONE_FLIES	(FLIES(0) || FLIES(1) || FLIES(2))
#endif
#define ZEROS_WAIT(p)	(!(NO_LOG(p)) && ONE_FLIES)
#else
#define ZEROS_WAIT(p)	(!(NO_LOG(p)))
#endif
#ifdef ZEROS_BY_COPY
#define ZEROS_OVER(p)	true
#else
#define ZEROS_OVER(p)	(pte[p] == NONE)
#endif
#define CAN_ZERO(p) (map[p] == REG && !PRESENT(p) && !homing && window != (p) + 1 && \
		     entry[p] == 0 && STILL(p) && !ZEROS_WAIT(p) && ZEROS_OVER(p))

/* else the mark has gone where an event will say */
#ifdef LET_GO_UNSTILL
#define STILL_AFTER(p)	true
#else
#define STILL_AFTER(p)	STILL(p)
#endif

/* A thread may touch place p at any time, and so the place may be served at any time. */
proctype place(byte p) {
end:	do
	:: d_step { CAN_ZERO(p) ->
		assert(loose[p] || truth[p] == 0);
		pte[p] = FRESH;
		loose[p] = false;
		truth[p] = 0 }
	/* what has no mark has been dropped */
#ifndef NO_MARK_CHECK
	:: d_step { CAN_SERVE(p) && entry[p] != 0 && pte[p] == NONE && STILL_AFTER(p) ->
		entry[p] = 0 }
	:: d_step { CAN_SERVE(p) && entry[p] != 0 && pte[p] == MARK -> homing = p + 1 }
#else
	:: d_step { CAN_SERVE(p) && entry[p] != 0 -> homing = p + 1 }
#endif
	/* COPY */
	:: d_step { homing == p + 1 ->
		if
		:: STILL(p) && map[p] == REG ->
			pte[p] = entry[p];
			entry[p] = 0;
			assert(loose[p] || truth[p] == pte[p])
		:: else
		fi;
		homing = 0 }
	:: d_step { CAN_PUT_BACK(p) -> put_back(p) }
	/* memory that is not registered: the kernel gives zeros */
	:: d_step { map[p] == PLAIN && pte[p] == NONE -> assert(truth[p] == 0); pte[p] = FRESH }
	od
}

proctype agent() {
end:	do
	:: d_step { CAN_MOVE(0) -> move(0) }
	:: d_step { CAN_MOVE(1) -> move(1) }
	:: d_step { CAN_MOVE(2) -> move(2) }
#if NP > 3
	:: d_step { CAN_MOVE(3) -> move(3) }
#endif
	:: d_step { window -> x = window - 1; mark(x); x = 0 }
	od
}

/* --- rule 7: what is found is registered, looked at again, and listed --- */

#ifdef REGISTER
proctype finder() {
	byte a, rounds = 1;
	bool good;

end:	do
	:: atomic { rounds > 0 && !calm ->
		rounds--;
		a = 0;
		do
		:: a + 2 < NP -> a++
		:: break
		od };
	/* the maps have been read a while ago: holes are skipped */
	d_step {
		if
		:: map[a] == PLAIN -> map[a] = REG
		:: else
		fi;
		if
		:: map[a + 1] == PLAIN -> map[a + 1] = REG
		:: else
		fi
	};
	if
	:: d_step { nlog == 0 && !CHANGING && !window && !homing ->
#ifndef LIST_UNVERIFIED
		good = ALL_ARE(a, 1, REG) && ALL_ARE(a + 1, 1, REG);
#else
		good = true;
#endif
		if
		:: good -> listed[a] = true; listed[a + 1] = true
		:: else
		fi;
		good = false;
		a = 0 }
	:: calm -> a = 0
	fi
	od
}
#endif

/* --- all together --- */

/* When the threads have ended, what there is can be read, and is what it must be. */
proctype checker() {
	byte p;

	(running == 0);
	calm = true;
	do
	:: p < PLACES ->
		(map[p] != REG || PRESENT(p));
		p++
	:: else -> break
	od;
	p = 0;
	d_step {
		do
		:: p < PLACES ->
			assert(pte[p] == POISON || map[p] == HOLE || loose[p] ||
			       truth[p] == (pte[p] <= FRESH -> 0 : pte[p]));
			p++
		:: else -> break
		od
	};
#ifdef FORK
	(nlog == 0 && child_nlog == 0);
#else
	(nlog == 0);
#endif
	d_step {
		p = 0;
		do
		:: p < PLACES -> assert(entry[p] == 0); p++	/* none is left out */
		:: else -> break
		od;
#if THREADS == 1
		assert(!poisoned);
#endif
		p = 0
	}
}

init {
	byte p;

	atomic {
		pte[0] = PAGE_X;
		pte[1] = PAGE_Y;
		p = 0;
		do
		:: p < 2 -> map[p] = REG; listed[p] = true; truth[p] = pte[p]; p++
		:: else -> break
		od;
		p = 0;
		run checker();
		run supervisor();
		run agent();
		do
		:: p < PLACES -> run place(p); p++
		:: else -> break
		od;
		p = 0;
#ifdef REGISTER
		run finder();
#endif
		running = NT;
		run thread(0, CALLS0);
#if THREADS > 1
		run thread(1, CALLS1);
#endif
#if THREADS > 2
		run thread(2, CALLS2);
#endif
#ifdef FORK
		run thread(CHILD, 1);
#endif
	}
}
