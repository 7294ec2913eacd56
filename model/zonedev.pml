/* SPDX-License-Identifier: MIT */
/*
 * zonedev's own protocol.  MAPPING.md says which C function each step is.
 *
 * One pagemap of two device pages, two RAM pages, three addresses:
 *
 *	0	the program's memory: RAM, or on the device
 *	1	a device page that the CPU can address, mapped as it is (p2p, dax)
 *	2	what address 0 becomes in a forked child
 *
 * Who runs: two mappers, two GUP-fast walkers, a migration out, a fault (home),
 * a fork, the remover, a thread that switches the pagemap's reference between
 * its modes.  Each does its work once, no loop waits, and so the state graph has
 * no cycle: "no invalid end state" means that every run ends, with the remover
 * through.
 *
 * Only the server's thread writes entries: who holds the token "server" is that
 * thread, for one batch of its work.  Walkers, final puts, the remover, the mover
 * and the device run beside it.  Steps of the server that the others can't tell
 * from one are one (a d_step); what they can see half done is not.
 *
 * With -DLOOKUP a lookup of the pagemap takes the place of the second walker: with
 * both there would be three times the states.
 *
 * A page's content says whose it is (WHOSE), and is 0 when it is free: so "no
 * use after free" and "not somebody else's page" are one assertion.
 *
 * Memory is sequentially consistent here.  Where the C needs a fence for that, a
 * mutation swaps the two accesses: COUNT_BEFORE_LOCK, RECHECK_BEFORE_GET.
 *
 * Each #ifdef below breaks one step; model/run says which check must catch it.
 */
#define NOBODY_LIVE	assert(page_count[0] == 0 && page_count[1] == 0 && !live[0] && !live[1])
#define ON_RELEASE	NOBODY_LIVE
#define REF_ONE_STEP
#include "percpu_ref.pml"

#define NPAGES		4
#define IS_DEVICE(p)	((p) < 2)

/* --- entries: mm/table.h --- */
#define NONE		0
#define PRESENT		8
#define DEVICE		16
#define LOCK		32
#define PAGE(e)		((e) & 7)
#define STATE(e)	((e) & 24)
#define LOCKED(e)	((e) >= LOCK)
#define WHOSE(a)	((a) == 1 -> 2 : 1)

byte entry[3];

/* --- pages --- */
byte page_count[NPAGES];
bool live[NPAGES];		/* ZD_PAGE_LIVE: from init to final put */
bool used[NPAGES];		/* not in its allocator */
byte content[NPAGES];
byte pins[NPAGES];		/* ghost: walkers that got it */

/* --- the pagemap and its device --- */
bool published = true;		/* a lookup finds it */
byte rcu_readers;
bool decommitted;		/* the descriptors are gone */
bool destroyed;			/* so is the device's memory */

/* --- the server --- */
bool server;
bool detached;			/* the device takes nothing any more */
byte inflight;			/* batches */
bool out_owner, out_sharer;	/* mig->page.mm, mig->page.sharers: of the batch out */
bool home_owner;		/* mig->page.mm: of the batch home */
byte x;				/* its local variables */
bool ok, last;

#define SERVER		0		/* the CPU it runs on */
#define OTHER		1		/* and that of all the others */

#define SERVER_LEAVE	x = 0; ok = false; last = false; server = false

#define DESCRIPTOR(p)	assert(!(IS_DEVICE(p) && decommitted))
#define NAMES(a, p)	(STATE(entry[a]) != NONE && PAGE(entry[a]) == (p))
#define NOT_MAPPED(p)	assert(!NAMES(0, p) && !NAMES(1, p) && !NAMES(2, p))
/* What who holds page @p for address @a relies on. */
#define USABLE(p, a)	assert(page_count[p] > 0 && live[p] && content[p] == WHOSE(a)); \
			DESCRIPTOR(p)

/* ->alloc_pages, lowest first; in a d_step */
inline alloc_device(p) {
	assert(!destroyed);
	if
	:: !used[0] -> p = 0; used[0] = true
	:: used[0] -> assert(!used[1]); p = 1; used[1] = true	/* two takers, two pages */
	fi
}

/* ->unalloc_pages; in a d_step */
inline give_back(p) {
	assert(!destroyed && used[p] && page_count[p] == 0);
	used[p] = false;
	content[p] = 0;
	p = 0
}

#define RAM_FREE	(!used[2] || !used[3])

/* A page of RAM with one reference, in the entry; in an atomic, which waits for
 * one to be free: who pins the last doesn't need the server to let go. */
inline map_ram(a) {
	RAM_FREE ->
	d_step {
		x = (used[2] -> 3 : 2);
		assert(page_count[x] == 0 && !live[x]);
		used[x] = true;
		live[x] = true;
		page_count[x] = 1;
		content[x] = WHOSE(a);
		entry[a] = PRESENT | x;
		x = 0
	}
}

/* --- core/page.c, include/zonedev/page.h --- */

/*
 * zd_page_init(), by the server.  Lookup, hold, and the page is live: three steps
 * that a caller begins and ends with steps of its own.  ok = false: -ENODEV.
 */
inline pagemap_lookup(p) {		/* in a d_step */
	DESCRIPTOR(p);
	assert(page_count[p] == 0 && !live[p] && used[p]);
	rcu_readers++;
	ok = published
}

inline pagemap_hold() {
	if
	:: ok -> zd_percpu_ref_tryget_live(SERVER, ok)
	:: else
	fi
#ifdef NO_HOLD
	; if
	:: ok -> zd_percpu_ref_put(SERVER)
	:: else
	fi
#endif
}

inline page_live(p) {			/* in a d_step */
	rcu_readers--;
	if
	:: ok -> DESCRIPTOR(p); live[p] = true; page_count[p] = 1
	:: else
	fi
}

/* page_free; in a d_step.  From here on the page may be somebody else's. */
inline page_free(p) {
	assert(live[p]);			/* once a life */
	NOT_MAPPED(p);				/* a free page is mapped nowhere */
	assert(!(IS_DEVICE(p) && destroyed) && used[p] && !pins[p]);
	live[p] = false;
	used[p] = false;
	content[p] = 0
}

/* zd_put_page(): the count, and then the hold.  @last_ref: the caller's local */
inline put_count(p, last_ref) {		/* in a d_step */
	DESCRIPTOR(p);
	assert(page_count[p] > 0);
	page_count[p]--;
	last_ref = (page_count[p] == 0);
	if
#ifdef PUT_HOLD_FIRST
	:: last_ref && !(IS_DEVICE(p)) -> page_free(p)
#else
	:: last_ref -> page_free(p)
#endif
	:: else
	fi;
	last_ref = last_ref && (IS_DEVICE(p))
}

inline put_hold(p, cpu, last_ref) {
	if
	:: last_ref ->
#ifndef NO_HOLD
		zd_percpu_ref_put(cpu);
#endif
#ifdef PUT_HOLD_FIRST
		d_step { page_free(p) };
#endif
		last_ref = false
	:: else
	fi
}

/* --- mm/mm.c: an entry is no more (munmap, madvise, exit) --- */

/* Entries that are in flight give up their place in the batch, and that is all:
 * the reference of a page on its way home is the batch's. */
#define IN_RAM_OR_DEVICE(a)	(entry[a] != NONE && !LOCKED(entry[a]))

inline zd_mm_drop(a) {
	if
	:: d_step { !server && !IN_RAM_OR_DEVICE(a) ->
#ifdef DROP_PUTS_IN_FLIGHT
		if
		:: entry[a] > LOCK -> page_count[PAGE(entry[a])]--
		:: else
		fi;
#endif
		if
		/* a locked entry is of a batch that knows it */
		:: entry[a] == LOCK && a == 0 -> assert(out_owner); out_owner = false
		:: entry[a] == LOCK && a != 0 -> assert(out_sharer); out_sharer = false
		:: entry[a] > LOCK -> assert(home_owner); home_owner = false
		:: entry[a] == NONE ->
			/* what mapper0 mapped must be somewhere until here */
			assert(a != 0)
		fi;
		entry[a] = NONE }
	:: d_step { !server && IN_RAM_OR_DEVICE(a) ->
		server = true;
		x = PAGE(entry[a]);
#ifdef PUT_BEFORE_UNMAP
		put_count(x, last) };
		d_step { entry[a] = NONE };
#else
		entry[a] = NONE };
		d_step { put_count(x, last) };
#endif
		atomic { put_hold(x, SERVER, last); SERVER_LEAVE }
	fi
}

/* --- the program's threads --- */

/* Memory at address 0 is touched, and unmapped later. */
proctype mapper0() {
	atomic { !server && RAM_FREE -> map_ram(0) };
	zd_mm_drop(0)
}

/* A device page is mapped at address 1, and unmapped. */
proctype mapper1() {
	atomic { !server ->
		if
		:: detached -> goto out
		:: else
		fi;
		server = true;
		alloc_device(x);
		pagemap_lookup(x)
	};
	pagemap_hold();
	d_step {
		page_live(x);
		if
		:: ok -> content[x] = WHOSE(1)
		:: else -> give_back(x)
		fi
	};
	d_step {
		if
		:: ok -> entry[1] = PRESENT | x
		:: else
		fi;
		SERVER_LEAVE
	};
	zd_mm_drop(1);
out:	skip
}

#ifdef LOOKUP
/* Anybody, at any time: zd_get_dev_pagemap(), zd_put_dev_pagemap().  Removal's
 * grace period is for this one. */
proctype looker() {
	bool got;

	atomic { rcu_readers++; got = published };
	atomic {
		if
		:: got -> zd_percpu_ref_tryget_live(OTHER, got)
		:: else
		fi;
		rcu_readers--
	};
	if
	:: got -> zd_percpu_ref_put(OTHER); got = false
	:: else
	fi
}
#endif

/* zd_get_user_pages_fast() at address 0 or @a, and the put when the I/O is done.
 * What isn't PRESENT takes the slow path, which is fault() below. */
proctype walker(byte a) {
	byte e;				/* what the entry said, then the page */
	bool got;

	atomic {				/* zd_entry_load() */
		if
		:: a = 0
		:: skip
		fi;
		e = entry[a];
		if
		:: STATE(e) != PRESENT -> goto slow
		:: else
		fi
	};
#ifdef RECHECK_BEFORE_GET
	atomic {
		if
		:: entry[a] != e -> goto slow
		:: else
		fi
	};
#endif
	atomic {				/* zd_try_get_page() */
#ifndef GET_ALWAYS
		if
		:: page_count[PAGE(e)] == 0 -> goto slow
		:: else
		fi;
#endif
		page_count[PAGE(e)]++
	};
	d_step {				/* the entry again */
#if defined(NO_RECHECK) || defined(RECHECK_BEFORE_GET)
		got = true;
#else
		got = (entry[a] == e);
#endif
		e = PAGE(e);
		if
		:: got -> pins[e]++; USABLE(e, a)
		:: else
		fi
	};
	d_step {				/* the I/O, and its end */
		if
		:: got -> USABLE(e, a); pins[e]--
		:: else
		fi;
		a = 0;
		put_count(e, got)
	};
	put_hold(e, OTHER, got);
slow:	atomic { a = 0; e = 0; got = false }
}

/* The parent forks, and the child ends after a while. */
proctype forker() {
	d_step { !server ->
		if
		:: STATE(entry[0]) != NONE ->	/* fork_range() */
			x = PAGE(entry[0]);
#ifndef FORK_NO_GET
			DESCRIPTOR(x);
			assert(page_count[x] > 0);
			page_count[x]++;
#endif
			entry[2] = STATE(entry[0]) | x;
			x = 0
		:: entry[0] == LOCK ->		/* zd_migs_fork() */
			out_sharer = true;
			entry[2] = LOCK
		:: entry[0] == NONE
		fi
	};
	zd_mm_drop(2)
}

/* --- the server's migrations --- */

/* zd_out_start() ... zd_out_land(), of address 0 */
proctype migrator() {
	byte src, dst;

	atomic { !server ->
		if
		:: STATE(entry[0]) != PRESENT || detached -> goto out
		:: else
		fi;
		server = true;
		alloc_device(dst);
		src = PAGE(entry[0]);
#ifdef COUNT_BEFORE_LOCK
		ok = (page_count[src] == 1)
	};
	atomic {
		entry[0] = LOCK;
#else
		entry[0] = LOCK
	};
	atomic {
		ok = (page_count[src] == 1);
#endif
		if
		:: !ok ->			/* refuse(): pinned or shared */
			entry[0] = PRESENT | src;
			give_back(dst);
			SERVER_LEAVE;
			goto out
		:: else ->
			out_owner = true;
			inflight++;
			assert(!pins[src])	/* the mover takes it away now */
		fi
	};
	d_step { put_count(src, last); src = 0; SERVER_LEAVE };

	/* the mover and the device: content arrives in dst */
	d_step { assert(!destroyed && used[dst] && !page_count[dst]); content[dst] = WHOSE(0) };

	if
	:: atomic { !server && !out_owner && !out_sharer ->	/* nobody's any more */
		give_back(dst);
		inflight--;
		goto out }
	:: d_step { !server && (out_owner || out_sharer) ->
		server = true;
		pagemap_lookup(dst) }
	fi;
	pagemap_hold();
	/* store(): the references of the owners, their entries, and then ours, in
	 * one step: walkers don't look at DEVICE entries */
	d_step {
		page_live(dst);
		if
		:: ok && out_owner -> page_count[dst]++; entry[0] = DEVICE | dst
		:: else
		fi;
		if
		:: ok && out_sharer -> page_count[dst]++; entry[2] = DEVICE | dst
		:: else
		fi;
		if
		:: ok -> put_count(dst, last); dst = 0; out_owner = false; out_sharer = false
		:: else
		fi
	};
	/* back(): the device is being removed */
	atomic {
		if
#ifndef NO_BACK
		:: out_owner -> map_ram(0)
#endif
		:: else
		fi
	};
	atomic {
		if
		:: out_sharer -> map_ram(2)
		:: else
		fi;
		if
		:: !ok -> give_back(dst)
		:: else
		fi;
		out_owner = false;
		out_sharer = false;
		inflight--;
		SERVER_LEAVE
	};
out:	atomic { src = 0; dst = 0 }
}

/* The entry's device page is replaced by RAM: place() and arrived(); then the
 * server's section ends. */
inline place(a, pfn) {
#ifdef PUT_BEFORE_UNMAP
	d_step { put_count(pfn, last) };
	atomic { map_ram(a) };
#else
	atomic { map_ram(a) };
	d_step { put_count(pfn, last) };
#endif
	put_hold(pfn, SERVER, last)
}

/* zd_fault() at address 0 or 2; also what GUP's slow path does.  A locked entry
 * is waited for (ZD_ENTRY_WAIT): one that nobody unlocks would be a deadlock. */
proctype fault() {
	byte a, pfn;

	atomic {
		if
		:: !server && !LOCKED(entry[0]) -> a = 0
		:: !server && !LOCKED(entry[2]) -> a = 2
		fi;
		if
		:: STATE(entry[a]) != DEVICE -> goto out
		:: else
		fi;
		pfn = PAGE(entry[a]);		/* home_read() */
		entry[a] = entry[a] | LOCK;
		home_owner = true;
		inflight++
	};
	d_step { USABLE(pfn, a); assert(!destroyed) };	/* the device reads */
	atomic { !server -> server = true };	/* arrived_in_buffer() */
	if
	:: home_owner -> place(a, pfn)
	:: else ->				/* unmapped meanwhile */
#ifndef LEAK_DROPPED
		d_step { put_count(pfn, last) };
		put_hold(pfn, SERVER, last)
#endif
	fi;
	atomic { home_owner = false; inflight--; SERVER_LEAVE };
out:	atomic { a = 0; pfn = 0 }
}

/* --- removal: core/pagemap.c --- */

/* One entry of the drain: zd_home() */
inline home_direct(a, pfn) {
	if
	:: d_step { STATE(entry[a]) == DEVICE -> pfn = PAGE(entry[a]) };
		place(a, pfn);
		pfn = 0
	:: STATE(entry[a]) != DEVICE
	fi
}

/* ops->revoke: the server takes no page to the device any more, waits for what
 * is in flight, and lets go of what it has. */
inline revoke(pfn) {
	d_step { !server -> detached = true };
#ifdef NO_INFLIGHT_WAIT
	atomic { !server -> server = true };
#else
	atomic { !server && inflight == 0 -> server = true };
#endif
	home_direct(0, pfn);
	home_direct(2, pfn);
	d_step { SERVER_LEAVE };
	zd_mm_drop(1)
}

#define WAIT_RELEASED	(releases == 1)

proctype remover() {
	byte pfn;

	atomic { zd_percpu_ref_get(OTHER); kill_dead() };
	atomic { kill_close() };
#ifdef WAIT_BEFORE_REVOKE
	WAIT_RELEASED;
#endif
#ifndef NO_REVOKE
	revoke(pfn);
#endif
#ifdef WAIT_BEFORE_PUT
	WAIT_RELEASED;
#endif
	zd_percpu_ref_put(OTHER);		/* the base reference */
#ifdef EXIT_BEFORE_WAIT
	published = false;
	d_step { rcu_readers == 0 -> ref_exited = true };
#endif
#ifndef NO_WAIT
	WAIT_RELEASED;
#endif
	published = false;			/* range_remove() */
	d_step {
#ifndef NO_GRACE
		rcu_readers == 0 ->		/* zd_synchronize_rcu() */
#endif
		ref_exited = true		/* zd_percpu_ref_exit() */
	};
	d_step {
		NOBODY_LIVE;
		decommitted = true;
		assert(!used[0] && !used[1]);	/* the driver's ->destroy */
		destroyed = true
	}
}

/* Each change at one stroke; percpu.pml has it instruction by instruction. */
proctype switcher() {
	atomic { zd_percpu_ref_switch_to_atomic() };
	atomic { zd_percpu_ref_switch_to_percpu() }
}

init {
	atomic {
		zd_percpu_ref_init();
#ifndef NO_SWITCHER
		run switcher();
#endif
		run remover();
		run mapper0();
		run mapper1();
		run migrator();
		run forker();
		run fault();
		run walker(1);
#ifdef LOOKUP
		run looker()
#else
		run walker(2)
#endif
	};
	(_nr_pr == 1);
	d_step {
		/* every life has ended, in every allocator */
		assert(!live[0] && !live[1] && !live[2] && !live[3]);
		assert(!used[0] && !used[1] && !used[2] && !used[3]);
		assert(entry[0] == NONE && entry[1] == NONE && entry[2] == NONE);
		assert(holds == 0 && releases == 1 && inflight == 0 && decommitted)
	}
}
