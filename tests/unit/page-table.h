// SPDX-License-Identifier: GPL-2.0-or-later
/* For tests: what the kernel says of this process's own pages. */
#ifndef VT_TEST_PAGE_TABLE_H
#define VT_TEST_PAGE_TABLE_H

#include <glib.h>

/* Bytes of a 2 MiB range that are not mapped by the page table, and where the first of them is (NULL: none). */
guint32 page_table_missing(guint8 *start);
guint8 *page_table_first_missing(guint8 *start);

/* The node of a page that was only read, or -EFAULT: most kernels give no memory of its own to who only reads. */
int page_table_only_read(void);

#endif
