// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzz target of the layout a QEMU may claim to have: any sequence of messages, with descriptors.
 *
 * The input is a list of messages: a byte that picks the type, one for the length, then, of a BLOCK,
 * eight bytes from which one is made that fits together but for the lies that they ask for; of any
 * other, the bytes after the header. Chance would not find a BLOCK that is accepted.
 *
 * Beyond not crashing: after every message the daemon's books are right (vm-fixture.h), a refusal has
 * a text, and in the end no descriptor is left open.
 */
#include "tests/unit/vm-fixture.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const enum vt_type types[] = {
    VT_BLOCK, VT_BLOCK, VT_PLACEMENT, VT_PLACEMENT, VT_SLOTS, VT_BLOCK_GONE, VT_LAYOUT_END,
    VT_BACKING,
};

enum { LIE_ID = 1, LIE_FIRST = 2, LIE_COUNT = 4, LIE_LENGTH = 8, LIE_PAGES = 16, LIE_FILES = 32,
       LIE_FDS = 64, LIE_BASE = 128 };

/* Granules beyond this would be taken as readily, and memory with them: it is known, and slow. */
#define ROOM 65536u

/* A file as long as any block; made before anybody counts descriptors. */
static int ram_fd = -1;

/* What a QEMU advises is logged, and here it advises all the time. */
static GLogWriterOutput say_nothing(GLogLevelFlags level, const GLogField *fields, gsize n, gpointer data)
{
    (void)level, (void)fields, (void)n, (void)data;
    return G_LOG_WRITER_HANDLED;
}

__attribute__((constructor)) static void make_ram_file(void)
{
    g_log_set_writer_func(say_nothing, NULL, NULL);
    ram_fd = memfd_create("fuzz", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(ram_fd, 1LL << 46), ==, 0);
}

static void make_block(struct wire_msg *msg, const uint8_t in[8], guint64 granule)
{
    struct vt_block *m = &msg->block;
    guint8 lies = in[3];
    guint32 raw, fds;

    memcpy(&raw, in + 4, sizeof(raw));
    m->id = lies & LIE_ID ? raw : in[0] % VT_BLOCKS;
    m->first = lies & LIE_FIRST ? raw : in[1] * 8u;
    m->count = lies & LIE_COUNT ? raw : 1u + in[2] % 64;
    m->length = lies & LIE_LENGTH ? (guint64)raw << in[2] % 33 : m->count * granule - in[0] % 2 * 4096;
    m->page_size = lies & LIE_PAGES ? raw : 4096;
    m->files = lies & LIE_FILES ? raw : 1 | (in[2] >> 6 & 2);
    m->fresh = in[0] >> 7;
    m->base[in[2] % VT_TIERS] = lies & LIE_BASE ? (guint64)raw << in[1] % 33 : 0;
    memcpy(m->name, in, 8);
    if (m->first <= VT_GRANULES_MAX && m->count <= VT_GRANULES_MAX &&
        MAX(m->first, m->count) > ROOM)
        m->length = 0;
    fds = lies & LIE_FDS ? raw : (guint32)__builtin_popcount(m->files);
    while (msg->n_fds < (int)(fds % (WIRE_FDS + 1)))
        msg->fd[msg->n_fds++] = dup(ram_fd);
}

/* Bytes of a message with an array of so many elements, if it has one. */
static size_t length_of(enum vt_type type, guint8 elements)
{
    switch (type) {
    case VT_BLOCK:
        return sizeof(struct vt_block);
    case VT_SLOTS:
        return sizeof(struct vt_slots) + elements * sizeof(struct vt_slot);
    case VT_PLACEMENT:
        return sizeof(struct vt_placement) + elements;
    case VT_BACKING:
        return sizeof(struct vt_backing);
    default:
        return sizeof(struct vt_block_gone);
    }
}

static size_t take(void *to, size_t wanted, const uint8_t **data, size_t *size)
{
    size_t n = MIN(wanted, *size);

    memcpy(to, *data, n);
    *data += n;
    *size -= n;
    return n;
}

/* Takes one message off the input. */
static void next_message(struct wire_msg *msg, const uint8_t **data, size_t *size, guint64 granule)
{
    uint8_t head[2] = { 0 }, block[8] = { 0 };
    enum vt_type type;
    size_t length;

    take(head, sizeof(head), data, size);
    type = types[head[0] % G_N_ELEMENTS(types)];
    length = length_of(type, head[1]);
    memset(msg->bytes, 0, length);
    wire_start(msg, type, 0, length);
    if (type == VT_BLOCK) {
        take(block, sizeof(block), data, size);
        make_block(msg, block, granule);
        return;
    }
    take(msg->bytes + sizeof(msg->h), length - sizeof(msg->h), data, size);
    if (type == VT_PLACEMENT)
        msg->placement.count = head[1];
    else if (type == VT_SLOTS)
        msg->slots.count = head[1];
}

static void give(struct vm *vm, struct wire_msg *msg)
{
    struct vt_err err = { 0 };

    if (!wire_check(msg, msg->h.length, &err)) {
        g_assert_true(vm_is_layout(msg));
        if (vm_take_layout(vm, msg, &err))
            g_assert_true(err.code && err.text[0]);
    }
    wire_drop_fds(msg);
    fixture_check_books(vm);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wire_msg msg;
    static struct daemon *daemon;
    guint files;
    struct vm *vm;

    if (!daemon)
        daemon = fixture_daemon();
    files = fixture_open_files();
    vm = fixture_vm(daemon);
    while (size) {
        next_message(&msg, &data, &size, vm->config.granule);
        give(vm, &msg);
    }
    vm_show(vm);
    json_node_unref(view_vm(vm));
    json_node_unref(view_heatmap(vm));
    json_node_unref(view_samples(vm));
    vm_unref(vm);
    g_assert_cmpuint(fixture_open_files(), ==, files);
    return 0;
}
