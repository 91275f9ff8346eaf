// SPDX-License-Identifier: GPL-2.0-or-later
// link: -rdynamic
/*
 * Stepping aside for another user of userfaultfd, on memory of our own: this program is the QEMU whose
 * ioctl() is hooked. Needs /dev/userfaultfd.
 */
#include "two-tiers.h"
#include "vmm/letgo.h"
#include "vmm/mover.h"
#include "common/uapi.h"
#include "vmm/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GRANULE  (64u << 10)
#define GRANULES 16u
#define SIZE     ((size_t)GRANULE * GRANULES)

static unsigned changes, apis;

static void set_up(struct two_tiers *f, gconstpointer unused)
{
    (void)unused;
    two_tiers_set_up(f, SIZE, 4096, 0);
    memset(f->host, 1, SIZE);
    two_tiers_watch(f);
    changes = apis = 0;
}

static void tear_down(struct two_tiers *f, gconstpointer unused)
{
    char reason[VT_TEXT];

    (void)unused;
    g_assert_false(letgo_holds(reason));
    two_tiers_tear_down(f);
}

static void note_change(void)
{
    changes++;
}

static void note_api(void)
{
    apis++;
}

/* --- the other user ------------------------------------------------------------------------- */

static int other_open(void)
{
    struct uffdio_api api = { .api = UFFD_API };
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    int fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ioctl(fd, UFFDIO_API, &api), ==, 0);
    close(device);
    return fd;
}

static int other_register(int fd, void *start, size_t length, uint64_t mode)
{
    struct uffdio_register r = { .range = { (uintptr_t)start, length }, .mode = mode };

    return ioctl(fd, UFFDIO_REGISTER, &r) ? -errno : 0;
}

static int other_unregister(int fd, void *start, size_t length)
{
    struct uffdio_range r = { (uintptr_t)start, length };

    return ioctl(fd, UFFDIO_UNREGISTER, &r) ? -errno : 0;
}

static enum vt_status move(struct two_tiers *f, uint32_t granule, uint8_t tier)
{
    struct vt_move_one m = { .granule = f->b->first + granule, .tier = tier };
    struct mover_cost cost;

    mover_carry_out(&m, 1, 0, &cost);
    return m.status;
}

/* --- tests ---------------------------------------------------------------------------------- */

/* A block that lies in both files is registered as a whole, and comes back. */
static void test_lend(struct two_tiers *f, gconstpointer mode)
{
    char reason[VT_TEXT];
    int fd;

    for (uint32_t g = 0; g < GRANULES; g += 3)
        g_assert_cmpint(move(f, g, 1), ==, VT_ST_OK);
    fd = other_open();
    g_assert_cmpuint(apis, ==, 1);
    g_assert_cmpint(move(f, 1, 1), ==, VT_ST_OK);
    g_assert_cmpint(other_register(fd, f->host, SIZE, *(const uint64_t *)mode), ==, 0);
    g_assert_cmpuint(changes, ==, 1);
    g_assert_true(letgo_holds(reason));
    g_assert_nonnull(strstr(reason, "block test"));
    g_assert_false(f->b->watched);
    g_assert_cmpint(move(f, 2, 1), ==, VT_ST_FROZEN);
    letgo_take_back();                          /* it has it still */
    g_assert_true(letgo_has(LETGO_LENT));
    g_assert_cmpint(other_unregister(fd, f->host, SIZE), ==, 0);
    g_assert_false(letgo_has(LETGO_LENT));
    g_assert_true(f->b->watched);
    g_assert_cmpint(move(f, 2, 1), ==, VT_ST_OK);
    close(fd);
    for (size_t i = 0; i < SIZE; i += 4096)
        g_assert_cmpuint(f->host[i], ==, 1);
}

/* What is lent cannot be brought home, and nobody is told that it is there. */
static void test_not_home(struct two_tiers *f, gconstpointer unused)
{
    int fd = other_open();

    (void)unused;
    g_assert_cmpint(move(f, 1, 1), ==, VT_ST_OK);
    g_assert_cmpint(move(f, 2, 1), ==, VT_ST_OK);
    g_assert_cmpint(other_register(fd, f->host, SIZE, UFFDIO_REGISTER_MODE_WP), ==, 0);
    g_assert_cmpuint(mover_retreat(), ==, 2);
    close(fd);
    letgo_take_back();
    g_assert_cmpuint(mover_retreat(), ==, 0);
    g_assert_cmpuint(ram_tier[f->b->first + 1], ==, 0);
}

/* A descriptor that is closed is not seen, but found out. */
static void test_close(struct two_tiers *f, gconstpointer unused)
{
    int fd = other_open();

    (void)unused;
    g_assert_cmpint(other_register(fd, f->host + GRANULE, GRANULE, UFFDIO_REGISTER_MODE_WP), ==, 0);
    g_assert_true(letgo_has(LETGO_LENT));
    close(fd);
    g_assert_true(letgo_has(LETGO_LENT));
    letgo_take_back();
    g_assert_false(letgo_has(LETGO_LENT));
    g_assert_cmpint(move(f, 0, 1), ==, VT_ST_OK);
}

/* The kernel refuses the other one: everything is as before, and it sees the kernel's error. */
static void test_refused(struct two_tiers *f, gconstpointer unused)
{
    int fd = other_open();

    (void)unused;
    g_assert_cmpint(other_register(fd, f->host, SIZE, 1u << 20), ==, -EINVAL);
    g_assert_false(letgo_has(LETGO_LENT));
    g_assert_true(f->b->watched);
    g_assert_cmpint(move(f, 0, 1), ==, VT_ST_OK);
    close(fd);
}

/* Memory that is none of ours goes by. */
static void test_elsewhere(struct two_tiers *f, gconstpointer unused)
{
    void *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = other_open();

    (void)unused;
    g_assert_cmpint(other_register(fd, p, 8192, UFFDIO_REGISTER_MODE_MISSING), ==, 0);
    g_assert_false(letgo_has(LETGO_LENT));
    g_assert_cmpuint(changes, ==, 0);
    g_assert_cmpint(other_unregister(fd, p, 8192), ==, 0);
    g_assert_true(f->b->watched);
    close(fd);
    munmap(p, 8192);
}

/* A block that was under another userfaultfd before we came. */
static void test_late(struct two_tiers *f, gconstpointer unused)
{
    struct vt_err err = { 0 };
    int fd = other_open();

    (void)unused;
    ram_lock();
    g_assert_cmpint(uffd_unregister(f->b->host, f->b->length), ==, 0);
    f->b->watched = false;
    ram_unlock();
    g_assert_cmpint(other_register(fd, f->host, SIZE, UFFDIO_REGISTER_MODE_WP), ==, 0);
    g_assert_false(letgo_has(LETGO_LENT));
    ram_lock();
    g_assert_cmpint(mover_watch(f->b, &err), ==, -EBUSY);
    letgo_lend(f->b);
    ram_unlock();
    g_assert_cmpint(move(f, 0, 1), ==, VT_ST_FROZEN);
    close(fd);
    letgo_take_back();
    g_assert_cmpint(move(f, 0, 1), ==, VT_ST_OK);
}

/* The block goes while it is lent, and another one has its place: nobody's business any more. */
static void test_gone(struct two_tiers *f, gconstpointer unused)
{
    int fd = other_open();

    (void)unused;
    g_assert_cmpint(other_register(fd, f->host, SIZE, UFFDIO_REGISTER_MODE_WP), ==, 0);
    ram_lock();
    ram_drop(f->b);
    ram_unlock();
    munmap(f->host, SIZE);
    close(f->file[0]);
    close(fd);
    set_up(f, NULL);
    letgo_take_back();
    g_assert_false(letgo_has(LETGO_LENT));
    g_assert_cmpint(move(f, 0, 1), ==, VT_ST_OK);
}

/* Holds are counted by kind, and do not lift what somebody else has frozen. */
static void test_holds(struct two_tiers *f, gconstpointer unused)
{
    char reason[VT_TEXT];

    (void)unused;
    letgo_hold(LETGO_INCOMING, "in %d", 1);
    letgo_hold(LETGO_HANDOVER, "out");
    letgo_hold(LETGO_INCOMING, "again");
    g_assert_true(letgo_holds(reason));
    g_assert_cmpstr(reason, ==, "in 1");
    letgo_release(LETGO_INCOMING);
    g_assert_true(letgo_holds(reason));
    g_assert_cmpstr(reason, ==, "out");
    g_assert_cmpint(move(f, 0, 1), ==, VT_ST_FROZEN);
    letgo_freeze("somebody else");
    letgo_release(LETGO_HANDOVER);
    g_assert_false(letgo_holds(reason));
    g_assert_true(mover_frozen(reason));
    g_assert_cmpstr(reason, ==, "somebody else");
    letgo_hold(LETGO_INCOMING, "in 2");
    letgo_release(LETGO_INCOMING);
    g_assert_true(mover_frozen(reason));
    g_assert_cmpstr(reason, ==, "somebody else");
    g_assert_true(mover_thaw());
    letgo_release(LETGO_INCOMING);
    letgo_freeze("now");
    g_assert_true(mover_frozen(reason));
    g_assert_true(mover_thaw());
    g_assert_cmpint(move(f, 0, 1), ==, VT_ST_OK);
}

static void add(const char *name, void (*run)(struct two_tiers *, gconstpointer), const void *data)
{
    g_autofree char *path = g_strconcat("/letgo/", name, NULL);

    g_test_add(path, struct two_tiers, data, set_up, run, tear_down);
}

int main(int argc, char **argv)
{
    static const uint64_t wp = UFFDIO_REGISTER_MODE_WP, missing = UFFDIO_REGISTER_MODE_MISSING;
    struct vt_err err = { 0 };
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

    g_test_init(&argc, &argv, NULL);
    if (device < 0 || uffd_open(device, &err)) {
        g_print("1..0 # SKIP /dev/userfaultfd: %s\n", err.text[0] ? err.text : "cannot be opened");
        return 0;
    }
    close(device);
    g_assert_cmpint(ram_init(&err), ==, 0);
    ram_set_granule(GRANULE);
    letgo_on(note_change, note_api);
    g_assert_cmpint(letgo_init(&err), ==, 0);
    add("lend-wp", test_lend, &wp);
    add("lend-missing", test_lend, &missing);
    add("not-home", test_not_home, NULL);
    add("close", test_close, NULL);
    add("refused", test_refused, NULL);
    add("elsewhere", test_elsewhere, NULL);
    add("late", test_late, NULL);
    add("gone", test_gone, NULL);
    add("holds", test_holds, NULL);
    return g_test_run();
}
