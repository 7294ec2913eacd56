/* SPDX-License-Identifier: MIT */
/*
 * The order of teardown when a live page holds its pagemap (v4.12, and zonedev).
 *
 * In v4.12 a page is live from devm_memremap_pages() on: it holds one reference
 * of the pagemap, and the mapping holds the page.  devm_memremap_pages_release()
 * puts the pages; a page's final put drops its pagemap reference.  Hence the
 * thread's condition: "any waits for the percpu_ref to drop to zero occur
 * *after* devm_memremap_page_release(), since it now maintains its own elevated
 * reference".
 *
 *	(default)	kill -> release -> wait -> exit
 *	WAIT_FIRST	kill -> wait -> release -> exit: dax_pmem_percpu_kill() as it
 *			was.  Waits for itself: an invalid end state.
 *	NO_WAIT		kill -> release -> exit: frees the descriptors under the holder of a page
 *
 * Gets are GUP-fast's again: unless zero, of the page alone.  That is enough
 * now.
 */
#define PAGES	2

byte page_count[PAGES];
bool page_gone[PAGES];		/* its final put has been done */
byte pgmap_ref;
bool released, exited, freed;

inline pgmap_put() {
	d_step {
		assert(!exited && pgmap_ref > 0);
		pgmap_ref--;
		if
		:: pgmap_ref == 0 -> released = true
		:: else
		fi
	}
}

inline put_page(p, last) {
	d_step {
		assert(!freed && page_count[p] > 0);
		page_count[p]--;
		last = (page_count[p] == 0)
	};
	if
	:: last ->			/* __put_page() */
		d_step { assert(!page_gone[p]); page_gone[p] = true; last = false };
		pgmap_put()
	:: else
	fi
}

inline memremap_release() {
	put_page(0, last);
	put_page(1, last)
}

proctype user() {
	byte p;
	bool got, last;

	if
	:: p = 0
	:: p = 1
	fi;
	d_step {
		got = (page_count[p] > 0);
		if
		:: got -> page_count[p]++
		:: else
		fi
	};
	if
	:: got ->
		assert(!freed);		/* use */
		put_page(p, last)
	:: else
	fi
}

proctype remover() {
	bool last;

	pgmap_put();			/* kill: drops the base reference */
#ifdef WAIT_FIRST
	(released);
	memremap_release();
#else
	memremap_release();
#ifndef NO_WAIT
	(released);
#endif
#endif
	exited = true;			/* percpu_ref_exit() */
	freed = true;			/* the descriptors */
	assert(page_count[0] == 0 && page_count[1] == 0)
}

init {
	atomic {
		page_count[0] = 1;
		page_count[1] = 1;
		pgmap_ref = 1 + PAGES;
		run remover();
		run user();
		run user()
	}
}
