// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * x-vmtier-query, x-vmtier-set and x-vmtier-move: what an operator can ask and do where only QEMU's
 * monitor is at hand (virsh qemu-monitor-command), and what the tests stand on.
 */
#include "vmm/qmp.h"
#include "common/filekind.h"
#include "common/version.h"
#include "vmm/announce.h"
#include "vmm/backing.h"
#include "vmm/dirty.h"
#include "vmm/discard.h"
#include "vmm/fence.h"
#include "vmm/kvmlog.h"
#include "vmm/letgo.h"
#include "vmm/link.h"
#include "vmm/mover.h"
#include "vmm/plugin.h"
#include "vmm/qemu.h"
#include "vmm/ram.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A growing JSON text. Out of memory leaves NULL, which the caller reports. */
struct text {
    char *s;
    FILE *f;
    size_t n;
};

static void put_string(FILE *f, const char *s)
{
    fputc('"', f);
    for (; *s; s++)
        if (*s == '"' || *s == '\\')
            fprintf(f, "\\%c", *s);
        else
            fputc((unsigned char)*s < ' ' ? ' ' : *s, f);
    fputc('"', f);
}

static char *finish(struct text *t)
{
    fclose(t->f);
    return t->s;
}

static bool begin(struct text *t, struct vt_err *err)
{
    *t = (struct text){ 0 };
    t->f = open_memstream(&t->s, &t->n);
    if (!t->f)
        vt_fail(err, ENOMEM, "out of memory");
    return t->f != NULL;
}

/* --- x-vmtier-query ------------------------------------------------------------------------------- */

static void put_file(FILE *f, const struct vt_backing_tier *t, uint64_t base, bool measured)
{
    const struct filekind k = { .kind = t->kind, .thp = t->thp, .page_size = t->page_size };
    char text[64];

    filekind_text(&k, text, sizeof(text));
    fprintf(f, "{\"kind\": \"%s\", \"page-size\": %u, \"offset\": %llu", text, t->page_size,
            (unsigned long long)base);
    if (measured)
        fprintf(f, ", \"mapped\": %llu, \"huge\": %llu", (unsigned long long)t->mapped,
                (unsigned long long)t->huge);
    fputc('}', f);
}

static void put_backing(FILE *f, const struct ram_block *b)
{
    struct vt_backing s;
    unsigned n = 0;

    if (!backing_get((uint32_t)(b - ram_blocks()), b->first, &s))
        return;
    fprintf(f, ", \"backing\": {\"align\": %llu, \"passes\": %u, \"hint\": ", 1ull << s.align, s.passes);
    put_string(f, s.hint);
    fputs(", \"files\": {", f);
    for (unsigned t = 0; t < VT_TIERS; t++)
        if (b->file[t] >= 0 && link_tier_name(t)[0]) {
            fputs(n++ ? ", " : "", f);
            put_string(f, link_tier_name(t));
            fputs(": ", f);
            put_file(f, &s.tier[t], b->base[t], s.passes > 0);
        }
    fputs("}}", f);
}

static void put_block(FILE *f, const struct ram_block *b)
{
    uint32_t in[VT_TIERS] = { 0 };

    for (uint32_t g = b->first; g < b->first + b->count; g++)
        in[ram_tier[g] % VT_TIERS]++;
    fputs("{\"name\": ", f);
    put_string(f, b->name);
    fprintf(f, ", \"length\": %llu, \"page-size\": %u, \"first\": %u, \"granules\": %u, "
            "\"present\": %s, \"tiers\": {", (unsigned long long)b->length, b->page_size, b->first,
            b->count, b->present ? "true" : "false");
    for (unsigned t = 0, n = 0; t < VT_TIERS; t++)
        if (link_tier_name(t)[0]) {
            fputs(n++ ? ", " : "", f);
            put_string(f, link_tier_name(t));
            fprintf(f, ": %u", in[t]);
        }
    fputc('}', f);
    put_backing(f, b);
    fputc('}', f);
}

static void put_layout(FILE *f)
{
    unsigned n = 0;

    ram_lock();
    fprintf(f, ", \"granule\": %llu, \"blocks\": [", (unsigned long long)ram_granule());
    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        if (b->used) {
            fputs(n++ ? ", " : "", f);
            put_block(f, b);
        }
    fputs("], \"memslots\": [", f);
    for (unsigned i = 0; i < ram_slots.n; i++) {
        const struct ram_slot *s = &ram_slots.slot[i];

        fprintf(f, "%s{\"gpa\": %llu, \"length\": %llu, \"offset\": %llu, \"block\": ",
                i ? ", " : "", (unsigned long long)s->gpa, (unsigned long long)s->length,
                (unsigned long long)s->offset);
        put_string(f, ram_blocks()[s->block].name);
        fputc('}', f);
    }
    ram_unlock();
    fputc(']', f);
}

static void put_counters(FILE *f)
{
    struct mover_stats m;
    struct fence_stats d;
    struct discard_stats g;

    mover_get_stats(&m);
    fence_get_stats(&d);
    discard_get_stats(&g);
    fputs(", \"moves\": {", f);
    for (unsigned i = 0; i < VT_ST_END; i++)
        fprintf(f, "\"%s\": %llu, ", wire_status_name(i), (unsigned long long)m.moved[i]);
    fprintf(f, "\"runs\": %llu, \"pages\": %llu, \"cpu-ns\": %llu, \"step-ns\": {",
            (unsigned long long)m.runs, (unsigned long long)m.pages, (unsigned long long)m.cpu_ns);
    for (unsigned i = 0; i < MOVER_STEPS; i++)
        fprintf(f, "%s\"%s\": %llu", i ? ", " : "", mover_step_name(i),
                (unsigned long long)m.step_ns[i]);
    fputs("}, \"spare\": {", f);
    for (unsigned t = 0; t < VT_TIERS && link_tier_name(t)[0]; t++)
        fprintf(f, "%s\"%s\": %llu", t ? ", " : "", link_tier_name(t),
                (unsigned long long)m.spare[t]);
    fputs("}}", f);
    fprintf(f, ", \"fence\": {\"submissions\": %llu, \"in-flight\": %llu, \"refused\": %llu, "
            "\"waited\": %llu, \"overflows\": %llu, \"unseen\": %llu",
            (unsigned long long)d.submissions, (unsigned long long)d.in_flight,
            (unsigned long long)d.refused, (unsigned long long)d.waited,
            (unsigned long long)d.overflows, (unsigned long long)d.unseen);
    fprintf(f, ", \"holds\": %llu, \"hold-p50-ns\": %llu, \"hold-p99-ns\": %llu, "
            "\"hold-max-ns\": %llu, \"wait-p99-ns\": %llu, \"wait-max-ns\": %llu, "
            "\"undisturbed\": %llu, \"undisturbed-p50-ns\": %llu, \"undisturbed-p99-ns\": %llu, "
            "\"undisturbed-max-ns\": %llu, \"zero-copy\": %s}",
            (unsigned long long)d.holds, (unsigned long long)d.hold_p50_ns,
            (unsigned long long)d.hold_p99_ns, (unsigned long long)d.hold_max_ns,
            (unsigned long long)d.wait_p99_ns, (unsigned long long)d.wait_max_ns,
            (unsigned long long)d.undisturbed, (unsigned long long)d.undisturbed_p50_ns,
            (unsigned long long)d.undisturbed_p99_ns, (unsigned long long)d.undisturbed_max_ns,
            fence_zero_copy() ? "true" : "false");
    fprintf(f, ", \"discards\": {\"calls\": %llu, \"bytes\": %llu, \"elsewhere-bytes\": %llu}",
            (unsigned long long)g.calls, (unsigned long long)g.bytes,
            (unsigned long long)g.elsewhere);
}

static void put_sources(FILE *f)
{
    fputs(", \"sources\": [", f);
    for (unsigned s = 0; s < VT_SRC_END; s++) {
        fprintf(f, "%s{\"name\": \"%s\", \"available\": %s, \"active\": %s, \"reason\": ",
                s ? ", " : "", wire_source_name(s), plugin_no_source[s][0] ? "false" : "true",
                link_sources() & (1u << s) ? "true" : "false");
        put_string(f, plugin_no_source[s]);
        fputc('}', f);
    }
    fputc(']', f);
}

static void put_dirty(FILE *f)
{
    struct dirty_stats d;
    struct kvmlog_stats k;

    dirty_get_stats(&d);
    kvmlog_get_stats(&k);
    fprintf(f, ", \"dirty\": {\"route\": \"%s\", \"reason\": ", d.route);
    put_string(f, d.why);
    fprintf(f, ", \"passes\": %llu, \"pages\": %llu, \"bql-max-ns\": %llu, "
            "\"bql-start-max-ns\": %llu, \"memslots\": %llu, \"logged\": %llu, \"shared\": %llu, "
            "\"reads\": %llu, \"clears\": %llu, \"hold-max-ns\": %llu}",
            (unsigned long long)d.passes, (unsigned long long)d.pages,
            (unsigned long long)d.bql_max_ns, (unsigned long long)d.bql_start_ns,
            (unsigned long long)k.slots, (unsigned long long)k.logged,
            (unsigned long long)k.shared, (unsigned long long)k.reads,
            (unsigned long long)k.clears, (unsigned long long)k.hold_max_ns);
}

#define BITMAP_MOST (256ull << 20)      /* bytes of RAM whose pages an answer lists */

/* Page i is bit i % 8 of byte i / 8; each byte has two digits. */
static char *say_pages(int64_t n, const uint8_t *bits, uint64_t pages, struct vt_err *err)
{
    struct text t;

    if (!begin(&t, err))
        return NULL;
    fprintf(t.f, "{\"pages\": %lld, \"bitmap\": \"", (long long)n);
    for (uint64_t i = 0; i < (pages + 7) / 8; i++)
        fprintf(t.f, "%02x", bits[i]);
    fputs("\"}", t.f);
    return finish(&t);
}

static char *query_dirty(const struct qemu_args *args, struct vt_err *err)
{
    const char *block;
    uint64_t offset, length;
    uint8_t *bits = NULL;
    char *out = NULL;
    int64_t n;

    if (!qemu_arg_string(args, "block", &block) || !qemu_arg_number(args, "offset", &offset) ||
        !qemu_arg_number(args, "length", &length)) {
        vt_fail(err, EINVAL, "what=dirty needs block, offset and length");
        return NULL;
    }
    if (length <= BITMAP_MOST)
        bits = calloc(1, length / 4096 / 8 + 1);
    n = dirty_count(block, offset, length, bits);
    if (n < 0)
        vt_fail(err, (int)-n, "dirty log of block '%s': %s", block, strerror((int)-n));
    else if (bits)
        out = say_pages(n, bits, length / 4096, err);
    else if (asprintf(&out, "{\"pages\": %lld}", (long long)n) < 0)
        vt_fail(err, ENOMEM, "out of memory");
    free(bits);
    return out;
}

static char *query_status(struct vt_err *err)
{
    char reason[VT_TEXT];
    bool frozen = mover_frozen(reason);
    struct link_status s;
    struct text t;

    if (!begin(&t, err))
        return NULL;
    link_get_status(&s);
    fprintf(t.f, "{\"version\": \"%s\", \"id\": ", VMTIER_VERSION);
    put_string(t.f, plugin_options.id);
    fprintf(t.f, ", \"state\": \"%s\", \"reason\": ",
            frozen ? "frozen" : s.attached ? "attached" : "detached");
    put_string(t.f, frozen ? reason : s.error);
    fprintf(t.f, ", \"connects\": %u", s.connects);
    put_layout(t.f);
    put_counters(t.f);
    put_dirty(t.f);
    put_sources(t.f);
    fputc('}', t.f);
    return finish(&t);
}

static char *query(const struct qemu_args *args, struct vt_err *err)
{
    const char *what;

    if (!qemu_arg_string(args, "what", &what) || !strcmp(what, "status"))
        return query_status(err);
    if (!strcmp(what, "dirty"))
        return query_dirty(args, err);
    vt_fail(err, EINVAL, "what='%s': there are status and dirty", what);
    return NULL;
}

/* --- x-vmtier-set ----------------------------------------------------------------------------------- */

static void freeze_now(void)
{
    char reason[VT_TEXT];
    bool was = mover_frozen(reason);

    letgo_freeze("frozen through x-vmtier-set");
    if (!was)
        announce(ANNOUNCE_FREEZE, "X_VMTIER_FROZEN", "frozen through x-vmtier-set");
}

static char *set(const struct qemu_args *args, struct vt_err *err)
{
    char reason[VT_TEXT];
    const char *mode;

    if (!qemu_arg_string(args, "mode", &mode)) {
        vt_fail(err, EINVAL, "mode is missing: on or frozen");
        return NULL;
    }
    if (!strcmp(mode, "frozen")) {
        freeze_now();
    } else if (strcmp(mode, "on")) {
        vt_fail(err, EINVAL, "mode '%s': it is on or frozen", mode);
        return NULL;
    } else if (letgo_holds(reason)) {
        vt_fail(err, EBUSY, "tiering stays frozen: %s", reason);
        return NULL;
    } else if (!plugin_check_devices() || !mover_thaw()) {
        mover_frozen(reason);
        vt_fail(err, EBUSY, "tiering stays frozen: %s", reason);
        return NULL;
    }
    link_notify();
    return strdup("{}");
}

/* --- x-vmtier-move ---------------------------------------------------------------------------------- */

#define MOVES_MOST 4096     /* granules one command may move: it runs in the main loop */

struct order {
    const char *block, *tier;
    uint64_t offset, length;
    uint32_t first, n;
    int to;
};

static int parse_order(const struct qemu_args *args, struct order *o, struct vt_err *err)
{
    uint64_t granule = ram_granule();
    struct ram_block *b;

    if (!qemu_arg_string(args, "block", &o->block) || !qemu_arg_string(args, "tier", &o->tier) ||
        !qemu_arg_number(args, "offset", &o->offset) ||
        !qemu_arg_number(args, "length", &o->length))
        return vt_fail(err, EINVAL, "block, offset, length and tier are needed");
    o->to = link_tier_number(o->tier);
    if (o->to < 0 || !granule)
        return vt_fail(err, EINVAL, "no tier '%s'", o->tier);
    ram_lock();
    b = ram_block_named(o->block);
    if (b && o->offset % granule == 0 && o->length && o->offset < b->length &&
        o->length <= b->length - o->offset) {
        o->first = b->first + (uint32_t)(o->offset / granule);
        o->n = (uint32_t)((o->length + granule - 1) / granule);
    }
    ram_unlock();
    if (!b)
        return vt_fail(err, EINVAL, "no tiered RAM block '%s'", o->block);
    if (!o->n || o->n > MOVES_MOST || (o->length % granule && o->offset + o->length != b->length))
        return vt_fail(err, EINVAL, "block %s: offset %llu, length %llu is no range of up to %d "
                       "granules of %llu bytes", o->block, (unsigned long long)o->offset,
                       (unsigned long long)o->length, MOVES_MOST, (unsigned long long)granule);
    return 0;
}

static char *carry_out(const struct order *o, struct vt_err *err)
{
    struct vt_move_one *moves = calloc(o->n, sizeof(*moves));
    struct mover_cost cost;
    uint32_t ok = 0, last = VT_ST_OK;
    char *out = NULL, data[256];

    if (!moves) {
        vt_fail(err, ENOMEM, "out of memory");
        return NULL;
    }
    for (uint32_t i = 0; i < o->n; i++)
        moves[i] = (struct vt_move_one){ .granule = o->first + i, .tier = (uint8_t)o->to };
    mover_carry_out(moves, o->n, MOVER_TIDY, &cost);
    for (uint32_t i = 0; i < o->n; i++)
        if (moves[i].status == VT_ST_OK)
            ok++;
        else
            last = moves[i].status;
    free(moves);
    if (asprintf(&out, "{\"moved\": %u, \"failed\": %u, \"status\": \"%s\", \"pages\": %llu, "
                 "\"cpu-ns\": %llu}", ok, o->n - ok, wire_status_name(last),
                 (unsigned long long)cost.pages, (unsigned long long)cost.cpu_ns) < 0)
        return NULL;
    snprintf(data, sizeof(data), "{\"granules\": %u, \"pages\": %llu, \"tier\": \"%s\"}", ok,
             (unsigned long long)cost.pages, link_tier_name((unsigned)o->to));
    qemu_event("X_VMTIER_MOVED", data);
    return out;
}

static char *move(const struct qemu_args *args, struct vt_err *err)
{
    struct order o = { 0 };
    char *out;

    if (parse_order(args, &o, err))
        return NULL;
    out = carry_out(&o, err);
    ram_lock();
    ram_changed();      /* the daemon reads placement again */
    ram_unlock();
    link_notify();
    return out;
}

void qmp_register(void)
{
    static const char *const query_args[] = { "what", "block", "offset", "length", NULL };
    static const char *const set_args[] = { "mode", NULL };
    static const char *const move_args[] = { "block", "offset", "length", "tier", NULL };
    static const struct qemu_command commands[] = {
        { "x-vmtier-query", query_args, query },
        { "x-vmtier-set", set_args, set },
        { "x-vmtier-move", move_args, move },
    };

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        qemu_register_command(&commands[i]);
}
