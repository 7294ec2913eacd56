/* SPDX-License-Identifier: MIT */
/*
 * Folios (engine/ram_page.h): descriptors that are made, and go, together; here two pages
 * instead of 512.
 *
 * The folio's count is 1 while any of its entries is left, and its pins; each page's
 * is 1 while the folio lives, and its gets.  The server makes the folio for the
 * addresses 0 and 1, lets go of it (to migrate, or to make room for smaller
 * descriptors), unmaps one or both, and makes it anew for 2 and 3, in any order.
 * Beside it: a pin of both addresses, or of one; a pin of one; a get of one page.
 * The pins and the get look for addresses 0 and 1, and may be late.
 *
 * Properties: what is pinned or got doesn't move while it is mapped, and its
 * descriptor isn't another address's until it is let go; no descriptor is freed
 * twice, and at the end all are free.
 *
 * Macros that break it:
 *	PAGES_ONLY	letting go freezes each page and not the folio
 *	FOLIO_ONLY	... the folio and not each page
 *	NO_THAW		... and leaves frozen what it froze, if one was held
 *	NO_RECHECK	a pin doesn't read the entries again
 *	DROP_PUTS_EACH	each entry that goes puts the folio
 */
#define NONE	255
#define NR	2
#define OPS	4		/* of the server */
#define ALONE	(_nr_pr == 2)	/* init, and the server */

byte entry[4];			/* of an address: which page, or NONE */
byte folio_count, page_count[NR];
bool page_live[NR];
byte left;			/* folio->word: entries left; of a free one, free pages */
bool is_free = true;		/* on the free list */
byte where[NR];			/* page->word */
byte held[NR];			/* ghost: gets and pins of the page */

/* page_free() of a page: folio_page_free() */
inline page_freed(i) {		/* in a d_step */
	assert(page_live[i] && held[i] == 0);
	page_live[i] = false;
	left++;
	assert(left <= NR);
	if
	:: left == NR -> assert(!is_free); is_free = true
	:: else
	fi
}

inline put_page(i) {		/* in a d_step */
	assert(page_count[i] > 0);
	page_count[i]--;
	if
	:: page_count[i] == 0 -> page_freed(i)
	:: else
	fi
}

/* folio_free(), one page */
inline let_page_go(i) {
	if
	:: d_step { page_count[i] > 0 -> put_page(i) }
	:: d_step { page_count[i] == 0 -> page_freed(i) }	/* frozen */
	fi
}

/* __zd_put_page() of the folio: its word is 0 from here on */
inline folio_freed() {
	left = 0;
	let_page_go(0);
	let_page_go(1)
}

inline put_folio(n) {
	d_step {
		assert(folio_count >= (n));
		folio_count = folio_count - (n);
		last = (folio_count == 0)
	};
	if
	:: last -> last = false; folio_freed()
	:: else
	fi
}

/* pin_folio(), for @n pages from address @a on; and the unpin */
proctype pinner() {
	byte a, n, e, same, i;
	bool last;

	atomic {
		if
		:: a = 0; n = 2
		:: a = 0; n = 1
		:: a = 1; n = 1
		fi
	};
	/* zd_entry_load(), folio_run() */
	e = entry[a];
	if
	:: e == NONE || e + n > NR -> goto out
	:: else
	fi;
	if
	:: n == 2 && entry[1] != e + 1 -> n = 1
	:: else
	fi;
	atomic {
		if
		:: folio_count == 0 -> goto out
		:: else -> folio_count = folio_count + n
		fi
	};
#ifdef NO_RECHECK
	same = n;
#else
	if
	:: entry[a] == e -> same = 1
	:: else
	fi;
	if
	:: same == 1 && n == 2 && entry[1] == e + 1 -> same = 2
	:: else
	fi;
#endif
	d_step {
		i = 0;
		do
		:: i < same ->
			held[e + i]++;
			assert(page_live[e + i] && where[e + i] == a + i);
			i++
		:: else -> break
		od;
		i = 0
	};
	if
	:: same < n -> put_folio(n - same)
	:: else
	fi;
	if
	:: same > 0 ->
		d_step {
			do
			:: i < same ->
				assert(page_live[e + i] && where[e + i] == a + i);
				held[e + i]--;
				i++
			:: else -> break
			od
		};
		put_folio(same)
	:: else
	fi;
out:	skip
}

/* walk_one(), with one reference; and the put */
proctype getter() {
	byte a, e;

	if
	:: a = 0
	:: a = 1
	fi;
	e = entry[a];
	if
	:: e == NONE -> goto out
	:: else
	fi;
	atomic {
		if
		:: page_count[e] == 0 -> goto out
		:: else -> page_count[e]++
		fi
	};
	if
	:: d_step { entry[a] == e -> held[e]++; assert(page_live[e] && where[e] == a) };
		d_step { assert(page_live[e] && where[e] == a); held[e]--; put_page(e) }
	:: d_step { entry[a] != e -> put_page(e) }
	fi;
out:	skip
}

/* zd_ram_page_install_folio() at @a and the next */
inline install(a) {
	d_step {
		is_free = false;
		assert(folio_count == 0 && !page_live[0] && !page_live[1]);
		folio_count = 1;
		left = NR
	};
	d_step { page_live[0] = true; page_count[0] = 1; where[0] = a };
	d_step { page_live[1] = true; page_count[1] = 1; where[1] = a + 1 };
	entry[a] = 0;
	entry[a + 1] = 1
}

/* release_folio(): true, and the pages may be moved */
inline release() {
	frozen = 0;
	if
#ifdef PAGES_ONLY
	:: skip ->
#else
	:: d_step { folio_count == 1 -> folio_count = 0 };
#endif
		do
		:: frozen < NR ->
			if
#ifdef FOLIO_ONLY
			:: frozen++
#else
			:: d_step { page_count[frozen] == 1 -> page_count[frozen] = 0; frozen++ }
			:: d_step { page_count[frozen] != 1 -> assert(!ALONE) }; break
#endif
			fi
		:: frozen == NR -> break
		od;
		if
		:: frozen == NR ->
			d_step {
				/* what is mapped moves: it must not be held */
				assert(entry[where[0]] != 0 || held[0] == 0);
				assert(entry[where[1]] != 1 || held[1] == 0)
			};
			if
			:: entry[where[0]] == 0 -> entry[where[0]] = NONE
			:: else
			fi;
			if
			:: entry[where[1]] == 1 -> entry[where[1]] = NONE
			:: else
			fi;
			frozen = 0;
#ifdef PAGES_ONLY
			folio_count = 0;
#endif
			folio_freed()
		:: else ->
#ifndef NO_THAW
			if
			:: frozen == 1 -> page_count[0] = 1
			:: else
			fi;
#endif
			frozen = 0;
			folio_count = 1
		fi
#ifndef PAGES_ONLY
	:: d_step { folio_count != 1 -> assert(!ALONE) }	/* a pinner has the folio */
#endif
	fi
}

/* zd_ram_page_drop() of address @a */
inline drop(a) {
	entry[a] = NONE;
	left--;
#ifdef DROP_PUTS_EACH
	put_folio(1)
#else
	if
	:: left == 0 -> put_folio(1)
	:: else
	fi
#endif
}

#define MAPPED(a)	(entry[a] != NONE)
#define ANY_MAPPED	(MAPPED(0) || MAPPED(1) || MAPPED(2) || MAPPED(3))

proctype server() {
	byte ops, frozen;
	bool last;

	install(0);
	do
	/* at the end, what is still there */
	:: (ops < OPS || ALONE) && ANY_MAPPED -> ops++; release()
	:: ops < OPS && MAPPED(0) -> ops++; drop(0)
	:: ops < OPS && MAPPED(1) -> ops++; drop(1)
	:: ops < OPS && MAPPED(2) -> ops++; drop(2)
	:: ops < OPS && is_free && !ANY_MAPPED ->
		ops++;
		if
		:: install(0)
		:: install(2)
		fi
	:: ALONE && !ANY_MAPPED -> break
	od;
	assert(is_free && folio_count == 0 && left == NR);
	assert(page_count[0] == 0 && page_count[1] == 0 && !page_live[0] && !page_live[1])
}

init {
	atomic {
		left = NR;
		entry[0] = NONE;
		entry[1] = NONE;
		entry[2] = NONE;
		entry[3] = NONE;
		run server();
		run pinner();
		run pinner();
		run getter()
	}
}
