// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From host-physical addresses to granules: see rmap.h.
 *
 * A granule's pagemap entries are compared with the table. What is not there is put; if the table has more
 * than there is, the granule is `doubted`, and if that is so the next time as well it is forgotten and put anew.
 * An unchanged granule so costs a read of 4 KiB and a look-up for each run of pages.
 *
 * A granule that has just moved is in the page table only as far as it has been touched since, so it is read
 * again a few times, at growing intervals, until all of it is there.
 *
 * pagemap is opened once: the descriptor stays that address space's, whatever becomes of the pid.
 */
#include "host/rmap.h"
#include "common/clock.h"
#include "host/rmap-table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_SHIFT   12
#define PAGE_BYTES   (1ull << PAGE_SHIFT)
#define ENTRIES      512u       /* pagemap entries in one read */
#define ENTRY_SHOWN  (1ull << 63)
#define ENTRY_PFN    ((1ull << 55) - 1)

#define LEAST_S      2.0        /* from a sweep's end to the next one */
#define MOST_S       60.0       /* from a sweep's beginning to the next one's */
#define MISSES       16u        /* before they are a reason to look again; and a part in so many of all */
#define MISS_SHARE   64u

#define SOON_S       0.2        /* until a granule that has moved is read again, and then twice as long */
#define SOON_MOST_S  7.0

enum { DOUBTED = 1, MOVED = 2 };

struct moved {
    guint32 granule;
    double wait_s, due_s;       /* due_s: monotonic */
};

struct rmap {
    pid_t pid;
    guint64 granule;
    int pagemap, vmstat;        /* vmstat -1: only time and misses make us look again */
    struct rmap_table *table;
    GArray *areas;              /* of struct rmap_area */
    guint8 *flags;              /* [n] */
    guint32 n;
    GArray *moved;              /* of struct moved: granules to read before others */
    bool sweeping;
    guint area;                 /* where the sweep is */
    guint32 at;                 /* granule within the area */
    double least_s, most_s;
    guint64 migrations;         /* the kernel's count when the last sweep began */
    double began_s, ended_s;    /* monotonic; ended_s 0: no sweep has ended */
    guint64 found, missed, found_then, missed_then;
    guint64 read, sweeps, cpu_ns;
};

static double now_s(void)
{
    return (double)clock_ns(CLOCK_MONOTONIC) / 1e9;
}

/* --- the process --------------------------------------------------------------------------------------- */

/* Is a page of ours that is certainly there shown without its number? */
static bool is_blind(void)
{
    guint64 entry = 0, here = (uintptr_t)&entry / PAGE_BYTES * sizeof(entry);
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    bool read = fd >= 0 && pread(fd, &entry, sizeof(entry), (off_t)here) == sizeof(entry);

    if (fd >= 0)
        close(fd);
    return read && !(entry & ENTRY_PFN);
}

struct rmap *rmap_new(pid_t pid, guint64 granule, struct vt_err *err)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/pagemap", (int)pid);
    struct rmap *map;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        vt_fail(err, errno, "%s: %s: vmtierd needs CAP_SYS_PTRACE or has to be its user", path,
                g_strerror(errno));
        return NULL;
    }
    if (is_blind()) {
        close(fd);
        vt_fail(err, EPERM, "%s hides page frame numbers: vmtierd needs CAP_SYS_ADMIN (in the initial user "
                "namespace) for physical addresses", path);
        return NULL;
    }
    map = g_new0(struct rmap, 1);
    map->pid = pid;
    map->granule = granule;
    map->least_s = LEAST_S;
    map->most_s = MOST_S;
    map->pagemap = fd;
    map->vmstat = open("/proc/vmstat", O_RDONLY | O_CLOEXEC);
    map->table = rmap_table_new();
    map->areas = g_array_new(FALSE, FALSE, sizeof(struct rmap_area));
    map->moved = g_array_new(FALSE, FALSE, sizeof(struct moved));
    return map;
}

void rmap_free(struct rmap *map)
{
    if (!map)
        return;
    close(map->pagemap);
    if (map->vmstat >= 0)
        close(map->vmstat);
    rmap_table_free(map->table);
    g_array_unref(map->areas);
    g_array_unref(map->moved);
    g_free(map->flags);
    g_free(map);
}

void rmap_set_pauses(struct rmap *map, double least_s, double most_s)
{
    map->least_s = least_s;
    map->most_s = most_s;
}

/* --- what there is ----------------------------------------------------------------------------------------- */

static bool has_area(const struct rmap_area *areas, guint n, const struct rmap_area *a)
{
    for (guint i = 0; i < n; i++)
        if (areas[i].hva == a->hva && areas[i].length == a->length && areas[i].first == a->first &&
            areas[i].count == a->count && areas[i].page_size == a->page_size)
            return true;
    return false;
}

static void make_room(struct rmap *map, guint32 n)
{
    if (n <= map->n)
        return;
    map->flags = g_renew(guint8, map->flags, n);
    memset(map->flags + map->n, 0, n - map->n);
    map->n = n;
    rmap_table_resize(map->table, n);
}

void rmap_set_areas(struct rmap *map, const struct rmap_area *areas, guint n)
{
    bool fresh = false;

    for (guint i = 0; i < map->areas->len; i++) {
        const struct rmap_area *a = &g_array_index(map->areas, struct rmap_area, i);

        for (guint32 g = 0; !has_area(areas, n, a) && g < a->count; g++)
            rmap_table_forget(map->table, a->first + g);
    }
    for (guint i = 0; i < n; i++) {
        fresh |= !has_area((gpointer)map->areas->data, map->areas->len, &areas[i]);
        make_room(map, areas[i].first + areas[i].count);
    }
    g_array_set_size(map->areas, 0);
    g_array_append_vals(map->areas, areas, n);
    if (fresh || map->sweeping) {
        map->sweeping = false;  /* it starts again, at once */
        map->ended_s = 0;
    }
}

static const struct rmap_area *area_of(const struct rmap *map, guint32 granule)
{
    for (guint i = 0; i < map->areas->len; i++) {
        const struct rmap_area *a = &g_array_index(map->areas, struct rmap_area, i);

        if (granule >= a->first && granule - a->first < a->count)
            return a;
    }
    return NULL;
}

void rmap_moved(struct rmap *map, guint32 granule)
{
    struct moved m = { .granule = granule, .wait_s = SOON_S };

    if (granule >= map->n)
        return;
    rmap_table_forget(map->table, granule);
    for (guint i = 0; map->flags[granule] & MOVED && i < map->moved->len; i++)
        if (g_array_index(map->moved, struct moved, i).granule == granule) {
            g_array_index(map->moved, struct moved, i) = m;
            return;
        }
    g_array_append_val(map->moved, m);
    map->flags[granule] |= MOVED;
}

/* --- reading one granule ------------------------------------------------------------------------------------- */

struct look {
    struct rmap *map;
    guint32 granule;
    bool put_all;               /* or only what the table does not have */
    guint64 present;            /* pages seen */
    guint64 pfn, pages;         /* the run so far */
};

static void end_run(struct look *l)
{
    if (l->pages && (l->put_all || !rmap_table_holds(l->map->table, l->pfn, l->pages, l->granule)))
        rmap_table_put(l->map->table, l->pfn, l->pages, l->granule);
    l->present += l->pages;
    l->pages = 0;
}

static void take_entry(struct look *l, guint64 entry, guint64 pages)
{
    guint64 pfn = entry & ENTRY_PFN;

    if (!(entry & ENTRY_SHOWN) || !pfn)
        return;
    if (l->pages && l->pfn + l->pages == pfn) {
        l->pages += pages;
        return;
    }
    end_run(l);
    l->pfn = pfn;
    l->pages = pages;
}

static int read_failed(const struct rmap *map, ssize_t n, struct vt_err *err)
{
    if (n < 0)
        return vt_fail(err, errno, "pagemap of process %d: %s", (int)map->pid, g_strerror(errno));
    return vt_fail(err, ESRCH, "pagemap of process %d: it has ended", (int)map->pid);
}

/* Of huge pages that cannot be split, one entry tells all. */
static int read_huge(struct look *l, guint64 hva, guint64 length, guint64 size, struct vt_err *err)
{
    for (guint64 at = hva; at < hva + length; at += size) {
        guint64 entry = 0;
        ssize_t n = pread(l->map->pagemap, &entry, sizeof(entry), (off_t)(at / PAGE_BYTES * sizeof(entry)));

        if (n != sizeof(entry))
            return read_failed(l->map, n, err);
        take_entry(l, entry, MIN(size, hva + length - at) / PAGE_BYTES);
    }
    end_run(l);
    return 0;
}

static int read_small(struct look *l, guint64 hva, guint64 length, struct vt_err *err)
{
    guint64 entry[ENTRIES];

    for (guint64 page = hva / PAGE_BYTES, end = (hva + length) / PAGE_BYTES; page < end;) {
        size_t wanted = MIN(end - page, ENTRIES);
        ssize_t n = pread(l->map->pagemap, entry, wanted * sizeof(*entry), (off_t)(page * sizeof(*entry)));

        if (n < (ssize_t)sizeof(*entry))
            return read_failed(l->map, n, err);
        for (size_t i = 0; i < (size_t)n / sizeof(*entry); i++)
            take_entry(l, entry[i], 1);
        page += (size_t)n / sizeof(*entry);
    }
    end_run(l);
    return 0;
}

static int look_at(struct rmap *map, const struct rmap_area *a, guint32 granule, bool put_all,
                   guint64 *present, struct vt_err *err)
{
    guint64 offset = (guint64)(granule - a->first) * map->granule;
    guint64 length = MIN(map->granule, a->length - MIN(offset, a->length));
    struct look l = { .map = map, .granule = granule, .put_all = put_all };
    int rc = a->page_size > PAGE_BYTES ?
        read_huge(&l, a->hva + offset, length, MIN(a->page_size, map->granule), err) :
        read_small(&l, a->hva + offset, length, err);

    *present = l.present;
    return rc;
}

static int read_granule(struct rmap *map, const struct rmap_area *a, guint32 granule, struct vt_err *err)
{
    guint8 *flags = &map->flags[granule];
    guint64 present = 0;
    int rc = look_at(map, a, granule, false, &present, err);

    map->read++;
    if (rc)
        return rc;
    if (rmap_table_pages(map->table, granule) <= present) {
        *flags &= (guint8)~DOUBTED;
        return 0;
    }
    if (!(*flags & DOUBTED)) {
        *flags |= DOUBTED;
        return 0;
    }
    *flags &= (guint8)~DOUBTED;
    rmap_table_forget(map->table, granule);
    return look_at(map, a, granule, true, &present, err);
}

/* --- what is due --------------------------------------------------------------------------------------------- */

/* Pages that have gone elsewhere since boot, in the whole host. */
static guint64 count_migrations(const struct rmap *map)
{
    static const char *const keys[] = { "\npgmigrate_success ", "\nthp_collapse_alloc ", "\npswpin ",
                                        "\npswpout " };
    char text[16384];
    ssize_t n = map->vmstat >= 0 ? pread(map->vmstat, text, sizeof(text) - 1, 0) : -1;
    guint64 sum = 0;

    text[MAX(n, 0)] = '\0';
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        const char *at = strstr(text, keys[i]);

        sum += at ? strtoull(at + strlen(keys[i]), NULL, 10) : 0;
    }
    return sum;
}

static bool misses_much(const struct rmap *map)
{
    guint64 missed = map->missed - map->missed_then, found = map->found - map->found_then;

    return missed >= MISSES && missed * MISS_SHARE > found;
}

/* Begins a sweep if there is a reason to. */
static void consider_sweep(struct rmap *map)
{
    double now = now_s();
    guint64 migrations;

    if (map->ended_s > 0 && now - map->ended_s < map->least_s)
        return;
    migrations = count_migrations(map);
    if (map->ended_s > 0 && migrations == map->migrations && !misses_much(map) &&
        now - map->began_s < map->most_s)
        return;
    map->migrations = migrations;
    map->found_then = map->found;
    map->missed_then = map->missed;
    map->began_s = now;
    map->area = map->at = 0;
    map->sweeping = map->areas->len > 0;
}

static bool has_due(const struct rmap *map)
{
    double now = now_s();

    for (guint i = 0; i < map->moved->len; i++)
        if (g_array_index(map->moved, struct moved, i).due_s <= now)
            return true;
    return false;
}

bool rmap_is_due(const struct rmap *map)
{
    return has_due(map) || map->sweeping || (map->areas->len && map->ended_s <= 0);
}

/* Is all of the granule in the page table, as far as was seen? */
static bool is_whole(const struct rmap *map, const struct rmap_area *a, guint32 granule)
{
    guint64 offset = (guint64)(granule - a->first) * map->granule;
    guint64 length = MIN(map->granule, a->length - MIN(offset, a->length));

    return rmap_table_pages(map->table, granule) >= length / PAGE_BYTES;
}

static int read_moved(struct rmap *map, guint64 until_ns, struct vt_err *err)
{
    double now = now_s();
    int rc = 0;

    for (guint i = map->moved->len; !rc && i-- > 0 && cpu_ns() < until_ns;) {
        struct moved *m = &g_array_index(map->moved, struct moved, i);
        const struct rmap_area *a = area_of(map, m->granule);

        if (m->due_s > now)
            continue;
        rc = a ? read_granule(map, a, m->granule, err) : 0;
        if (a && m->wait_s < SOON_MOST_S && !is_whole(map, a, m->granule)) {
            m->due_s = now + m->wait_s;
            m->wait_s *= 2;
            continue;
        }
        map->flags[m->granule] &= (guint8)~MOVED;
        g_array_remove_index_fast(map->moved, i);
    }
    return rc;
}

static int sweep(struct rmap *map, guint64 until_ns, struct vt_err *err)
{
    int rc = 0;

    while (!rc && map->sweeping && cpu_ns() < until_ns) {
        const struct rmap_area *a = &g_array_index(map->areas, struct rmap_area, map->area);

        if (map->at < a->count) {
            rc = read_granule(map, a, a->first + map->at++, err);
        } else if (map->at = 0, ++map->area == map->areas->len) {
            map->sweeping = false;
            map->sweeps++;
            map->ended_s = now_s();
        }
    }
    return rc;
}

int rmap_refresh(struct rmap *map, guint32 budget_us, struct vt_err *err)
{
    guint64 start = cpu_ns(), until = start + budget_us * 1000ull;
    int rc = read_moved(map, until, err);

    if (!rc && !map->sweeping && !has_due(map))
        consider_sweep(map);
    if (!rc)
        rc = sweep(map, until, err);
    map->cpu_ns += cpu_ns() - start;
    return rc;
}

bool rmap_find(struct rmap *map, guint64 hpa, guint32 *granule)
{
    bool found = rmap_table_find(map->table, hpa >> PAGE_SHIFT, granule);

    map->found += found;
    map->missed += !found;
    return found;
}

void rmap_stats(const struct rmap *map, struct rmap_stats *stats)
{
    *stats = (struct rmap_stats){
        .pages = rmap_table_all_pages(map->table), .bytes = rmap_table_bytes(map->table) + map->n,
        .found = map->found, .missed = map->missed,
        .read = map->read, .sweeps = map->sweeps, .cpu_ns = map->cpu_ns,
    };
}
