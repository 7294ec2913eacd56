/* SPDX-License-Identifier: MIT */
/* What the kernel and the program's threads do; included by space.pml. */

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
