// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What QEMU does to its own memory while a granule is at each step of its move: discards, advice,
 * mappings that come and go, fork. Nobody reads our userfaultfd, so none of it may wait for one who
 * does, as it would if the context had asked for events; and nothing that was written may be lost.
 */
#include "moved-memory.h"
#include "vmm/uffd.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define DISCARDED ((size_t)USED * 4096)         /* offset in a granule of what may be discarded */
#define DISCARD   (GRANULE - DISCARDED)
#define PATTERN   0x5a
#define WAIT_S    20                            /* what does not wait for anybody takes microseconds */
#define TURNS     8

static uint8_t *aside;              /* memory under userfaultfd that nobody moves */

static void put_aside(void)
{
    aside = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert_true(aside != MAP_FAILED);
    g_assert_cmpint(uffd_register(aside, SIZE), ==, 0);
    memset(aside, 1, SIZE);
}

/* --- what is done: `at` is the granule that is on its way -------------------------------------------- */

static void drop_some(uint8_t *at)
{
    g_assert_cmpint(madvise(at + DISCARDED, DISCARD, MADV_DONTNEED), ==, 0);
}

static void remove_some(uint8_t *at)
{
    g_assert_cmpint(madvise(at + DISCARDED, DISCARD, MADV_REMOVE), ==, 0);
}

/* Of what is mapped there: the page tables go, the file keeps the contents. */
static void drop_all(uint8_t *at)
{
    g_assert_cmpint(madvise(at, GRANULE, MADV_DONTNEED), ==, 0);
}

static void populate(uint8_t *at)
{
    g_assert_cmpint(madvise(at, GRANULE, MADV_POPULATE_READ), ==, 0);
}

static void advise(uint8_t *at)
{
    g_assert_cmpint(madvise(at, GRANULE, MADV_DONTDUMP), ==, 0);
}

static void protect(uint8_t *at)
{
    g_assert_cmpint(mprotect(at, GRANULE, PROT_READ | PROT_WRITE), ==, 0);
}

static void sync_file(uint8_t *at)
{
    g_assert_cmpint(msync(at, GRANULE, MS_ASYNC), ==, 0);
}

static void remap_aside(uint8_t *at)
{
    void *there = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)at;
    g_assert_true(mremap(aside, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, there) == there);
    aside = there;
}

static void replace_aside(uint8_t *at)
{
    (void)at;
    g_assert_cmpint(madvise(aside, SIZE, MADV_REMOVE), ==, 0);
    g_assert_cmpint(munmap(aside, SIZE), ==, 0);
    put_aside();
}

static void fork_child(uint8_t *at)
{
    pid_t pid = fork();

    (void)at;
    if (!pid)
        _exit(0);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

static const struct {
    const char *name;
    void (*run)(uint8_t *at);
} deeds[] = {
    { "discard by madvise", drop_some },
    { "discard by punching", remove_some },
    { "zap", drop_all },
    { "populate", populate },
    { "advise", advise },
    { "mprotect", protect },
    { "msync", sync_file },
    { "mremap elsewhere", remap_aside },
    { "munmap elsewhere", replace_aside },
    { "fork", fork_child },
};

/* --- at each step --------------------------------------------------------------------------------------- */

static const enum fault_point steps[] = {
    FAULT_POPULATE_DEST, FAULT_PROTECT, FAULT_COPY, FAULT_MAP_OVER, FAULT_REGISTER, FAULT_WAKE,
    FAULT_PUNCH, FAULT_MOVED,
};

static uint8_t *moving;
static gsize deed;
static guint done[FAULT_FIXED][G_N_ELEMENTS(deeds)];

static gpointer do_deed(gpointer finished)
{
    deeds[deed].run(moving);
    atomic_store((atomic_bool *)finished, true);
    return NULL;
}

/* The mover stands still at the step until the deed is done, or is seen not to come to an end. */
static void on_step(enum fault_point point)
{
    gint64 end = g_get_monotonic_time() + WAIT_S * G_USEC_PER_SEC;
    atomic_bool finished = false;
    char name[32];
    GThread *thread = g_thread_new("deed", do_deed, &finished);

    while (!atomic_load(&finished)) {
        if (g_get_monotonic_time() > end)
            g_error("%s waits for the mover at '%s'", deeds[deed].name, fault_name(point, name));
        g_usleep(20);
    }
    g_thread_join(thread);
    done[point][deed]++;
}

static void check_discarded(uint32_t granule)
{
    const uint8_t *at = moved.host + (size_t)granule * GRANULE + DISCARDED;

    for (size_t i = 0; i < DISCARD; i++)
        if (at[i] != 0 && at[i] != PATTERN)
            g_error("granule %u: what was discarded has become %#x", granule, at[i]);
}

static void move_and_meet(uint32_t granule)
{
    moving = moved.host + (size_t)granule * GRANULE;
    memset(moving + DISCARDED, PATTERN, DISCARD);
    memory_move(granule, 1, !ram_tier[moved.b->first + granule]);
    check_discarded(granule);
}

static void check_all_done(void)
{
    char name[32];

    for (gsize s = 0; s < G_N_ELEMENTS(steps); s++)
        for (gsize d = 0; d < G_N_ELEMENTS(deeds); d++)
            if (!done[steps[s]][d])
                g_error("never: %s at '%s'", deeds[d].name, fault_name(steps[s], name));
}

static void set_all_steps(void)
{
    g_autoptr(GString) rules = g_string_new(NULL);
    char name[32];

    for (gsize s = 0; s < G_N_ELEMENTS(steps); s++)
        g_string_append_printf(rules, "%s=pause:1:0,", fault_name(steps[s], name));
    faults_set(rules->str);
}

static void run_steps(const void *unused)
{
    (void)unused;
    memory_set_up(SIZE, GRANULE);
    put_aside();
    writers_start();
    writers_wait();
    fault_on_pause(on_step);
    set_all_steps();
    for (uint32_t turn = 0; turn < TURNS; turn++)
        for (deed = 0; deed < G_N_ELEMENTS(deeds); deed++)
            move_and_meet((turn * 5 + (uint32_t)deed) % GRANULES);
    faults_set("");
    g_assert_cmpuint(outcomes_but(VT_ST_OK), ==, 0);
    check_all_done();
    writers_wait();
    writers_end();
}

static void test_steps(void)
{
    run_apart(run_steps, NULL, "deeds at each step");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/events/at-each-step", memory_usable() ? test_steps : memory_skip);
    return g_test_run();
}
