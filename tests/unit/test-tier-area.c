// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the file that VMs share as a tier: who gets which piece, that a piece is its owner's as
 * long as the owner can reach it and no longer, through a restart of the daemon too, and that nobody
 * reads what another one has left.
 *
 * timeout: 60
 */
#include "host/tier-area.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1ull << 20)

struct bed {
    char *path;
    struct tier_area *area;
};

static struct bed bed_new(guint64 mib)
{
    struct bed b = { .path = g_strdup("/dev/shm/vmtier-area-XXXXXX") };
    int fd = g_mkstemp(b.path);
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)(mib * MIB)), ==, 0);
    close(fd);
    b.area = tier_area_new(b.path, &error);
    g_assert_no_error(error);
    return b;
}

static void bed_free(struct bed *b)
{
    tier_area_free(b->area);
    g_unlink(b->path);
    g_free(b->path);
}

/* The daemon ends and another one starts; VMs do not notice. */
static void restart(struct bed *b)
{
    tier_area_free(b->area);
    b->area = tier_area_new(b->path, NULL);
    g_assert_nonnull(b->area);
}

struct piece {
    int fd;
    guint64 at, length;
};

static struct piece take(struct bed *b, guint64 mib)
{
    g_autoptr(GError) error = NULL;
    struct piece p = { .length = mib * MIB };

    p.fd = tier_area_take(b->area, p.length, 2 * MIB, &p.at, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(p.at % (2 * MIB), ==, 0);
    return p;
}

static void expect_full(struct bed *b, guint64 mib, const char *says)
{
    g_autoptr(GError) error = NULL;
    guint64 at;

    g_assert_cmpint(tier_area_take(b->area, mib * MIB, 2 * MIB, &at, &error), ==, -1);
    if (!g_pattern_match_simple(says, error->message))
        g_error("'%s' does not say '%s'", error->message, says);
}

static void write_at(const struct piece *p, guint64 at, char what)
{
    g_assert_cmpint(pwrite(p->fd, &what, 1, (off_t)(p->at + at)), ==, 1);
}

static guint8 read_at(const struct piece *p, guint64 at)
{
    guint8 c = 'x';

    g_assert_cmpint(pread(p->fd, &c, 1, (off_t)(p->at + at)), ==, 1);
    return c;
}

static guint64 allocated(const struct bed *b)
{
    struct stat st;

    g_assert_cmpint(stat(b->path, &st), ==, 0);
    return (guint64)st.st_blocks * 512;
}

/* --- who gets what ------------------------------------------------------------------------------ */

static void test_first_fit(void)
{
    struct bed b = bed_new(32);
    struct piece one = take(&b, 8), two = take(&b, 6), three = take(&b, 4), again;

    g_assert_cmpuint(one.at, ==, 0);
    g_assert_cmpuint(two.at, ==, 8 * MIB);
    g_assert_cmpuint(three.at, ==, 14 * MIB);
    close(two.fd);
    again = take(&b, 4);            /* in the hole, and what is left of it stays for a smaller one */
    g_assert_cmpuint(again.at, ==, 8 * MIB);
    two = take(&b, 2);
    g_assert_cmpuint(two.at, ==, 12 * MIB);
    close(one.fd);
    close(two.fd);
    close(three.fd);
    close(again.fd);
    bed_free(&b);
}

static void test_alignment(void)
{
    struct bed b = bed_new(64);
    struct piece odd = take(&b, 2), big;
    g_autoptr(GError) error = NULL;

    big.fd = tier_area_take(b.area, 5 * MIB, 16 * MIB, &big.at, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(big.at, ==, 16 * MIB);
    g_assert_cmpuint(tier_area_room(b.area).unused, ==, (64 - 2 - 16) * MIB);   /* rounded up */
    close(odd.fd);
    close(big.fd);
    bed_free(&b);
}

/* Enough is free and none of it together: the error says both. */
static void test_fragmented(void)
{
    struct bed b = bed_new(32);
    struct piece p[8];

    for (int i = 0; i < 8; i++)
        p[i] = take(&b, 4);
    expect_full(&b, 2, "* has no 2 MiB in one piece: of its 32 MiB 0 are unused, 0 at most together*");
    for (int i = 0; i < 8; i += 2)
        close(p[i].fd);
    expect_full(&b, 8, "*vmtier-area-* has no 8 MiB in one piece: of its 32 MiB 16 are unused, 4 at most "
                "together; make the file longer (truncate -s)");
    close(p[1].fd);
    p[0] = take(&b, 8);
    g_assert_cmpuint(p[0].at, ==, 0);
    close(p[0].fd);
    for (int i = 3; i < 8; i += 2)
        close(p[i].fd);
    g_assert_cmpuint(tier_area_room(b.area).longest, ==, 32 * MIB);
    bed_free(&b);
}

/* What is said to do helps: the file may grow while the daemon runs. */
static void test_longer(void)
{
    struct bed b = bed_new(4);
    struct piece one = take(&b, 4), two;

    expect_full(&b, 4, "*make the file longer*");
    g_assert_cmpint(truncate(b.path, 8 * MIB), ==, 0);
    two = take(&b, 4);
    g_assert_cmpuint(two.at, ==, 4 * MIB);
    close(one.fd);
    close(two.fd);
    bed_free(&b);
}

static gpointer take_many(gpointer data)
{
    struct bed *b = data;

    for (int i = 0; i < 200; i++) {
        struct piece p = take(b, 2);

        g_assert_cmpint(read_at(&p, 4096), ==, 0);
        write_at(&p, 4096, 'd');
        g_assert_cmpint(read_at(&p, 4096), ==, 'd');    /* nobody else has been given it */
        close(p.fd);
    }
    return NULL;
}

static void test_threads(void)
{
    struct bed b = bed_new(16);
    GThread *thread[4];

    for (int i = 0; i < 4; i++)
        thread[i] = g_thread_new("taker", take_many, &b);
    for (int i = 0; i < 4; i++)
        g_thread_join(thread[i]);
    bed_free(&b);
}

/* --- how long it is theirs ----------------------------------------------------------------------- */

/* A VM of another process: has the piece mapped, and no descriptor of it any more. */
static pid_t start_vm(const struct piece *p)
{
    int ready[2];
    char c;
    pid_t pid;

    g_assert_cmpint(pipe(ready), ==, 0);
    pid = fork();
    if (pid == 0) {
        volatile char *map = mmap(NULL, p->length, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd,
                                  (off_t)p->at);

        close(p->fd);
        map[5000] = 'v';
        if (write(ready[1], "r", 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    g_assert_cmpint(read(ready[0], &c, 1), ==, 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void end_vm(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void test_restart(void)
{
    struct bed b = bed_new(16);
    struct piece p = take(&b, 8), other;
    pid_t vm = start_vm(&p);

    close(p.fd);                    /* the daemon has lost the link, or has died */
    restart(&b);
    g_assert_cmpuint(tier_area_room(b.area).unused, ==, 8 * MIB);
    other = take(&b, 8);
    g_assert_cmpuint(other.at, ==, 8 * MIB);
    tier_area_sweep(b.area);
    expect_full(&b, 2, "*0 are unused*");
    p.fd = other.fd;
    g_assert_cmpint(read_at(&p, 5000), ==, 'v');        /* and nobody has touched it */
    end_vm(vm);
    p = take(&b, 8);
    g_assert_cmpuint(p.at, ==, 0);
    close(p.fd);
    close(other.fd);
    bed_free(&b);
}

/* --- what is left behind -------------------------------------------------------------------------- */

static void test_zero(void)
{
    struct bed b = bed_new(16);
    struct piece p = take(&b, 8), next;

    for (guint64 at = 0; at < 8 * MIB; at += 4096)
        write_at(&p, at + at / 4096 % 4096, 'a');
    close(p.fd);
    next = take(&b, 8);
    g_assert_cmpuint(next.at, ==, p.at);
    g_assert_cmpuint(allocated(&b), ==, 0);
    for (guint64 at = 0; at < 8 * MIB; at += 4096)
        g_assert_cmpint(read_at(&next, at + at / 4096 % 4096), ==, 0);
    close(next.fd);
    bed_free(&b);
}

/* Memory comes back without anybody asking for it, and only that of those who are gone. */
static void test_sweep(void)
{
    struct bed b = bed_new(16);
    struct piece gone = take(&b, 4), stays = take(&b, 4);

    write_at(&gone, 100, 'a');
    write_at(&stays, 100, 'b');
    g_assert_cmpuint(tier_area_sweep(b.area), ==, 0);
    close(gone.fd);
    for (int i = 0; i < 300 && allocated(&b) > 4096; i++)
        g_usleep(20000);
    g_assert_cmpuint(allocated(&b), ==, 4096);
    g_assert_cmpint(read_at(&stays, 100), ==, 'b');
    close(stays.fd);
    bed_free(&b);
}

/* While no daemon ran, too. */
static void test_sweep_at_start(void)
{
    struct bed b = bed_new(16);
    struct piece p = take(&b, 4);

    tier_area_free(b.area);
    write_at(&p, 100, 'a');
    close(p.fd);
    g_assert_cmpuint(allocated(&b), ==, 4096);
    b.area = tier_area_new(b.path, NULL);
    for (int i = 0; i < 300 && allocated(&b); i++)
        g_usleep(20000);
    g_assert_cmpuint(allocated(&b), ==, 0);
    bed_free(&b);
}

/* A QEMU may set as many locks as it likes: that costs it nothing and us no more than the search. */
static void test_many_locks(void)
{
    struct bed b = bed_new(256);
    struct piece p = take(&b, 64);

    for (int i = 0; i < 2000; i++) {
        struct flock l = { .l_type = F_RDLCK, .l_start = 64 * MIB + i * 8192LL, .l_len = 1 };

        g_assert_cmpint(fcntl(p.fd, F_OFD_SETLK, &l), ==, 0);
    }
    struct piece next = take(&b, 64);

    g_assert_cmpuint(next.at, >=, 64 * MIB + 2000 * 8192);
    close(p.fd);
    close(next.fd);
    bed_free(&b);
}

/* --- files that are none --------------------------------------------------------------------------- */

static void test_bad_file(void)
{
    g_autoptr(GError) none = NULL, empty = NULL;
    g_autofree char *path = g_strdup("/dev/shm/vmtier-area-XXXXXX");
    int fd = g_mkstemp(path);

    g_assert_null(tier_area_new("/dev/shm/no/such/file", &none));
    g_assert_nonnull(strstr(none->message, "path=/dev/shm/no/such/file: No such file"));
    g_assert_null(tier_area_new(path, &empty));
    g_assert_nonnull(strstr(empty->message, " is empty: make it as long as the tier is to be"));
    close(fd);
    g_unlink(path);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tier-area/first-fit", test_first_fit);
    g_test_add_func("/tier-area/alignment", test_alignment);
    g_test_add_func("/tier-area/fragmented", test_fragmented);
    g_test_add_func("/tier-area/longer", test_longer);
    g_test_add_func("/tier-area/threads", test_threads);
    g_test_add_func("/tier-area/restart", test_restart);
    g_test_add_func("/tier-area/zero", test_zero);
    g_test_add_func("/tier-area/sweep", test_sweep);
    g_test_add_func("/tier-area/sweep-at-start", test_sweep_at_start);
    g_test_add_func("/tier-area/many-locks", test_many_locks);
    g_test_add_func("/tier-area/bad-file", test_bad_file);
    return g_test_run();
}
