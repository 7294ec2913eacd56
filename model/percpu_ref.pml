/* SPDX-License-Identifier: MIT */
/*
 * pages/percpu_ref.c, operation by operation.  Included by percpu.pml, which
 * checks it alone, and by zonedev.pml, whose pagemap it holds.
 *
 * One step is one atomic instruction of the C.  A slot's sign bit is the array
 * slot_open[]; what is added to a closed slot is noise there and nothing here.
 * ref->count is one word in the C, so whoever touches two of its three parts
 * (number, DEAD, BIAS) does it in one d_step here.
 *
 * A get or put that finds its slot closed goes to the count with a second
 * instruction.  percpu.pml has the two as two steps.  zonedev.pml, which has
 * enough states, defines REF_ONE_STEP: that the count is right whatever comes
 * between them is percpu.pml's business.
 *
 * Ghosts, which no decision reads: holds is the true number of references.
 *
 * Macros that break it:
 *	NO_BIAS		slots open without BIAS in the count: zero is seen while
 *			part of the count is still in a slot
 *	BIAS_EARLY	BIAS leaves before the slots' sum has arrived
 *	LOSE_SLOT	closing reads a slot and closes it in two instructions
 *	TRYGET_NOT_LIVE	the slow path of tryget_live doesn't look at DEAD
 */
#define NCPU	2
#define BIAS	64		/* well above what the model ever counts */

bool slot_open[NCPU];
short slot[NCPU];
short ref_count;		/* ref->count: the references, + BIAS */
bool ref_dead;			/* ref->count: DEAD */
bool ref_percpu, ref_forced;	/* ref->flags: PERCPU, FORCE_ATOMIC */
bool ref_lock;
bool ref_exited;		/* the slots have been freed */
bool ref_killed;		/* ghost: kill has returned */
byte releases;			/* the release function has run: completion */
byte holds;
short slot_sum;			/* close_slots()' local; under ref_lock */

#define UNLOCK_REF	ref_lock = false

/* What the owner asserts in the release function: see zonedev.pml. */
#ifndef ON_RELEASE
#define ON_RELEASE	skip
#endif

inline ref_release() {
	releases++;
	assert(releases == 1);		/* once */
	assert(holds == 0);		/* and not before the last has put */
	ON_RELEASE
}

#ifdef REF_ONE_STEP
#define CLOSED(cpu)	d_step { !slot_open[cpu] -> assert(!ref_exited);
#define IN_THE_COUNT
#define END_CLOSED	}
#else
#define CLOSED(cpu)	d_step { !slot_open[cpu] -> assert(!ref_exited) };
#define IN_THE_COUNT	d_step {
#define END_CLOSED	}
#endif

/* __zd_percpu_ref_put_slow(); in a d_step */
inline ref_put_count() {
	ref_count--;
	holds--;
	assert(ref_count >= 0);		/* "put below zero" */
	if
	:: ref_count == 0 -> ref_release()
	:: else
	fi
}

/* zd_percpu_ref_put(), on @cpu */
inline zd_percpu_ref_put(cpu) {
	if
	:: d_step { slot_open[cpu] -> assert(!ref_exited); slot[cpu]--; holds-- }
	:: CLOSED(cpu) IN_THE_COUNT
		ref_put_count()
	   END_CLOSED
	fi
}

/* zd_percpu_ref_get(): the caller holds one */
inline zd_percpu_ref_get(cpu) {
	if
	:: d_step { slot_open[cpu] -> assert(!ref_exited); slot[cpu]++; holds++ }
	:: CLOSED(cpu) IN_THE_COUNT
		assert(ref_count > 0); ref_count++; holds++
	   END_CLOSED
	fi
}

/* zd_percpu_ref_tryget_live(); the compare-and-exchange loop is one step */
inline zd_percpu_ref_tryget_live(cpu, got) {
	if
	:: d_step { slot_open[cpu] ->
		assert(!ref_exited && !ref_killed);
		slot[cpu]++; holds++; got = true }
	:: CLOSED(cpu) IN_THE_COUNT
		if
#ifdef TRYGET_NOT_LIVE
		:: ref_count > 0 ->
#else
		:: ref_count > 0 && !ref_dead ->
#endif
			assert(!ref_killed);
			ref_count++; holds++; got = true
		:: else -> got = false
		fi
	   END_CLOSED
	fi
}

/* close_slots(): under ref_lock */
inline close_slot(c) {
#ifdef LOSE_SLOT
	slot_sum = slot_sum + slot[c];
	d_step { slot[c] = 0; slot_open[c] = false }
#else
	d_step { slot_sum = slot_sum + slot[c]; slot[c] = 0; slot_open[c] = false }
#endif
}

inline close_slots() {
#ifdef BIAS_EARLY
	ref_count = ref_count - BIAS;
#endif
	close_slot(0);
	close_slot(1);
	d_step {
		ref_percpu = false;
#if defined(NO_BIAS) || defined(BIAS_EARLY)
		ref_count = ref_count + slot_sum;
#else
		ref_count = ref_count + slot_sum - BIAS;
#endif
		slot_sum = 0;
		assert(ref_count > 0)	/* "before the initial one was put" */
	}
}

/* open_slots(): under ref_lock */
inline open_slots() {
#ifndef NO_BIAS
	ref_count = ref_count + BIAS;
#endif
	slot_open[0] = true;
	d_step { slot_open[1] = true; ref_percpu = true }
}

inline zd_percpu_ref_init() {
	d_step {
		slot_open[0] = true;
		slot_open[1] = true;
		ref_percpu = true;
#ifdef NO_BIAS
		ref_count = 1;
#else
		ref_count = 1 + BIAS;
#endif
		holds = 1
	}
}

/* zd_percpu_ref_kill(): DEAD, and then the rest */
inline kill_dead() {
	atomic { !ref_lock -> ref_lock = true; assert(!ref_dead); ref_dead = true }
}

inline kill_close() {
	if
	:: ref_percpu -> close_slots()
	:: else
	fi;
	d_step { UNLOCK_REF; ref_killed = true };
	d_step { ref_put_count() }
}

inline zd_percpu_ref_kill() {
	kill_dead();
	kill_close()
}

inline zd_percpu_ref_resurrect() {
	atomic { !ref_lock -> ref_lock = true };
	/* the count's number and its DEAD change in one addition */
	d_step { assert(ref_dead); ref_dead = false; ref_killed = false; ref_count++; holds++ };
	if
	:: !ref_forced -> open_slots()
	:: else
	fi;
	UNLOCK_REF
}

inline zd_percpu_ref_switch_to_atomic() {
	atomic { !ref_lock -> ref_lock = true; ref_forced = true };
	if
	:: ref_percpu -> close_slots()
	:: else
	fi;
	UNLOCK_REF
}

inline zd_percpu_ref_switch_to_percpu() {
	atomic { !ref_lock -> ref_lock = true; ref_forced = false };
	if
	:: !ref_percpu && !ref_dead -> open_slots()
	:: else
	fi;
	UNLOCK_REF
}
