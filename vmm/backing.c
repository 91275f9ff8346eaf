// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What kind of memory the VM got: see backing.h.
 *
 * Theory of operation. Files tell their kind by statfs() and their mount's options (filekind.c). Whether
 * the guest's memory is mapped by large pages is in the page table alone: a file may have 2 MiB pages,
 * and a mapping that is not on a 2 MiB border shows them 4 KiB at a time. PAGEMAP_SCAN tells, for a
 * range, what is mapped and by which size; smaps tells the same, but of a whole mapping at a time, with
 * mmap_lock held all the while. So the blocks are gone through in chunks, a few at each call, and what
 * was summed up is shown when all have been seen. Moves go on meanwhile: the sums are what was there
 * when it was looked at.
 *
 * `table` is what is shown, under `lock`, which is taken last of all locks. `scan` belongs to the link
 * thread.
 */
#include "vmm/backing.h"
#include "common/clock.h"
#include "common/filekind.h"
#include "common/uapi.h"
#include "vmm/pagemap.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CHUNK     (32ull << 20)     /* of a block, for one call of the kernel */
#define HUGE_PAGE (2ull << 20)
#define REGIONS   128

struct entry {
    bool used;
    char name[VT_NAME];
    uint8_t *host;
    uint64_t length;
    uint32_t first, page_size;
    struct filekind file[VT_TIERS];
    struct vt_backing shown;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry table[VT_BLOCKS];

struct sum {
    uint64_t mapped, huge;
};

static struct {
    bool running;
    uint32_t due;                   /* ms: the next look begins */
    uint32_t block;                 /* where it is */
    uint64_t offset;
    struct sum sum[VT_BLOCKS][VT_TIERS];
} scan;

/* --- what to do for larger pages ------------------------------------------------------------------ */

static const char *short_name(const char *name)
{
    const char *slash = strrchr(name, '/');

    return slash ? slash + 1 : name;
}

static void advise_memfd(const struct entry *e, bool aligned, char hint[VT_HINT])
{
    const char *name = short_name(e->name);
    unsigned long long mib = e->length >> 20;

    snprintf(hint, VT_HINT, "RAM block %.63s is %s, so the guest's memory is mapped by 4 KiB pages; for 2 MiB "
             "pages start QEMU with -object memory-backend-memfd,id=%.63s,share=on,size=%lluM,hugetlb=on,"
             "hugetlbsize=2M, or with -object memory-backend-file,id=%.63s,share=on,size=%lluM,align=2M,"
             "mem-path=DIR where DIR is a tmpfs with huge=advise", name,
             aligned ? "a memfd, which on this host has no huge pages"
                     : "a memfd, which QEMU does not put on a 2 MiB border", name, mib, name, mib);
}

static void advise_tmpfs(const struct entry *e, bool aligned, char hint[VT_HINT])
{
    const char *name = short_name(e->name), *align = aligned ? "" : ", and add align=2M to its -object";

    if (e->file[0].thp == VT_THP_NEVER)
        snprintf(hint, VT_HINT, "RAM block %s is on a tmpfs that gives 4 KiB pages only: mount it with "
                 "huge=advise%s", name, align);
    else if (!aligned)
        snprintf(hint, VT_HINT, "RAM block %s is not on a 2 MiB border, so the guest's memory is mapped "
                 "by 4 KiB pages: add align=2M to -object memory-backend-file,id=%s", name, name);
    else if (ram_granule() < HUGE_PAGE)
        snprintf(hint, VT_HINT, "RAM block %s has 2 MiB pages, and granules of %llu KiB, which take them "
                 "apart: set granule=2M in vmtierd.conf", name,
                 (unsigned long long)ram_granule() >> 10);
}

/* What was found wanting although everything is as it should be. */
static void advise_measured(const struct entry *e, char hint[VT_HINT])
{
    uint64_t mapped = 0, huge = 0;

    for (unsigned t = 0; t < VT_TIERS; t++) {
        mapped += e->shown.tier[t].mapped;
        huge += e->shown.tier[t].huge;
    }
    if (mapped > 16 * HUGE_PAGE && huge < mapped / 2)
        snprintf(hint, VT_HINT, "RAM block %s could have 2 MiB pages, and %u %% of what is mapped does: "
                 "the host's memory is fragmented or short", short_name(e->name),
                 (unsigned)(100 * huge / mapped));
}

static void advise(struct entry *e)
{
    const struct filekind *dram = &e->file[0];
    bool aligned = (uintptr_t)e->host % HUGE_PAGE == 0;
    char *hint = e->shown.hint;

    hint[0] = '\0';
    if (dram->kind == VT_KIND_MEMFD && (!aligned || dram->thp <= VT_THP_NEVER))
        advise_memfd(e, aligned, hint);
    else if (dram->kind == VT_KIND_TMPFS)
        advise_tmpfs(e, aligned, hint);
    if (!hint[0] && dram->kind != VT_KIND_HUGETLB)
        advise_measured(e, hint);
}

/* --- files and addresses -------------------------------------------------------------------------- */

/* Under ram_lock(), which keeps the descriptors open; so nothing here may read /proc. */
static void look_at_block(struct entry *e, const struct ram_block *b)
{
    *e = (struct entry){ .used = b->used && b->present };
    if (!e->used)
        return;
    memcpy(e->name, b->name, sizeof(e->name));
    e->host = b->host;
    e->length = b->length;
    e->first = b->first;
    e->page_size = b->page_size;
    for (unsigned t = 0; t < VT_TIERS; t++)
        if (b->file[t] >= 0)
            filekind_look(b->file[t], &e->file[t]);
}

static void describe(struct entry *e, uint32_t id)
{
    struct vt_backing *s = &e->shown;

    s->block = id;
    s->align = (uint32_t)__builtin_ctzll((uintptr_t)e->host | 1ull << 62);
    for (unsigned t = 0; t < VT_TIERS; t++) {
        filekind_find_thp(&e->file[t]);
        s->tier[t].kind = e->file[t].kind;
        s->tier[t].thp = e->file[t].thp;
        s->tier[t].page_size = e->file[t].page_size;
    }
}

/* A block that was known keeps what was measured of it. */
static void adopt(struct entry *to, struct entry *fresh)
{
    if (fresh->used && to->used && to->first == fresh->first) {
        fresh->shown.passes = to->shown.passes;
        for (unsigned t = 0; t < VT_TIERS; t++) {
            fresh->shown.tier[t].mapped = to->shown.tier[t].mapped;
            fresh->shown.tier[t].huge = to->shown.tier[t].huge;
        }
    } else if (fresh->used) {
        scan.running = false;           /* the sums are of other blocks */
        scan.due = clock_ms() + BACKING_FIRST_MS;
    }
    *to = *fresh;
    if (to->used)
        advise(to);
}

void backing_refresh(void)
{
    static struct entry fresh[VT_BLOCKS];   /* large; the link thread's */

    ram_lock();
    for (uint32_t i = 0; i < VT_BLOCKS; i++)
        look_at_block(&fresh[i], &ram_blocks()[i]);
    ram_unlock();
    for (uint32_t i = 0; i < VT_BLOCKS; i++)
        if (fresh[i].used)
            describe(&fresh[i], i);
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < VT_BLOCKS; i++)
        adopt(&table[i], &fresh[i]);
    pthread_mutex_unlock(&lock);
}

bool backing_get(uint32_t id, uint32_t first, struct vt_backing *out)
{
    bool known;

    pthread_mutex_lock(&lock);
    known = id < VT_BLOCKS && table[id].used && table[id].first == first;
    if (known)
        *out = table[id].shown;
    pthread_mutex_unlock(&lock);
    return known;
}

const char *backing_unfit(int fd, char text[VT_TEXT])
{
    struct filekind k;
    char name[24];

    if (fd < 0 || filekind_look(fd, &k) || k.kind != VT_KIND_OTHER)
        return NULL;
    snprintf(text, VT_TEXT, "is on %s, which userfaultfd cannot write-protect (only tmpfs, memfd and "
             "hugetlbfs)", filekind_fs(&k, name));
    return text;
}

/* --- the page table ------------------------------------------------------------------------------- */

/* [from, to) of the block is mapped: adds it to the tiers its granules are in. */
static void add_mapped(const struct entry *e, uint64_t from, uint64_t to, bool huge, struct sum *sum)
{
    const uint64_t granule = ram_granule();

    while (from < to) {
        uint64_t end = (from / granule + 1) * granule;
        struct sum *s = &sum[ram_tier[e->first + from / granule] % VT_TIERS];

        end = end < to ? end : to;
        s->mapped += end - from;
        s->huge += huge ? end - from : 0;
        from = end;
    }
}

/* Nobody holds the block while this looks: if it vanishes meanwhile, so does what was summed up. */
static int scan_range(const struct entry *e, uint64_t from, uint64_t to, struct sum *sum)
{
    const uint8_t *at = e->host + from, *end = e->host + to, *next;
    struct page_region region[REGIONS];

    for (; at < end; at = next) {
        int n = pagemap_find(at, (uint64_t)(end - at), region, REGIONS, &next);

        if (n < 0)
            return n;
        for (int i = 0; i < n; i++)
            add_mapped(e, region[i].start - (uintptr_t)e->host, region[i].end - (uintptr_t)e->host,
                       region[i].categories & PAGE_IS_HUGE, sum);
        if (next <= at)
            return 0;
    }
    return 0;
}

/* The next chunk; false: all blocks are through. */
static bool scan_some(void)
{
    const struct entry *e;      /* only this thread writes host, length and first */
    uint64_t end = scan.offset + CHUNK;

    if (scan.block == VT_BLOCKS)
        return false;
    e = &table[scan.block];
    if (!e->used || scan.offset >= e->length) {
        scan.block++;
        scan.offset = 0;
        return true;
    }
    end = end < e->length ? end : e->length;
    if (scan_range(e, scan.offset, end, scan.sum[scan.block]))
        end = e->length;
    scan.offset = end;
    return true;
}

static void show_sums(void)
{
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < VT_BLOCKS; i++) {
        struct entry *e = &table[i];

        for (unsigned t = 0; e->used && t < VT_TIERS; t++) {
            e->shown.tier[t].mapped = scan.sum[i][t].mapped;
            e->shown.tier[t].huge = scan.sum[i][t].huge;
        }
        if (e->used) {
            e->shown.passes++;
            advise(e);
        }
    }
    pthread_mutex_unlock(&lock);
}

static bool begin(void)
{
    if ((int32_t)(clock_ms() - scan.due) < 0)
        return false;
    scan.due = clock_ms() + BACKING_PERIOD_MS;
    scan.block = 0;
    scan.offset = 0;
    memset(scan.sum, 0, sizeof(scan.sum));
    scan.running = pagemap_init(NULL) == 0;
    return scan.running;
}

bool backing_look(void)
{
    uint64_t until = cpu_ns() + BACKING_BUDGET_NS;

    if (!scan.running && !begin())
        return false;
    while (scan_some())
        if (cpu_ns() >= until)
            return false;
    scan.running = false;
    show_sums();
    return true;
}

/* --- flags of a mapping --------------------------------------------------------------------------- */

static void take_flags(struct backing_flags *ask, unsigned n, unsigned long from, unsigned long to,
                       const char *text)
{
    for (unsigned i = 0; i < n; i++)
        if ((uintptr_t)ask[i].at >= from && (uintptr_t)ask[i].at < to)
            snprintf(ask[i].text, sizeof(ask[i].text), "%.*s", (int)strcspn(text, "\n"), text);
}

int backing_read_flags(struct backing_flags *ask, unsigned n)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    unsigned long from = 0, to = 0, last = 0, a, b;
    char line[512];

    if (!f)
        return -errno;
    for (unsigned i = 0; i < n; i++) {
        ask[i].text[0] = '\0';
        last = (uintptr_t)ask[i].at > last ? (uintptr_t)ask[i].at : last;
    }
    while (from <= last && fgets(line, sizeof(line), f))
        if (!strncmp(line, "VmFlags:", 8)) {
            take_flags(ask, n, from, to, line + 8);
        } else if (sscanf(line, "%lx-%lx ", &a, &b) == 2) {   /* "FilePmdMapped" begins with a number, too */
            from = a;
            to = b;
        }
    fclose(f);
    return 0;
}
