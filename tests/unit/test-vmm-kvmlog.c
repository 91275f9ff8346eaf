// SPDX-License-Identifier: GPL-2.0-or-later
// link: -rdynamic
/*
 * KVM's dirty log with two readers: this program is the QEMU whose ioctl() is hooked, and behind the
 * hook is a KVM of our own, which works as Linux' does. A guest writes, QEMU migrates, memslots come
 * and go, in any order: QEMU has to send every page, and we have to hear of each that was written,
 * and of no other.
 */
#include "common/uapi.h"
#include "vmm/got.h"
#include "vmm/kvmlog.h"

#include <errno.h>
#include <glib.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

#define PAGES   20000u              /* of each slot: two chunks and a piece, and not whole words */
#define SLOTS   3u
#define WORDS   ((PAGES + 63) / 64)
#define VM_FD   1000
#define HOST    ((uint8_t *)0x700000000000)

/* --- KVM ------------------------------------------------------------------------------------------ */

static struct {
    struct kvm_userspace_memory_region r;
    uint64_t bits[WORDS];
    guint clears;
} kvm[SLOTS];

static int (*libc_ioctl)(int fd, unsigned long request, ...);
static int no_clear;                /* what this kernel says to KVM_CLEAR_DIRTY_LOG instead */

static bool logged(guint slot)
{
    return kvm[slot].r.flags & KVM_MEM_LOG_DIRTY_PAGES;
}

/* A log that is new has all bits set (KVM_DIRTY_LOG_INITIALLY_SET). */
static int set_region(const struct kvm_userspace_memory_region *r)
{
    bool was = logged(r->slot);

    g_assert_cmpuint(r->slot, <, SLOTS);
    if (!r->memory_size) {
        memset(&kvm[r->slot], 0, sizeof(kvm[0]));
        return 0;
    }
    kvm[r->slot].r = *r;
    if (logged(r->slot) && !was)
        memset(kvm[r->slot].bits, 0xff, sizeof(kvm[0].bits));
    return 0;
}

static int fail(int code)
{
    errno = code;
    return -1;
}

static int clear_bits(const struct kvm_clear_dirty_log *c)
{
    const uint64_t *mask = c->dirty_bitmap;

    if (no_clear)
        return fail(no_clear);
    if (c->first_page % 64 || c->first_page > PAGES || c->num_pages > PAGES - c->first_page ||
        (c->num_pages % 64 && c->num_pages != PAGES - c->first_page))
        return fail(EINVAL);
    for (guint w = 0; w < (c->num_pages + 63) / 64; w++)
        kvm[c->slot].bits[c->first_page / 64 + w] &= ~mask[w];
    kvm[c->slot].clears++;
    return 0;
}

static int fake_ioctl(int fd, unsigned long request, void *argument)
{
    struct kvm_dirty_log *get = argument;

    if (fd != VM_FD)
        return libc_ioctl(fd, request, argument);
    switch ((uint32_t)request) {
    case (uint32_t)KVM_SET_USER_MEMORY_REGION:
        return set_region(argument);
    case KVM_CHECK_EXTENSION:
        return 3;
    case (uint32_t)KVM_GET_DIRTY_LOG:
        if (!logged(get->slot))
            return fail(ENOENT);
        memcpy(get->dirty_bitmap, kvm[get->slot].bits, sizeof(kvm[0].bits));
        return 0;
    case (uint32_t)KVM_CLEAR_DIRTY_LOG:
        return logged(((struct kvm_clear_dirty_log *)argument)->slot) ? clear_bits(argument) :
                                                                        fail(ENOENT);
    default:
        return fail(ENOTTY);
    }
}

/* --- the guest ------------------------------------------------------------------------------------ */

static guint32 contents[SLOTS][PAGES];
static bool unheard[SLOTS][PAGES];      /* written, and not yet reported to us */

static void guest_write(guint slot, guint page)
{
    contents[slot][page]++;
    unheard[slot][page] = true;
    if (logged(slot))
        kvm[slot].bits[page / 64] |= 1ull << page % 64;
}

static void guest_runs(GRand *rand)
{
    for (guint n = g_rand_int(rand) % 200; n; n--)
        guest_write(g_rand_int(rand) % SLOTS, g_rand_int(rand) % PAGES);
}

/* --- us ------------------------------------------------------------------------------------------- */

static struct kvmlog_area areas[2];     /* slots 0 and 1 are in the first, slot 2 in the second */
static guint false_reports;

static void heard(uint32_t tag, uint64_t offset)
{
    guint slot = tag == 7 ? 2 : offset / 4096 >= PAGES ? 1 : 0;
    guint page = (guint)(offset / 4096) - (slot == 1 ? PAGES : 0);

    g_assert_cmpuint(page, <, PAGES);
    false_reports += !unheard[slot][page];
    unheard[slot][page] = false;
}

static void taken(uint32_t tag, uint64_t offset, void *unused)
{
    (void)unused;
    heard(tag, offset);
}

static guint count_unheard(void)
{
    guint n = 0;

    for (guint s = 0; s < SLOTS; s++)
        for (guint p = 0; p < PAGES; p++)
            n += unheard[s][p];
    return n;
}

/* Until each chunk has been looked at, wherever the pass that is under way may be. */
static void look_at_all(void)
{
    for (guint passes = 0, rc; passes < 3; passes += rc != KVMLOG_SOMETHING && rc != KVMLOG_ARMED) {
        rc = (guint)kvmlog_step(areas, 2, taken, NULL);
        g_assert_cmpint((int)rc, >=, 0);
    }
}

/* What is written before a log is armed is not reported. */
static void arm_all(void)
{
    look_at_all();
    look_at_all();
    memset(unheard, 0, sizeof(unheard));
    false_reports = 0;
}

/* --- QEMU ----------------------------------------------------------------------------------------- */

#define STRETCH 4096u                   /* pages that migration clears at a time */

static struct {
    bool on, running;
    uint64_t known[WORDS];              /* KVMSlot.dirty_bmap */
    bool left[PAGES];                   /* to be sent */
    bool protect[PAGES / STRETCH + 1];  /* to be cleared before it is read */
    guint32 there[PAGES];
} qemu[SLOTS];

static void qemu_sets(guint slot, uint32_t flags, bool there)
{
    struct kvm_userspace_memory_region r = {
        .slot = slot, .flags = flags, .guest_phys_addr = slot * (1u << 30),
        .memory_size = there ? PAGES * 4096ull : 0,
        .userspace_addr = (uintptr_t)(slot == 2 ? areas[1].host : HOST + slot * PAGES * 4096ull),
    };

    g_assert_cmpint(ioctl(VM_FD, KVM_SET_USER_MEMORY_REGION, &r), ==, 0);
    g_assert_cmpuint(r.flags, ==, flags);
}

static void qemu_begins(guint slot)
{
    memset(qemu[slot].left, true, sizeof(qemu[slot].left));
    memset(qemu[slot].protect, true, sizeof(qemu[slot].protect));
    memset(qemu[slot].known, 0, sizeof(qemu[slot].known));
    qemu_sets(slot, KVM_MEM_LOG_DIRTY_PAGES, true);
    qemu[slot].on = true;
}

static void qemu_syncs(guint slot)
{
    struct kvm_dirty_log get = { .slot = slot, .dirty_bitmap = qemu[slot].known };

    g_assert_cmpint(ioctl(VM_FD, KVM_GET_DIRTY_LOG, &get), ==, 0);
    for (guint p = 0; p < PAGES; p++)
        if (qemu[slot].known[p / 64] >> p % 64 & 1)
            qemu[slot].left[p] = true;
    memset(qemu[slot].protect, true, sizeof(qemu[slot].protect));
}

static void qemu_clears(guint slot, guint stretch)
{
    guint first = stretch * STRETCH, n = MIN(STRETCH, PAGES - first);
    uint64_t mask[STRETCH / 64];
    struct kvm_clear_dirty_log clear = {
        .slot = slot, .num_pages = n, .first_page = first, .dirty_bitmap = mask,
    };

    memset(mask, 0, sizeof(mask));
    memcpy(mask, &qemu[slot].known[first / 64], (n + 63) / 64 * 8);
    /* As 7.2 does: the number of the call is an int there. */
    g_assert_cmpint(ioctl(VM_FD, (unsigned long)(long)(int)KVM_CLEAR_DIRTY_LOG, &clear), ==, 0);
    memset(&qemu[slot].known[first / 64], 0, (n + 63) / 64 * 8);
    qemu[slot].protect[stretch] = false;
}

static void qemu_sends(guint slot, guint page)
{
    if (!qemu[slot].left[page])
        return;
    if (qemu[slot].protect[page / STRETCH])
        qemu_clears(slot, page / STRETCH);
    qemu[slot].left[page] = false;
    qemu[slot].there[page] = contents[slot][page];
}

/* The guest stands still. */
static void qemu_ends(guint slot)
{
    guint lost = 0;

    qemu_syncs(slot);
    for (guint p = 0; p < PAGES; p++) {
        qemu_sends(slot, p);
        lost += qemu[slot].there[p] != contents[slot][p];
    }
    g_assert_cmpuint(lost, ==, 0);
    qemu_sets(slot, 0, true);
    qemu[slot].on = false;
}

static void qemu_works(guint slot, GRand *rand)
{
    guint what = g_rand_int(rand) % 40;

    if (!qemu[slot].on && what == 0)
        qemu_begins(slot);
    else if (!qemu[slot].on)
        return;
    else if (what == 0)
        qemu_ends(slot);
    else if (what < 4)
        qemu_syncs(slot);
    else
        for (guint n = g_rand_int(rand) % 500, p = g_rand_int(rand) % PAGES; n; n--, p++)
            qemu_sends(slot, p % PAGES);
}

/* --- tests ---------------------------------------------------------------------------------------- */

static void begin(void)
{
    no_clear = 0;
    kvmlog_stop();
    kvmlog_on_cleared(heard);
    areas[0] = (struct kvmlog_area){ HOST, 2 * PAGES * 4096ull, 0 };
    areas[1] = (struct kvmlog_area){ HOST + (1ull << 40), PAGES * 4096ull, 7 };
    memset(qemu, 0, sizeof(qemu));
    for (guint s = 0; s < SLOTS; s++) {
        qemu_sets(s, 0, false);
        qemu_sets(s, 0, true);
    }
}

static void test_exact(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);

    begin();
    arm_all();
    for (guint i = 0; i < 100; i++) {
        guest_runs(rand);
        look_at_all();
        g_assert_cmpuint(count_unheard(), ==, 0);
    }
    g_assert_cmpuint(false_reports, ==, 0);
}

/* Steps of everybody's, in any order. */
static void test_migrations(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(2);
    struct kvmlog_stats stats;
    guint shared = 0;

    begin();
    arm_all();
    for (guint i = 0; i < 20000; i++) {
        guest_runs(rand);
        qemu_works(g_rand_int(rand) % SLOTS, rand);
        if (g_rand_int(rand) % 3 == 0)
            g_assert_cmpint(kvmlog_step(areas, 2, taken, NULL), >=, 0);
        kvmlog_get_stats(&stats);
        shared += stats.shared > 0;
    }
    g_assert_cmpuint(shared, >, 1000);
    for (guint s = 0; s < SLOTS; s++)
        if (qemu[s].on)
            qemu_ends(s);
    look_at_all();
    g_assert_cmpuint(count_unheard(), ==, 0);
    g_assert_cmpuint(false_reports, ==, 0);
}

/* QEMU began first: what it left in its log says nothing, until we have been through it. */
static void test_late(void)
{
    begin();
    qemu_begins(0);
    guest_write(0, 5);
    look_at_all();
    g_assert_cmpuint(kvm[0].clears, ==, 0);
    qemu_sends(0, 5);
    qemu_sets(0, 0, true);
    g_assert_true(logged(0));
    arm_all();
    guest_write(0, 6);
    look_at_all();
    g_assert_cmpuint(count_unheard() + false_reports, ==, 0);
}

/* A slot is taken away, and another one put there. */
static void test_slots(void)
{
    begin();
    arm_all();
    guest_write(1, 19999);
    guest_write(2, 0);
    qemu_sets(1, 0, false);
    g_assert_cmpuint(count_unheard(), ==, 1);
    qemu_sets(1, 0, true);
    g_assert_false(logged(1));
    look_at_all();
    g_assert_cmpuint(count_unheard() + false_reports, ==, 0);
    arm_all();
    g_assert_true(logged(1));
    guest_write(1, 64);
    look_at_all();
    g_assert_cmpuint(count_unheard() + false_reports, ==, 0);
}

/* An area that is not wanted any more is not logged any more; likewise all of them. */
static void test_stop(void)
{
    begin();
    arm_all();
    for (guint i = 0; i < 50; i++)
        kvmlog_step(areas, 1, taken, NULL);
    g_assert_true(logged(0));
    g_assert_false(logged(2));
    qemu_begins(1);
    kvmlog_stop();
    g_assert_false(logged(0));
    g_assert_true(logged(1));           /* that is QEMU's */
    qemu_ends(1);
    g_assert_false(logged(1));
}

/* Of a range, to the page, and nothing beside it is lost. */
static void test_range(void)
{
    begin();
    arm_all();
    for (guint p = 0; p < PAGES; p += 7)
        guest_write(1, p);
    g_assert_cmpint(kvmlog_take(&areas[0], (PAGES + 70) * 4096ull, 100 * 4096, taken, NULL), ==, 0);
    for (guint p = 0; p < PAGES; p += 7)
        g_assert_true(unheard[1][p] == (p < 70 || p >= 170));
    look_at_all();
    g_assert_cmpuint(count_unheard() + false_reports, ==, 0);
}

/* A page that nobody writes is not protected again and again. */
static void test_quiet(void)
{
    guint before;

    begin();
    arm_all();
    before = kvm[0].clears;
    for (guint i = 0; i < 10; i++)
        look_at_all();
    g_assert_cmpuint(kvm[0].clears, ==, before);
    guest_write(0, 9000);
    look_at_all();
    look_at_all();
    g_assert_cmpuint(kvm[0].clears, ==, before + 1);
}

static void test_refused(void)
{
    begin();
    no_clear = ENXIO;
    g_assert_cmpint(kvmlog_step(areas, 2, taken, NULL), ==, KVMLOG_SOMETHING);
    g_assert_cmpint(kvmlog_step(areas, 2, taken, NULL), ==, -ENXIO);
}

int main(int argc, char **argv)
{
    void *libc = NULL;
    char why[VT_NAME];

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(got_hook("ioctl", (void *)fake_ioctl, &libc), >, 0);
    memcpy(&libc_ioctl, &libc, sizeof(libc));
    g_assert_cmpint(kvmlog_init(NULL), ==, 0);
    g_assert_false(kvmlog_usable(why));
    begin();
    g_assert_true(kvmlog_usable(why));
    g_test_add_func("/vmm-kvmlog/exact", test_exact);
    g_test_add_func("/vmm-kvmlog/migrations", test_migrations);
    g_test_add_func("/vmm-kvmlog/late", test_late);
    g_test_add_func("/vmm-kvmlog/slots", test_slots);
    g_test_add_func("/vmm-kvmlog/stop", test_stop);
    g_test_add_func("/vmm-kvmlog/range", test_range);
    g_test_add_func("/vmm-kvmlog/quiet", test_quiet);
    g_test_add_func("/vmm-kvmlog/refused", test_refused);
    return g_test_run();
}
