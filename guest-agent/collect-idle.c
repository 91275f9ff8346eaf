// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Collector "idle": page idle tracking, where the kernel has it (CONFIG_IDLE_PAGE_TRACKING). At each pass
 * a page that is not idle any more was used since the last one; then all are made idle again. A pass that
 * looks at pages the one before has not only marks.
 */
#include "guest-agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define BITMAP "/kernel/mm/page_idle/bitmap"    /* in sysfs */
#define LRU    (1ull << 5)
#define WEIGHT 160

static int fd = -1;

static bool open_bitmap(char *why, size_t size)
{
    char path[256];

    if (!kpage_open(why, size))
        return false;
    text_to(path, sizeof(path), "%s" BITMAP, settings.sysfs);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        text_to(why, size, "%s: %s", path, errno == ENOENT ? "this kernel has no page idle tracking"
                                                          : strerror(errno));
    return fd >= 0;
}

/* Of the window's pages: those on a list that were used. */
static int count_used(const struct window *w, const uint64_t *idle)
{
    int used = 0;

    for (unsigned i = 0; i < w->pages; i++)
        used += (w->flags[i] & LRU) && !(idle[i / 64] >> i % 64 & 1);
    return used;
}

/* The bitmap is read in words of 64 pages; what is none is left out. */
static void look(const struct window *w)
{
    uint64_t idle[WINDOW / 4096 / 64], all[WINDOW / 4096 / 64];
    off_t at = (off_t)((w->gpa / PAGE + w->first) / 8);
    size_t bytes = w->pages / 8;
    int used;

    if ((w->gpa / PAGE + w->first) % 64 || w->pages % 64)
        return;
    memset(all, 0xff, sizeof(all));
    if (pread(fd, idle, bytes, at) != (ssize_t)bytes || pwrite(fd, all, bytes, at) != (ssize_t)bytes)
        return;
    used = count_used(w, idle);
    if (!w->again)
        return;
    if (used)
        outbox_add((struct vta_range){ w->gpa, w->bytes, VTA_HOT,
                                       (uint8_t)(1 + (unsigned)used * (VTA_SHARE - 1) / w->pages),
                                       WEIGHT, 0, 0 });
    else
        outbox_add((struct vta_range){ w->gpa, w->bytes, VTA_COLD, VTA_SHARE, WEIGHT, 0, 0 });
}

const struct collector collect_idle = {
    .name = "idle",
    .kind = VTA_HOT,
    .open = open_bitmap,
    .look = look,
};
