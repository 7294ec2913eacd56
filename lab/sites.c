/* SPDX-License-Identifier: MIT */
/*
 * 1,000 call sites, to be compiled once with a call in each and once without
 * (LAB_CALL undefined): the difference in size is what the calls cost.
 * What comes with any call (loading the page's address) is in both; what a call out
 * of line adds where there was none (registers saved) is counted.
 *
 * Four shapes of caller, 250 of each: the last thing done, an error path, a loop,
 * the middle; the last three make another call, too.  LAB_ONLY: two shapes, 500 of
 * each, that make none, so that the put's is what makes them save registers: a loop,
 * the middle.
 */
#include <stdbool.h>
#include <stdint.h>

#include LAB_PROTOCOL

struct obj {
	lab_page *page;
	long n;
};

long other(struct obj *o);

#ifndef LAB_CALL
#define LAB_CALL(page) __asm__ volatile("" : : "r"(page))
#endif

#ifdef LAB_ONLY
#define SITE(id)									\
	void loop##id(lab_page **pages, long nr);				\
	void loop##id(lab_page **pages, long nr)				\
	{									\
		for (long i = 0; i < nr; i++)					\
			LAB_CALL(pages[i]);					\
	}									\
	long middle##id(struct obj *o);						\
	long middle##id(struct obj *o)						\
	{									\
		LAB_CALL(o->page);						\
		return o->n + 1;						\
	}
#else
#define SITE(id)									\
	void last##id(struct obj *o);						\
	void last##id(struct obj *o)						\
	{									\
		o->n++;								\
		LAB_CALL(o->page);						\
	}									\
	long error##id(struct obj *o, long err);					\
	long error##id(struct obj *o, long err)					\
	{									\
		long rc = other(o);						\
										\
		if (rc) {							\
			LAB_CALL(o->page);					\
			return rc + err;					\
		}								\
		return o->n;							\
	}									\
	void loop##id(struct obj **objs, long nr);				\
	void loop##id(struct obj **objs, long nr)				\
	{									\
		for (long i = 0; i < nr; i++) {					\
			other(objs[i]);						\
			LAB_CALL(objs[i]->page);				\
		}								\
	}									\
	long middle##id(struct obj *o);						\
	long middle##id(struct obj *o)						\
	{									\
		lab_page *page = o->page;					\
										\
		o->page = (lab_page *)0;					\
		LAB_CALL(page);							\
		return other(o) + o->n;						\
	}
#endif

/* clang-format off */
#define TEN(n) SITE(n##0) SITE(n##1) SITE(n##2) SITE(n##3) SITE(n##4)		\
	SITE(n##5) SITE(n##6) SITE(n##7) SITE(n##8) SITE(n##9)
#define FIFTY(n) TEN(n##0) TEN(n##1) TEN(n##2) TEN(n##3) TEN(n##4)

FIFTY(1) FIFTY(2) FIFTY(3) FIFTY(4) FIFTY(5)
#ifdef LAB_ONLY
FIFTY(6) FIFTY(7) FIFTY(8) FIFTY(9) FIFTY(0)
#endif
	/* clang-format on */
