// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of batches of move_pages(2) against this kernel: pages of child processes, absent, zero, huge,
 * shared and pinned ones, permissions, and processes that end. What needs a second node is skipped where
 * there is none; tests/vm/test-numa-nodes.sh runs this program in a machine that has two.
 *
 * timeout: 120
 */
#include "host/mover/pages.h"
#include "kid.h"
#include "page-table.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <numa.h>
#include <numaif.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES  KID_PAGES
#define BYTES  KID_BYTES
#define NOBODY 65534

static int slow_node;           /* of the second tier; without one the first node's number + 1 */

/* First touches go to node 0, whatever CPU this runs on. */
static bool bind_memory(void)
{
    unsigned long nodes = 1;

    return mbind(memory, BYTES, MPOL_BIND, &nodes, 8 * sizeof(nodes), 0) == 0;
}

static bool set_up_plain(void)
{
    bool ok = bind_memory() && madvise(memory, BYTES, MADV_NOHUGEPAGE) == 0;

    stamp(0, PAGES);
    return ok;
}

static const struct role plain = { set_up_plain, NULL };

/* --- tiers, and asking ------------------------------------------------------------------------------------- */

static struct tiers *two_tiers(void)
{
    struct tiers *tiers = g_new0(struct tiers, 1);
    int nodes[] = { 0, slow_node };

    for (; tiers->n < 2; tiers->n++) {
        tiers->tier[tiers->n].mask = numa_bitmask_alloc(64);
        numa_bitmask_setbit(tiers->tier[tiers->n].mask, (unsigned)nodes[tiers->n]);
    }
    return tiers;
}

static int run_on(struct pages *p, guint first, guint n, int tier, struct pages_got *got)
{
    struct pages_want want = { (uintptr_t)memory + (guint64)first * PAGE_BYTES,
                               (guint64)n * PAGE_BYTES, PAGE_BYTES, tier };
    struct vt_err err = { 0 };
    int rc = pages_run(p, &want, got, 1, &err);

    if (rc)
        g_test_message("%s", err.text);
    return rc;
}

static int run(const struct kid *kid, int tier, struct pages_got *got)
{
    struct tiers *tiers = two_tiers();
    struct pages *p = pages_new(kid->pid, kid->pidfd, tiers);
    int rc = run_on(p, 0, PAGES, tier, got);

    pages_free(p);
    tiers_free(tiers);
    return rc;
}

static bool need_two_nodes(void)
{
    if (slow_node <= numa_max_node())
        return true;
    g_test_skip("this host has one NUMA node: nothing can be moved");
    return false;
}

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    close(fd);
    return ok;
}

static bool need_root(void)
{
    if (geteuid() == 0)
        return true;
    g_test_skip("only root can become somebody else, or choose a pid");
    return false;
}

/* --- what is where ------------------------------------------------------------------------------------------- */

static bool set_up_holes(void)
{
    volatile char sum = 0;
    bool ok = bind_memory() && madvise(memory, BYTES, MADV_NOHUGEPAGE) == 0;

    stamp(0, 100);
    stamp(150, 50);
    for (guint i = 300; i < 310; i++)   /* the zero page */
        sum = (char)(sum + memory[(gsize)i * PAGE_BYTES]);
    return ok && munmap(memory + 400 * PAGE_BYTES, 100 * PAGE_BYTES) == 0;
}

static const struct role holes = { set_up_holes, NULL };

static void test_holes(void)
{
    struct kid kid = kid_start(&holes);
    struct pages_got got;

    g_assert_cmpint(run(&kid, PAGES_STAY, &got), ==, 0);
    g_assert_cmpuint(got.in[0], ==, page_table_only_read() < 0 ? 150 : 160);
    g_assert_cmpuint(got.in[1] + got.in[2], ==, 0);
    kid_end(&kid);
}

/* The answers that pages.c, and the stand-in of the other tests, rely on. */
static void test_abi(void)
{
    struct kid kid = kid_start(&holes);
    const guint page[] = { 0, 120, 300, 450, 1, 0 };
    const int says[] = { 0, -ENOENT, page_table_only_read(), -EFAULT, 0, 0 };
    const int nodes[] = { 0, 0, 0, 0, 0, 0 };
    const int no_node[] = { 0, 63, 0, 0, 0, 0 };
    int status[6];
    void *at[6];

    for (int i = 0; i < 6; i++)
        at[i] = memory + (gsize)page[i] * PAGE_BYTES;
    g_assert_cmpint(move_pages(kid.pid, 6, at, NULL, status, 0), ==, 0);
    for (int i = 0; i < 6; i++)
        g_assert_cmpint(status[i], ==, says[i]);
    memset(status, 0x55, sizeof(status));
    g_assert_cmpint(move_pages(kid.pid, 6, at, nodes, status, MPOL_MF_MOVE), ==, 0);
    for (int i = 0; i < 6; i++)
        g_assert_cmpint(status[i], ==, says[i]);
    g_assert_cmpint(move_pages(kid.pid, 6, at, no_node, status, MPOL_MF_MOVE), ==, -1);
    g_assert_cmpint(errno, ==, ENODEV);
    kid_end(&kid);
}

static bool set_up_huge(void)
{
    bool ok = bind_memory() && madvise(memory, BYTES / 2, MADV_HUGEPAGE) == 0 &&
              madvise(memory + BYTES / 2, BYTES / 2, MADV_NOHUGEPAGE) == 0;

    stamp(0, PAGES);
    return ok;
}

static const struct role huge = { set_up_huge, NULL };

static void test_huge(void)
{
    struct kid kid = kid_start(&huge);
    struct pages_got got;

    g_assert_cmpint(run(&kid, PAGES_STAY, &got), ==, 0);
    g_assert_cmpuint(got.in[0], ==, PAGES);
    if (slow_node <= numa_max_node())
        for (int tier = 1; tier >= 0; tier--) {
            g_assert_cmpint(run(&kid, tier, &got), ==, 0);
            g_assert_cmpuint(got.in[tier], ==, PAGES);
            g_assert_cmpuint(got.moved, ==, PAGES);
            g_assert_true(kid_does(&kid, 'v'));
        }
    kid_end(&kid);
}

/* --- who may ------------------------------------------------------------------------------------------------- */

static void test_not_permitted(void)
{
    struct kid kid;
    struct pages_got got;
    int status;
    pid_t pid;

    if (!need_root())
        return;
    kid = kid_start(&plain);
    pid = fork();
    if (pid == 0)
        _exit(setresuid(NOBODY, NOBODY, NOBODY) ? 1 : run(&kid, PAGES_STAY, &got) == -EPERM ? 0 : 2);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
    kid_end(&kid);
}

/* --- processes that end ---------------------------------------------------------------------------------------- */

static void test_ended(void)
{
    struct kid kid = kid_start(&plain);
    struct pages_got got;
    siginfo_t info;

    kill(kid.pid, SIGKILL);
    g_assert_cmpint(waitid(P_PID, (id_t)kid.pid, &info, WEXITED | WNOWAIT), ==, 0);
    g_assert_cmpint(run(&kid, PAGES_STAY, &got), ==, -ESRCH);   /* a zombie */
    kid_reap(&kid);
    g_assert_cmpint(run(&kid, PAGES_STAY, &got), ==, -ESRCH);
    g_assert_cmpint(run(&kid, 1, &got), ==, -ESRCH);
    g_assert_false(got.known);
    close(kid.pidfd);
}

/* Another process has got the pid: it is not taken for the one that had it. */
static void test_pid_reused(void)
{
    struct pages_got got;
    struct kid kid, other;

    if (!need_root())
        return;
    kid = kid_start(&plain);
    kid_reap(&kid);
    other = kid_start_as(&plain, kid.pid);
    if (other.pid < 0) {
        g_test_skip("this kernel lets nobody choose a pid");
        return;
    }
    g_assert_cmpint(other.pid, ==, kid.pid);
    g_assert_cmpint(run(&kid, PAGES_STAY, &got), ==, -ESRCH);
    g_assert_cmpint(run(&kid, 1, &got), ==, -ESRCH);
    g_assert_cmpint(run(&other, PAGES_STAY, &got), ==, 0);
    g_assert_cmpuint(got.in[0], ==, PAGES);
    close(kid.pidfd);
    kid_end(&other);
}

static gpointer kill_soon(gpointer data)
{
    g_usleep((gulong)g_random_int_range(0, 5000));
    kill((pid_t)GPOINTER_TO_INT(data), SIGKILL);
    return NULL;
}

/* It ends while it is looked at or moved: then that is said, and nothing else ever. */
static void test_ends_amid(void)
{
    for (int i = 0; i < 20; i++) {
        struct kid kid = kid_start(&plain);
        GThread *killer = g_thread_new("killer", kill_soon, GINT_TO_POINTER(kid.pid));
        struct pages_got got;
        int rc, turn = 0;

        do {
            rc = run(&kid, turn++ % 2, &got);
        } while (!rc);
        g_assert_cmpint(rc, ==, -ESRCH);
        g_thread_join(killer);
        kid_end(&kid);
    }
}

/* --- moves: two nodes ------------------------------------------------------------------------------------------ */

static void test_move(void)
{
    struct kid kid;
    struct pages_got got;

    if (!need_two_nodes())
        return;
    kid = kid_start(&plain);
    for (int i = 0; i < 10; i++) {
        int tier = i % 2 ? 0 : 1;

        g_assert_cmpint(run(&kid, tier, &got), ==, 0);
        g_assert_cmpuint(got.moved, ==, PAGES);
        g_assert_cmpuint(got.left, ==, 0);
        g_assert_cmpint(run(&kid, PAGES_STAY, &got), ==, 0);
        g_assert_cmpuint(got.in[tier], ==, PAGES);
    }
    g_assert_true(kid_does(&kid, 'v'));
    kid_end(&kid);
}

/* A file's pages that two processes have mapped: with CAP_SYS_NICE they move, without it they stay. */

static char *map_shared(void)
{
    unsigned long nodes = 1;
    int fd = memfd_create("numa-test", MFD_CLOEXEC);
    char *at;

    g_assert_cmpint(ftruncate(fd, (off_t)BYTES), ==, 0);
    at = mmap(memory, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    g_assert_true(at == memory && mbind(at, BYTES, MPOL_BIND, &nodes, 8 * sizeof(nodes), 0) == 0);
    close(fd);
    return at;
}

static void map_again(void)
{
    g_assert_true(mmap(memory, BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory);
}

static int run_without_caps(const struct kid *kid)
{
    struct pages_got got;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        /* The owner of both, without root's capabilities. */
        if (setresuid(NOBODY, NOBODY, NOBODY) || prctl(PR_SET_DUMPABLE, 1))
            _exit(3);
        status = run(kid, 1, &got);
        _exit(status ? 4 : got.why == EACCES && got.left == PAGES ? 0 : 5);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    return status;
}

static bool become_nobody(void)
{
    return setresgid(0, 0, 0) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0 &&
           prctl(PR_SET_DUMPABLE, 1) == 0 && is_stamped(0, PAGES);
}

static const struct role nobody = { become_nobody, NULL };

static void test_shared(void)
{
    struct kid kid;
    struct pages_got got;

    if (!need_two_nodes() || !need_root())
        return;
    map_shared();
    stamp(0, PAGES);
    kid = kid_start(&nobody);
    g_assert_cmpint(run_without_caps(&kid), ==, 0);
    g_assert_cmpint(run(&kid, 1, &got), ==, 0);
    g_assert_cmpuint(got.moved, ==, PAGES);
    g_assert_true(kid_does(&kid, 'v'));
    kid_end(&kid);
    map_again();
}

/* hugetlb, if the host has pages set aside for it. */
static bool set_up_hugetlb(void)
{
    char *at = mmap(memory, BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB, -1, 0);
    bool ok = at == memory && bind_memory();

    if (ok)
        stamp(0, PAGES);
    return ok;
}

static const struct role hugetlb = { set_up_hugetlb, NULL };

static bool huge_pages_free(void)
{
    g_autofree char *text = NULL;
    const char *at;

    g_file_get_contents("/proc/meminfo", &text, NULL, NULL);
    at = text ? strstr(text, "HugePages_Free:") : NULL;
    return at && g_ascii_strtoull(at + strlen("HugePages_Free:"), NULL, 10) >= BYTES / (2 << 20);
}

static void test_hugetlb(void)
{
    struct pages_got got;
    struct kid kid;

    if (!huge_pages_free()) {
        g_test_skip("this host has no huge pages set aside (vm.nr_hugepages)");
        return;
    }
    kid = kid_start(&hugetlb);
    g_assert_cmpint(run(&kid, PAGES_STAY, &got), ==, 0);
    g_assert_cmpuint(got.in[0], ==, PAGES);
    for (int tier = 1; tier >= 0 && slow_node <= numa_max_node(); tier--) {
        g_assert_cmpint(run(&kid, tier, &got), ==, 0);
        g_assert_cmpuint(got.in[tier], ==, PAGES);
        g_assert_cmpuint(got.moved, ==, PAGES);
        g_assert_true(kid_does(&kid, 'v'));
    }
    kid_end(&kid);
}

/* Its cgroup does not let it have the node: nothing moves, and it is said what to do. Only in a machine
 * of our own, whose cgroups are nobody else's. */
static void test_cpuset(void)
{
    static const char group[] = "/sys/fs/cgroup/numa-real";
    g_autofree char *pid = NULL;
    struct pages_got got;
    struct kid kid;

    if (!g_getenv("NUMA_LAB") || !need_two_nodes())
        return;
    kid = kid_start(&plain);
    pid = g_strdup_printf("%d", (int)kid.pid);
    g_assert_true(write_file("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset"));
    g_assert_cmpint(mkdir(group, 0755), ==, 0);
    g_assert_true(write_file("/sys/fs/cgroup/numa-real/cpuset.mems", "0"));
    g_assert_true(write_file("/sys/fs/cgroup/numa-real/cgroup.procs", pid));
    g_assert_cmpint(run(&kid, 1, &got), ==, -EACCES);
    g_assert_false(got.known);
    g_assert_true(write_file("/sys/fs/cgroup/numa-real/cpuset.mems", "0-1"));
    g_assert_cmpint(run(&kid, 1, &got), ==, 0);
    g_assert_cmpuint(got.moved, ==, PAGES);
    kid_end(&kid);
    rmdir(group);
}

/* --- pinned pages: two nodes ------------------------------------------------------------------------------------- */

static int ring = -1;

/* Pages [10, 20) are a fixed buffer of an io_uring, as QEMU's RAM under passthrough. */
static bool set_up_pinned(void)
{
    struct io_uring_params params = { 0 };
    struct iovec buffer = { memory + 10 * PAGE_BYTES, 10 * PAGE_BYTES };

    if (!set_up_plain())
        return false;
    ring = (int)syscall(SYS_io_uring_setup, 1, &params);
    return ring >= 0 &&
           syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1) == 0;
}

static bool obey_pinned(char command)
{
    if (command == 'u')
        return syscall(SYS_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL, 0) == 0;
    return is_stamped(0, PAGES);
}

static const struct role pinned = { set_up_pinned, obey_pinned };

static void test_pinned(void)
{
    struct kid kid;
    struct pages_got got;

    if (!need_two_nodes())
        return;
    kid = kid_start(&pinned);
    g_assert_cmpint(run(&kid, 1, &got), ==, 0);
    g_assert_cmpuint(got.left, ==, 10);
    g_assert_cmpint(got.why, ==, EBUSY);
    g_assert_cmpuint(got.in[0], ==, 10);
    g_assert_cmpuint(got.in[1], ==, PAGES - 10);
    g_assert_true(kid_does(&kid, 'v'));
    g_assert_true(kid_does(&kid, 'u'));
    for (int i = 0; i < 50 && got.left; i++) {      /* the kernel unpins a moment later */
        g_usleep(20000);
        g_assert_cmpint(run(&kid, 1, &got), ==, 0);
    }
    g_assert_cmpuint(got.left, ==, 0);
    g_assert_true(kid_does(&kid, 'v'));
    kid_end(&kid);
}

static int gift[2];

/* Pages [100, 104) lie in a pipe, by reference. */
static bool set_up_spliced(void)
{
    struct iovec pages = { memory + 100 * PAGE_BYTES, 4 * PAGE_BYTES };

    return set_up_plain() && pipe(gift) == 0 && vmsplice(gift[1], &pages, 1, 0) == 4 * PAGE_BYTES;
}

static bool obey_spliced(char command)
{
    char bytes[4 * PAGE_BYTES];

    return command == 'u' ? read(gift[0], bytes, sizeof(bytes)) == sizeof(bytes) : is_stamped(0, PAGES);
}

static const struct role spliced = { set_up_spliced, obey_spliced };

static void test_spliced(void)
{
    struct kid kid;
    struct pages_got got;

    if (!need_two_nodes())
        return;
    kid = kid_start(&spliced);
    g_assert_cmpint(run(&kid, 1, &got), ==, 0);
    g_assert_cmpuint(got.left, ==, 4);
    g_assert_true(kid_does(&kid, 'u'));
    g_assert_cmpint(run(&kid, 1, &got), ==, 0);
    g_assert_cmpuint(got.left, ==, 0);
    g_assert_true(kid_does(&kid, 'v'));
    kid_end(&kid);
}

/* --- a writer that does not stop: two nodes ----------------------------------------------------- */

static guint64 lost;

static gpointer write_on(gpointer unused)
{
    (void)unused;
    for (guint64 round = 1;; round++)
        for (guint i = 0; i < PAGES; i++) {
            volatile guint64 *at = (guint64 *)(gpointer)(memory + (gsize)i * PAGE_BYTES + 8);

            lost += *at != round - 1;
            *at = round;
        }
    return NULL;
}

static bool set_up_writer(void)
{
    bool ok = set_up_plain();

    g_thread_unref(g_thread_new("writer", write_on, NULL));
    return ok;
}

static bool obey_writer(char command)
{
    (void)command;
    return lost == 0;
}

static const struct role writer = { set_up_writer, obey_writer };

static void test_writer(void)
{
    guint64 moved = 0;
    struct kid kid;

    if (!need_two_nodes())
        return;
    kid = kid_start(&writer);
    for (int i = 0; i < 60; i++) {
        struct pages_got got;

        g_assert_cmpint(run(&kid, i % 2 ? 0 : 1, &got), ==, 0);
        moved += got.moved;
    }
    g_test_message("%" G_GUINT64_FORMAT " pages moved under a writer", moved);
    g_assert_cmpuint(moved, >, 30 * PAGES);
    g_assert_true(kid_does(&kid, 'v'));
    kid_end(&kid);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    kid_prepare();
    slow_node = MAX(numa_max_node(), 1);
    g_test_add_func("/numa-real/holes", test_holes);
    g_test_add_func("/numa-real/abi", test_abi);
    g_test_add_func("/numa-real/huge", test_huge);
    g_test_add_func("/numa-real/not-permitted", test_not_permitted);
    g_test_add_func("/numa-real/ended", test_ended);
    g_test_add_func("/numa-real/pid-reused", test_pid_reused);
    g_test_add_func("/numa-real/ends-amid", test_ends_amid);
    g_test_add_func("/numa-real/move", test_move);
    g_test_add_func("/numa-real/shared", test_shared);
    g_test_add_func("/numa-real/hugetlb", test_hugetlb);
    g_test_add_func("/numa-real/cpuset", test_cpuset);
    g_test_add_func("/numa-real/pinned", test_pinned);
    g_test_add_func("/numa-real/spliced", test_spliced);
    g_test_add_func("/numa-real/writer", test_writer);
    return g_test_run();
}
