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
 * The supervisor: see the inlines; their names are those of the rules.
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

/* --- the kernel --- */

/* What DONTNEED would have taken has left in time. */
inline leaves(p) {		/* in a d_step */
	kt = 0;
	do
	:: kt < NT ->
		if
		:: kind[kt] == REMOVE && from[kt] == (p) -> doomed[kt] = 0
		:: else
		fi;
		kt++
	:: else -> break
	od;
	kt = 0
}

inline clear(p) {
	leaves(p);
	pte[p] = NONE;
	truth[p] = 0;
	loose[p] = false
}

hidden byte kt, ki, any, seen;

/* munmap() of [a, a + n) */
inline unmap(a, n) {
	ki = 0;
	do
	:: ki < n -> clear(a + ki); map[a + ki] = HOLE; ki++
	:: else -> break
	od
}

/* madvise(DONTNEED) takes the page away, whatever is there by now */
inline zap(t) {
	if
	:: map[from[t]] != HOLE ->
		pte[from[t]] = NONE;
		if
		:: truth[from[t]] == doomed[t] -> truth[from[t]] = 0; loose[from[t]] = false
		:: else -> loose[from[t]] = (truth[from[t]] != 0)
		fi
	:: else
	fi
}

/* Is all of [a, a + n) in one mapping of kind k? */
#define ALL_ARE(a, n, k)	(map[a] == (k) && map[(a) + (n) - 1] == (k))
#define NO_HOLE(a, n)	(map[a] != HOLE && map[(a) + (n) - 1] != HOLE)
#define OVERLAP(a, n, b, m)	((a) < (b) + (m) && (b) < (a) + (n))

inline forget_call(t) {
	pend[t] = IDLE;
	kind[t] = 0;
	from[t] = 0;
	to[t] = 0;
	span[t] = 0;
	keeps[t] = false;
	doomed[t] = 0
}

inline do_unmap(t, a, n) {	/* in a d_step */
	if
	:: NO_HOLE(a, n) ->
		any = (map[a] == REG || map[(a) + (n) - 1] == REG);
		unmap(a, n);
		if
		:: any -> kind[t] = UNMAP; from[t] = a; span[t] = n; pend[t] = SPEAKS
		:: else
		fi
	:: else
	fi;
	any = 0
}

/* mremap() of [a, a + n) to b; dontunmap: the mapping stays, without its pages */
inline do_remap(t, a, b, n, fixed, dontunmap) {	/* in a d_step */
	if
	:: !OVERLAP(a, n, b, n) && ALL_ARE(a, n, REG) && (fixed || ALL_ARE(b, n, HOLE)) ->
		pend[t] = (map[b] == REG || map[(b) + (n) - 1] == REG -> UNMAPS_DEST : SPEAKS);
		unmap(b, n);
		ki = 0;
		do
		:: ki < n ->
			map[b + ki] = REG;
			pte[b + ki] = pte[a + ki];
			truth[b + ki] = truth[a + ki];
			loose[b + ki] = loose[a + ki];
			clear(a + ki);
			map[a + ki] = (dontunmap -> REG : HOLE);
			ki++
		:: else -> break
		od;
		kind[t] = REMAP;
		from[t] = a;
		to[t] = b;
		span[t] = n;
		keeps[t] = dontunmap
	:: else
	fi
}

inline do_remove(t, a) {	/* in a d_step */
	if
	:: map[a] == REG ->
		kind[t] = REMOVE;
		from[t] = a;
		span[t] = 1;
		doomed[t] = truth[a];
		loose[a] = (truth[a] != 0);
		pend[t] = SPEAKS
	:: else
	fi
}

/*
 * A mark goes and nothing is said: MADV_GUARD_INSTALL.  What the guard covers can't
 * be put back by COPY, so a page in flight is not followed here.
 */
inline do_drop(a) {		/* in a d_step */
	any = (window == 0 && homing == 0 && map[a] == REG);
	ki = 0;
	do
	:: ki < PLACES -> any = any && entry[ki] < IN_FLIGHT; ki++
	:: else -> break
	od;
	if
	:: any -> clear(a)
	:: else
	fi;
	any = 0
}

/* mmap(), and written to */
inline do_mmap(a) {		/* in a d_step */
	seen = 0;
	ki = 0;
	do
	:: ki < PLACES ->
		seen = seen || truth[ki] == PAGE_Z || pte[ki] == PAGE_Z || entry[ki] % 8 == PAGE_Z;
		ki++
	:: else -> break
	od;
	if
	:: map[a] == HOLE && !seen && window_page != PAGE_Z ->
		map[a] = PLAIN;
		pte[a] = PAGE_Z;
		truth[a] = PAGE_Z
	:: else
	fi
}

/* A mapping grows in place: registered as the rest of it is, and nothing is said. */
inline do_grow(a) {		/* in a d_step */
	if
	:: a > 0 && map[a] == HOLE && map[a - 1] == REG -> map[a] = REG
	:: else
	fi
}

#ifdef FORK
inline do_fork(t) {		/* in a d_step */
	if
	:: !forked ->
		forked = true;
		ki = 0;
		do
		:: ki < NP ->
			map[NP + ki] = map[ki];
			pte[NP + ki] = pte[ki];
			truth[NP + ki] = truth[ki];
			loose[NP + ki] = loose[ki];
			ki++
		:: else -> break
		od;
		kind[t] = FORKS;
		pend[t] = SPEAKS
	:: else
	fi
}
#endif

/* One call of thread t, of those that the check has; base: its first place. */
inline call(t, base) {
	if
#ifdef OP_UNMAP
	:: d_step { do_unmap(t, base + pa, pn) }
#endif
#ifdef OP_REMAP
	:: d_step { do_remap(t, base + pa, base + pb, pn, false, false) }
#endif
#ifdef OP_FIXED
	:: d_step { do_remap(t, base + pa, base + pb, pn, true, false) }
#endif
#ifdef OP_DONTUNMAP
	:: d_step { do_remap(t, base + pa, base + pb, pn, false, true) }
#endif
#ifdef OP_REMOVE
	:: d_step { do_remove(t, base + pa) }
#endif
#ifdef OP_DROP
	:: d_step { do_drop(base + pa) }
#endif
#ifdef OP_MMAP
	:: d_step { do_mmap(base + pa) }
#endif
#ifdef OP_GROW
	:: d_step { do_grow(base + pa) }
#endif
	fi
}

proctype thread(byte t; byte calls) {
	byte pa, pb, pn;

#ifdef FORK
	if
	:: t == CHILD && child_runs
	:: t == CHILD && running == 1 && !forked -> calls = 0
	:: t != CHILD
	fi;
#endif
	do
	:: atomic { pend[t] == IDLE && calls > 0 ->
		calls--;
		pn = 1;
#ifdef LONG
		if
		:: pn = 1
		:: pn = 2
		fi;
#endif
		pa = 0;
		do
		:: pa + pn < NP -> pa++
		:: break
		od;
		pb = 0;
		do
		:: pb + pn < NP -> pb++
		:: break
		od;
#ifdef SHRINK
		if
		:: d_step { t == 0 && calls == 3 -> do_remap(t, 0, 2, 2, false, false) }
		:: d_step { t == 0 && calls == 2 -> do_unmap(t, 3, 1) }
		:: d_step { t == 0 && calls == 1 -> do_remap(t, 2, 3, 1, false, false) }
		:: d_step { t == 0 && calls == 0 -> do_remap(t, 3, 1, 1, false, false) }
		:: t != 0 -> call(t, 0)
		fi;
#elif defined(FORK)
		if
		:: t == CHILD -> call(t, NP)
		:: t != CHILD -> call(t, 0)
		:: t != CHILD -> d_step { do_fork(t) }
		fi;
#else
		call(t, 0);
#endif
		pa = 0;
		pb = 0;
		pn = 0 }
	:: d_step { pend[t] == ZAPS -> zap(t); forget_call(t) }
	:: atomic { pend[t] == IDLE && calls == 0 -> break }
	od;
	running--
}

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

#define CAN_PUT_BACK(p)	(entry[p] >= IN_FLIGHT && NO_LOG(p) && !window && !homing && STILL(p))

inline put_back(p) {		/* in a d_step */
	if
	:: map[p] == REG && pte[p] == NONE ->
		pte[p] = entry[p] - IN_FLIGHT;
		assert(loose[p] || truth[p] == pte[p])
	:: else			/* a plain mapping's thread has read zeros */
	fi;
	entry[p] = 0
}

/* --- rule 2: an event is read, and logged --- */

#define CAN_READ(t)	(IN_CHANGE(t) && !window && !homing && \
			 (nlog < MAXLOG || pend[t] == ECHOES))

inline log_unit(k, a, b, n) {
	log_kind[nlog] = k;
	log_from[nlog] = a;
	log_to[nlog] = b;
	log_len[nlog] = n;
	log_echo[nlog] = false;
	nlog++
}

/* The first UNMAP of where a REMAP came from is its echo: nothing can come there before. */
inline log_unmap(a, n) {
	i = 0;
	do
	:: i < nlog && !(log_kind[i] == REMAP && log_from[i] == a && log_len[i] == n &&
			 !log_echo[i]) -> i++
	:: else -> break
	od;
	if
	:: i < nlog -> log_echo[i] = true
	:: else -> log_unit(UNMAP, a, 0, n)
	fi
}

inline read_event(t) {		/* in a d_step */
	if
	:: pend[t] == UNMAPS_DEST ->
		log_unmap(to[t], span[t]);
		pend[t] = SPEAKS
	:: pend[t] == ECHOES ->
		log_unmap(from[t], span[t]);
		forget_call(t)
	:: pend[t] == SPEAKS && kind[t] == UNMAP ->
		log_unmap(from[t], span[t]);
		forget_call(t)
	:: pend[t] == SPEAKS && kind[t] == REMAP ->
		log_unit(REMAP, from[t], to[t], span[t]);
		if
		:: keeps[t] -> forget_call(t)
		:: else -> pend[t] = ECHOES
		fi
	:: pend[t] == SPEAKS && kind[t] == REMOVE ->
		log_unit(REMOVE, from[t], 0, span[t]);
		pend[t] = ZAPS
#ifdef FORK
	:: pend[t] == SPEAKS && kind[t] == FORKS ->
#ifdef BORN_EARLY
		i = 0;
		do
		:: i < NP -> entry[NP + i] = entry[i]; listed[NP + i] = listed[i]; i++
		:: else -> break
		od;
		born = true;
#else
		log_unit(FORKS, 0, 0, 0);
#endif
		child_runs = true;
		forget_call(t)
#endif
	fi;
	i = 0
}

/* --- rules 3 and 4: the log is complete, and an order is searched that explains it --- */

hidden byte sim[PLACES], sim_listed[PLACES];	/* in one order */
hidden byte best[PLACES], best_listed[PLACES], doubt[PLACES];
hidden byte i, j, u, v, d, used, ok, found, x, over;

inline sim_unmap(a, n) {
	x = 0;
	do
	:: x < n -> sim[a + x] = 0; sim_listed[a + x] = 0; x++
	:: else -> break
	od
}

inline sim_remap(a, b, n, echo) {
	x = 0;
	do
	:: x < n ->
		if
		:: sim_listed[b + x] -> ok = 0		/* somebody must have left it first */
		:: else
		fi;
		sim[b + x] = sim[a + x];
		sim_listed[b + x] = sim_listed[a + x];
		sim[a + x] = 0;
		if
		:: echo -> sim_listed[a + x] = 0
		:: else
		fi;
		x++
	:: else -> break
	od
}

/* Of what is marked the marks tell; what is in flight has none. */
inline sim_remove(a) {
	if
	:: sim[a] >= IN_FLIGHT -> sim[a] = 0
	:: else
	fi
}

#ifdef FORK
inline sim_child() {
	x = 0;
	do
	:: x < NP -> sim[NP + x] = sim[x]; sim_listed[NP + x] = sim_listed[x]; x++
	:: else -> break
	od;
	sim_child_log()
}

/* The child has one thread: the order of its events is known. */
inline sim_child_log() {
	v = 0;
	do
	:: v < child_nlog ->
		if
		:: child_kind[v] == UNMAP -> sim_unmap(child_from[v], child_len[v])
		:: child_kind[v] == REMAP -> sim_remap(child_from[v], child_to[v], child_len[v], 0)
		:: child_kind[v] == REMOVE -> sim_remove(child_from[v])
		fi;
		v++
	:: else -> break
	od
}
#endif

/*
 * The units of an order: the events without the echoes.  A REMAP with DONTUNMAP has no
 * echo, and an UNMAP of the same place, that is another thread's, looks like one: where
 * there may be such a REMAP both are tried.  choice: of the echoes that stand alone.
 */
#define MAXUNIT	(2 * MAXLOG)
hidden byte nunit, choice, choices;
hidden byte unit_kind[MAXUNIT], unit_from[MAXUNIT], unit_to[MAXUNIT], unit_len[MAXUNIT];
hidden byte unit_echo[MAXUNIT], unit_alone[MAXUNIT], unit_same_call[MAXUNIT];
hidden int fact, f, k, rest;

inline add_unit(q, kk, aa, bb, nn, ee, alone) {
	unit_kind[q] = kk;
	unit_from[q] = aa;
	unit_to[q] = bb;
	unit_len[q] = nn;
	unit_echo[q] = ee;
	unit_alone[q] = alone;
	unit_same_call[q] = alone;
	q++
}

inline take_units() {
	nunit = 0;
	d = 0;				/* echoes so far */
	x = 0;
	do
	:: x < nlog ->
		if
		:: log_echo[x] && (choice & (1 << d)) ->
			add_unit(nunit, log_kind[x], log_from[x], log_to[x], log_len[x], 0, 0);
			add_unit(nunit, UNMAP, log_from[x], 0, log_len[x], 0, 1)
		:: else ->
			add_unit(nunit, log_kind[x], log_from[x], log_to[x], log_len[x], log_echo[x], 0)
		fi;
		d = d + log_echo[x];
		x++
	:: else -> break
	od;
	/* MREMAP_FIXED: the UNMAP of where it goes */
	u = 0;
	do
	:: u < nunit * nunit ->
		v = u % nunit;
		x = u / nunit;
		if
		:: unit_kind[x] == UNMAP && unit_kind[v] == REMAP && unit_from[x] == unit_to[v] &&
		   unit_len[x] == unit_len[v] -> unit_same_call[x] = 1
		:: else
		fi;
		u++
	:: else -> break
	od
}

inline sim_unit(e) {
#ifdef LISTED_ONLY
	/* (mutation) every event is over what is listed */
	if
	:: unit_kind[e] != FORKS && !sim_listed[unit_from[e]] -> ok = 0
	:: else
	fi;
#endif
	if
	:: unit_kind[e] == UNMAP -> sim_unmap(unit_from[e], unit_len[e])
#ifdef ECHO_LATE
	:: unit_kind[e] == REMAP -> sim_remap(unit_from[e], unit_to[e], unit_len[e], 0)
#else
	:: unit_kind[e] == REMAP -> sim_remap(unit_from[e], unit_to[e], unit_len[e], unit_echo[e])
#endif
	:: unit_kind[e] == REMOVE -> sim_remove(unit_from[e])
#ifdef FORK
	:: unit_kind[e] == FORKS -> sim_child()
#endif
	fi
}

#ifdef ANY_OVERTAKES
#define ANY_ORDER	true
#else
#define ANY_ORDER	false
#endif

/*
 * The d-th of those not used yet.  What comes before it in this order and was read after
 * it was waiting all the time, each in a thread of its own: the program has only so many.
 * (What may be of the same call as another is not counted.)
 */
inline next_unit() {
	u = 0;
	do
	:: used & (1 << u) -> u++
	:: !(used & (1 << u)) && d > 0 -> d--; u++
	:: else -> break
	od;
	v = u + 1;
	over = 0;
	do
	:: v < nunit && (used & (1 << v)) -> over = over + (1 - unit_same_call[v]); v++
	:: v < nunit && !(used & (1 << v)) -> v++
	:: else -> break
	od;
#ifndef ANY_OVERTAKES
	if
	:: over > THREADS - 1 && !unit_alone[u] -> ok = 0
	:: else
	fi;
#endif
	used = used | (1 << u)
}

#ifdef FORK
#define MARKS_OF(p)	((p) < NP || has_child)
#define RESOLVES_CHILD	has_child
hidden byte has_child;
#else
#define MARKS_OF(p)	true
#endif

/* What is marked is on the device; what isn't marked has been dropped. */
inline check_marks() {
	x = 0;
	do
	:: x < PLACES && MARKS_OF(x) ->
		if
#ifdef ASK_REGISTERED
		:: sim_listed[x] && map[x] != REG -> ok = 0
#endif
		:: pte[x] == MARK && !ON_DEVICE(sim[x]) -> ok = 0
		:: pte[x] != MARK && ON_DEVICE(sim[x]) ->
#ifdef EXACT_MARKS
			ok = 0
#else
			sim[x] = 0
#endif
		:: else
		fi;
		x++
	:: x < PLACES && !MARKS_OF(x) -> x++
	:: else -> break
	od
}

inline compare() {
	x = 0;
	do
	:: x < PLACES ->
		if
		:: !found -> best[x] = sim[x]; best_listed[x] = sim_listed[x]
		:: found && sim[x] != best[x] -> doubt[x] = 1
		:: else
		fi;
#ifndef LISTED_BY_ONE
		best_listed[x] = best_listed[x] && sim_listed[x];
#endif
		x++
	:: else -> break
	od;
	found = 1
}

inline one_order() {
	x = 0;
	do
	:: x < PLACES -> sim[x] = entry[x]; sim_listed[x] = listed[x]; x++
	:: else -> break
	od;
	used = 0;
	rest = k;
	f = fact;
	ok = 1;
	j = 0;
	do
	:: j < nunit && ok ->
		f = (f >= nunit - j -> f / (nunit - j) : 1);
		d = rest / f;
		rest = rest % f;
		next_unit();
		sim_unit(u);
		j++
	:: else -> break
	od;
#ifdef ECHO_LATE
	j = 0;
	do
	:: j < nlog ->
		if
		:: log_echo[j] -> sim_unmap(log_from[j], log_len[j])
		:: else
		fi;
		j++
	:: else -> break
	od
#endif
}

/* A REMOVE that no other event overlaps: what is there on the device is let go at once,
 * and its mark taken off. */
inline remove_alone() {
	i = 0;
	do
	:: i < nlog ->
		j = 0;
		over = (log_kind[i] != REMOVE);
		do
		:: j < nlog ->
			if
			:: log_kind[j] == UNMAP || log_kind[j] == REMAP ->
				over = over || OVERLAP(log_from[i], 1, log_from[j], log_len[j]) ||
				       (log_kind[j] == REMAP && OVERLAP(log_from[i], 1, log_to[j], log_len[j]))
			:: else
			fi;
			j++
		:: else -> break
		od;
		if
		:: !over && ON_DEVICE(best[log_from[i]]) ->
			best[log_from[i]] = 0;
			pte[log_from[i]] = NONE
		:: else
		fi;
		i++
	:: else -> break
	od
}

inline all_orders() {
	take_units();
	fact = 1;
	i = (THREADS == 1 && !ANY_ORDER -> nunit + 1 : 2);
	do
	:: i <= nunit -> fact = fact * i; i++
	:: else -> break
	od;
	k = 0;
	do
#ifdef READ_ORDER
	:: k < 1 ->
		one_order();
		ok = 1;
#else
	:: k < fact ->
		one_order();
		if
		:: ok -> check_marks()
		:: else
		fi;
#endif
		if
#ifdef FIRST_ORDER
		:: ok && !found -> compare()
#else
		:: ok -> compare()
#endif
		:: else
		fi;
#ifdef READ_ORDER_WINS
		k = (ok && k == 0 -> fact : k + 1)
#else
		k++
#endif
	:: else -> break
	od
}

#ifdef RESOLVE_EARLY
#define CAN_RESOLVE	(nlog > 0 && !window && !homing)
#elif defined(FORK)
#define CAN_RESOLVE	(nlog > 0 && !CHANGING && !window && !homing && !(child_runs && !born && CHILD_CHANGING))
#else
#define CAN_RESOLVE	(nlog > 0 && !CHANGING && !window && !homing)
#endif

inline resolve() {		/* in a d_step */
	x = 0;
	do
	:: x < PLACES -> doubt[x] = 0; x++
	:: else -> break
	od;
#ifdef FORK
	has_child = 0;
	i = 0;
	do
	:: i < nlog -> has_child = has_child || log_kind[i] == FORKS; i++
	:: else -> break
	od;
#endif
	found = 0;
	choices = 1;
#ifdef ECHO_UNSURE
	i = 0;
	do
	:: i < nlog ->
		choices = (log_echo[i] && THREADS > 1 -> choices * 2 : choices);
		i++
	:: else -> break
	od;
#endif
	choice = 0;
	do
	:: choice < choices -> all_orders(); choice++
	:: else -> break
	od;
	if
	:: found ->
		remove_alone();
		x = 0;
		do
		:: x < PLACES ->
			listed[x] = best_listed[x];
			entry[x] = best[x];
			if
			:: doubt[x] ->
				entry[x] = 0;
				poisoned = true;
				if
				:: map[x] == REG && !PRESENT(x) -> pte[x] = POISON
				:: else
				fi
			:: else
			fi;
			x++
		:: else -> break
		od;
#ifdef FORK
		if
		:: has_child && !born ->
			born = true;
			child_nlog = 0;
			child_forget(0);
			child_forget(1)
		:: else
		fi;
#endif
		i = 0;
		do
		:: i < nlog ->
			log_kind[i] = 0;
			log_from[i] = 0;
			log_to[i] = 0;
			log_len[i] = 0;
			log_echo[i] = false;
			i++
		:: else -> break
		od;
		nlog = 0
#ifdef RESOLVE_EARLY
	:: else
#else
	:: else -> assert(found)	/* the log is complete: it can be explained */
#endif
	fi
}

#ifdef FORK
inline child_forget(e) {
	child_kind[e] = 0;
	child_from[e] = 0;
	child_to[e] = 0;
	child_len[e] = 0
}

#define CAN_READ_CHILD	(IN_CHANGE(CHILD) && !homing)

inline child_unit(k0, a, b, n) {
	child_kind[child_nlog] = k0;
	child_from[child_nlog] = a;
	child_to[child_nlog] = b;
	child_len[child_nlog] = n;
	child_nlog++
}

/* One thread: UNMAP is applied where it is read, echoes too. */
inline read_child() {		/* in a d_step */
	if
	:: pend[CHILD] == UNMAPS_DEST ->
		child_unit(UNMAP, to[CHILD], 0, span[CHILD]);
		pend[CHILD] = SPEAKS
	:: pend[CHILD] == ECHOES ->
		child_unit(UNMAP, from[CHILD], 0, span[CHILD]);
		forget_call(CHILD)
	:: pend[CHILD] == SPEAKS && kind[CHILD] == UNMAP ->
		child_unit(UNMAP, from[CHILD], 0, span[CHILD]);
		forget_call(CHILD)
	:: pend[CHILD] == SPEAKS && kind[CHILD] == REMAP ->
		child_unit(REMAP, from[CHILD], to[CHILD], span[CHILD]);
		pend[CHILD] = ECHOES
	:: pend[CHILD] == SPEAKS && kind[CHILD] == REMOVE ->
		child_unit(REMOVE, from[CHILD], 0, span[CHILD]);
		pend[CHILD] = ZAPS
	fi
}

#define CAN_RESOLVE_CHILD	(born && child_nlog > 0 && !CHILD_CHANGING && !homing)

inline resolve_child() {	/* in a d_step */
	x = 0;
	do
	:: x < PLACES -> sim[x] = entry[x]; sim_listed[x] = listed[x]; x++
	:: else -> break
	od;
	has_child = 1;
	ok = 1;
	sim_child_log();
	x = NP;
	do
	:: x < PLACES ->
		entry[x] = sim[x];
		listed[x] = sim_listed[x];
		if
		:: pte[x] != MARK && ON_DEVICE(entry[x]) -> entry[x] = 0
		:: else
		fi;
		x++
	:: else -> break
	od;
	child_nlog = 0;
	child_forget(0);
	child_forget(1)
}
#endif

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

/* Anybody may touch place p at any time, and so it may be served at any time. */
proctype place(byte p) {
end:	do
	:: d_step { CAN_ZERO(p) ->
		assert(loose[p] || truth[p] == 0);
		pte[p] = FRESH;
		loose[p] = false;
		truth[p] = 0 }
	/* what has no mark has been dropped */
#ifndef NO_MARK_CHECK
	:: d_step { CAN_SERVE(p) && entry[p] != 0 && pte[p] == NONE && STILL_AFTER(p) -> entry[p] = 0 }
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
		:: p < PLACES -> assert(entry[p] == 0); p++		/* none is left on the device */
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
