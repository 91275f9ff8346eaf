// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Direct disk I/O of a guest whose memory is moved as fast as it goes: no sector may come out wrong,
 * with each of QEMU's I/O engines, with and without an iothread, under both QEMUs. With the fence
 * switched off, the same test must find damage.
 *
 * VMTIER_DMA_ALL=1 selects all twelve, not only those that between them have each pair of choices.
 * VMTIER_DMA_SECONDS=N makes each case that long (2), and a line of each goes to long/dma.jsonl in the
 * build directory. tests/long/run-dma.sh runs the long form.
 *
 * timeout: 240
 */
#include "diskvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_SECTORS  512           /* of guest/disk.c's 256 KiB */
#define ATTEMPTS_MOST 4             /* VMs per case, if guests stall */
#define OPS_LEAST     20            /* less than that of either says nothing, ... */
#define MOVED_LEAST   100
#define MORE_S        60.0          /* ... so a machine that is slow has more time */
#define DAMAGE_S      40.0          /* a few seconds on an idle machine; as often as LAB_PATIENCE says */

static const struct engine {
    const char *name, *aio;
    bool iothread, qemu10, brief;
} engines[] = {
    { "native", "native", false, false, true },
    { "native-iothread", "native", true, false, true },
    { "io_uring", "io_uring", false, false, false },
    { "io_uring-iothread", "io_uring", true, false, true },
    { "threads", "threads", false, false, true },
    { "threads-iothread", "threads", true, false, false },
    { "native-qemu10", "native", false, true, false },
    { "native-iothread-qemu10", "native", true, true, true },
    { "io_uring-qemu10", "io_uring", false, true, true },
    { "io_uring-iothread-qemu10", "io_uring", true, true, false },
    { "threads-qemu10", "threads", false, true, false },
    { "threads-iothread-qemu10", "threads", true, true, true },
};

/* What a case came to, over all its VMs. */
struct tally {
    double seconds;
    uint64_t ops, bad, pages_bad, moved, busy;
    unsigned stalls;
    char version[32];
    JsonObject *fence;              /* of the last one */
};

static const char *long_seconds(void)
{
    return g_getenv("VMTIER_DMA_SECONDS");
}

static double seconds(void)
{
    return long_seconds() ? g_ascii_strtod(long_seconds(), NULL) : 2;
}

/* --- the record ----------------------------------------------------------------------------- */

static void note_version(struct tally *t, struct vm *vm)
{
    g_autoptr(JsonNode) node = qmp_ok(vm->qmp, "query-version", NULL);
    JsonObject *v = json_object_get_object_member(json_node_get_object(node), "qemu");

    g_snprintf(t->version, sizeof(t->version), "%d.%d.%d",
               (int)json_object_get_int_member(v, "major"),
               (int)json_object_get_int_member(v, "minor"),
               (int)json_object_get_int_member(v, "micro"));
}

static void note_fence(struct tally *t, struct vm *vm)
{
    g_autoptr(JsonNode) node = qmp_ok(vm->qmp, "x-vmtier-query", NULL);

    g_clear_pointer(&t->fence, json_object_unref);
    t->fence = json_object_ref(
        json_object_get_object_member(json_node_get_object(node), "fence"));
}

static int fence_us(const struct tally *t, const char *what)
{
    return (int)(json_object_get_int_member_with_default(t->fence, what, 0) / 1000);
}

/* In one write, as other cases may be running. */
static void append_line(const char *line)
{
    g_autofree char *dir = lab_built("long"), *path = g_build_filename(dir, "dma.jsonl", NULL);
    int fd;

    g_mkdir_with_parents(dir, 0755);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, line, strlen(line)) < 0)
        g_error("%s: %s", path, g_strerror(errno));
    close(fd);
}

static void record(const struct engine *e, const struct tally *t)
{
    g_autofree char *line = g_strdup_printf(
        "{\"case\": \"%s\", \"engine\": \"%s\", \"iothread\": %s, \"qemu\": \"%s\", "
        "\"seconds\": %.1f, \"operations\": %" PRIu64 ", \"sectors\": %" PRIu64
        ", \"granules_moved\": %" PRIu64 ", \"deferred\": %" PRIu64 ", \"bad\": %" PRIu64
        ", \"pages_bad\": %" PRIu64 ", \"stalls\": %u, \"hold_p50_us\": %d, \"hold_p99_us\": %d, "
        "\"hold_max_us\": %d, \"commit\": \"%s\"}\n",
        e->name, e->aio, e->iothread ? "true" : "false", t->version, t->seconds, t->ops,
        t->ops * READ_SECTORS, t->moved, t->busy, t->bad, t->pages_bad, t->stalls,
        fence_us(t, "hold-p50-ns"), fence_us(t, "hold-p99-ns"), fence_us(t, "hold-max-ns"),
        g_getenv("VMTIER_DMA_COMMIT") ? g_getenv("VMTIER_DMA_COMMIT") : "");

    g_test_message("%s", g_strstrip(line));
    if (long_seconds()) {
        g_autofree char *whole = g_strconcat(line, "\n", NULL);

        append_line(whole);
    }
}

/* --- the cases ------------------------------------------------------------------------------ */

/* Until it is long enough, and enough has come of it. */
static enum disk_state let_run(struct diskvm *d, struct tally *t, const struct disk_count *before)
{
    enum disk_state state = diskvm_let_run(d, seconds() - t->seconds);
    double end = lab_deadline(MORE_S);

    while (state == DISK_FINE && lab_now() < end &&
           (diskvm_count(d, "DISK").ops - before->ops <= OPS_LEAST ||
            pusher_get_count(d->pusher).moved <= MOVED_LEAST))
        state = diskvm_let_run(d, 0.5);
    return state;
}

/* One VM, for the rest of the time. False: skipped. */
static bool run_one(const struct engine *e, struct tally *t)
{
    struct diskvm d;
    struct disk_count before, after;
    struct pusher_count count;
    double start;

    if (!diskvm_start(&d, "dma", &(struct diskvm_options){
            .aio = e->aio, .iothread = e->iothread, .qemu10 = e->qemu10 }))
        return false;
    note_version(t, d.vm);
    before = diskvm_count(&d, "DISK");
    pusher_go(d.pusher);
    start = lab_now();
    t->stalls += let_run(&d, t, &before) == DISK_STALLED;
    pusher_pause(d.pusher);
    after = diskvm_count(&d, "DISK");
    t->seconds += lab_now() - start;
    t->ops += after.ops - before.ops;
    t->bad += after.bad;
    t->pages_bad += guest_sweep(d.vm->guest, 60);
    count = pusher_get_count(d.pusher);
    t->moved += count.moved;
    t->busy += count.busy;
    note_fence(t, d.vm);
    diskvm_end(&d);
    return true;
}

static void test_engine(gconstpointer data)
{
    const struct engine *e = data;
    struct tally t = { 0 };

    for (unsigned i = 0; i < ATTEMPTS_MOST && t.seconds < seconds() && !t.bad && !t.pages_bad; i++)
        if (!run_one(e, &t))
            return;
    record(e, &t);
    json_object_unref(t.fence);
    g_assert_cmpuint(t.bad, ==, 0);
    g_assert_cmpuint(t.pages_bad, ==, 0);
    g_assert_cmpuint(t.ops, >, OPS_LEAST);
    g_assert_cmpuint(t.moved, >, MOVED_LEAST);
    g_assert_cmpfloat(t.seconds, >=, seconds());
}

/* The proof that this test sees what it is there for. */
static void test_without_fence(void)
{
    enum disk_state state = DISK_STALLED;

    for (unsigned i = 0; i < 2 && state == DISK_STALLED; i++) {
        struct diskvm d;

        if (!diskvm_start(&d, "dma", &(struct diskvm_options){ .aio = "native", .no_fence = true }))
            return;
        pusher_go(d.pusher);
        state = DISK_FINE;
        for (unsigned k = 0; k < LAB_PATIENCE && state == DISK_FINE; k++)
            state = diskvm_let_run(&d, DAMAGE_S);
        diskvm_end(&d);
    }
    g_assert_cmpint(state, ==, DISK_BAD);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(engines); i++) {
        g_autofree char *path = g_strdup_printf("/dma/%s", engines[i].name);

        if (engines[i].brief || g_getenv("VMTIER_DMA_ALL"))
            g_test_add_data_func(path, &engines[i], test_engine);
    }
    g_test_add_func("/dma/without-fence", test_without_fence);
    return g_test_run();
}
