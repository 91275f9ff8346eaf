// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The layout, from BLOCK to LAYOUT_END: what the daemon is told of blocks, memslots and placement.
 *
 * The messages have to fit together, so they are made in one hold of ram_lock(), and sent after it: the
 * main loop and the vCPUs want that lock, and a daemon that is slow, hangs or dies is none of their
 * business. Descriptors are duplicated for that time, as a block may be gone when its message goes out.
 * What changes after the lock was let go is told with the next layout.
 */
#include "common/wire.h"
#include "vmm/backing.h"
#include "vmm/link.h"
#include "vmm/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A message that waits, in `bytes` of the queue. */
struct waiting {
    size_t at;
    int fd[WIRE_FDS];
    int n_fds;
};

struct queue {
    unsigned char *bytes;
    size_t used, room;
    struct waiting *list;
    unsigned n, n_room;
    int code;                   /* errno value of what went wrong */
};

static struct wire_msg out;     /* the link thread's */

/* --- the queue ---------------------------------------------------------------------------------- */

static bool make_room(struct queue *q, size_t length)
{
    size_t room = 2 * q->room + length + VT_WIRE_MAX;
    unsigned n = 2 * q->n_room + 64;
    void *more;

    if (!q->bytes || q->used + length > q->room) {
        more = realloc(q->bytes, room);
        if (!more)
            return false;
        q->bytes = more;
        q->room = room;
    }
    if (!q->list || q->n == q->n_room) {
        more = realloc(q->list, n * sizeof(*q->list));
        if (!more)
            return false;
        q->list = more;
        q->n_room = n;
    }
    return true;
}

/* Puts `out` at the end, with copies of its descriptors. */
static void put(struct queue *q)
{
    struct waiting *w;

    if (q->code)
        return;
    if (!make_room(q, out.h.length)) {
        q->code = ENOMEM;
        return;
    }
    w = &q->list[q->n++];
    *w = (struct waiting){ .at = q->used };
    memcpy(q->bytes + q->used, out.bytes, out.h.length);
    q->used += out.h.length;
    for (int i = 0; i < out.n_fds && !q->code; i++) {
        w->fd[w->n_fds] = fcntl(out.fd[i], F_DUPFD_CLOEXEC, 3);
        if (w->fd[w->n_fds] < 0)
            q->code = errno;
        else
            w->n_fds++;
    }
}

static int send_all(int fd, const struct queue *q, struct vt_err *err)
{
    int rc = 0;

    if (q->code)
        return vt_fail(err, q->code, "the layout: %s", strerror(q->code));
    for (unsigned i = 0; !rc && i < q->n; i++) {
        const struct waiting *w = &q->list[i];
        size_t end = i + 1 < q->n ? q->list[i + 1].at : q->used;

        memcpy(out.bytes, q->bytes + w->at, end - w->at);
        memcpy(out.fd, w->fd, sizeof(out.fd));
        out.n_fds = w->n_fds;
        rc = wire_send(fd, &out, LINK_SEND_MS, err);
    }
    return rc;
}

static void queue_free(struct queue *q)
{
    for (unsigned i = 0; i < q->n; i++)
        for (int f = 0; f < q->list[i].n_fds; f++)
            close(q->list[i].fd[f]);
    free(q->bytes);
    free(q->list);
}

/* --- the messages, under ram_lock() ----------------------------------------------------------------- */

static void put_block(struct queue *q, const struct ram_block *b, uint32_t id)
{
    struct vt_block *m = &out.block;

    memset(m, 0, sizeof(*m));
    wire_start(&out, VT_BLOCK, 0, sizeof(*m));
    m->length = b->length;
    m->host = (uintptr_t)b->host;
    m->id = id;
    m->first = b->first;
    m->count = b->count;
    m->page_size = b->page_size;
    m->fresh = b->fresh;
    memcpy(m->base, b->base, sizeof(m->base));
    memcpy(m->name, b->name, sizeof(m->name));
    for (unsigned t = 0; t < VT_TIERS; t++)
        if (b->file[t] >= 0) {
            m->files |= 1u << t;
            out.fd[out.n_fds++] = b->file[t];
        }
    put(q);
}

/* Nothing of a block that was not yet looked at: its turn comes with the next layout. */
static void put_backing(struct queue *q, const struct ram_block *b, uint32_t id)
{
    if (!backing_get(id, b->first, &out.backing))
        return;
    wire_start(&out, VT_BACKING, 0, sizeof(out.backing));
    put(q);
}

static void put_gone(struct queue *q, uint32_t id)
{
    memset(&out.block_gone, 0, sizeof(out.block_gone));
    wire_start(&out, VT_BLOCK_GONE, 0, sizeof(out.block_gone));
    out.block_gone.id = id;
    put(q);
}

static void put_slots(struct queue *q)
{
    struct vt_slots *m = &out.slots;
    uint32_t n = (uint32_t)ram_slots.n;

    static_assert(RAM_SLOTS <= VT_SLOTS_MAX, "the daemon takes all slots");
    static_assert(sizeof(*m) + RAM_SLOTS * sizeof(m->slot[0]) <= VT_WIRE_MAX, "slots fit");
    wire_start(&out, VT_SLOTS, 0, sizeof(*m) + n * sizeof(m->slot[0]));
    m->count = n;
    m->more = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct ram_slot *s = &ram_slots.slot[i];

        m->slot[i] = (struct vt_slot){ s->gpa, s->length, s->offset, (uint32_t)s->block, 0 };
    }
    put(q);
}

static void put_placement(struct queue *q, const struct ram_block *b)
{
    const uint32_t most = wire_room(sizeof(out.placement), 1);

    for (uint32_t done = 0; done < b->count;) {
        uint32_t n = b->count - done < most ? b->count - done : most;

        wire_start(&out, VT_PLACEMENT, 0, sizeof(out.placement) + n);
        out.placement.first = b->first + done;
        out.placement.count = n;
        memcpy(out.placement.tier, ram_tier + b->first + done, n);
        put(q);
        done += n;
    }
}

static void put_end(struct queue *q)
{
    wire_start(&out, VT_LAYOUT_END, 0, sizeof(out.layout_end));
    out.layout_end.generation = ram_generation();
    out.layout_end.pad = 0;
    put(q);
}

static void put_all(struct queue *q)
{
    static bool told[VT_BLOCKS];    /* a daemon knows it; a new one may hear of a block it never had */
    struct ram_block *all = ram_blocks();

    for (uint32_t i = 0; i < VT_BLOCKS; i++)
        if (all[i].used && all[i].present) {
            put_block(q, &all[i], i);
            put_backing(q, &all[i], i);
            told[i] = true;
        } else if (told[i]) {
            put_gone(q, i);
            told[i] = false;
        }
    put_slots(q);
    for (uint32_t i = 0; i < VT_BLOCKS; i++)
        if (all[i].used && all[i].present)
            put_placement(q, &all[i]);
    put_end(q);
}

int link_send_layout(int fd, struct vt_err *err)
{
    struct queue q = { 0 };
    int rc;

    backing_refresh();
    ram_lock();
    put_all(&q);
    ram_unlock();
    rc = send_all(fd, &q, err);
    queue_free(&q);
    return rc;
}
