// SPDX-License-Identifier: GPL-2.0-or-later
/* See page-table.h. */
#include "page-table.h"

#include <errno.h>
#include <fcntl.h>
#include <numaif.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE  4096u
#define PAGES 512u

/* Bit 63 of an entry is set where a page is mapped. */
static void read_entries(const guint8 *start, guint64 entries[PAGES])
{
    static int pagemap = -1;

    if (pagemap < 0)
        pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(pread(pagemap, entries, PAGES * 8, (off_t)((guintptr)start / PAGE * 8)), ==, PAGES * 8);
}

guint32 page_table_missing(guint8 *start)
{
    guint64 entries[PAGES];
    guint32 n = 0;

    read_entries(start, entries);
    for (guint32 page = 0; page < PAGES; page++)
        n += !(entries[page] >> 63);
    return n * PAGE;
}

guint8 *page_table_first_missing(guint8 *start)
{
    guint64 entries[PAGES];

    read_entries(start, entries);
    for (guint32 page = 0; page < PAGES; page++)
        if (!(entries[page] >> 63))
            return start + (gsize)page * PAGE;
    return NULL;
}

int page_table_only_read(void)
{
    volatile char *at = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *page = (void *)(guintptr)at;
    int status = -EIO;

    (void)*at;
    g_assert_cmpint(move_pages(0, 1, &page, NULL, &status, 0), ==, 0);
    g_assert_cmpint(munmap(page, PAGE), ==, 0);
    return status;
}
