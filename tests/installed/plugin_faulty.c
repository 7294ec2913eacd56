/* SPDX-License-Identifier: MIT */
/*
 * A plugin with a fault, built against the installed headers alone:
 *
 *	plugin:./plugin_faulty.so,size=SIZE,fault=FAULT
 *
 * What is right in it is drivers/example/example.c's; -DREFERS makes it need a symbol that no zonedev
 * has.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zonedev/device.h>
#include <zonedev/driver.h>

enum fault {
	NONE,
	CREATE_ERROR,		/* ->create fails and says nothing */
	CREATE_NOTHING,		/* ->create gives no device and says that it did */
	ALLOC_ERROR,		/* ->alloc_pages: no page, but -EIO */
	ALLOC_RANGE,		/* pages of nobody */
	ALLOC_SAME,		/* the same page again and again */
	ALLOC_LIVE,		/* pages that hold something */
	ALLOC_MORE,		/* more than were asked for */
	SUBMIT_ERROR,		/* ->submit: each page out fails */
	SUBMIT_FORGOTTEN,	/* nothing is copied and no error is set */
	HOME_ERROR,		/* each page home fails */
	HOME_FORGOTTEN,
	SUBMIT_TWICE,		/* each batch is completed twice */
	HOME_NEVER,		/* a batch home is never completed */
	OUT_NEVER,		/* a batch out is never completed */
	FREE_MISSES,		/* ->page_free does nothing */
	DESTROY_BLOCKS,		/* ->destroy takes its time */
};

static const char *const faults[] = {
	"none",		  "create-error",
	"create-nothing", "alloc-error",
	"alloc-range",	  "alloc-same",
	"alloc-live",	  "alloc-more",
	"submit-error",	  "submit-forgotten",
	"home-error",	  "home-forgotten",
	"submit-twice",	  "home-never",
	"out-never",	  "free-misses",
	"destroy-blocks", NULL,
};

struct faulty {
	struct zd_device dev;
	pthread_mutex_t lock;
	enum fault fault;
	char *memory;
	uint64_t next;		/* for ALLOC_LIVE */
	bool used[];
};

#ifdef REFERS
int zd_of_another_version(void);
#endif

static int faulty_alloc_pages(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns)
{
	struct faulty *f = dev->private_data;
	unsigned int got = 0;

	if (f->fault == ALLOC_ERROR)
		return -EIO;
	if (f->fault == ALLOC_MORE)
		return (int)nr + 1;
	pthread_mutex_lock(&f->lock);
	for (uint64_t i = 0; i < dev->nr_pages && got < nr; i++) {
		if (f->used[i] && f->fault != ALLOC_SAME && f->fault != ALLOC_LIVE)
			continue;
		f->used[i] = true;
		pfns[got++] = dev->pgmap.pfn + (f->fault == ALLOC_RANGE ? dev->nr_pages + i :
						f->fault == ALLOC_SAME	? 0 :
									  i);
	}
	pthread_mutex_unlock(&f->lock);
	return (int)got;
}

static void faulty_unalloc_pages(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns)
{
	struct faulty *f = dev->private_data;

	pthread_mutex_lock(&f->lock);
	for (unsigned int i = 0; i < nr; i++)
		if (zd_device_page_index(dev, pfns[i]) < dev->nr_pages)
			f->used[zd_device_page_index(dev, pfns[i])] = false;
	pthread_mutex_unlock(&f->lock);
}

static void faulty_page_free(struct zd_device *dev, struct zd_page *page)
{
	struct faulty *f = dev->private_data;
	zd_pfn_t pfn = zd_page_to_pfn(page);

	if (f->fault != FREE_MISSES)
		faulty_unalloc_pages(dev, 1, &pfn);
}

static bool fails(const struct faulty *f, enum zd_io_dir dir)
{
	return f->fault == (dir == ZD_TO_DEVICE ? SUBMIT_ERROR : HOME_ERROR);
}

static bool forgets(const struct faulty *f, enum zd_io_dir dir)
{
	return f->fault == (dir == ZD_TO_DEVICE ? SUBMIT_FORGOTTEN : HOME_FORGOTTEN);
}

static void faulty_submit(struct zd_device *dev, struct zd_device_io *io)
{
	struct faulty *f = dev->private_data;

	if (f->fault == (io->dir == ZD_TO_DEVICE ? OUT_NEVER : HOME_NEVER))
		return;
	for (unsigned int i = 0; i < io->nr && !forgets(f, io->dir); i++) {
		struct zd_io_page *page = &io->pages[i];
		char *mem = f->memory + zd_device_page_index(dev, page->pfn) * ZD_PAGE_SIZE;

		page->error = fails(f, io->dir) ? -EIO : 0;
		if (page->error)
			continue;
		if (io->dir == ZD_TO_DEVICE)
			memcpy(mem, page->buf, ZD_PAGE_SIZE);
		else
			memcpy(page->buf, mem, ZD_PAGE_SIZE);
	}
	zd_io_complete(io);
	if (f->fault == SUBMIT_TWICE)
		zd_io_complete(io);
}

static void faulty_destroy(struct zd_device *dev)
{
	struct faulty *f = dev->private_data;

	if (f->fault == DESTROY_BLOCKS)
		sleep(12);
	munmap(f->memory, dev->nr_pages * ZD_PAGE_SIZE);
	free(f);
}

static const struct zd_device_ops faulty_ops = {
	.size = sizeof(faulty_ops),
	.version = ZD_DEVICE_OPS_VERSION,
	.flags = ZD_DEVICE_NO_MALLOC,
	.alloc_pages = faulty_alloc_pages,
	.unalloc_pages = faulty_unalloc_pages,
	.page_free = faulty_page_free,
	.submit = faulty_submit,
	.destroy = faulty_destroy,
};

enum { SIZE, FAULT };

static int faulty_create(const struct zd_driver_value *values, struct zd_device **dev, char *err,
			 size_t errlen)
{
	uint64_t nr_pages = values[SIZE].number / ZD_PAGE_SIZE;
	struct faulty *f;

	(void)err;
	(void)errlen;
#ifdef REFERS
	zd_of_another_version();
#endif
	if (values[FAULT].number == CREATE_ERROR)
		return -ENODEV;
	if (values[FAULT].number == CREATE_NOTHING)
		return 0;
	f = calloc(1, sizeof(*f) + nr_pages);
	if (!f)
		return -ENOMEM;
	f->memory = mmap(NULL, nr_pages * ZD_PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (f->memory == MAP_FAILED) {
		free(f);
		return -ENOMEM;
	}
	pthread_mutex_init(&f->lock, NULL);
	f->fault = (enum fault)values[FAULT].number;
	f->dev = (struct zd_device){
		.ops = &faulty_ops, .name = "faulty", .nr_pages = nr_pages, .private_data = f
	};
	*dev = &f->dev;
	return zd_device_register(&f->dev);
}

static const struct zd_driver_key faulty_keys[] = {
	[SIZE] = {
		.name = "size", .type = ZD_KEY_SIZE, .min = ZD_DRIVER_MIN_BYTES, .help = "its size",
	},
	[FAULT] = {
		.name = "fault", .type = ZD_KEY_CHOICE, .choices = faults, .without = "none",
		.help = "what is wrong with it",
	},
	{ 0 }
};

static const struct zd_driver faulty_driver = {
	.size = sizeof(faulty_driver),
	.version = ZD_DRIVER_VERSION,
	.commands = ZD_DRIVER_RUN,
	.name = "faulty",
	.summary = "a device with a fault",
	.example = "plugin:./plugin_faulty.so,size=1G,fault=alloc-error",
	.keys = faulty_keys,
	.create = faulty_create,
};

ZD_PLUGIN(faulty_driver);
