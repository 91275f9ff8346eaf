// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzz target of the wire protocol's check. The first byte says how many descriptors came along;
 * with its top bit set the header is put right, so that the engine gets past it at once.
 *
 * What the check takes may be read as its type without a further look: every element and every
 * string is read here, so that the sanitizers see one that lies beyond the message.
 */
#include "common/wire.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile size_t sink;

static void read_strings(const struct wire_msg *m)
{
    switch (m->h.type) {
    case VT_HELLO:
        sink += strlen(m->hello.name);
        for (int i = 0; i < VT_SRC_END; i++)
            sink += strlen(m->hello.no_source[i]);
        break;
    case VT_WELCOME:
        for (int i = 0; i < VT_TIERS; i++)
            sink += strlen(m->welcome.tier[i]);
        break;
    case VT_REFUSE: case VT_FROZEN:
        sink += strlen(m->text.text);
        break;
    case VT_BLOCK:
        sink += strlen(m->block.name);
        break;
    case VT_BACKING:
        sink += strlen(m->backing.hint);
        break;
    default:
        break;
    }
}

static size_t array_bytes(const struct wire_msg *m)
{
    switch (m->h.type) {
    case VT_SLOTS:
        return sizeof(m->slots) + m->slots.count * sizeof(m->slots.slot[0]);
    case VT_PLACEMENT:
        return sizeof(m->placement) + m->placement.count;
    case VT_OBS:
        return sizeof(m->obs) + m->obs.count * sizeof(m->obs.obs[0]);
    case VT_MOVE: case VT_MOVED:
        return sizeof(m->move) + m->move.count * sizeof(m->move.move[0]);
    default:
        return m->h.length;
    }
}

static void mend_header(struct wire_msg *m, size_t size)
{
    if (size < sizeof(m->h))
        return;
    m->h.magic = VT_WIRE_MAGIC;
    m->h.version = VT_WIRE_VERSION;
    m->h.type %= VT_TYPE_END;
    m->h.length = (uint32_t)size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wire_msg m;
    struct vt_err err = { 0 };

    if (size < 1 || size - 1 > sizeof(m.bytes))
        return 0;
    memset(m.bytes, 'x', sizeof(m.bytes));      /* what lies behind has no end */
    memcpy(m.bytes, data + 1, size - 1);
    m.n_fds = data[0] & 15;
    if (data[0] & 128)
        mend_header(&m, size - 1);
    if (wire_check(&m, size - 1, &err)) {
        g_assert_cmpint(err.code, !=, 0);
        g_assert_true(err.text[0] != '\0');
        return 0;
    }
    g_assert_cmpuint(m.h.length, ==, size - 1);
    g_assert_cmpuint(array_bytes(&m), ==, size - 1);
    g_assert_cmpint(m.n_fds, <=, WIRE_FDS);
    read_strings(&m);
    return 0;
}
