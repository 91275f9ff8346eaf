// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmtier-agent on machines of all sizes: what it says of them, and that its memory and time stay what they are. A
 * directory with files like the kernel's is its /proc; flags that are a hole in a file are of pages in use.
 * How many mappings a process may have is this machine's matter.
 *
 * timeout: 180
 */
#include "agent-host.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define GIB      (1ull << 30)
#define PAGE     4096u
#define WINDOW   (2ull << 20)
#define BUDDY    (1ull << 10)
#define MAPPINGS 40000

static const char two_pieces[] =
    "00001000-0009fbff : System RAM\n"
    "00100000-3fffffff : System RAM\n"
    "  01000000-01ffffff : Kernel code\n"
    "40000000-7fffffff : virtio0\n"
    "  48000000-4fffffff : System RAM (virtio_mem)\n"
    "fec00000-fec003ff : IOAPIC 0\n";

/* --- a /proc ------------------------------------------------------------------------------------------ */

/* Flags for `pages`; none is free. */
static char *proc_new(const char *iomem, guint64 pages)
{
    char *proc = g_dir_make_tmp("vmtier-proc-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(proc, "iomem", NULL);
    g_autofree char *flags = g_build_filename(proc, "kpageflags", NULL);
    int fd;

    g_assert_true(g_file_set_contents(file, iomem, -1, NULL));
    fd = open(flags, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(ftruncate(fd, (off_t)(pages * 8)), ==, 0);
    close(fd);
    return proc;
}

static void set_free(const char *proc, guint64 gpa, guint64 bytes)
{
    g_autofree char *path = g_build_filename(proc, "kpageflags", NULL);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    guint64 flags[WINDOW / PAGE];

    for (guint i = 0; i < G_N_ELEMENTS(flags); i++)
        flags[i] = BUDDY;
    for (guint64 at = gpa; at < gpa + bytes; at += WINDOW)
        g_assert_cmpint(pwrite(fd, flags, sizeof(flags), (off_t)(at / PAGE * 8)), ==, sizeof(flags));
    close(fd);
}

static void proc_free(char *proc)
{
    char *argv[] = { (char *)"rm", (char *)"-rf", proc, NULL };

    g_assert_true(g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
    g_free(proc);
}

static struct host *host_on(const char *proc, const char *more)
{
    g_autofree char *text = g_strdup_printf("proc=%s\ncollect=free\n%s", proc, more);

    return host_at_pty(text);
}

static guint64 number_after(const char *path, const char *name)
{
    g_autofree char *text = NULL;
    const char *at;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    at = strstr(text, name);
    g_assert_nonnull(at);
    return g_ascii_strtoull(at + strlen(name), NULL, 10);
}

/* Adds up what comes of this kind, as the host gives credits for it, until it is enough. */
static guint64 bytes_of(struct host *h, enum vta_kind kind, guint64 enough, double timeout)
{
    guint64 bytes = 0;

    for (double end = now_s() + timeout; now_s() < end && bytes < enough;) {
        struct vta_frame f = { .credit = { 8, 0 } };

        if (hear(h, VTA_HINTS, 0.2))
            for (guint32 i = 0; i < h->f.hints.count; i++)
                bytes += h->f.hints.range[i].kind == kind ? h->f.hints.range[i].length : 0;
        say(h, VTA_CREDIT, &f, sizeof(f.credit));
    }
    return bytes;
}

/* --- where RAM is ------------------------------------------------------------------------------------- */

/* Memory that a driver has brought is RAM as well. */
static void test_plugged(void)
{
    struct host *h;
    char *proc;

    if (!may_run())
        return;
    proc = proc_new(two_pieces, 0x80000000 / PAGE);
    set_free(proc, 0x4a000000, 4 * WINDOW);
    h = host_on(proc, "cpu=1000\n");
    welcome(h, 4);
    g_assert_true(hear(h, VTA_HINTS, 60));
    g_assert_cmpuint(h->f.hints.count, ==, 1);
    g_assert_cmpuint(h->f.hints.range[0].kind, ==, VTA_FREE);
    g_assert_cmpuint(h->f.hints.range[0].gpa, ==, 0x4a000000);
    g_assert_cmpuint(h->f.hints.range[0].length, ==, 4 * WINDOW);
    g_assert_cmpuint(h->f.hints.range[0].share, ==, VTA_SHARE);
    host_free(h);
    proc_free(proc);
}

/* The host asks, and has an answer long before the next pass would be. */
static void test_asked(void)
{
    struct vta_frame f = { .ask = { (1u << VTA_KIND_END) - 2, 0 } };
    struct host *h;
    char *proc;

    if (!may_run())
        return;
    proc = proc_new(two_pieces, 0x80000000 / PAGE);
    set_free(proc, 0x4a000000, WINDOW);
    h = host_on(proc, "cpu=1000\npass=3600\n");
    welcome(h, 100);
    g_assert_true(hear(h, VTA_HINTS, 60));
    wait_status(h, "passes: 1,");
    g_assert_false(hear(h, VTA_HINTS, 1));
    say(h, VTA_ASK, &f, sizeof(f.ask));
    g_assert_true(hear(h, VTA_HINTS, 60));
    wait_status(h, "passes: 2,");
    host_free(h);
    proc_free(proc);
}

/* --- a large machine ---------------------------------------------------------------------------------- */

/* 4 TiB at the CPU time that is the default: a sample of each window, and neither memory nor time grow. */
static void test_4tib(void)
{
    g_autofree char *schedstat = NULL, *status = NULL;
    guint64 cpu_ns, peak_kib, bytes;
    struct host *h;
    double start_s;
    char *proc;

    if (!may_run())
        return;
    proc = proc_new("100000000-4000fffffff : System RAM\n", 1100ull * 4 * GIB / PAGE);
    set_free(proc, 4 * GIB, 64 * WINDOW);
    h = host_on(proc, "");
    schedstat = g_strdup_printf("/proc/%d/schedstat", (int)h->agent);
    status = g_strdup_printf("/proc/%d/status", (int)h->agent);
    welcome(h, 4);
    cpu_ns = number_after(schedstat, "");
    start_s = now_s();
    bytes = bytes_of(h, VTA_FREE, 64 * WINDOW, 60);
    while (now_s() < start_s + 3)
        hear(h, VTA_HINTS, 0.2);
    cpu_ns = number_after(schedstat, "") - cpu_ns;
    peak_kib = number_after(status, "VmHWM:");
    g_test_message("%.2f %% of a core in %.1f s, at most %" G_GUINT64_FORMAT " KiB",
                   (double)cpu_ns / 1e7 / (now_s() - start_s), now_s() - start_s, peak_kib);
    g_assert_cmpuint(bytes, >=, 64 * WINDOW);
    g_assert_cmpuint(peak_kib, <, 4096);
    g_assert_cmpfloat((double)cpu_ns / 1e9, <, 0.04 + 0.004 * (now_s() - start_s));    /* the burst of the start */
    expect(h, "status", 0, true, "of 2 MiB 8 pages are looked at");
    host_free(h);
    proc_free(proc);
}

/* --- a process of many mappings ----------------------------------------------------------------------- */

static char *many_mappings(void)
{
    char *at = mmap(NULL, 2ull * MAPPINGS * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert_true(at != MAP_FAILED);
    for (gsize i = 0; i < MAPPINGS; i += 2) {
        g_assert_cmpint(mprotect(at + i * PAGE, PAGE, PROT_READ | PROT_WRITE), ==, 0);
        at[i * PAGE] = 1;
    }
    return at;
}

/*
 * Its pages are said within a round, as the list of its mappings is read once for it. A round that takes longer
 * than rules are to be refreshed leaves time for collectors.
 */
static void test_mappings(void)
{
    g_autofree char *hint = g_strdup_printf("hint --pid %d hot", (int)getpid());
    struct host *h;
    double start_s;
    char *at;

    if (!may_run())
        return;
    at = many_mappings();
    h = host_at_pty("refresh=1\ncollect=none\ncpu=1000\n");
    welcome(h, 8);
    expect(h, hint, 0, true, "noted");
    start_s = now_s();
    g_assert_cmpuint(bytes_of(h, VTA_HOT, MAPPINGS / 2 * PAGE, 60), >=, MAPPINGS / 2 * PAGE);
    g_test_message("%d pages after %.1f s", MAPPINGS / 2, now_s() - start_s);
    host_free(h);
    h = host_at_pty("refresh=1\ncollect=free\ncpu=200\n");
    welcome(h, 8);
    expect(h, hint, 0, true, "noted");
    g_assert_cmpuint(bytes_of(h, VTA_HOT, PAGE, 60), >=, PAGE);
    start_s = now_s();
    g_assert_cmpuint(bytes_of(h, VTA_FREE, 1, 60), >=, 1);
    g_test_message("something free after %.1f s", now_s() - start_s);
    host_free(h);
    munmap(at, 2ull * MAPPINGS * PAGE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/agent-large/plugged", test_plugged);
    g_test_add_func("/agent-large/asked", test_asked);
    g_test_add_func("/agent-large/4tib", test_4tib);
    g_test_add_func("/agent-large/mappings", test_mappings);
    return g_test_run();
}
