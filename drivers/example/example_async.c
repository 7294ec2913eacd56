/* SPDX-License-Identifier: MIT */
/*
 * drivers/example/example_async.c - the driver to copy where a thread tells what has finished.
 *
 * The device of example.c behind a thread, which stands for the hardware, or for a library that
 * calls back from a thread of its own: ->submit hands batches over, and the thread completes
 * them by zd_io_complete_any().  The comments here say what is different from example.c.
 *
 * example_async_device_create() makes the device.  A plugin also needs a struct zd_driver, which
 * names it (zonedev/driver.h): as at the end of example.c.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zonedev/device.h>

struct async_example {
	struct zd_device dev;
	pthread_mutex_t lock;		/* of the queue and the flags */
	pthread_cond_t more;
	struct zd_device_io *queue, *last;	/* linked by io->next, the driver's */
	bool stop;
	pthread_t thread;
	pid_t process;			/* that the thread is of */
	size_t bytes;			/* of this struct */
	char *memory;
	bool used[];
};

static int async_alloc_pages(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns)
{
	struct async_example *ex = dev->private_data;
	unsigned int got = 0;

	pthread_mutex_lock(&ex->lock);
	for (uint64_t i = 0; i < dev->nr_pages && got < nr; i++) {
		if (!ex->used[i]) {
			ex->used[i] = true;
			pfns[got++] = dev->pgmap.pfn + i;
		}
	}
	pthread_mutex_unlock(&ex->lock);
	return got;
}

static void async_unalloc_pages(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns)
{
	struct async_example *ex = dev->private_data;

	pthread_mutex_lock(&ex->lock);
	while (nr--)
		ex->used[zd_device_page_index(dev, *pfns++)] = false;
	pthread_mutex_unlock(&ex->lock);
}

static void async_page_free(struct zd_device *dev, struct zd_page *page)
{
	zd_pfn_t pfn = zd_page_to_pfn(page);

	async_unalloc_pages(dev, 1, &pfn);
}

static void async_copy(struct async_example *ex, struct zd_device_io *io)
{
	for (unsigned int i = 0; i < io->nr; i++) {
		struct zd_io_page *page = &io->pages[i];
		char *mem = ex->memory + zd_device_page_index(&ex->dev, page->pfn) * ZD_PAGE_SIZE;
		page->error = 0;
		if (io->dir == ZD_TO_DEVICE)
			memcpy(mem, page->buf, ZD_PAGE_SIZE);
		else if (io->dir == ZD_FROM_DEVICE)
			memcpy(page->buf, mem, ZD_PAGE_SIZE);
		else
			page->error = -EINVAL;
	}
}

/* The hardware. */
static void *async_thread(void *arg)
{
	struct async_example *ex = arg;
	struct zd_device_io *io;

	pthread_mutex_lock(&ex->lock);
	while (!ex->stop) {
		io = ex->queue;
		if (!io) {
			pthread_cond_wait(&ex->more, &ex->lock);
			continue;
		}
		ex->queue = io->next;
		pthread_mutex_unlock(&ex->lock);
		async_copy(ex, io);
		/* The results are there; from here on the batch isn't the driver's. */
		zd_io_complete_any(&ex->dev, io);
		pthread_mutex_lock(&ex->lock);
	}
	pthread_mutex_unlock(&ex->lock);
	return NULL;
}

/* Signals are the program's: a handler of the program in this thread could touch memory that
 * only this thread can bring home. */
static int async_start(struct async_example *ex)
{
	sigset_t all, old;
	int ret;

	/* new in a forked copy, too: there the thread that waits is missing */
	pthread_mutex_init(&ex->lock, NULL);
	pthread_cond_init(&ex->more, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&ex->thread, NULL, async_thread, ex);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!ret)
		ex->process = getpid();
	return -ret;
}

/* No ->reap and no ->event_fd: what the thread has completed, zonedev collects. */
static void async_submit(struct zd_device *dev, struct zd_device_io *io)
{
	struct async_example *ex = dev->private_data;

	/* `zonedev run` may go on in a forked copy of itself, where the thread is not. */
	if (ex->process != getpid() && async_start(ex)) {
		for (unsigned int i = 0; i < io->nr; i++)
			io->pages[i].error = -EAGAIN;
		zd_io_complete_any(dev, io);	/* inside ->submit it may be called, too */
		return;
	}
	pthread_mutex_lock(&ex->lock);
	io->next = NULL;
	if (ex->queue)
		ex->last->next = io;
	else
		ex->queue = io;
	ex->last = io;
	pthread_cond_signal(&ex->more);
	pthread_mutex_unlock(&ex->lock);
}

static void async_free(struct async_example *ex)
{
	if (ex->memory != MAP_FAILED)
		munmap(ex->memory, ex->dev.nr_pages * ZD_PAGE_SIZE);
	munmap(ex, ex->bytes);
}

static void async_destroy(struct zd_device *dev)	/* may block */
{
	struct async_example *ex = dev->private_data;

	if (ex->process == getpid()) {
		pthread_mutex_lock(&ex->lock);
		ex->stop = true;
		pthread_cond_signal(&ex->more);
		pthread_mutex_unlock(&ex->lock);
		pthread_join(ex->thread, NULL);
	}
	async_free(ex);
}

static const struct zd_device_ops async_example_ops = {
	.size = sizeof(async_example_ops),
	.version = ZD_DEVICE_OPS_VERSION,
	.flags = ZD_DEVICE_NO_MALLOC | ZD_DEVICE_ASYNC,
	.alloc_pages = async_alloc_pages,
	.unalloc_pages = async_unalloc_pages,
	.page_free = async_page_free,
	.submit = async_submit,
	.destroy = async_destroy,
};

int example_async_device_create(uint64_t nr_pages, struct zd_device **dev)
{
	size_t bytes = sizeof(struct async_example) + nr_pages * sizeof(bool);
	struct async_example *ex;
	int ret;

	/* Private: a forked copy has its own queue, and the first process's thread another. */
	ex = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ex == MAP_FAILED)
		return -ENOMEM;
	ex->bytes = bytes;
	ex->memory = mmap(NULL, nr_pages * ZD_PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ex->dev = (struct zd_device){
		.ops = &async_example_ops,
		.name = "example_async",
		.nr_pages = nr_pages,
		.private_data = ex,
	};
	*dev = &ex->dev;		/* zd_device_unregister() ends it */
	ret = ex->memory == MAP_FAILED ? -ENOMEM : async_start(ex);
	if (ret) {
		async_free(ex);
		return ret;
	}
	ret = zd_device_register(&ex->dev);
	if (ret)
		async_destroy(&ex->dev);
	return ret;
}
