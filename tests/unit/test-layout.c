// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of what the daemon takes from QEMU about its RAM: good layouts, those of hot-plug, and
 * those of a QEMU that lies.
 *
 * timeout: 60
 */
#include "tests/unit/vm-fixture.h"

#include <errno.h>
#include <sys/socket.h>

#define GRANULE (2ull << 20)

struct bed {
    struct daemon *daemon;
    struct vm *vm;
    struct wire_msg msg;
    struct vt_err err;
    guint files;
};

static struct bed *bed_new(void)
{
    struct bed *b = g_new0(struct bed, 1);

    b->files = fixture_open_files();
    b->daemon = fixture_daemon();
    b->vm = fixture_vm(b->daemon);
    g_assert_cmpuint(b->vm->config.granule, ==, GRANULE);
    return b;
}

/* Every descriptor that came along has been closed. */
static void bed_free(struct bed *b)
{
    vm_unref(b->vm);
    fixture_daemon_free(b->daemon);
    g_assert_cmpuint(fixture_open_files(), ==, b->files);
    g_free(b);
}

/* As from the wire: checked, taken, leftovers dropped. The books are right after good and bad. */
static int take(struct bed *b)
{
    int rc;

    g_assert_cmpint(wire_check(&b->msg, b->msg.h.length, &b->err), ==, 0);
    g_assert_true(vm_is_layout(&b->msg));
    rc = vm_take_layout(b->vm, &b->msg, &b->err);
    wire_drop_fds(&b->msg);
    fixture_check_books(b->vm);
    return rc;
}

static void add_file(struct bed *b)
{
    int file = memfd_create("toy", MFD_CLOEXEC);

    g_assert_cmpint(ftruncate(file, 1LL << 46), ==, 0);     /* as long as any block */
    b->msg.fd[b->msg.n_fds++] = file;
}

/* A right BLOCK of so many granules, with a file for DRAM; for tests to spoil. */
static struct vt_block *start_block(struct bed *b, guint32 id, guint32 first, guint32 count)
{
    struct vt_block *m = &b->msg.block;

    memset(m, 0, sizeof(*m));
    wire_start(&b->msg, VT_BLOCK, 0, sizeof(*m));
    m->id = id;
    m->first = first;
    m->count = count;
    m->length = count * GRANULE;
    m->page_size = 4096;
    m->files = 1;
    m->fresh = 1;
    g_snprintf(m->name, sizeof(m->name), "ram%u", id);
    add_file(b);
    return m;
}

static int give_placement(struct bed *b, guint32 first, const guint8 *tier, guint32 n)
{
    wire_start(&b->msg, VT_PLACEMENT, 0, sizeof(b->msg.placement) + n);
    b->msg.placement.first = first;
    b->msg.placement.count = n;
    memcpy(b->msg.placement.tier, tier, n);
    return take(b);
}

static int give_gone(struct bed *b, guint32 id)
{
    wire_start(&b->msg, VT_BLOCK_GONE, 0, sizeof(b->msg.block_gone));
    b->msg.block_gone.id = id;
    return take(b);
}

static int give_end(struct bed *b)
{
    wire_start(&b->msg, VT_LAYOUT_END, 0, sizeof(b->msg.layout_end));
    return take(b);
}

static void assert_refused(struct bed *b, const char *about)
{
    g_assert_cmpint(take(b), ==, -EPROTO);
    if (!strstr(b->err.text, about))
        g_error("'%s' does not name '%s'", b->err.text, about);
}

/* --- good layouts ----------------------------------------------------------------------------- */

static void test_good(void)
{
    struct bed *b = bed_new();
    guint8 tier[12] = { 0, 0, 1, 1, 0, 1 };

    start_block(b, 0, 0, 8)->length = 8 * GRANULE - 4096;     /* the last granule is shorter */
    g_assert_cmpint(take(b), ==, 0);
    start_block(b, 3, 8, 4)->files = 3;
    add_file(b);
    g_assert_cmpint(take(b), ==, 0);
    g_assert_cmpint(give_placement(b, 0, tier, 12), ==, 0);
    g_assert_false(b->vm->layout_known);
    g_assert_cmpint(give_end(b), ==, 0);
    g_assert_true(b->vm->layout_known);
    g_assert_cmpuint(b->vm->stats.ram_bytes, ==, 12 * GRANULE - 4096);
    g_assert_cmpuint(b->vm->ledger.count[0], ==, 9);
    g_assert_cmpuint(b->vm->ledger.count[1], ==, 3);
    g_assert_cmpint(b->vm->block[0].file[1], ==, -1);
    g_assert_cmpint(b->vm->block[3].file[1], >=, 0);
    bed_free(b);
}

/* A block is told again with every change of the layout: files are taken over, not piled up. */
static void test_again(void)
{
    struct bed *b = bed_new();
    guint files;

    start_block(b, 0, 0, 8);
    g_assert_cmpint(take(b), ==, 0);
    files = fixture_open_files();
    for (int i = 0; i < 10; i++) {
        start_block(b, 0, 0, 8);
        g_assert_cmpint(take(b), ==, 0);
    }
    g_assert_cmpuint(fixture_open_files(), ==, files);
    g_assert_cmpuint(b->vm->ledger.count[0], ==, 8);
    bed_free(b);
}

/*
 * Memory that is plugged in waits for its placement, however often it is told before; what has been
 * placed, or was there before the daemon, stays where it is.
 */
static void test_placed(void)
{
    struct bed *b = bed_new();

    start_block(b, 0, 0, 8)->fresh = 0;
    g_assert_cmpint(take(b), ==, 0);
    g_assert_true(b->vm->block[0].placed);
    b->vm->placed = true;
    for (int i = 0; i < 3; i++) {
        start_block(b, 1, 8, 8)->fresh = 0;
        g_assert_cmpint(take(b), ==, 0);
        g_assert_false(b->vm->block[1].placed);
    }
    b->vm->block[1].placed = true;
    start_block(b, 1, 8, 8)->fresh = 0;
    g_assert_cmpint(take(b), ==, 0);
    g_assert_true(b->vm->block[1].placed);
    bed_free(b);
}

static void test_gone(void)
{
    struct bed *b = bed_new();
    guint files = fixture_open_files();
    guint8 tier = 0;

    start_block(b, 5, 0, 8);
    g_assert_cmpint(take(b), ==, 0);
    g_assert_cmpint(give_gone(b, 5), ==, 0);
    g_assert_cmpuint(b->vm->ledger.count[0], ==, 0);
    g_assert_cmpuint(fixture_open_files(), ==, files);
    g_assert_cmpint(give_gone(b, 5), ==, 0);
    g_assert_cmpint(give_placement(b, 3, &tier, 1), ==, -EPROTO);
    start_block(b, 6, 4, 8);        /* its numbers are free again */
    g_assert_cmpint(take(b), ==, 0);
    g_assert_cmpint(give_end(b), ==, 0);
    g_assert_cmpuint(b->vm->stats.ram_bytes, ==, 8 * GRANULE);
    bed_free(b);
}

/* The name is a peer's: bytes that are no text do not get into JSON. */
static void test_name(void)
{
    struct bed *b = bed_new();

    memcpy(start_block(b, 0, 0, 1)->name, "a\xff\x80z", 5);
    g_assert_cmpint(take(b), ==, 0);
    g_assert_true(g_utf8_validate(b->vm->block[0].name, -1, NULL));
    bed_free(b);
}

static void test_slots(void)
{
    struct bed *b = bed_new();
    struct vt_slots *m = &b->msg.slots;
    const guint32 room = wire_room(sizeof(*m), sizeof(m->slot[0]));

    wire_start(&b->msg, VT_SLOTS, 0, sizeof(*m) + room * sizeof(m->slot[0]));
    m->count = room;
    m->more = 0;
    for (guint32 i = 0; i < room; i++)
        m->slot[i] = (struct vt_slot){ .gpa = i, .block = 4000000000u };
    g_assert_cmpint(take(b), ==, 0);
    g_assert_cmpuint(b->vm->stats.n_slots, ==, VT_SLOTS_MAX);
    g_assert_cmpuint(b->vm->stats.slot[VT_SLOTS_MAX - 1].gpa, ==, VT_SLOTS_MAX - 1);
    vm_show(b->vm);
    json_node_unref(view_vm(b->vm));
    bed_free(b);
}

/* --- what the memory is ------------------------------------------------------------------------- */

static struct vt_backing *start_backing(struct bed *b, guint32 id)
{
    struct vt_backing *m = &b->msg.backing;

    memset(m, 0, sizeof(*m));
    wire_start(&b->msg, VT_BACKING, 0, sizeof(*m));
    m->block = id;
    m->align = 21;
    m->tier[0] = (struct vt_backing_tier){ .kind = VT_KIND_TMPFS, .thp = VT_THP_ADVISE,
                                           .page_size = 4096, .mapped = 10, .huge = 5 };
    return m;
}

static void test_backing(void)
{
    struct bed *b = bed_new();
    struct vm_block *block = &b->vm->block[2];

    start_block(b, 2, 0, 8);
    g_assert_cmpint(take(b), ==, 0);
    g_assert_null(vm_backing_text(b->vm));
    g_assert_false(vm_wants_huge(block));
    g_strlcpy(start_backing(b, 2)->hint, "do \033[31mthis", VT_HINT);
    g_assert_cmpint(take(b), ==, 0);
    g_assert_true(vm_wants_huge(block));
    g_assert_cmpstr(block->backing.hint, ==, "do ?[31mthis");
    g_autofree char *text = vm_backing_text(b->vm);

    g_assert_cmpstr(text, ==, "tmpfs, huge=advise");
    start_backing(b, 2)->tier[0].thp = VT_THP_NEVER;
    b->msg.backing.align = 20;
    b->msg.backing.passes = 1;
    g_assert_cmpint(take(b), ==, 0);
    g_assert_false(vm_wants_huge(block));
    g_autofree char *other = vm_backing_text(b->vm);

    g_assert_cmpstr(other, ==, "tmpfs, huge=never, not on a 2 MiB border, 50 % of what is mapped in pages "
                    "of 2 MiB or more");
    give_gone(b, 2);
    g_assert_false(vm_wants_huge(block));
    bed_free(b);
}

/* Of no block, of one that is not there, and with numbers that there cannot be. */
static void test_bad_backing(void)
{
    struct bed *b = bed_new();
    const guint32 ids[] = { 0, VT_BLOCKS, G_MAXUINT32 };

    for (gsize i = 0; i < G_N_ELEMENTS(ids); i++) {
        start_backing(b, ids[i]);
        g_assert_cmpint(take(b), ==, 0);
    }
    start_block(b, 0, 0, 8);
    g_assert_cmpint(take(b), ==, 0);
    memset(start_backing(b, 0)->tier, 0xff, sizeof(b->msg.backing.tier));
    b->msg.backing.align = G_MAXUINT32;
    b->msg.backing.passes = 1;
    g_assert_cmpint(take(b), ==, 0);
    g_assert_cmpuint(b->vm->block[0].backing.tier[0].kind, ==, VT_KIND_OTHER);
    g_autofree char *text = vm_backing_text(b->vm);
    JsonArray *blocks = vm_view_blocks(b->vm);

    g_assert_true(g_str_has_prefix(text, "another kind"));
    json_array_unref(blocks);
    bed_free(b);
}

/* --- lies --------------------------------------------------------------------------------------- */

static const struct lie {
    const char *name, *about;
    struct {
        guint64 length;
        guint32 id, first, count, page_size, files;
    } m;
} lies[] = {
    { "id", "BLOCK 64", { 8 * GRANULE, VT_BLOCKS, 0, 8, 4096, 1 } },
    { "huge-id", "BLOCK 4294967295", { 8 * GRANULE, G_MAXUINT32, 0, 8, 4096, 1 } },
    { "empty", "do not fit", { 0, 0, 0, 0, 4096, 1 } },
    { "too-long", "do not fit", { G_MAXUINT64, 0, 0, 8, 4096, 1 } },
    { "too-many", "do not fit", { (VT_GRANULES_MAX + 1) * GRANULE, 0, 0, VT_GRANULES_MAX + 1, 4096, 1 } },
    { "first-wraps", "do not fit", { 8 * GRANULE, 0, G_MAXUINT32 - 3, 8, 4096, 1 } },
    { "first-too-far", "do not fit", { 8 * GRANULE, 0, VT_GRANULES_MAX - 7, 8, 4096, 1 } },
    { "count-too-small", "do not fit", { 8 * GRANULE, 0, 0, 7, 4096, 1 } },
    { "count-too-great", "do not fit", { 8 * GRANULE, 0, 0, 9, 4096, 1 } },
    { "pages-of-nothing", "pages of 0", { 8 * GRANULE, 0, 0, 8, 0, 1 } },
    { "small-pages", "pages of 512", { 8 * GRANULE, 0, 0, 8, 512, 1 } },
    { "odd-pages", "pages of 12288", { 8 * GRANULE, 0, 0, 8, 12288, 1 } },
    { "great-pages", "pages of 1073741824", { 8 * GRANULE, 0, 0, 8, 1 << 30, 1 } },
    { "no-file", "files 0", { 8 * GRANULE, 0, 0, 8, 4096, 0 } },
    { "not-dram", "files 0x2", { 8 * GRANULE, 0, 0, 8, 4096, 2 } },
    { "more-files", "files 0x3", { 8 * GRANULE, 0, 0, 8, 4096, 3 } },
    { "no-such-tier", "files 0x80000001", { 8 * GRANULE, 0, 0, 8, 4096, 0x80000001 } },
};

static void test_lie(gconstpointer data)
{
    const struct lie *lie = data;
    struct bed *b = bed_new();
    struct vt_block *m = start_block(b, 0, 0, 8);

    m->id = lie->m.id;
    m->first = lie->m.first;
    m->count = lie->m.count;
    m->length = lie->m.length;
    m->page_size = lie->m.page_size;
    m->files = lie->m.files;
    assert_refused(b, lie->about);
    g_assert_cmpuint(b->vm->ledger.n, ==, 0);
    bed_free(b);
}

/* A tier that does not exist on this host, with a descriptor for it. */
static void test_third_tier(void)
{
    struct bed *b = bed_new();

    start_block(b, 0, 0, 8)->files = 5;
    add_file(b);
    assert_refused(b, "files 0x5");
    bed_free(b);
}

/* An area that is not all in its file, or that nothing can be mapped from. */
static void test_base(void)
{
    static const guint64 bad[] = { 1, 4095, 1ull << 46, (1ull << 46) - 8 * GRANULE + 4096, G_MAXUINT64,
                                   G_MAXUINT64 - 8 * GRANULE + 1 };
    struct bed *b = bed_new();

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct vt_block *m = start_block(b, 0, 0, 8);

        m->files = 3;
        m->base[1] = bad[i];
        add_file(b);
        assert_refused(b, "BLOCK 0: its file of tier 1 is shorter than");
    }
    struct vt_block *m = start_block(b, 0, 0, 8);

    m->files = 3;
    m->base[1] = (1ull << 46) - 8 * GRANULE;
    m->base[5] = 1;                         /* of a tier that it has no file of: never looked at */
    add_file(b);
    g_assert_cmpint(take(b), ==, 0);
    g_assert_cmpuint(b->vm->block[0].base[1], ==, (1ull << 46) - 8 * GRANULE);
    bed_free(b);
}

/* Where it is mapped: page-aligned, and it ends before the address space does. */
static void test_host(void)
{
    static const guint64 good[] = { 0, 4096, 0x7f0000000000, 0 - 8 * GRANULE - 4096 };
    static const guint64 bad[] = { 1, 0x7f0000000200, 0 - 8 * GRANULE + 4096, 0 - 4096ull };
    struct bed *b = bed_new();

    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        start_block(b, 0, 0, 8)->host = good[i];
        g_assert_cmpint(take(b), ==, 0);
        g_assert_cmpuint(b->vm->block[0].host, ==, good[i]);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        start_block(b, 0, 0, 8)->host = bad[i];
        assert_refused(b, "BLOCK 0: mapped at");
    }
    bed_free(b);
}

static void test_overlap(void)
{
    static const struct {
        guint32 first, count;
    } over[] = { { 10, 8 }, { 9, 2 }, { 17, 1 }, { 12, 2 }, { 0, 100 } };
    struct bed *b = bed_new();

    start_block(b, 0, 10, 8);
    g_assert_cmpint(take(b), ==, 0);
    for (gsize i = 0; i < G_N_ELEMENTS(over); i++) {
        start_block(b, 1, over[i].first, over[i].count);
        assert_refused(b, "overlaps");
    }
    start_block(b, 1, 9, 1);
    g_assert_cmpint(take(b), ==, 0);
    start_block(b, 2, 18, 1);
    g_assert_cmpint(take(b), ==, 0);
    start_block(b, 0, 10, 9);               /* grown into its neighbour */
    assert_refused(b, "overlaps");
    bed_free(b);
}

static void test_bad_placement(void)
{
    struct bed *b = bed_new();
    guint8 tier[20] = { 0 };

    g_assert_cmpint(give_placement(b, 0, tier, 1), ==, -EPROTO);
    start_block(b, 0, 4, 8);
    g_assert_cmpint(take(b), ==, 0);
    g_assert_cmpint(give_placement(b, 3, tier, 2), ==, -EPROTO);
    g_assert_cmpint(give_placement(b, 4, tier, 9), ==, -EPROTO);
    g_assert_cmpint(give_placement(b, G_MAXUINT32, tier, 2), ==, -EPROTO);
    g_assert_cmpint(give_placement(b, 12, tier, 0), ==, 0);
    tier[2] = 2;
    g_assert_cmpint(give_placement(b, 4, tier, 8), ==, -EPROTO);
    tier[2] = LEDGER_NONE;
    g_assert_cmpint(give_placement(b, 4, tier, 8), ==, -EPROTO);
    tier[2] = 1;
    g_assert_cmpint(give_placement(b, 4, tier, 8), ==, 0);
    g_assert_cmpuint(b->vm->ledger.tier[6], ==, 1);
    bed_free(b);
}

static void test_bad_gone(void)
{
    struct bed *b = bed_new();

    g_assert_cmpint(give_gone(b, VT_BLOCKS), ==, -EPROTO);
    g_assert_cmpint(give_gone(b, G_MAXUINT32), ==, -EPROTO);
    g_assert_cmpint(give_gone(b, VT_BLOCKS - 1), ==, 0);
    bed_free(b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/layout/good", test_good);
    g_test_add_func("/layout/again", test_again);
    g_test_add_func("/layout/placed", test_placed);
    g_test_add_func("/layout/gone", test_gone);
    g_test_add_func("/layout/name", test_name);
    g_test_add_func("/layout/slots", test_slots);
    g_test_add_func("/layout/backing", test_backing);
    g_test_add_func("/layout/lie/backing", test_bad_backing);
    g_test_add_func("/layout/lie/base", test_base);
    for (gsize i = 0; i < G_N_ELEMENTS(lies); i++) {
        g_autofree char *path = g_strconcat("/layout/lie/", lies[i].name, NULL);

        g_test_add_data_func(path, &lies[i], test_lie);
    }
    g_test_add_func("/layout/lie/third-tier", test_third_tier);
    g_test_add_func("/layout/lie/host", test_host);
    g_test_add_func("/layout/lie/overlap", test_overlap);
    g_test_add_func("/layout/lie/placement", test_bad_placement);
    g_test_add_func("/layout/lie/gone", test_bad_gone);
    return g_test_run();
}
