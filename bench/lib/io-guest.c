// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the fence costs a guest's disk I/O: eight threads of the test guest read 4 KiB at a time from a
 * disk with cache=none,aio=native, with nothing else to do. Reads are counted by QEMU.
 */
#include "bench/lib/io.h"
#include "common/clock.h"
#include "tests/vm/diskvm.h"

#include <assert.h>

#define WARM_READS 2000
#define TRIES      3
#define GRANULE    (2u << 20)

const char *const io_guest_names[] = {
    "no plugin", "no fence", "fence", "no fence, again", "moves, fence", "moves, no fence",
};
static_assert(G_N_ELEMENTS(io_guest_names) == IO_GUESTS, "a guest has no name");

struct mark {
    double at, cpu_s;
    guint64 reads, moved;
};

static struct mark look(struct diskvm *d)
{
    struct mark m = { .reads = diskvm_requests(d), .at = lab_now() };
    clockid_t clock;

    if (clock_getcpuclockid(d->vm->qemu->pid, &clock) == 0)
        m.cpu_s = (double)clock_ns(clock) / 1e9;
    if (d->pusher)
        m.moved = pusher_get_count(d->pusher).moved;
    return m;
}

static double us(JsonObject *fence, const char *what)
{
    return (double)json_object_get_int_member_with_default(fence, what, 0) / 1e3;
}

static void note_fence(struct diskvm *d, struct io_guest_result *r)
{
    g_autoptr(JsonNode) node = qmp_ok(d->vm->qmp, "x-vmtier-query", NULL);
    JsonObject *fence = json_object_get_object_member(json_node_get_object(node), "fence");

    r->hold_p50_us = us(fence, "hold-p50-ns");
    r->hold_p99_us = us(fence, "hold-p99-ns");
    r->hold_max_us = us(fence, "hold-max-ns");
    r->undisturbed_p50_us = us(fence, "undisturbed-p50-ns");
    r->undisturbed_p99_us = us(fence, "undisturbed-p99-ns");
    r->undisturbed_max_us = us(fence, "undisturbed-max-ns");
    r->wait_p99_us = us(fence, "wait-p99-ns");
    r->wait_max_us = us(fence, "wait-max-ns");
    r->waited = (guint64)json_object_get_int_member(fence, "waited");
    r->submissions = (guint64)json_object_get_int_member(fence, "submissions");
    r->deferred = (guint64)json_object_get_int_member(fence, "refused");
}

static bool measure(struct diskvm *d, double seconds, struct io_guest_result *r)
{
    struct mark a, b;

    lab_sleep(1);
    a = look(d);
    lab_sleep(seconds);
    b = look(d);
    r->per_s = (double)(b.reads - a.reads) / (b.at - a.at);
    r->per_cpu_s = (double)(b.reads - a.reads) / (b.cpu_s - a.cpu_s);
    r->moved_mbs = (double)(b.moved - a.moved) * GRANULE / 1e6 / (b.at - a.at);
    return diskvm_wait_ops(d, 10) != DISK_STALLED;
}

static bool has_no_fence(enum io_guest kind)
{
    return kind == IO_BARE || kind == IO_BARE_AGAIN || kind == IO_MOVES_BARE;
}

static bool run_once(enum io_guest kind, guint64 rate, double seconds, struct io_guest_result *r)
{
    struct diskvm d;
    bool ok = diskvm_start(&d, "io", &(struct diskvm_options){
        .aio = "native", .disk = "vmt.disk=8 vmt.disksize=4K", .granule = GRANULE,
        .no_plugin = kind == IO_STOCK, .no_fence = has_no_fence(kind) });

    if (!ok)
        g_error("the build directory has no O_DIRECT");
    ok = diskvm_wait_ops(&d, WARM_READS) != DISK_STALLED;
    if (kind == IO_MOVES || kind == IO_MOVES_BARE) {
        pusher_set_rate(d.pusher, rate);
        pusher_go(d.pusher);
    }
    ok = ok && measure(&d, seconds, r);
    if (d.pusher)
        note_fence(&d, r);
    diskvm_end(&d);
    return ok;
}

void io_guest_run(enum io_guest kind, guint64 bytes_per_s, double seconds, struct io_guest_result *r)
{
    *r = (struct io_guest_result){ 0 };
    while (!run_once(kind, bytes_per_s, seconds, r))
        if (++r->stalls == TRIES)
            g_error("the guest stood still %d times", TRIES);
}
