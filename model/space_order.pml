/* SPDX-License-Identifier: MIT */
/*
 * The log of events, and the order in which they happened; included by space.pml.
 *
 * The events are tried in every order that the number of threads allows.  One that
 * explains all marks may be the true one; if several do, and differ in which page is
 * where, the pages in question are poisoned.
 */

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
		:: sim_listed[b + x] -> ok = 0		/* is taken: not in this order */
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
			add_unit(nunit, log_kind[x], log_from[x], log_to[x], log_len[x],
				 log_echo[x], 0)
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
				       (log_kind[j] == REMAP &&
					OVERLAP(log_from[i], 1, log_to[j], log_len[j]))
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
#define CAN_RESOLVE	(nlog > 0 && !CHANGING && !window && !homing && \
			 !(child_runs && !born && CHILD_CHANGING))
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
