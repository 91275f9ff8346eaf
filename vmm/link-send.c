// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The messages this side sends: see include/vmtier/wire.h for their order. Link thread only. The layout is
 * in link-layout.c.
 */
#include "common/clock.h"
#include "vmm/backing.h"
#include "vmm/dirty.h"
#include "vmm/link.h"
#include "vmm/mover.h"
#include "vmm/pool.h"
#include "vmm/plugin.h"
#include "vmm/qemu.h"
#include "vmm/ram.h"
#include "vmm/refault.h"
#include "vmm/sample.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct wire_msg out;

int link_send_hello(int fd, struct vt_err *err)
{
    struct vt_hello *h = &out.hello;

    memset(h, 0, sizeof(*h));
    wire_start(&out, VT_HELLO, 0, sizeof(*h));
    h->pid = (uint32_t)getpid();
    h->accel = (uint32_t)link_info->accel;
    h->page_size = 4096;
    h->granule = ram_granule();
    h->qemu_major = (uint16_t)link_info->major;
    h->qemu_minor = (uint16_t)link_info->minor;
    h->qemu_micro = (uint16_t)link_info->micro;
    memcpy(h->uuid, link_info->uuid, sizeof(h->uuid));
    memcpy(h->name, link_info->name, sizeof(h->name));
    for (unsigned s = 0; s < VT_SRC_END; s++) {
        if (!plugin_no_source[s][0])
            h->sources |= 1u << s;
        memcpy(h->no_source[s], plugin_no_source[s], VT_NAME);
    }
    return wire_send(fd, &out, LINK_SEND_MS, err);
}

int link_send_frozen(int fd, int code, const char *text, struct vt_err *err)
{
    memset(&out.text, 0, sizeof(out.text));
    wire_start(&out, VT_FROZEN, 0, sizeof(out.text));
    out.text.code = (uint32_t)code;
    snprintf(out.text.text, sizeof(out.text.text), "%s", text);
    return wire_send(fd, &out, LINK_SEND_MS, err);
}

/* --- what kind of memory it is ------------------------------------------------------------------ */

/* Nothing of a block that was not yet looked at: its turn comes with the next layout. */
static int send_backing(int fd, uint32_t id, uint32_t first, struct vt_err *err)
{
    if (!backing_get(id, first, &out.backing))
        return 0;
    wire_start(&out, VT_BACKING, 0, sizeof(out.backing));
    return wire_send(fd, &out, LINK_SEND_MS, err);
}

int link_send_backings(int fd, struct vt_err *err)
{
    uint32_t first[VT_BLOCKS];
    bool there[VT_BLOCKS];
    int rc = 0;

    ram_lock();
    for (uint32_t i = 0; i < VT_BLOCKS; i++) {
        there[i] = ram_blocks()[i].used && ram_blocks()[i].present;
        first[i] = ram_blocks()[i].first;
    }
    ram_unlock();
    for (uint32_t i = 0; !rc && i < VT_BLOCKS; i++)
        if (there[i])
            rc = send_backing(fd, i, first[i], err);
    return rc;
}

/* --- observations --------------------------------------------------------------------------------- */

struct reply {
    int fd;
    uint32_t seq;
    struct vt_err *err;
};

/* What the sources emit; they do so under ram_lock(), so it is sent afterwards. */
static struct {
    struct vt_obs *obs;
    uint32_t n, room;
} seen;

static void collect(const struct vt_obs *obs, void *opaque)
{
    (void)opaque;
    if (seen.n == seen.room) {
        uint32_t room = seen.room ? 2 * seen.room : 4096;
        struct vt_obs *more = realloc(seen.obs, room * sizeof(*more));

        if (!more)
            return;     /* it is statistics: lose some rather than the VM */
        seen.obs = more;
        seen.room = room;
    }
    seen.obs[seen.n++] = *obs;
}

static int send_seen(const struct reply *r)
{
    const uint32_t most = wire_room(sizeof(out.obs), sizeof(out.obs.obs[0]));
    int rc = 0;

    for (uint32_t done = 0; !rc && done < seen.n;) {
        uint32_t n = seen.n - done < most ? seen.n - done : most;

        wire_start(&out, VT_OBS, r->seq, sizeof(out.obs) + n * sizeof(out.obs.obs[0]));
        out.obs.count = n;
        out.obs.pad = 0;
        memcpy(out.obs.obs, seen.obs + done, n * sizeof(out.obs.obs[0]));
        rc = wire_send(r->fd, &out, LINK_SEND_MS, r->err);
        done += n;
    }
    return rc;
}

static int send_harvest_end(const struct reply *r)
{
    static uint32_t last;
    struct vt_harvest_end *m = &out.harvest_end;
    struct refault_cost refault;
    uint32_t now = clock_ms();

    memset(m, 0, sizeof(*m));
    wire_start(&out, VT_HARVEST_END, r->seq, sizeof(*m));
    m->interval_ms = last ? now - last : 0;
    m->generation = ram_generation();
    last = now;
    refault_get_cost(&refault);
    m->cpu_ns[VT_SRC_REFAULT] = refault.cpu_ns;
    m->vcpu_ns[VT_SRC_REFAULT] = refault.vcpu_ns;
    m->events[VT_SRC_REFAULT] = refault.events;
    dirty_get_cost(&m->cpu_ns[VT_SRC_DIRTY], &m->events[VT_SRC_DIRTY],
                   &m->vcpu_ns[VT_SRC_DIRTY]);
    sample_get_cost(&m->cpu_ns[VT_SRC_SAMPLE], &m->events[VT_SRC_SAMPLE]);
    return wire_send(r->fd, &out, LINK_SEND_MS, r->err);
}

int link_send_harvest(int fd, const struct wire_msg *request, struct vt_err *err)
{
    struct reply r = { .fd = fd, .seq = request->h.seq, .err = err };
    uint32_t want = request->harvest.sources & link_sources();

    int rc;

    seen.n = 0;
    if (want & (1u << VT_SRC_REFAULT))
        refault_harvest(request->harvest.budget_us, collect, NULL);
    if (want & (1u << VT_SRC_DIRTY))
        dirty_harvest(collect, NULL);
    if (want & (1u << VT_SRC_SAMPLE))
        sample_harvest(collect, NULL);
    rc = send_seen(&r);
    return rc ? rc : send_harvest_end(&r);
}

int link_send_moved(int fd, const struct wire_msg *request, struct vt_err *err)
{
    struct mover_tuning t;
    struct mover_cost cost;

    mover_get_tuning(&t);
    t.rate = request->move.rate;
    memcpy(t.keep, request->move.spare, sizeof(t.keep));
    mover_set_tuning(&t);
    memcpy(out.bytes, request->bytes, request->h.length);
    out.n_fds = 0;
    mover_carry_out(out.move.move, out.move.count,
                    out.move.fresh ? MOVER_FRESH : MOVER_PACED, &cost);
    out.h.type = VT_MOVED;
    out.move.cpu_ns = cost.cpu_ns;
    out.move.pages = cost.pages;
    for (unsigned i = 0; i < VT_TIERS; i++)
        out.move.spare[i] = pool_spare(i);
    return wire_send(fd, &out, LINK_SEND_MS, err);
}
