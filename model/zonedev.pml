/* SPDX-License-Identifier: MIT */
/*
 * zonedev's own protocol.  MAPPING.md says which C function each step is.
 *
 * One pagemap of two device pages, two descriptors for RAM pages, three addresses:
 *
 *	0	the program's memory: RAM, or on the device
 *	1	a device page that the CPU can address, mapped as it is (a device vma)
 *	2	what address 0 becomes in a forked child
 *
 * Who runs: two mappers, two GUP-fast walkers, a migration out with its mover, a
 * fault (home), a fork, the remover, a thread that switches the pagemap's
 * reference between its modes.  Each does its work once, no loop waits, and so
 * the state graph has no cycle: "no invalid end state" means that every run ends,
 * with the remover through.
 *
 * Only the server's thread writes the entries 0 and 2: the process that holds the token
 * "server" is that thread, for one batch of its work.  Walkers, final puts, the remover, the
 * mover, the device and the device vma run beside it.  Steps of the server that the
 * other processes can't tell from one are one (a d_step); what they can see half done is
 * not.
 *
 * The two walkers go to different pages; with -DSAME_PAGE both to the same one.
 * With -DLOOKUP a lookup of the pagemap takes their place (one of them is back with
 * -DONE_WALKER).  All at once would have ten times the states.
 *
 * What memory holds is a ghost: ram[] for an address, content[] for a device page.
 * So "no use after free", "not another address's page" and "not a byte lost" are
 * assertions on it.
 *
 * Memory is sequentially consistent here.  Where the C relies on an order of its
 * own accesses, a mutation swaps them: LOAD_NOT_FREEZE, RECHECK_BEFORE_GET.
 *
 * Each #ifdef below breaks one step; model/run says which check must catch it.
 */
#define NOBODY_LIVE	assert(page_count[0] == 0 && page_count[1] == 0 && !live[0] && !live[1])
#define ON_RELEASE	NOBODY_LIVE
#define REF_ONE_STEP
#include "percpu_ref.pml"

#define NPAGES		4
#define IS_DEVICE(p)	((p) < 2)

/* --- entries: space/table.h --- */
#define NONE		0
#define SYSTEM		8	/* RAM with a descriptor */
#define DEVICE		16
#define DAX		24	/* a device page mapped as it is */
#define LOCK		32
#define PAGE(e)		((e) & 7)
#define STATE(e)	((e) & 24)
#define LOCKED(e)	((e) >= LOCK)
#define WHOSE(a)	((a) == 1 -> 2 : 1)

byte entry[3];

/* --- ghosts: what is in memory --- */
#define ZEROS		3	/* not what the program wrote */
byte ram[3];			/* 0: no page there; else whose content it has */
byte owed;			/* to a child: what its parent had when it forked */
byte content[2];		/* of a device page; 0: none */
byte pins[NPAGES];		/* walkers that got it */

/* --- pages --- */
byte page_count[NPAGES];
bool live[NPAGES];		/* ZD_PAGE_LIVE: from init to final put */
bool used[NPAGES];		/* not in its allocator */

/* --- the pagemap and its device --- */
bool published = true;		/* a lookup finds it */
byte rcu_readers;
bool decommitted;		/* the descriptors are gone */
bool destroyed;			/* so is the device's memory */

/* --- the device mapping --- */
bool map_lock;
bool unlinked;			/* GUP finds it no longer */

/* --- the server --- */
bool server;
bool out_inflight;		/* nr_migs[ZD_TO_DEVICE] */
bool out_owner, out_sharer;	/* mig->page.mm, mig->page.sharers: of the batch out */
bool out_buffered;		/* its content has been read, and the device writes it */
bool out_moved, out_refused;	/* mig->page.error: 0, or one; EINPROGRESS: neither */
bool home_owner;		/* mig->page.mm: of the batch home */
byte x;				/* its local variables */
bool ok, last;

#define SERVER		0		/* the CPU it runs on */
#define OTHER		1		/* and that of all other processes */

#define SERVER_LEAVE	x = 0; ok = false; last = false; server = false

#define DESCRIPTOR(p)	assert(!(IS_DEVICE(p) && decommitted))
#define NAMES(a, p)	(STATE(entry[a]) != NONE && PAGE(entry[a]) == (p))
#define NOT_MAPPED(p)	assert(!NAMES(0, p) && !NAMES(1, p) && !NAMES(2, p))
/* What a holder of page @p for address @a relies on. */
#define USABLE(p, a)	assert(page_count[p] > 0 && live[p]); \
			assert(IS_DEVICE(p) -> content[p] == WHOSE(a) : (a) == 0); \
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

/* --- pages/page.c, include/zonedev/page.h --- */

/*
 * zd_page_init().  Lookup, hold, and the page is live: three steps that a caller
 * begins and ends with steps of its own.  Not held: -ENODEV.
 */
#define PAGEMAP_LOOKUP(found)	rcu_readers++; found = published

inline pagemap_hold(cpu, held) {
	if
	:: held -> zd_percpu_ref_tryget_live(cpu, held)
	:: else
	fi
}

/* A page's own hold; a batch's is pagemap_hold(). */
inline page_hold(cpu, held) {
	pagemap_hold(cpu, held)
#ifdef NO_HOLD
	; if
	:: held -> zd_percpu_ref_put(cpu)
	:: else
	fi
#endif
}

inline page_live(p, held) {		/* in a d_step */
	rcu_readers--;
	if
	:: held ->
		DESCRIPTOR(p);
		assert(page_count[p] == 0 && !live[p] && used[p]);
		live[p] = true;
		page_count[p] = 1
	:: else
	fi
}

/* page_free; in a d_step.  From here on the allocator may give the page out again. */
inline page_free(p) {
	assert(live[p]);			/* once a life */
	NOT_MAPPED(p);				/* a free page is mapped nowhere */
	assert(!(IS_DEVICE(p) && destroyed) && used[p] && !pins[p]);
	live[p] = false;
	used[p] = false;
	if
	:: IS_DEVICE(p) -> content[p] = 0
	:: else
	fi
}

/* zd_put_page(): the count, and then the hold.  @last_ref: the caller's local.
 * The pagemap of RAM pages is never removed under its users: no hold is modelled. */
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

/* --- engine/ram_page.c --- */

#define DESCRIPTOR_FREE	(!used[2] || !used[3])

/* zd_ram_page_install() at address 0.  A walker finds the page by the entry, or by
 * one of an earlier life, and then looks again: count and entry are one step. */
inline system_install() {		/* in a d_step */
	x = (used[2] -> 3 : 2);
	assert(page_count[x] == 0 && !live[x] && !used[x]);
	used[x] = true;
	live[x] = true;
	page_count[x] = 1;
	entry[0] = SYSTEM | x;
	x = 0
}

/* --- events: engine/event.c --- */

/* A batch that has not been moved yet is not moved any more: ->cancel. */
#ifdef NO_CANCEL
#define CANCEL	skip
#else
#define CANCEL	out_refused = out_refused || (out_inflight && !out_moved)
#endif

/* --- engine/entries.c: an entry is no more (munmap, madvise, exit) --- */

/* Entries that are in flight give up their place in the batch, and that is all:
 * the reference of a page on its way home is the batch's. */
#define HOLDS_A_PAGE(a)	(entry[a] != NONE && !LOCKED(entry[a]))
/* Until here what the program wrote must be somewhere, and in one place. */
#define NOT_LOST(a)	assert(ram[a] == (STATE(entry[a]) == DEVICE -> 0 : ((a) == 0 -> WHOSE(0) : owed)))

#define IS_GONE(a)	ram[a] = 0; owed = ((a) == 2 -> 0 : owed)

inline zd_mm_drop(a) {
	if
	:: d_step { !server && !HOLDS_A_PAGE(a) ->
		CANCEL;
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
		:: entry[a] == NONE -> NOT_LOST(a)
		fi;
		IS_GONE(a);
		entry[a] = NONE }
	:: d_step { !server && HOLDS_A_PAGE(a) ->
		CANCEL;
		NOT_LOST(a);
		server = true;
		IS_GONE(a);
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

/* --- hmm/device_vma.c --- */

/* zd_device_vma_remove(): called by the program's munmap, or by revoke */
inline zd_device_vma_remove(p, last_ref) {
	atomic { !map_lock -> map_lock = true; unlinked = true; p = PAGE(entry[1]) };
	if
	:: entry[1] != NONE ->
#ifdef PUT_BEFORE_UNMAP
		d_step { put_count(p, last_ref) };
		entry[1] = NONE;
#else
		entry[1] = NONE;
		d_step { put_count(p, last_ref) };
#endif
		atomic { put_hold(p, OTHER, last_ref); p = 0; map_lock = false }
	:: else -> map_lock = false
	fi
}

/* --- the program's threads --- */

/* With KEEPS what is mapped stays until the device is gone: removal must end without
 * the program's help. */
#ifdef KEEPS
#define KEEP_IT	(destroyed);
#else
#define KEEP_IT
#endif

/* Memory at address 0 is touched, and unmapped later. */
proctype mapper0() {
	d_step { !server -> ram[0] = WHOSE(0) };
	KEEP_IT
	zd_mm_drop(0)
}

/* A device page is mapped at address 1, GUP asks for it, and it is unmapped. */
proctype mapper1() {
	byte p;
	bool got;

	/* zd_device_vma_install(), whose ->hold is a zd_page_init() */
	atomic { !map_lock ->
		if
		:: unlinked -> goto out
		:: else
		fi;
		map_lock = true;
		PAGEMAP_LOOKUP(got);
		page_hold(OTHER, got);
		if
		:: got -> alloc_device(p); content[p] = WHOSE(1)
		:: else
		fi;
		page_live(p, got)
	};
	d_step {
		if
		:: got -> entry[1] = DAX | p
		:: else
		fi;
		p = 0;
		got = false;
		map_lock = false
	};
	KEEP_IT
	zd_device_vma_remove(p, got);
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

#if !defined(LOOKUP) || defined(ONE_WALKER)
/*
 * zd_get_user_pages_fast() at address @a, and the put when the I/O is done.  What
 * isn't SYSTEM or DAX takes the slow path once: a page that is in RAM gets its
 * descriptor.  One that is not is brought by a fault like any other: fault().
 */
proctype walker(byte a) {
	byte e;				/* what the entry said, then the page */
	bool got, again;

walk:	atomic {				/* zd_entry_load() */
		e = entry[a];
		if
		:: e != (SYSTEM | PAGE(e)) && e != (DAX | PAGE(e)) -> goto slow
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
	atomic {				/* zd_try_get_page_refs() */
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
		:: got -> USABLE(e, a); pins[e]--; again = true
		:: else
		fi;
		put_count(e, got)
	};
	put_hold(e, OTHER, got);
slow:	atomic {
		e = 0;
		if
		:: again || a == 1 -> goto out
		:: else -> again = true
		fi
	};
	atomic { !server ->			/* install_step() */
		if
		:: entry[0] == NONE && ram[0] != 0 && DESCRIPTOR_FREE ->
			d_step { system_install() };
			goto walk
		:: STATE(entry[0]) == SYSTEM -> goto walk
		:: else				/* -EAGAIN, -EFAULT */
		fi
	};
out:	atomic { a = 0; again = false }
}
#endif

/* The parent forks, and the child ends after a while. */
proctype forker() {
	d_step { !server ->
		CANCEL;
		if
		:: STATE(entry[0]) == DEVICE ->	/* fork_range() */
			x = PAGE(entry[0]);
#ifndef FORK_NO_GET
			DESCRIPTOR(x);
			assert(page_count[x] > 0);
			page_count[x]++;
#endif
			entry[2] = DEVICE | x;
			x = 0
		:: entry[0] == LOCK && !out_refused ->	/* zd_migs_fork() */
			out_sharer = true;
			entry[2] = LOCK
		:: else -> ram[2] = ram[0]
		fi;
		owed = (entry[0] != NONE -> WHOSE(2) : ram[0])
	};
	KEEP_IT
	zd_mm_drop(2)
}

/* --- the server's migrations --- */

/* zd_migrate_collect(), zd_out_start() ... zd_out_land(), of address 0 */
proctype migrator() {
	byte src, dst;

	atomic { !server ->
		if
		:: LOCKED(entry[0]) || STATE(entry[0]) == DEVICE || ram[0] == 0 -> goto out
		:: else
		fi;
		server = true;
		src = PAGE(entry[0])
	};
	/* zd_ram_page_release(): count, entry, page_free */
	if
	:: src ->
		atomic {
			if
			:: page_count[src] == 1 ->
#ifndef LOAD_NOT_FREEZE
				page_count[src] = 0
#else
				skip
#endif
			:: else -> src = 0; SERVER_LEAVE; goto out	/* held */
			fi
		};
		entry[0] = NONE;
#ifdef LOAD_NOT_FREEZE
		d_step { put_count(src, last); last = false; src = 0 }
#else
		d_step { page_free(src); src = 0 }
#endif
	:: else
	fi;
	/* zd_out_start(): the batch holds the pagemap for its free device page */
	atomic {
		PAGEMAP_LOOKUP(ok);
#ifndef NO_BATCH_HOLD
		pagemap_hold(SERVER, ok);
#endif
		rcu_readers--;
		if
		:: !ok -> SERVER_LEAVE; goto out	/* -ENODEV */
		:: else
		fi;
		alloc_device(dst);
		entry[0] = LOCK;
		out_owner = true;
		out_inflight = true;
		SERVER_LEAVE
	};

	/* the mover: UFFDIO_MOVE, which the kernel may refuse */
	atomic {
		if
		:: out_refused = true
		:: !out_refused ->
			out_moved = true;
			assert(ram[0] == WHOSE(0));
			ram[0] = 0;
			assert(!pins[2] && !pins[3])	/* a pinned page doesn't move */
		fi
	};
	atomic { !server ->			/* zd_out_moved() */
		if
		:: out_refused ->		/* refuse() */
			assert(!out_sharer);
			server = true;
			if
			:: out_owner -> entry[0] = NONE
			:: else
			fi;
			goto given_back
		:: !out_refused && !out_owner && !out_sharer -> server = true; goto given_back
		:: else -> out_buffered = true
		fi
	};

	/* the device writes */
	d_step { assert(!destroyed && used[dst] && !page_count[dst]); content[dst] = WHOSE(0) };

	d_step { !server -> server = true; out_buffered = false; PAGEMAP_LOOKUP(ok) };	/* zd_out_land() */
	page_hold(SERVER, ok);
	/* store(): the references of the owners, their entries, and then ours, in
	 * one step: walkers don't look at DEVICE entries */
	d_step {
		page_live(dst, ok);
		if
		:: ok && out_owner -> page_count[dst]++; entry[0] = DEVICE | dst; out_owner = false
		:: else
		fi;
		if
		:: ok && out_sharer -> page_count[dst]++; entry[2] = DEVICE | dst; out_sharer = false
		:: else
		fi;
		if
		:: ok -> put_count(dst, last)
		:: else
		fi
	};
	put_hold(dst, SERVER, last);
	atomic {
		if
		:: ok -> dst = 0; goto landed
		:: else			/* back(): the device is being removed */
		fi;
		if
#ifndef NO_BACK
		:: out_owner -> assert(ram[0] == 0); ram[0] = WHOSE(0); entry[0] = NONE
#endif
		:: else
		fi;
		if
		:: out_sharer -> ram[2] = WHOSE(2); entry[2] = NONE
		:: else
		fi;
given_back:
		give_back(dst);
landed:		out_owner = false;		/* zd_mig_free() */
		out_sharer = false;
		out_moved = false;
		out_refused = false;
		out_inflight = false
	};
#ifdef NO_BATCH_HOLD
	d_step { SERVER_LEAVE };
#else
	atomic { zd_percpu_ref_put(SERVER); SERVER_LEAVE };
#endif
out:	atomic { src = 0; dst = 0 }
}

/* The entry's device page is replaced by RAM: place(), zd_server_settle(). */
#define TAKES_PLACE(a, pfn) \
	assert(content[pfn] == WHOSE(a) && ram[a] == 0); ram[a] = content[pfn]

inline place(a, pfn) {
#ifdef PUT_BEFORE_UNMAP
	d_step { TAKES_PLACE(a, pfn); put_count(pfn, last) };
	d_step { entry[a] = NONE };
#else
	d_step { TAKES_PLACE(a, pfn); entry[a] = NONE };
	d_step { put_count(pfn, last) };
#endif
	put_hold(pfn, SERVER, last)
}

/* zd_fault() at address 0 or 2.  A locked entry is waited for (ZD_ENTRY_WAIT): one
 * that is never unlocked would be a deadlock.  But a page whose content is in the batch's
 * buffer is taken back from there (zd_recall()), and the batch has one owner less. */
proctype fault() {
	byte a, pfn;

	atomic {
		if
		:: !server && !LOCKED(entry[0]) -> a = 0
		:: !server && !LOCKED(entry[2]) -> a = 2
		:: !server && out_buffered && out_owner ->
			assert(ram[0] == 0);
			ram[0] = WHOSE(0);
			entry[0] = NONE;
#ifndef RECALL_KEEPS_OWNER
			out_owner = false;
#endif
			goto out
		:: !server && out_buffered && out_sharer ->
			assert(ram[2] == 0);
			ram[2] = WHOSE(2);
			entry[2] = NONE;
			out_sharer = false;
			goto out
#ifdef FAULT_IGNORES_LOCK
		:: !server && LOCKED(entry[0]) && ram[0] == 0 -> ram[0] = ZEROS; goto out
#endif
		fi;
		if
		:: STATE(entry[a]) != DEVICE -> goto out
		:: else
		fi;
		pfn = PAGE(entry[a]);		/* home_read() */
		entry[a] = entry[a] | LOCK;
		home_owner = true
	};
	d_step {				/* the device reads */
		assert(!destroyed && page_count[pfn] > 0 && live[pfn] && content[pfn] == WHOSE(a));
		DESCRIPTOR(pfn)
	};
	atomic { !server -> server = true };	/* arrived_in_buffer() */
	if
	:: home_owner -> place(a, pfn)
	:: else ->				/* unmapped meanwhile */
#ifndef LEAK_DROPPED
		d_step { put_count(pfn, last) };
		put_hold(pfn, SERVER, last)
#endif
	fi;
	atomic { home_owner = false; SERVER_LEAVE };
out:	atomic { a = 0; pfn = 0 }
}

/* --- removal: pages/pagemap.c, hmm/removal.c --- */

/* One entry of the drain: zd_home() */
inline home_direct(a, pfn) {
	if
	:: d_step { STATE(entry[a]) == DEVICE -> pfn = PAGE(entry[a]) };
		place(a, pfn);
		pfn = 0
	:: STATE(entry[a]) != DEVICE
	fi
}

/* ops->revoke: the drain waits for what is on its way, and brings home what is
 * there; and a mapping of the device is buried. */
inline revoke(pfn, last_ref) {
	atomic { !server && !out_inflight && entry[0] <= LOCK && entry[2] <= LOCK -> server = true };
	home_direct(0, pfn);
	home_direct(2, pfn);
	d_step { SERVER_LEAVE };
	zd_device_vma_remove(pfn, last_ref)
}

#define WAIT_RELEASED	(releases == 1)

proctype remover() {
	byte pfn;
	bool last_ref;

	atomic { zd_percpu_ref_get(OTHER); kill_dead() };
	atomic { kill_close() };
#ifdef WAIT_BEFORE_REVOKE
	WAIT_RELEASED;
#endif
#ifndef NO_REVOKE
	revoke(pfn, last_ref);
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
	d_step { !server ->			/* ->detach: a command to the server */
		NOBODY_LIVE;
		decommitted = true;
		assert(!used[0] && !used[1] && !out_inflight);	/* the driver's ->destroy */
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
#ifdef LOOKUP
		run looker();
#endif
#if defined(WALKER)
		run walker(WALKER)
#elif defined(ONE_WALKER)
		if
		:: run walker(0)
		:: run walker(1)
		fi
#elif defined(SAME_PAGE)
		if
		:: run walker(0); run walker(0)
		:: run walker(1); run walker(1)
		fi
#elif !defined(LOOKUP)
		run walker(0);
		run walker(1)
#endif
	};
	(_nr_pr == 1);
	d_step {
		/* every life has ended, in every allocator */
		assert(!live[0] && !live[1] && !live[2] && !live[3]);
		assert(!used[0] && !used[1] && !used[2] && !used[3]);
		assert(entry[0] == NONE && entry[1] == NONE && entry[2] == NONE);
		assert(holds == 0 && releases == 1 && !out_inflight && decommitted)
	}
}
