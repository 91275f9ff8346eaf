// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory that was never there, or was given back page by page, stays away when its granule moves: with
 * small pages, and with huge ones, of which the file system does not tell where they are. Needs
 * /dev/userfaultfd, and 20 free huge pages for the latter. And memory that a spare slot has lost is made by writing.
 *
 * timeout: 60
 */
#include "two-tiers.h"
#include "vmm/mover.h"
#include "vmm/pagemap.h"
#include "vmm/ram.h"
#include "vmm/refault.h"
#include "vmm/run.h"
#include "vmm/uffd.h"

#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define GRANULE  (2ull << 20)
#define GRANULES 8u
#define SIZE     (GRANULE * GRANULES)

static void set_up(struct two_tiers *f, uint32_t page)
{
    two_tiers_set_up(f, SIZE, page, MAP_NORESERVE);
    two_tiers_watch(f);
}

/* There and back; each time as much memory as before, all in one place. */
static void check_moves(struct two_tiers *f)
{
    const guint64 before = file_allocated(f->file[0]);
    struct vt_move_one m[GRANULES];
    struct mover_cost cost;

    for (guint8 to = 1; to < 3; to++) {
        for (guint32 i = 0; i < GRANULES; i++)
            m[i] = (struct vt_move_one){ .granule = f->b->first + i, .tier = to % 2 };
        mover_carry_out(m, GRANULES, 0, &cost);
        for (guint32 i = 0; i < GRANULES; i++)
            g_assert_cmpint(m[i].status, ==, VT_ST_OK);
        g_assert_cmpuint(file_allocated(f->file[to % 2]), ==, before);
        g_assert_cmpuint(file_allocated(f->file[1 - to % 2]), ==, 0);
    }
}

static void test_every_other(void)
{
    struct two_tiers f;

    set_up(&f, 4096);
    memset(f.host, 7, SIZE);
    for (guint64 at = 4096; at < SIZE; at += 8192)
        g_assert_cmpint(fallocate(f.file[0], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
                                  4096), ==, 0);
    g_assert_cmpuint(file_allocated(f.file[0]), ==, SIZE / 2);
    check_moves(&f);
    for (guint64 at = 0; at < SIZE; at += 4096)
        g_assert_cmpint(f.host[at + 99], ==, at % 8192 ? 0 : 7);
    two_tiers_tear_down(&f);
}

static guint64 free_huge_pages(void)
{
    g_autofree char *text = NULL;
    const char *at = NULL;

    if (g_file_get_contents("/proc/meminfo", &text, NULL, NULL))
        at = strstr(text, "HugePages_Free:");
    return at ? g_ascii_strtoull(at + strlen("HugePages_Free:"), NULL, 10) : 0;
}

/* Of the huge pages 1, 4 and 5 there is something; 4 is not mapped where the guest sees it. */
static void test_huge(void)
{
    struct two_tiers f;

    if (free_huge_pages() < 20) {
        g_test_skip("there are no 20 free huge pages (vm.nr_hugepages)");
        return;
    }
    set_up(&f, GRANULE);
    for (guint32 g = 0; g < GRANULES; g++)
        if (g == 1 || g == 4 || g == 5)
            memset(f.host + g * GRANULE, (int)g, GRANULE);
    madvise(f.host + 4 * GRANULE, GRANULE, MADV_DONTNEED);
    g_assert_cmpuint(file_allocated(f.file[0]), ==, 3 * GRANULE);
    check_moves(&f);
    for (guint32 g = 1; g < 6; g += g == 1 ? 3 : 1)
        g_assert_cmpint(f.host[g * GRANULE + 12345], ==, g);
    two_tiers_tear_down(&f);
}

/* Looked at again, memory that was allocated ahead in a spare slot without any is still to be written, not touched. */
static void test_second_look(void)
{
    static struct run r;
    struct two_tiers f;
    guint64 since = 0;

    set_up(&f, 4096);
    memset(f.host, 7, SIZE);
    ram_lock();
    run_start(&r, f.b, f.b->first, 1);
    g_assert_true(run_prepare(&r, false));
    g_assert_cmpuint(r.n_pieces, ==, 1);
    r.piece[0].spare = true;
    for (int look = 0; look < 2; look++) {
        g_assert_cmpint(run_make_ready(&r, &since), ==, 0);
        g_assert_true(r.piece[0].write && r.piece[0].whole);
        g_assert_cmpuint(file_allocated(f.file[1]), ==, GRANULE);
        g_assert_false(pagemap_is_full(f.b->view[1] + r.piece[0].to, r.piece[0].length));
    }
    g_assert_cmpint(run_carry_out(&r), ==, VT_ST_OK);
    ram_unlock();
    for (guint64 at = 0; at < SIZE; at += 4096)
        g_assert_cmpint(f.host[at + 99], ==, 7);
    g_assert_cmpuint(ram_tier[f.b->first], ==, 1);
    two_tiers_tear_down(&f);
}

int main(int argc, char **argv)
{
    struct vt_err err = { 0 };
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(ram_init(&err), ==, 0);
    g_assert_cmpint(refault_init(&err), ==, 0);
    ram_set_granule(GRANULE);
    if (device >= 0 && !uffd_open(device, &err)) {
        g_test_add_func("/holes/every-other", test_every_other);
        g_test_add_func("/holes/huge", test_huge);
        g_test_add_func("/holes/second-look", test_second_look);
    }
    return g_test_run();
}
