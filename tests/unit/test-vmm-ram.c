// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the plugin's tables of RAM: blocks, their files and numbers, and the lookups that take
 * no lock.
 *
 * timeout: 60
 */
#include "vmm/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GRANULE (64u << 10)
#define LONG    4096u               /* granules of a block that is too long to be unmapped at once */

struct toy {
    int fd;
    guint64 length;
    guint8 *host;
    struct ram_block *b;
};

static int make_file(guint64 length)
{
    int fd = memfd_create("toy", MFD_CLOEXEC);

    g_assert_cmpint(ftruncate(fd, (off_t)length), ==, 0);
    return fd;
}

static struct toy make(const char *name, guint64 length)
{
    struct toy t = { .fd = make_file(length), .length = length };
    struct vt_err err;

    t.host = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, t.fd, 0);
    ram_lock();
    t.b = ram_add(name, t.host, length, 4096, t.fd, &err);
    ram_unlock();
    if (!t.b)
        g_error("%s", err.text);
    return t;
}

static void drop(struct toy *t)
{
    ram_lock();
    if (t->b->used)
        ram_drop(t->b);
    memset(&ram_slots, 0, sizeof(ram_slots));
    ram_changed();
    ram_unlock();
    munmap(t->host, t->length);
    close(t->fd);
}

/* --- blocks --------------------------------------------------------------------------------------- */

static void test_add(void)
{
    struct toy t = make("one", 4 * GRANULE + 8192);
    guint32 first = t.b->first;

    g_assert_cmpuint(t.b->count, ==, 5);
    g_assert_true(t.b->used && t.b->present && !t.b->watched);
    for (guint32 g = first; g < first + 5; g++) {
        g_assert_cmpuint(ram_tier[g], ==, 0);
        g_assert_true(ram_block_of(g) == t.b);
        g_assert_cmpuint(ram_offset(t.b, g), ==, (g - first) * GRANULE);
        g_assert_cmpuint(ram_length(t.b, g), ==, g - first < 4 ? GRANULE : 8192);
    }
    g_assert_true(ram_block_of(first + 5) != t.b);
    g_assert_true(ram_block_named("one") == t.b);
    g_assert_null(ram_block_named("two"));
    drop(&t);
    g_assert_null(ram_block_named("one"));
}

/* A view shows the same memory as QEMU's own mapping, from its beginning to its end. */
static void test_view(void)
{
    struct toy t = make("one", 3 * GRANULE);
    struct vt_err err;

    t.host[0] = 17;
    t.b->view[0][t.length - 1] = 18;
    g_assert_cmpuint(t.b->view[0][0], ==, 17);
    g_assert_cmpuint(t.host[t.length - 1], ==, 18);
    g_assert_cmpint(ram_set_file(t.b, 1, make_file(t.length), 0, &err), ==, 0);
    t.b->view[1][0] = 19;
    g_assert_cmpuint(t.host[0], ==, 17);
    drop(&t);
}

static void test_short_file(void)
{
    struct toy t = make("one", 3 * GRANULE);
    int fd = make_file(3 * GRANULE - 4096);
    struct vt_err err = { 0 };

    g_assert_cmpint(ram_set_file(t.b, 1, fd, 0, &err), ==, -EINVAL);
    g_assert_nonnull(strstr(err.text, "one"));
    g_assert_cmpint(t.b->file[1], ==, -1);
    g_assert_null(t.b->view[1]);
    close(fd);
    drop(&t);
}

static unsigned count_maps(void)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char line[512];
    unsigned n = 0;

    while (fgets(line, sizeof(line), f))
        n += strstr(line, "/memfd:toy") != NULL;
    fclose(f);
    return n;
}

/* Our files and views go; the file that is QEMU's stays open. Those of a long block go in their time. */
static void test_drop(gconstpointer granules)
{
    struct toy t = make("one", GPOINTER_TO_UINT(granules) * (guint64)GRANULE);
    gint64 end = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    int cxl = make_file(t.length);
    struct vt_err err;

    g_assert_cmpint(ram_set_file(t.b, 1, cxl, 0, &err), ==, 0);
    g_assert_cmpuint(count_maps(), ==, 3);
    ram_lock();
    ram_drop(t.b);
    ram_unlock();
    while (GPOINTER_TO_UINT(granules) > 3 && fcntl(cxl, F_GETFD) >= 0 && g_get_monotonic_time() < end)
        g_usleep(1000);
    g_assert_cmpuint(count_maps(), ==, 1);
    g_assert_cmpint(fcntl(cxl, F_GETFD), ==, -1);
    g_assert_cmpint(fcntl(t.fd, F_GETFD), >=, 0);
    drop(&t);
}

/* A page of such a file would take its neighbours' place. */
static void test_other_pages(void)
{
    struct toy t = make("one", 2u << 20);
    int huge = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | 21u << MFD_HUGE_SHIFT);
    struct vt_err err;

    if (huge >= 0 && !ftruncate(huge, 2 << 20)) {
        g_assert_cmpint(ram_set_file(t.b, 1, huge, 0, &err), ==, -EINVAL);
        g_assert_nonnull(strstr(err.text, "pages of 2097152 bytes, the block of 4096"));
        g_assert_cmpint(t.b->file[1], ==, -1);
    } else {
        g_test_skip("no huge pages here");
    }
    if (huge >= 0)
        close(huge);
    drop(&t);
}

/* Late answers about an old block must not hit a new one. */
static void test_numbers(void)
{
    struct toy t = make("one", 3 * GRANULE);
    guint32 end = t.b->first + t.b->count;

    ram_tier[t.b->first] = 1;
    drop(&t);
    t = make("one", 3 * GRANULE);
    g_assert_cmpuint(t.b->first, >=, end);
    g_assert_cmpuint(ram_tier[t.b->first], ==, 0);
    g_assert_null(ram_block_of(end - 1));
    drop(&t);
}

static void test_full(void)
{
    struct toy t[VT_BLOCKS];
    struct vt_err err = { 0 };
    char name[16];

    for (int i = 0; i < VT_BLOCKS; i++) {
        snprintf(name, sizeof(name), "b%d", i);
        t[i] = make(name, GRANULE);
    }
    ram_lock();
    g_assert_null(ram_add("more", t[0].host, GRANULE, 4096, t[0].fd, &err));
    ram_unlock();
    g_assert_cmpint(err.code, ==, ENOSPC);
    g_assert_nonnull(strstr(err.text, "more"));
    for (int i = 0; i < VT_BLOCKS; i++)
        drop(&t[i]);
}

static void test_too_long(void)
{
    struct toy t = make("one", GRANULE);
    struct vt_err err = { 0 };

    ram_lock();
    g_assert_null(ram_add("huge", t.host, (VT_GRANULES_MAX + 1ull) * GRANULE, 4096, t.fd, &err));
    ram_unlock();
    g_assert_cmpint(err.code, ==, ENOSPC);
    g_assert_null(ram_block_named("huge"));
    drop(&t);
}

/* --- advice --------------------------------------------------------------------------------------- */

static char *flags_of(const void *host)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    char line[512], *flags = NULL;
    unsigned long from, to;
    bool inside = false;

    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = (unsigned long)host >= from && (unsigned long)host < to;
        else if (inside && g_str_has_prefix(line, "VmFlags:"))
            flags = flags ? flags : g_strdup(line);
    }
    fclose(f);
    return flags;
}

/* What QEMU had advised for the memory holds for what is mapped in its place. */
static void test_advice(void)
{
    struct toy t = { .fd = make_file(4 * GRANULE), .length = 4 * GRANULE };
    struct vt_err err;

    t.host = mmap(NULL, t.length, PROT_READ | PROT_WRITE, MAP_SHARED, t.fd, 0);
    madvise(t.host, t.length, MADV_DONTDUMP);
    madvise(t.host, t.length, MADV_DONTFORK);
    madvise(t.host, t.length, MADV_HUGEPAGE);
    g_autofree char *before = flags_of(t.host);

    ram_lock();
    t.b = ram_add("one", t.host, t.length, 4096, t.fd, &err);
    g_assert_false(t.b->flags_known);       /* plugging waits for no look at smaps */
    ram_unlock();
    ram_find_flags();
    g_assert_true(t.b->flags_known);
    g_assert_true(mmap(t.host + GRANULE, GRANULE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                       t.fd, GRANULE) == t.host + GRANULE);
    ram_readvise(t.b, GRANULE, GRANULE);
    g_autofree char *after = flags_of(t.host + GRANULE);

    g_assert_cmpstr(after, ==, before);
    g_assert_nonnull(strstr(after, " dd "));
    drop(&t);
}

/* --- lookups -------------------------------------------------------------------------------------- */

static void set_slot(unsigned i, guint64 gpa, const struct toy *t, guint64 offset, guint64 length)
{
    ram_slots.slot[i] = (struct ram_slot){ .gpa = gpa, .length = length, .offset = offset,
                                           .block = (guint32)(t->b - ram_blocks()) };
    ram_slots.n = MAX(ram_slots.n, i + 1);
}

/* RAM around a hole, as below 4 GiB; and a DIMM far above. */
static void test_find(void)
{
    struct toy ram = make("ram", 8 * GRANULE), dimm = make("dimm", 2 * GRANULE);
    guint32 g, generation = ram_generation();

    ram_lock();
    ram.b->ram_addr = 1 << 30;
    dimm.b->ram_addr = 3ull << 30;
    set_slot(0, 0, &ram, 0, 3 * GRANULE);
    set_slot(1, 1ull << 32, &ram, 3 * GRANULE, 5 * GRANULE);
    set_slot(2, 1ull << 40, &dimm, 0, 2 * GRANULE);
    ram_changed();
    ram_unlock();
    g_assert_cmpuint(ram_generation(), ==, generation + 1);
    g_assert_true(ram_find_gpa(3 * GRANULE - 1, &g) && g == ram.b->first + 2);
    g_assert_false(ram_find_gpa(3 * GRANULE, &g));
    g_assert_false(ram_find_gpa((1ull << 32) - 1, &g));
    g_assert_true(ram_find_gpa(1ull << 32, &g) && g == ram.b->first + 3);
    g_assert_true(ram_find_gpa((1ull << 32) + 5 * GRANULE - 1, &g) && g == ram.b->first + 7);
    g_assert_true(ram_find_gpa((1ull << 40) + GRANULE, &g) && g == dimm.b->first + 1);
    g_assert_false(ram_find_gpa(G_MAXUINT64, &g));
    g_assert_true(ram_find_addr((1 << 30) + 7 * GRANULE, &g) && g == ram.b->first + 7);
    g_assert_false(ram_find_addr((1 << 30) + 8 * GRANULE, &g));
    g_assert_true(ram_find_addr(3ull << 30, &g) && g == dimm.b->first);
    ram_lock();
    dimm.b->present = false;
    ram_changed();
    ram_unlock();
    g_assert_false(ram_find_addr(3ull << 30, &g));
    drop(&ram);
    drop(&dimm);
}

struct race {
    struct toy a, b;
    gint stop;
    guint64 found;
};

/* Even layouts show block a, with other offsets than b in odd ones: a mixture is in neither. */
static gpointer look(gpointer arg)
{
    struct race *r = arg;
    guint32 g;

    while (!g_atomic_int_get(&r->stop)) {
        if (!ram_find_gpa(5 * GRANULE, &g))
            continue;
        if (g != r->a.b->first + 5 && g != r->b.b->first + 1)
            g_error("granule %u, which is in neither layout", g);
        r->found++;
    }
    return NULL;
}

static void test_race(void)
{
    struct race r = { .a = make("a", 8 * GRANULE), .b = make("b", 8 * GRANULE) };
    GThread *thread = g_thread_new("look", look, &r);
    gint64 end = g_get_monotonic_time() + 500000;
    unsigned i = 0;

    for (; g_get_monotonic_time() < end; i++) {
        ram_lock();
        if (i % 2)
            set_slot(0, 4 * GRANULE, &r.b, 0, 4 * GRANULE);
        else
            set_slot(0, 0, &r.a, 0, 8 * GRANULE);
        ram_changed();
        ram_unlock();
    }
    g_atomic_int_set(&r.stop, 1);
    g_thread_join(thread);
    g_test_message("%u layouts, %" G_GUINT64_FORMAT " lookups", i, r.found);
    g_assert_cmpuint(r.found, >, 0);
    drop(&r.a);
    drop(&r.b);
}

/* Last, as there is no way back. */
static void test_guest_runs(void)
{
    struct toy before = make("before", GRANULE), after;

    g_assert_true(before.b->fresh);
    ram_guest_runs();
    after = make("after", GRANULE);
    g_assert_false(before.b->fresh);
    g_assert_false(after.b->fresh);
    drop(&before);
    drop(&after);
}

int main(int argc, char **argv)
{
    struct vt_err err;

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(ram_init(&err), ==, 0);
    ram_set_granule(GRANULE);
    g_test_add_func("/ram/add", test_add);
    g_test_add_func("/ram/view", test_view);
    g_test_add_func("/ram/short-file", test_short_file);
    g_test_add_data_func("/ram/drop", GUINT_TO_POINTER(3), test_drop);
    g_test_add_data_func("/ram/drop-later", GUINT_TO_POINTER(LONG), test_drop);
    g_test_add_func("/ram/other-pages", test_other_pages);
    g_test_add_func("/ram/numbers", test_numbers);
    g_test_add_func("/ram/full", test_full);
    g_test_add_func("/ram/too-long", test_too_long);
    g_test_add_func("/ram/advice", test_advice);
    g_test_add_func("/ram/find", test_find);
    g_test_add_func("/ram/race", test_race);
    g_test_add_func("/ram/guest-runs", test_guest_runs);
    return g_test_run();
}
