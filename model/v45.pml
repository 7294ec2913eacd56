/* SPDX-License-Identifier: MIT */
/*
 * Linux v4.5's protocol, two references for a device page, and the bug that
 * started the thread.
 *
 * get_page() of a device page takes two references: the page's own count, and
 * one on the pagemap (get_zone_device_page()).  put_page() drops both.  The
 * memory of the descriptors is freed when the pagemap's count is zero; nobody
 * looks at the page's.
 *
 * -DSPECULATIVE is the generic GUP-fast: its page_cache_get_speculative() takes
 * the page's count only, while put_page() still drops both.  Every page that is
 * got that way takes one of the pagemap's references away from another user.
 *
 * Both walks look the pagemap up first and let it go when they are done, as the
 * kernel's do; that covers the walk and not the page.
 *
 * -DAFTER_USERS: the removal begins when all users are through.  Even so the
 * speculative form hangs it: the count is below zero by then.
 *
 * -DINNOCENT: one user takes both references and only it is watched: the other's
 * put takes the pagemap from under it.
 *
 * The pagemap's count is a plain atomic here: the bug is not in how it counts.
 */
#ifndef USERS
#define USERS	2
#endif
#ifndef SPECULATIVE
#define SPECULATIVE	false
#endif
#ifndef INNOCENT
#define INNOCENT	false
#endif
#define FREE	1	/* what an idle device page's count is */

short page_count = FREE;
short pgmap_ref = 1;		/* the base reference: the driver's */
bool pgmap_dead;
bool released;			/* the percpu_ref's release function has run */
bool freed;			/* the descriptors are gone */
byte holders;			/* ghost: users that hold the page */
byte through;			/* users that are through */

/* Words for a trace; nothing to the checker. */
#define SAY(what) \
	printf("%d ", _pid); printf(what); \
	printf(": page %d, pagemap %d\n", page_count, pgmap_ref)

inline get_dev_pagemap(ok) {
	d_step {
		if
		:: !pgmap_dead ->
			pgmap_ref++;
			ok = true;
			SAY("begins a walk: get_dev_pagemap")
		:: else -> ok = false
		fi
	}
}

/* Until it is killed the count is spread over CPUs, and nobody sees its zero. */
inline drop_pgmap_ref() {
	pgmap_ref--;
	if
	:: pgmap_dead && pgmap_ref == 0 -> released = true
	:: else
	fi
}

inline get_page(speculative) {
	d_step {
		assert(page_count >= FREE);
		page_count++;
		holders++;
		SAY("takes a reference of the page")
	};
	if
	:: !speculative ->
		d_step { pgmap_ref++; SAY("and one of its pagemap (get_zone_device_page)") }
	:: else
	fi
}

inline put_page() {
	d_step {
		assert(page_count > FREE);
		page_count--;
		holders--;
		SAY("put_page: puts the page")
	};
	d_step { drop_pgmap_ref(); SAY("put_page: and its pagemap") }
}

proctype user(bool speculative) {
	bool ok;

	get_dev_pagemap(ok);
	if
	:: ok ->
		get_page(speculative);
		d_step { drop_pgmap_ref(); SAY("the walk is over: puts the pagemap") };
		/* DMA into the page, say; then its descriptor is written */
		d_step { SAY("uses the page"); assert(!freed || (INNOCENT && speculative)) };
		put_page()
	:: else
	fi;
	through++
}

proctype remover() {
#ifdef AFTER_USERS
	(through == USERS);
#endif
	d_step { pgmap_dead = true; drop_pgmap_ref(); SAY("percpu_ref_kill") };
	(released);		/* wait_for_completion() */
	d_step {
		assert(pgmap_ref == 0 || INNOCENT);
		freed = true;
		SAY("the pagemap's count is zero: frees the descriptors")
	}
}

init {
	byte i;

	atomic {
		run remover();
		for (i : 1 .. USERS) { run user(SPECULATIVE && (i > 1 || !INNOCENT)) }
	}
}
