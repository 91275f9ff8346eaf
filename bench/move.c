// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a move costs: the plugin's own mover on memory of this process, against memcpy() of the same
 * bytes in the same run.
 *
 * Each case runs in a child, as granule size and userfaultfd context belong to a process. A case moves
 * all granules to the other file and back, REPS times; in between, the same bytes are copied with
 * memcpy(). Times are CPU time of the thread, because machines are shared. The ratio is memcpy's time
 * by the mover's: 1 would be a move that costs no more than its copy.
 *
 * Output: build/bench/move.json, and a table. Needs root for huge pages on tmpfs.
 */
#include "common/clock.h"
#include "vmm/mover.h"
#include "vmm/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <json-glib/json-glib.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (64ull << 20)
#define REPS 7

enum backing { PAGES_4K, PAGES_THP, PAGES_HUGETLB, BACKINGS };
static const char *const backing_names[] = { "memfd 4 KiB", "tmpfs huge=advise", "hugetlb 2 MiB" };
static_assert(G_N_ELEMENTS(backing_names) == BACKINGS, "a backing has no name");

struct bench_case {
    enum backing backing;
    guint64 granule;
    guint32 run;                /* granules that are moved as neighbours */
};

struct result {
    bool ok;
    char why[200];
    double move_ns[REPS], copy_ns[REPS];    /* per rep, the whole size twice */
    guint64 runs;
};

/* --- memory --------------------------------------------------------------------------------------- */

static int thp_file(const char *name)
{
    g_autofree char *path = g_strdup_printf("/tmp/%s", name);

    return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

static int make_file(enum backing backing, const char *name)
{
    int fd = backing == PAGES_THP ? thp_file(name)
           : memfd_create(name, MFD_CLOEXEC | (backing == PAGES_HUGETLB ? MFD_HUGETLB : 0));

    return fd >= 0 && ftruncate(fd, SIZE) == 0 ? fd : -1;
}

/* A tmpfs of our own, which nobody else sees, over this child's /tmp. */
static bool private_tmpfs(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", "/tmp", "tmpfs", 0, "huge=advise,size=1g") == 0;
}

static uint8_t *map_aligned(int fd)
{
    const size_t align = 2u << 20;
    uint8_t *area = mmap(NULL, SIZE + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *at = (uint8_t *)(((uintptr_t)area + align - 1) & ~(align - 1));

    at = mmap(at, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    return at == MAP_FAILED ? NULL : at;
}

/* Not every backing knows huge pages; all must have memory. */
static bool fill_in(uint8_t *host)
{
    madvise(host, SIZE, MADV_HUGEPAGE);
    return madvise(host, SIZE, MADV_POPULATE_WRITE) == 0;
}

static struct ram_block *set_up(const struct bench_case *c, struct vt_err *err)
{
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), file[2] = { -1, -1 };
    struct ram_block *b = NULL;
    uint8_t *host = NULL;

    if (device < 0 || uffd_open(device, err) || ram_init(err))
        return NULL;
    if (c->backing == PAGES_THP && !private_tmpfs()) {
        vt_fail(err, errno, "a private tmpfs: %s", strerror(errno));
        return NULL;
    }
    for (int t = 0; t < 2; t++)
        file[t] = make_file(c->backing, t ? "cxl" : "dram");
    if (file[0] >= 0 && file[1] >= 0)
        host = map_aligned(file[0]);
    if (!host || !fill_in(host)) {
        vt_fail(err, errno, "memory for it: %s", strerror(errno));
        return NULL;
    }
    ram_set_granule(c->granule);
    ram_lock();
    b = ram_add("bench", host, SIZE, c->backing == PAGES_HUGETLB ? 2u << 20 : 4096, file[0], err);
    if (b && (ram_set_file(b, 1, file[1], 0, err) || mover_watch(b, err)))
        b = NULL;
    ram_unlock();
    if (b && c->backing == PAGES_THP)
        madvise(b->view[0], SIZE, MADV_HUGEPAGE);
    if (b && c->backing == PAGES_THP)
        madvise(b->view[1], SIZE, MADV_HUGEPAGE);
    return b;
}

/* --- one case -------------------------------------------------------------------------------------- */

/* Every granule, so ordered that `run` of them are neighbours and the next ones are not. */
static guint32 order(const struct ram_block *b, guint32 run, guint8 tier, struct vt_move_one *m)
{
    guint32 n = 0;

    for (guint32 half = 0; half < 2; half++)
        for (guint32 g = half * run; g < b->count; g += 2 * run)
            for (guint32 i = 0; i < run && g + i < b->count; i++)
                m[n++] = (struct vt_move_one){ .granule = b->first + g + i, .tier = tier };
    return n;
}

static bool move_all(const struct ram_block *b, guint32 run, guint8 tier, double *ns)
{
    g_autofree struct vt_move_one *m = g_new(struct vt_move_one, b->count);
    guint32 n = order(b, run, tier, m);
    struct mover_cost cost;

    mover_carry_out(m, n, false, &cost);
    *ns += (double)cost.cpu_ns;
    for (guint32 i = 0; i < n; i++)
        if (m[i].status != VT_ST_OK)
            return false;
    return true;
}

static double copy_all(const struct ram_block *b, uint8_t *to)
{
    uint64_t start = cpu_ns();

    for (guint64 at = 0; at < SIZE; at += ram_granule())
        memcpy(to + at, b->host + at, ram_granule());
    return (double)(cpu_ns() - start);
}

static void run_case(const struct bench_case *c, struct result *r)
{
    struct vt_err err = { 0 };
    struct ram_block *b = set_up(c, &err);
    uint8_t *spare = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct mover_stats stats;

    if (!b || spare == MAP_FAILED) {
        g_strlcpy(r->why, err.text, sizeof(r->why));
        return;
    }
    memset(spare, 1, SIZE);
    for (int i = -1; i < REPS; i++) {               /* the first one warms up */
        double move = 0, copy = copy_all(b, spare);

        if (!move_all(b, c->run, 1, &move) || !move_all(b, c->run, 0, &move)) {
            g_strlcpy(r->why, "a move failed: not enough huge pages?", sizeof(r->why));
            return;
        }
        copy += copy_all(b, spare);
        r->move_ns[MAX(i, 0)] = move;
        r->copy_ns[MAX(i, 0)] = copy;
    }
    mover_get_stats(&stats);
    r->runs = stats.runs;
    r->ok = true;
}

static struct result in_child(const struct bench_case *c)
{
    struct result r = { 0 };
    int pipe_fd[2];
    pid_t pid;

    g_assert_cmpint(pipe(pipe_fd), ==, 0);
    pid = fork();
    if (pid == 0) {
        run_case(c, &r);
        _exit(write(pipe_fd[1], &r, sizeof(r)) == sizeof(r) ? 0 : 1);
    }
    close(pipe_fd[1]);
    if (read(pipe_fd[0], &r, sizeof(r)) != sizeof(r))
        g_strlcpy(r.why, "the child died", sizeof(r.why));
    close(pipe_fd[0]);
    waitpid(pid, NULL, 0);
    return r;
}

/* --- output ------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static double median(const double *v)
{
    double sorted[REPS];

    memcpy(sorted, v, sizeof(sorted));
    qsort(sorted, REPS, sizeof(sorted[0]), by_value);
    return sorted[REPS / 2];
}

static JsonObject *describe(const struct bench_case *c, const struct result *r)
{
    JsonObject *o = json_object_new();
    double ratio[REPS], speed[REPS];

    json_object_set_string_member(o, "backing", backing_names[c->backing]);
    json_object_set_int_member(o, "granule_bytes", (gint64)c->granule);
    json_object_set_int_member(o, "run_granules", c->run);
    g_print("%-18s %5" G_GUINT64_FORMAT " KiB x %3u  ", backing_names[c->backing], c->granule >> 10,
            c->run);
    if (!r->ok) {
        json_object_set_string_member(o, "skipped", r->why);
        g_print("skipped: %s\n", r->why);
        return o;
    }
    for (int i = 0; i < REPS; i++) {
        ratio[i] = r->copy_ns[i] / r->move_ns[i];
        speed[i] = 2.0 * SIZE / r->move_ns[i];
    }
    json_object_set_double_member(o, "gb_per_cpu_s", median(speed));
    json_object_set_double_member(o, "ratio_to_memcpy", median(ratio));
    json_object_set_double_member(o, "us_per_granule",
                                  median(r->move_ns) / 1e3 / (2.0 * SIZE / (double)c->granule));
    g_print("%6.2f GB/s of CPU, %.3f of memcpy\n", median(speed), median(ratio));
    return o;
}

int main(void)
{
    static const struct bench_case cases[] = {
        { PAGES_4K, 4096, 512 },       { PAGES_4K, 64 << 10, 1 },     { PAGES_4K, 2 << 20, 1 },
        { PAGES_4K, 2 << 20, 4 },      { PAGES_THP, 2 << 20, 1 },     { PAGES_THP, 2 << 20, 4 },
        { PAGES_HUGETLB, 2 << 20, 1 }, { PAGES_HUGETLB, 2 << 20, 4 },
    };
    g_autoptr(JsonNode) root = json_node_new(JSON_NODE_ARRAY);
    JsonArray *list = json_array_new();
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct result r = in_child(&cases[i]);

        json_array_add_object_element(list, describe(&cases[i], &r));
    }
    json_node_take_array(root, list);
    text = json_to_string(root, TRUE);
    g_mkdir_with_parents("build/bench", 0755);
    if (!g_file_set_contents("build/bench/move.json", text, -1, &error)) {
        g_printerr("%s\n", error->message);
        return 1;
    }
    return 0;
}
