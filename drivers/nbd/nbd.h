/* SPDX-License-Identifier: MIT */
/*
 * drivers/nbd/nbd.h - memory of another machine over NBD: the parts, and what each owns.
 *
 *	driver.c	its name and its keys
 *	device.c	create and destroy, pages, ->submit: what the server's thread sees
 *	thread.c	the I/O thread: sleeps, hears, looks at the clock
 *	pump.c		which command goes next, and on which connection
 *	conn.c		a connection: made, polled, lost, made again
 *	export.c	what the server says of the export
 *	cmd.c		a command: cut from a batch, answered, tried again
 *	trim.c		commands that give freed pages back to the server
 *	stats.c		what the device tells of itself
 *	lib.c		libnbd
 *
 * Each calls those below it only.
 *
 * Who owns what.  The I/O thread owns the connections, libnbd's handles, the commands and
 * every batch that has left the inbox.  The server's thread puts a batch into the inbox, under
 * the inbox's lock, and gets it back by zd_io_complete_any(); it calls neither libnbd nor
 * malloc.  The pool, the checksums and the counters are everybody's: a lock, or single loads
 * and stores.
 *
 * What a page of the device may read as: what was written to it, or an error.  NBD has no word
 * for "this is another server than the one before": one that was started again with an empty
 * memory answers reads with zeros.  So a checksum of each page stays here (4 bytes a page), and
 * what doesn't match is -EIO.
 *
 * Two commands of one page never race on the server.  A page is written once in its life, a
 * page that is being trimmed can't be allocated, and a command that was lost with its
 * connection is sent again.  But a connection that ended on this side alone (nothing came any
 * more, or the way there is broken) may have commands that the server runs at any time later: the
 * pages of such writes and trims are not used again ("retired").
 *
 * Time.  timeout= is how long a page waits for a server that can't be reached, from the loss of
 * the last connection on, and for the answer to a command.  Then reads fail with -ETIMEDOUT.
 * Writes fail much sooner (ZD_NBD_WRITE_WAIT_NS) with -EAGAIN: their pages are better off in
 * RAM.  The device goes on connecting, and works again as soon as it can.
 */
#ifndef ZD_DRIVERS_NBD_NBD_H
#define ZD_DRIVERS_NBD_NBD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <urcu/list.h>

#include "base/fork.h"
#include "base/lock.h"
#include "pages/ioq.h"
#include "drivers/nbd/lib.h"
#include "drivers/pool.h"
#include "zonedev/device.h"

#define ZD_NBD_CONNECTIONS	2u	/* unless connections= says otherwise */
#define ZD_NBD_MAX_CONNECTIONS	16u
#define ZD_NBD_TIMEOUT_MS	30000u	/* unless timeout= does */
#define ZD_NBD_CMDS		1024u	/* commands that there are */
#define ZD_NBD_CONN_CMDS	128u	/* in flight on a connection */
#define ZD_NBD_CONN_WRITES	(2u << 20)	/* bytes of writes in flight on a connection */
#define ZD_NBD_MAX_BYTES	(32u << 20)	/* of a command, if the server names no maximum */
#define ZD_NBD_TRIM_WORDS	64u	/* 16 MiB a trim */
#define ZD_NBD_TRIMS		4u	/* in flight */
#define ZD_NBD_MAX_TRIES	6u	/* of a command that the server answers with an error */
#define ZD_NBD_MS		UINT64_C(1000000)
#define ZD_NBD_RETRY_NS		(10 * ZD_NBD_MS)	/* doubles with each try */
#define ZD_NBD_BACKOFF_MIN_NS	(100 * ZD_NBD_MS)	/* between attempts to connect */
#define ZD_NBD_BACKOFF_MAX_NS	(1000 * ZD_NBD_MS)
#define ZD_NBD_CONNECT_NS	(10000 * ZD_NBD_MS)	/* for one attempt */
#define ZD_NBD_WRITE_WAIT_NS	(1000 * ZD_NBD_MS)
#define ZD_NBD_STALL_MIN_NS	(1000 * ZD_NBD_MS)	/* no answer counts as a loss after this at least */

struct zd_nbd;
struct zd_nbd_conn;

/* The directions of commands, as indexes.  A trim is neither. */
enum zd_nbd_dir { ZD_NBD_READ, ZD_NBD_WRITE, ZD_NBD_DIRS };

/*
 * A command: a run of pages of one batch, consecutive on the device and in memory; with @io
 * NULL a trim.  It is on one list: free, again[], or its connection's in_flight or answered.
 */
struct zd_nbd_cmd {
	struct cds_list_head node;
	struct zd_nbd_conn *conn;	/* the connection that it is on */
	struct zd_device_io *io;
	unsigned int first, nr;		/* pages in io->pages */
	unsigned int at;		/* pages that have their results, if single */
	bool single;			/* page by page, since one of them fails */
	uint8_t tries;			/* answered with an error so often */
	int error;			/* of the answer: 0 or -errno */
	uint64_t index;			/* first page on the device */
	uint64_t bytes;			/* of the transfer in flight */
	uint64_t due_ns;		/* not to be sent again before */
	uint64_t sent_ns;		/* the last time */
	uint64_t deadline_ns;		/* from the first time on; 0: not sent yet */
};

enum zd_nbd_state { ZD_NBD_DOWN, ZD_NBD_CONNECTING, ZD_NBD_UP };

struct zd_nbd_conn {
	struct zd_nbd *nbd;
	enum zd_nbd_state state;
	struct nbd_handle *handle;	/* NULL: down */
	int fd;				/* the handle's, for a forked copy to close; -1: none */
	uint64_t retry_ns;		/* down: when to connect */
	uint64_t backoff_ns;
	uint64_t started_ns;		/* connecting: since when */
	struct cds_list_head in_flight, answered;
	unsigned int nr_in_flight;
	uint64_t bytes, write_bytes;	/* in flight */
	unsigned int direction;		/* that the last poll asked for */
	bool ended_there;		/* the other machine has ended it: no command runs on */
	bool noted;			/* what has ended it; what libnbd says later is of no interest */
	int error;			/* of the socket, positive; 0: none */
	char why[256];			/* the last error, of libnbd; "": none */
};

/* What the server says of the export (export.c). */
struct zd_nbd_export {
	uint64_t bytes;
	uint64_t max_bytes;		/* of a command: whole pages */
	bool read_only, multi_conn, fua, trim;
	uint64_t min_bytes;
};

/* Written by the I/O thread, read by any: single loads and stores. */
#define ZD_NBD_LATENCY_BUCKETS	256
struct zd_nbd_stats {
	uint64_t connections;		/* that are up */
	uint64_t commands, pages;
	uint64_t reconnects;		/* connections made again after a loss */
	uint64_t retries;		/* commands sent again */
	uint64_t checksum_errors;	/* pages that read as something else */
	uint64_t trimmed;		/* pages */
	uint64_t retired;		/* pages */
	uint64_t in_flight;		/* commands */
	uint64_t latency[ZD_NBD_LATENCY_BUCKETS];	/* reads: see stats.c */
};

struct zd_nbd_options {
	const char *uri;
	unsigned int connections;	/* 1 .. ZD_NBD_MAX_CONNECTIONS */
	uint64_t timeout_ms;
	uint64_t size;			/* bytes to use at most; 0: all */
	bool no_fua;
};

struct zd_nbd {
	struct zd_device dev;
	struct zd_nbd_lib lib;
	struct zd_nbd_export export;
	uint64_t timeout_ns, stall_ns;
	bool fua;
	char *uri;

	struct zd_pool pool;
	uint32_t *sums;			/* of each page; 0: it was not written yet */
	uint64_t *retired;		/* a bit a page */

	/* From the server's thread to the I/O thread.  inbox_lock is taken for a few loads and
	 * stores, with no other lock held, and none is taken inside. */
	struct zd_mutex inbox_lock;
	struct zd_ioq inbox;
	bool has_mail;			/* __atomic; a hint, for who doesn't hold the lock */
	bool asleep;			/* the I/O thread waits for wake_fd, or is about to */
	bool stop;
	int wake_fd;
	pthread_t thread;
	void *stack;
	uint32_t generation;		/* of the process that the thread is one of */
	bool away;			/* the server isn't reached: no pages are given out */

	/* The I/O thread's. */
	struct zd_nbd_conn conn[ZD_NBD_MAX_CONNECTIONS];
	unsigned int nr_conns;
	struct zd_ioq queue[ZD_NBD_DIRS];	/* batches; io->driver: the next page */
	struct cds_list_head again[ZD_NBD_DIRS];	/* commands to be sent again */
	struct cds_list_head free_cmds;
	struct zd_nbd_cmd *cmds;
	unsigned int nr_reads, nr_trims;	/* in flight */
	uint64_t read_ns;		/* that the last read took */
	uint64_t down_ns;		/* since when no connection is up; 0: one is, or none was yet */
	uint64_t heard_ns;		/* the last answer, or when the first command was sent */
	uint64_t end_ns;		/* the thread is to end then; 0: it isn't to end */
	bool told_loss, told_timeout;	/* in the log: that, and that the time of reads is over */
	struct zd_nbd_stats stats;
	char name[160];
};

/* --- device.c --- */

/* Connect to the server and make a device of its export.  0, or -errno and a line in @err for
 * the user.  Blocks for ZD_NBD_CONNECT_NS at most. */
int zd_nbd_device_create(const struct zd_nbd_options *options, struct zd_device **dev, char *err,
			 size_t errlen);

/* --- thread.c --- */

/* Start the I/O thread in this process.  0 or -errno. */
int zd_nbd_thread_start(struct zd_nbd *nbd);
/* End it; no batch is in flight. */
void zd_nbd_thread_stop(struct zd_nbd *nbd);
/* In a forked copy of the process that goes on instead of it (zonedev run, when the program has
 * left a daemon behind), with no batch in flight: connect anew.  0 or -errno. */
int zd_nbd_thread_restart(struct zd_nbd *nbd);
/* Is the I/O thread one of this process? */
static inline bool zd_nbd_thread_is_here(const struct zd_nbd *nbd)
{
	return nbd->generation == zd_fork_generation;
}
/* Wake it up.  Any thread. */
void zd_nbd_wake(struct zd_nbd *nbd);

/* All below are called by the I/O thread, or, where there is none yet, by the one that makes
 * the device. */

/* --- pump.c --- */

/* Send as many commands as the connections take: reads first, then writes, then trims. */
void zd_nbd_pump(struct zd_nbd *nbd, uint64_t now);
/* Give up what waits to be sent in @dir: its pages get @error. */
void zd_nbd_fail_waiting(struct zd_nbd *nbd, enum zd_nbd_dir dir, int error);
/* Give up commands that wait to be sent again, and whose time is over. */
void zd_nbd_fail_late(struct zd_nbd *nbd, uint64_t now);
/* When, after @now, the next command may be sent again; UINT64_MAX: none waits for that. */
uint64_t zd_nbd_next_due(const struct zd_nbd *nbd, uint64_t now);

/* --- conn.c --- */

void zd_nbd_conn_init(struct zd_nbd *nbd, struct zd_nbd_conn *conn);
/* Begin to connect. */
void zd_nbd_conn_start(struct zd_nbd_conn *conn, uint64_t now);
/* What poll(2) is to look for: 0: nothing. */
short zd_nbd_conn_events(struct zd_nbd_conn *conn);
/* Is there something to handle that poll(2) can't see? */
bool zd_nbd_conn_has_news(struct zd_nbd_conn *conn);
/* poll(2) saw @revents. */
void zd_nbd_conn_ready(struct zd_nbd_conn *conn, short revents);
/* Handle answers, and what has become of the connection.  True: something has happened. */
bool zd_nbd_conn_check(struct zd_nbd_conn *conn, uint64_t now);
/* libnbd says why, if the connection has just died. */
void zd_nbd_conn_look(struct zd_nbd_conn *conn);
/* The server hasn't answered a command in time: give the connection up. */
void zd_nbd_conn_cut(struct zd_nbd_conn *conn, uint64_t now);
/* End the connection; nothing is in flight, or all of it is given up. */
void zd_nbd_conn_close(struct zd_nbd_conn *conn);

/* --- export.c --- */

/* Ask a connection that is up.  */
void zd_nbd_export_read(const struct zd_nbd *nbd, struct nbd_handle *handle,
			struct zd_nbd_export *export);
/* Can a device be made of it?  0, or -errno and a line in @err. */
int zd_nbd_export_check(const struct zd_nbd_export *export, const char *uri, char *err,
			size_t errlen);

/* --- cmd.c --- */

/* All commands are free, and nothing waits. */
void zd_nbd_cmds_init(struct zd_nbd *nbd);
/* The next command of the first batch that waits in @dir, or NULL: there is no batch, or no
 * command is free.  Not on a list. */
struct zd_nbd_cmd *zd_nbd_cmd_cut(struct zd_nbd *nbd, enum zd_nbd_dir dir);
/* Send @cmd on @conn.  False: libnbd didn't take it; it is to be sent again. */
bool zd_nbd_cmd_send(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd, struct zd_nbd_conn *conn,
		     uint64_t now);
/* @cmd, of conn->answered, is dealt with. */
void zd_nbd_cmd_result(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd, uint64_t now);
/* @cmd was lost with its connection. */
void zd_nbd_cmd_lost(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd, bool cut);
/* @cmd, which is on no list, is over: its pages without a result get @error, or 0. */
void zd_nbd_cmd_end(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd, int error);
/* Give up what was not cut from @io, which is on no queue. */
void zd_nbd_batch_fail(struct zd_nbd *nbd, struct zd_device_io *io, int error);

/* --- trim.c --- */

/* A command for pages that were freed, or NULL. */
struct zd_nbd_cmd *zd_nbd_trim_next(struct zd_nbd *nbd);
/* @cmd is over: its pages can be had again.  @ok: the server has trimmed them. */
void zd_nbd_trim_done(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd, bool ok);

/* --- stats.c --- */

static inline void zd_nbd_count(uint64_t *counter, int64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}
void zd_nbd_count_latency(struct zd_nbd *nbd, uint64_t ns);
int zd_nbd_stats(struct zd_device *dev, struct zd_device_stat *stats, unsigned int nr);

static inline struct zd_nbd *zd_to_nbd(const struct zd_device *dev)
{
	return dev->private_data;
}

static inline bool zd_nbd_is_retired(const struct zd_nbd *nbd, uint64_t index)
{
	return __atomic_load_n(&nbd->retired[index / 64], __ATOMIC_RELAXED) >> index % 64 & 1;
}

#endif
