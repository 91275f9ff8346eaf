// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory of our own that is moved while threads write to it: see moved-memory.h. */
#include "moved-memory.h"
#include "common/fault.h"
#include "vmm/mover.h"
#include "vmm/uffd.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define WRITERS   3
#define HANG_S    110       /* what runs apart takes a fraction of a second on an idle machine */
#define LAP_S     30
#define MISSED    3         /* exit status */

struct two_tiers moved;
guint32 outcomes[VT_ST_END];

struct slot {
    _Atomic uint64_t first, other[3], second, rest[3];
};

struct page {
    struct slot slot[WRITERS];
    _Atomic uint64_t sum;
};

/* --- memory that is under test ---------------------------------------------------------------------- */

static void open_context(void)
{
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    struct vt_err err;

    if (uffd_open(device, &err))
        g_error("%s", err.text);
    close(device);
}

void memory_set_up(size_t size, uint64_t granule)
{
    struct vt_err err;

    open_context();
    g_assert_cmpint(ram_init(&err), ==, 0);
    ram_set_granule(granule);
    two_tiers_set_up(&moved, size, 4096, 0);
    two_tiers_watch(&moved);
}

guint64 memory_allocated(int tier)
{
    return file_allocated(moved.file[tier]);
}

/* The file and the offset that are mapped at an address, by the kernel's word. */
static void mapped_at(const uint8_t *at, ino_t *inode, uint64_t *offset)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    uint64_t from, to, start;
    unsigned long ino;
    char line[512];

    *inode = *offset = 0;
    while (fgets(line, sizeof(line), maps))
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %lu", &from, &to, &start,
                   &ino) == 4 && (uintptr_t)at >= from && (uintptr_t)at < to) {
            *inode = ino;
            *offset = start + (uintptr_t)at - from;
        }
    fclose(maps);
}

/* What is mapped at the granule is what the mover's table says. */
void memory_check_place(uint32_t g)
{
    uint64_t is, should;
    struct stat st;
    int fd;
    ino_t inode;

    ram_place(moved.b, moved.b->first + g, &fd, &should);
    mapped_at(moved.host + (size_t)g * GRANULE, &inode, &is);
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    g_assert_cmpuint(inode, ==, st.st_ino);
    g_assert_cmpuint(is, ==, should);
}

/* --- moves ------------------------------------------------------------------------------------------------ */

/* Moves a range; every answer has to be true. */
void memory_move(uint32_t first, uint32_t n, uint8_t tier)
{
    struct vt_move_one m[GRANULES];
    uint8_t before[GRANULES];
    struct mover_cost cost;

    for (uint32_t i = 0; i < n; i++) {
        m[i] = (struct vt_move_one){ .granule = moved.b->first + first + i, .tier = tier };
        before[i] = ram_tier[m[i].granule];
    }
    mover_carry_out(m, n, 0, &cost);
    for (uint32_t i = 0; i < n; i++) {
        outcomes[m[i].status]++;
        g_assert_cmpuint(m[i].tier, ==, ram_tier[m[i].granule]);
        g_assert_cmpuint(m[i].tier, ==, m[i].status == VT_ST_OK ? tier : before[i]);
        if (n < 7 || i % 7 == 0)        /* each look reads the whole of /proc/self/maps */
            memory_check_place(first + i);
    }
}

static struct page *page_at(uint32_t page)
{
    return (void *)(moved.host + (size_t)(page / USED) * GRANULE + (size_t)(page % USED) * 4096);
}

/* As a guest that uses it: what it has not mapped is moved in a simpler way. */
static void touch(uint32_t first, uint32_t n)
{
    for (uint32_t page = first * USED; page < (first + n) * USED; page++)
        (void)atomic_load(&page_at(page)->sum);
}

void memory_move_about(unsigned times)
{
    static unsigned turn;

    for (unsigned i = 0; i < times; i++, turn++) {
        uint32_t first = turn * 11 % GRANULES, n = 1 + turn % 6;

        n = MIN(n, GRANULES - first);
        touch(first, n);
        memory_move(first, n, turn / 3 % 2 == 0);
    }
}

void outcomes_forget(void)
{
    memset(outcomes, 0, sizeof(outcomes));
}

guint32 outcomes_but(enum vt_status st)
{
    guint32 n = 0;

    for (int i = 0; i < VT_ST_END; i++)
        n += i == (int)st ? 0 : outcomes[i];
    return n;
}

/* --- writers ---------------------------------------------------------------------------------------------- */

static struct writer {
    GThread *thread;
    unsigned lane;
    _Atomic uint64_t laps;
    uint64_t count[PAGES], seen[WRITERS][PAGES];
} writers[WRITERS];

static atomic_bool stop;

static void look_at_others(struct writer *w, uint32_t page, struct page *p)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        uint64_t second = p->slot[i].second, first = p->slot[i].first;

        if (i == w->lane)
            continue;
        if (first < second || first < w->seen[i][page])
            g_error("page %u, writer %u: %s: %" PRIu64 ", %" PRIu64 ", seen %" PRIu64, page, i,
                    first < second ? "torn" : "backwards", first, second, w->seen[i][page]);
        w->seen[i][page] = first;
    }
}

static void write_page(struct writer *w, uint32_t page)
{
    struct page *p = page_at(page);
    struct slot *own = &p->slot[w->lane];

    if (own->first != w->count[page] || own->second != w->count[page])
        g_error("page %u, writer %u: lost: %" PRIu64 ", %" PRIu64 " instead of %" PRIu64, page,
                w->lane, own->first, own->second, w->count[page]);
    own->first = ++w->count[page];
    atomic_fetch_add(&p->sum, 1);
    own->second = w->count[page];
    look_at_others(w, page, p);
}

static gpointer write_laps(gpointer data)
{
    struct writer *w = data;

    for (; !atomic_load(&stop); w->laps++)
        for (uint32_t i = 0; i < PAGES && !atomic_load(&stop); i++)
            write_page(w, (i * 7 + w->lane * (PAGES / WRITERS)) % PAGES);
    return NULL;
}

void writers_start(void)
{
    static_assert(PAGES % 7, "each page is visited once in a lap");
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].lane = i;
        writers[i].thread = g_thread_new("writer", write_laps, &writers[i]);
    }
}

/* All writers have been to all pages since: nobody waits for a page any more. */
void writers_wait(void)
{
    gint64 end = g_get_monotonic_time() + LAP_S * G_USEC_PER_SEC;
    uint64_t from[WRITERS];

    for (unsigned i = 0; i < WRITERS; i++)
        from[i] = writers[i].laps;
    for (unsigned i = 0; i < WRITERS; i++)
        while (writers[i].laps < from[i] + 2) {
            if (g_get_monotonic_time() > end)
                g_error("writer %u has been waiting for %d s", i, LAP_S);
            g_usleep(500);
        }
}

void writers_end(void)
{
    atomic_store(&stop, true);
    for (unsigned i = 0; i < WRITERS; i++)
        g_thread_join(writers[i].thread);
    for (uint32_t page = 0; page < PAGES; page++) {
        uint64_t sum = 0;

        for (unsigned i = 0; i < WRITERS; i++) {
            g_assert_cmpuint(page_at(page)->slot[i].first, ==, writers[i].count[page]);
            g_assert_cmpuint(page_at(page)->slot[i].second, ==, writers[i].count[page]);
            sum += writers[i].count[page];
        }
        g_assert_cmpuint(page_at(page)->sum, ==, sum);
    }
}

void run_missed(void)
{
    _exit(MISSED);
}

bool run_apart(void (*body)(const void *data), const void *data, const char *what)
{
    gint64 end = g_get_monotonic_time() + HANG_S * G_USEC_PER_SEC;
    pid_t pid = fork();
    int status = 0;

    if (!pid) {
        body(data);
        _exit(0);
    }
    while (!waitpid(pid, &status, WNOHANG)) {
        if (g_get_monotonic_time() > end) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            g_error("%s: hangs", what);
        }
        g_usleep(1000);
    }
    if (!WIFEXITED(status) || (WEXITSTATUS(status) && WEXITSTATUS(status) != MISSED))
        g_error("%s: ended with %#x, see above", what, (unsigned)status);
    return WEXITSTATUS(status) != MISSED;
}

void faults_set(const char *rules)
{
    struct vt_err err;

    if (fault_set(rules, &err))
        g_error("%s", err.text);
}

/* The context belongs to the process that opens it, so this one opens none for itself. */
bool memory_usable(void)
{
    pid_t pid = fork();
    int status;

    if (!pid) {
        int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
        struct vt_err err;

        _exit(device < 0 || uffd_open(device, &err) ? 1 : 0);
    }
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status);
}

void memory_skip(void)
{
    g_test_skip("/dev/userfaultfd cannot be used here: run the tests as root on Linux 6.4 or later");
}
