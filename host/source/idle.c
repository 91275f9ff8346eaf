// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "idle": the kernel's idle page tracking (/sys/kernel/mm/page_idle/bitmap). A page that is marked
 * idle loses the mark when it is used, by a guest as well; nothing is unmapped for it.
 *
 * Granules are visited in turn. A visit marks a few neighbouring pages of a random place in the granule,
 * found by QEMU's pagemap, and puts them at the end of a ring. What is at the ring's head for long enough
 * is looked at: a page whose mark is gone was touched, for the time it was marked. Both stop when the
 * budget is used up, and go on in the next round; a small budget makes the turn longer, not the answers worse.
 *
 * Of a large page only the first frame can be marked, and stands for all of it: if nothing that was marked
 * stayed so, the frame that a 2 MiB page would begin with is tried. What cannot be marked at all (hugetlb,
 * pages that are just being moved) is not counted. A page whose frame is another one when it is looked at
 * has been moved meanwhile, and says nothing.
 */
#include "host/source/idle.h"
#include "host/source/source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BITMAP      "/sys/kernel/mm/page_idle/bitmap"
#define PAGEMAP     "/proc/%u/pagemap"
#define PAGES       8           /* marked per visit */
#define RING        4096        /* visits that wait */
#define DWELL_S     1.0         /* for pages of 4 KiB */
#define DWELL_HUGE_S 0.2        /* a large one is touched by then, if it is ever */
#define HUGE        512         /* pages of 4 KiB in one of 2 MiB */
#define PRESENT     (1ull << 63)
#define FRAME       ((1ull << 55) - 1)

struct visit {
    guint32 granule, page;      /* its first page, within the granule */
    double at;                  /* on the VM's clock */
    guint8 marked;              /* mask of pages */
    guint16 pages;              /* each mark stands for */
    guint64 frame[PAGES];
};

struct idle {
    int bitmap, pagemap;
    guint32 next;               /* granule to visit */
    guint32 head, n;            /* of the ring */
    guint32 pages;              /* that a mark stood for lately: the resolution */
    struct visit ring[RING];
};

static const char *bitmap_path = BITMAP, *pagemap_path = PAGEMAP;

void idle_set_paths(const char *bitmap, const char *pagemap)
{
    bitmap_path = bitmap ? bitmap : BITMAP;
    pagemap_path = pagemap ? pagemap : PAGEMAP;
}

static guint64 thread_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (guint64)t.tv_sec * 1000000 + (guint64)t.tv_nsec / 1000;
}

/* --- the kernel's files ------------------------------------------------------------------------- */

/* Frames of `n` pages from an address on; 0: none, or not to be known. False: QEMU is gone. */
static bool read_frames(const struct idle *s, guint64 hva, guint32 n, guint64 *frame)
{
    ssize_t got = pread(s->pagemap, frame, n * sizeof(*frame), (off_t)(hva / 4096 * sizeof(*frame)));

    for (guint32 i = 0; i < n; i++)
        frame[i] = got == (ssize_t)(n * sizeof(*frame)) && frame[i] & PRESENT ? frame[i] & FRAME : 0;
    return got > 0;
}

/* The other pages of the word stay as they are: a bit that is not set does nothing. */
static bool mark(const struct idle *s, guint64 frame)
{
    guint64 word = 1ull << frame % 64;

    return pwrite(s->bitmap, &word, 8, (off_t)(frame / 64 * 8)) == 8;
}

static bool is_marked(const struct idle *s, guint64 frame)
{
    guint64 word = 0;

    return pread(s->bitmap, &word, 8, (off_t)(frame / 64 * 8)) == 8 && word >> frame % 64 & 1;
}

/* --- visits ------------------------------------------------------------------------------------- */

/* Marks what of these frames can be: the mask of those that now are. */
static guint8 mark_all(const struct idle *s, const guint64 *frame, guint32 n)
{
    guint8 marked = 0;

    for (guint32 i = 0; i < n; i++)
        if (frame[i])
            (void)mark(s, frame[i]);
    for (guint32 i = 0; i < n; i++)
        if (frame[i] && is_marked(s, frame[i]))
            marked |= (guint8)(1u << i);
    return marked;
}

/* The first frame of the 2 MiB page that these frames belong to, if they do. */
static bool mark_huge(const struct idle *s, guint64 hva, struct visit *v, guint32 pages)
{
    guint32 back = v->frame[0] % HUGE;
    guint64 first;

    if (!v->frame[0] || back > v->page || pages < HUGE ||
        !read_frames(s, hva + (v->page - back) * 4096ull, 1, &first) || first != v->frame[0] - back)
        return false;
    v->page -= back;
    v->frame[0] = first;
    v->pages = HUGE;
    v->marked = mark_all(s, v->frame, 1);
    return v->marked;
}

/* 0, or -ESRCH: QEMU is gone. */
static int visit(struct vm *vm, struct idle *s, guint32 granule)
{
    struct visit *v = &s->ring[(s->head + s->n) % RING];
    guint32 pages, n;
    guint64 hva = vm_pages_of_granule(vm, granule, &pages);

    if (!pages || vm->ledger.tier[granule] == LEDGER_NONE)
        return 0;
    n = MIN(PAGES, pages);
    *v = (struct visit){ .granule = granule, .at = vm->clock, .pages = 1 };
    v->page = (guint32)g_random_int_range(0, (gint32)(pages - n + 1));
    if (!read_frames(s, hva + v->page * 4096ull, n, v->frame))
        return -ESRCH;
    v->marked = mark_all(s, v->frame, n);
    if (v->marked || mark_huge(s, hva, v, pages)) {
        s->pages = v->pages;
        s->n++;
    }
    return 0;
}

/* Looks at what was marked: 0, or -ESRCH. */
static int settle(struct vm *vm, struct idle *s, const struct visit *v)
{
    double time = vm->clock - v->at;
    guint32 pages, n, armed = 0, touched = 0;
    guint64 hva = vm_pages_of_granule(vm, v->granule, &pages), frame[PAGES];

    if (pages <= v->page)       /* its block is gone */
        return 0;
    n = pages - v->page;
    if (n > PAGES)
        n = PAGES;
    if (!read_frames(s, hva + v->page * 4096ull, n, frame))
        return -ESRCH;
    for (guint32 i = 0; i < n; i++)
        if (v->marked & (1u << i) && frame[i] == v->frame[i]) {
            armed++;
            touched += !is_marked(s, frame[i]);
        }
    if (armed)
        source_observe(vm, SRC_IDLE, v->granule, touched, time * armed * v->pages);
    source_count(vm, SRC_IDLE, touched, 0, 0);
    return 0;
}

static bool is_due(const struct vm *vm, const struct visit *v)
{
    return vm->clock - v->at >= (v->pages == 1 ? DWELL_S : DWELL_HUGE_S);
}

static int go_round(struct vm *vm, struct idle *s, guint64 until_us)
{
    int rc = 0;

    for (guint32 left = vm->ledger.n; !rc && left && s->n < MIN(RING, vm->ledger.n); left--) {
        if (s->next >= vm->ledger.n)
            s->next = 0;
        rc = visit(vm, s, s->next++);
        if (thread_us() >= until_us)
            break;
    }
    return rc;
}

static int harvest(struct vm *vm, guint32 budget_us, struct vt_err *err)
{
    struct idle *s = vm->source_state[SRC_IDLE];
    guint64 start_us = thread_us();
    int rc = 0;

    /* What is due comes first, but not all of the time. */
    while (!rc && s->n && is_due(vm, &s->ring[s->head]) &&
           thread_us() < start_us + budget_us - budget_us / 3) {
        rc = settle(vm, s, &s->ring[s->head]);
        s->head = (s->head + 1) % RING;
        s->n--;
    }
    if (!rc)
        rc = go_round(vm, s, start_us + budget_us);
    return rc ? vt_fail(err, -rc, "the pagemap of QEMU (pid %u) cannot be read any more", vm->pid) : 0;
}

/* --- may it run --------------------------------------------------------------------------------- */

static bool available(const struct vm *vm, char *reason)
{
    bool there = access(bitmap_path, F_OK) == 0;

    (void)vm;
    if (access(bitmap_path, R_OK | W_OK) == 0)
        return true;
    if (there)
        g_snprintf(reason, VT_TEXT, "%s: %s", bitmap_path, g_strerror(errno));
    else
        g_snprintf(reason, VT_TEXT, "this kernel was built without idle page tracking: no %s", bitmap_path);
    return false;
}

static char *path_of_pagemap(guint32 pid)
{
    g_autofree char *number = g_strdup_printf("%u", pid);
    g_auto(GStrv) parts = g_strsplit(pagemap_path, "%u", 2);

    return g_strjoinv(number, parts);
}

/* Frame numbers are hidden from those without CAP_SYS_ADMIN: seen at the first page that is there. */
static bool frames_are_shown(const struct vm *vm, const struct idle *s)
{
    for (guint32 g = 0; g < MIN(vm->ledger.n, 1024); g++) {
        guint32 pages;
        guint64 hva = vm_pages_of_granule(vm, g, &pages), entry;

        if (pages && pread(s->pagemap, &entry, 8, (off_t)(hva / 4096 * 8)) == 8 && entry & PRESENT)
            return entry & FRAME;
    }
    return true;
}

static void stop(struct vm *vm)
{
    struct idle *s = g_steal_pointer(&vm->source_state[SRC_IDLE]);

    if (s->bitmap >= 0)
        close(s->bitmap);
    if (s->pagemap >= 0)
        close(s->pagemap);
    g_free(s);
}

static int start(struct vm *vm, struct vt_err *err)
{
    g_autofree char *path = path_of_pagemap(vm->pid);
    struct idle *s = g_new0(struct idle, 1);
    int rc = 0;

    s->pages = 1;
    s->bitmap = open(bitmap_path, O_RDWR | O_CLOEXEC);
    s->pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (s->bitmap < 0 || s->pagemap < 0)
        rc = vt_fail(err, errno, "%s: %s", s->bitmap < 0 ? bitmap_path : path, g_strerror(errno));
    else if (!frames_are_shown(vm, s))
        rc = vt_fail(err, EPERM, "%s hides where pages are: vmtierd needs CAP_SYS_ADMIN", path);
    vm->source_state[SRC_IDLE] = s;
    if (rc)
        stop(vm);
    return rc;
}

static guint64 resolution(const struct vm *vm)
{
    const struct idle *s = vm->source_state[SRC_IDLE];

    return s ? s->pages * 4096ull : 4096;
}

const struct source source_idle = {
    .name = "idle",
    .summary = "pages used since they were marked idle, by the kernel's idle page tracking",
    .unit = "pages touched",
    .enable = "a kernel with CONFIG_IDLE_PAGE_TRACKING=y, and vmtierd as root",
    .id = SRC_IDLE,
    .kind = HEAT_PROBES,
    .resolution = resolution,
    .available = available,
    .start = start,
    .stop = stop,
    .harvest = harvest,
};
