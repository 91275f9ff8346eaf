// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The mover when its calls fail, on memory of our own that threads write to meanwhile: no update is
 * lost, no thread waits for ever, every granule is where the mover says it is, and afterwards moves
 * work again, or are refused with a reason that names block, offset and call.
 *
 * Each scenario is a process of its own, as what freezes the mover for good cannot be undone, and as
 * one that hangs is to be a failed test and no more. With VMTIER_FAULT_LONG in the environment all
 * combinations are tried.
 *
 * timeout: 240
 */
#include "moved-memory.h"
#include "common/filekind.h"
#include "vmm/mover.h"
#include "vmm/pool.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOVES 48
#define SPARE 6         /* granules' worth of spare memory that may stay */

/* --- a scenario ------------------------------------------------------------------------------------------- */

/* How moves end while the fault is there. */
enum effect {
    HARMLESS,           /* as ever */
    REFUSED,            /* some fail, with a status as in status_of() below, and nothing else happens */
    FROZEN_HERE,        /* tiering is frozen for good, and the granule is where it was */
    FROZEN_THERE,       /* the same, and it is in its new tier */
};

struct scenario {
    const char *rules;
    enum fault_point point;     /* that has to act */
    enum effect effect;
    enum vt_status status;      /* of what is refused */
    const char *call;           /* that a reason has to name */
    bool full;                  /* no granule has holes */
};

/* Every other granule has holes, or none has; they read as zeros wherever the granule has been. */
static bool all_full;

static uint8_t rest_of(uint32_t granule)
{
    return granule % 2 || all_full ? 0x5a : 0;
}

static uint8_t *rest_at(uint32_t granule)
{
    return moved.host + (size_t)granule * GRANULE + (size_t)USED * 4096;
}

static void fill_rests(void)
{
    for (uint32_t g = !all_full; g < GRANULES; g += all_full ? 1 : 2)
        memset(rest_at(g), rest_of(g), (PER - USED) * 4096);
}

static void check_rests(void)
{
    for (uint32_t g = 0; g < GRANULES; g++)
        for (size_t i = 0; i < (PER - USED) * 4096; i++)
            if (rest_at(g)[i] != rest_of(g))
                g_error("granule %u: %#x where %#x was", g, rest_at(g)[i], rest_of(g));
}

/* Runs as long as asked for: by itself the mover makes them short on a busy machine. */
static void keep_spare(uint64_t granules)
{
    struct mover_tuning t = { .keep = { granules * GRANULE, granules * GRANULE },
                              .run_bytes = 1u << 20 };

    mover_set_tuning(&t);
}

static void check_frozen(const struct scenario *s)
{
    char reason[VT_TEXT];

    g_assert_true(mover_frozen(reason));
    g_test_message("%s: %s", s->rules, reason);
    g_assert_nonnull(strstr(reason, "block test"));
    g_assert_nonnull(strstr(reason, "offset 0"));
    g_assert_nonnull(strstr(reason, s->call));
    g_assert_false(mover_thaw());
    outcomes_forget();
    memory_move(3, 1, !ram_tier[moved.b->first + 3]);
    g_assert_cmpuint(outcomes[VT_ST_FROZEN], ==, 1);
}

static void check_moves_again(void)
{
    char reason[VT_TEXT];

    if (mover_frozen(reason))
        g_error("frozen: %s", reason);
    outcomes_forget();
    keep_spare(0);
    for (uint8_t tier = 0; tier < 4; tier++)
        memory_move(0, GRANULES, !(tier % 2));
    g_assert_cmpuint(outcomes_but(VT_ST_OK), ==, 0);
    g_assert_cmpuint(memory_allocated(1), ==, 0);
    g_assert_cmpuint(memory_allocated(0), <=, SIZE);
}

static void check_outcomes(const struct scenario *s)
{
    switch (s->effect) {
    case HARMLESS:
        g_assert_cmpuint(outcomes_but(VT_ST_OK), ==, 0);
        break;
    case REFUSED:
        g_assert_cmpuint(outcomes[s->status], >, 0);
        g_assert_cmpuint(outcomes[s->status] + outcomes[VT_ST_OK], ==,
                         outcomes_but(VT_ST_END));
        break;
    default:
        g_assert_cmpuint(outcomes[VT_ST_FROZEN], >, 0);
    }
}

static void run_scenario(const void *data)
{
    const struct scenario *s = data;

    memory_set_up(SIZE, GRANULE);
    all_full = s->full;
    fill_rests();
    keep_spare(SPARE);
    writers_start();
    writers_wait();
    memory_move_about(4);
    faults_set(s->rules);
    outcomes_forget();
    memory_move_about(MOVES);
    if (!fault_count(s->point))
        run_missed();
    faults_set("");
    check_outcomes(s);
    writers_wait();
    check_rests();
    if (s->effect == FROZEN_HERE || s->effect == FROZEN_THERE)
        check_frozen(s);
    else
        check_moves_again();
    writers_wait();
    check_rests();
    writers_end();
}

/* --- every point with every error --------------------------------------------------------------------------- */

static const int errors[] = { ENOMEM, ENOSPC, EAGAIN, EEXIST, EFAULT, EINVAL, ENOENT };
static const char *const error_names[] = { "ENOMEM", "ENOSPC", "EAGAIN", "EEXIST", "EFAULT", "EINVAL",
                                           "ENOENT" };
static_assert(G_N_ELEMENTS(errors) == G_N_ELEMENTS(error_names), "a name for each error");

/* Once at first, a few later on, and always: each of them in the long form, else they take turns. */
static const char *const when[] = { "", ":3:2", ":1:0" };

static const struct row {
    enum fault_point point;
    enum effect effect;
    const char *call;
    enum { EITHER, HOLES } data;  /* that it takes to come by; EITHER: they take turns */
    bool small;                         /* so is memory of small pages */
} rows[] = {
    { FAULT_FIND_DATA, REFUSED, NULL, EITHER, false },
    { FAULT_POOL_TAKE, REFUSED, NULL, EITHER, false },
    { FAULT_POPULATE_SOURCE, REFUSED, NULL, EITHER, false },
    { FAULT_POPULATE_DEST, REFUSED, NULL, EITHER, false },
    { FAULT_MAPS_LIMIT, REFUSED, NULL, EITHER, false },
    { FAULT_FENCE_HOLD, REFUSED, NULL, EITHER, false },
    { FAULT_PROTECT, REFUSED, "userfaultfd", EITHER, false },
    { FAULT_COPY, REFUSED, NULL, EITHER, false },
    { FAULT_MAP_OVER, REFUSED, NULL, EITHER, false },
    { FAULT_ADVISE, HARMLESS, NULL, EITHER, false },
    { FAULT_REGISTER, FROZEN_THERE, "UFFDIO_REGISTER", EITHER, false },
    { FAULT_MAP_IN, HARMLESS, NULL, EITHER, false },
    { FAULT_WAKE, HARMLESS, NULL, EITHER, false },
    { FAULT_PUNCH, HARMLESS, NULL, EITHER, false },
    { FAULT_CLEAR, REFUSED, NULL, HOLES, false },
    { FAULT_WRITE, REFUSED, NULL, EITHER, true },
};

/* As in the mover's answers. */
static enum vt_status status_of(enum fault_point point, int code)
{
    if (point == FAULT_MAPS_LIMIT)
        return VT_ST_LIMIT;
    if (point == FAULT_FENCE_HOLD)
        return VT_ST_BUSY;
    if (point == FAULT_POOL_TAKE)
        return VT_ST_NOMEM;
    switch (code) {
    case ENOMEM: case ENOSPC: case EFAULT:
        return VT_ST_NOMEM;
    case EAGAIN:
        return VT_ST_AGAIN;
    default:
        return VT_ST_ERROR;
    }
}

/* As the mover finds it. */
static bool pages_here_are_small(void)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    bool small = filekind_is_small(fd);

    close(fd);
    return small;
}

static void run_row(gconstpointer data)
{
    const struct row *row = data;
    char name[32];

    if (row->small && !pages_here_are_small()) {
        g_test_skip("memfds may have huge pages here: another way is taken with them");
        return;
    }

    for (gsize e = 0; e < G_N_ELEMENTS(errors); e++)
        for (gsize w = 0; w < G_N_ELEMENTS(when); w++) {
            if (!g_getenv("VMTIER_FAULT_LONG") && w != (e + row->point) % G_N_ELEMENTS(when))
                continue;
            g_autofree char *rules = g_strdup_printf("%s=%s%s", fault_name(row->point, name),
                                                     error_names[e], when[w]);
            struct scenario s = { .rules = rules, .point = row->point, .effect = row->effect,
                                  .status = status_of(row->point, errors[e]), .call = row->call,
                                  .full = row->data == EITHER && e % 2 };

            if (row->point == FAULT_PROTECT && errors[e] == ENOENT)
                s.effect = FROZEN_HERE;     /* a registration that is gone does not come back */
            if (!run_apart(run_scenario, &s, rules))
                g_error("%s: the point was never passed", rules);
        }
}

/* --- a failure, and another one amid its repair --------------------------------------------------------------- */

/*
 * Which passage of the first point is the one inside the window depends on how the memory lies, so
 * each of the first TURNS fails in turn: %u. The second point has to be passed in one of them.
 */
#define TURNS 6

static const struct scenario pairs[] = {
    { "populate-source=ENOMEM:%u,unprotect=EAGAIN:1:0", FAULT_UNPROTECT, REFUSED, VT_ST_NOMEM, NULL, false },
    { "copy=ENOMEM:%u,unprotect=EAGAIN:1:0", FAULT_UNPROTECT, REFUSED, VT_ST_NOMEM, NULL, false },
    { "copy=ENOMEM:%u,unprotect=EAGAIN:1:0,advise=EINVAL:1:0", FAULT_UNPROTECT, REFUSED,
      VT_ST_NOMEM, NULL, false },
    { "populate-dest=ENOSPC:%u:0,punch=EIO:1:0", FAULT_PUNCH, REFUSED, VT_ST_NOMEM, NULL, false },
    { "protect=EAGAIN:%u,unprotect=EFAULT:1:0", FAULT_UNPROTECT, REFUSED, VT_ST_AGAIN, NULL, false },
    { "map-over=ENOMEM:%u,map-back=ENOMEM:1:0", FAULT_MAP_BACK, FROZEN_HERE, VT_ST_NOMEM,
      "mapping", false },
    { "map-over=ENOMEM:%u,advise=EINVAL:1:0", FAULT_ADVISE, REFUSED, VT_ST_NOMEM, NULL, false },
    { "map-over=EAGAIN:%u,wake=EINVAL:1:0", FAULT_WAKE, REFUSED, VT_ST_AGAIN, NULL, false },
    { "register=ENOMEM:%u,wake=EINVAL:1:0", FAULT_WAKE, FROZEN_THERE, VT_ST_OK, "UFFDIO_REGISTER",
      false },
    { "map-in=EEXIST:1:0,punch=ENOSPC:%u:0", FAULT_PUNCH, HARMLESS, VT_ST_OK, NULL, false },
};

static bool run_turn(const struct scenario *pair, unsigned turn)
{
    g_auto(GStrv) parts = g_strsplit(pair->rules, "%u", -1);
    char number[2] = { (char)('0' + turn), '\0' };
    g_autofree char *rules = g_strjoinv(number, parts);
    struct scenario s = *pair;

    s.rules = rules;
    s.full = turn % 2;
    return run_apart(run_scenario, &s, rules);
}

static void test_pairs(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(pairs); i++) {
        bool passed = false;

        for (unsigned turn = 1; turn <= TURNS; turn++)
            passed |= run_turn(&pairs[i], turn);
        if (!passed)
            g_error("%s: the second point was never passed", pairs[i].rules);
    }
}

/* --- memory that could not be given back ------------------------------------------------------------------------ */

/* Granule 1, which has contents all over, leaves them where granule 0, which has holes, goes next. */
static void run_stale(const void *unused)
{
    (void)unused;
    memory_set_up(SIZE, GRANULE);
    fill_rests();
    memset(moved.host, 1, (size_t)USED * 4096);
    memset(moved.host + GRANULE, 2, (size_t)USED * 4096);
    keep_spare(SPARE);
    memory_move(0, 1, 1);
    memory_move(0, 1, 0);
    memory_move(1, 1, 1);       /* into the memory that granule 0 has left there */
    memory_move(1, 1, 0);
    faults_set("punch=EIO:1:0");
    keep_spare(0);
    memory_move(2, 1, 0);       /* nothing, but at the end of a list memory is given back */
    g_assert_cmpuint(fault_count(FAULT_PUNCH), >, 0);
    g_assert_cmpuint(pool_spare(1), ==, memory_allocated(1));   /* and is not forgotten */
    memory_move(0, 1, 1);
    check_rests();
    faults_set("");
    memory_move(0, 1, 0);
    check_rests();
    g_assert_cmpuint(memory_allocated(1), ==, 0);
    g_assert_cmpuint(pool_spare(0) + pool_spare(1), ==, 0);
}

static void test_stale(void)
{
    run_apart(run_stale, NULL, "stale memory");
}

/* --- slow steps: each order of steps but the right one loses something ---------------------------------------- */

static const enum fault_point steps[] = {
    FAULT_FIND_DATA, FAULT_POPULATE_SOURCE, FAULT_POPULATE_DEST, FAULT_PROTECT, FAULT_COPY,
    FAULT_WRITE, FAULT_MAP_OVER, FAULT_ADVISE, FAULT_MAP_IN, FAULT_REGISTER, FAULT_WAKE,
    FAULT_PUNCH, FAULT_MOVED,
};

static void dawdle(enum fault_point point)
{
    (void)point;
    g_usleep(300);
}

static void run_slow(const void *data)
{
    const char *rules = data;

    memory_set_up(SIZE, GRANULE);
    all_full = true;
    fill_rests();
    keep_spare(0);
    writers_start();
    writers_wait();
    fault_on_pause(dawdle);
    faults_set(rules);
    outcomes_forget();
    memory_move_about(MOVES * 4);
    g_assert_cmpuint(outcomes_but(VT_ST_OK), ==, 0);
    writers_wait();
    check_moves_again();
    writers_end();
}

static void test_slow(void)
{
    char name[32];

    for (gsize i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_autofree char *rules = g_strdup_printf("%s=pause:1:0", fault_name(steps[i], name));

        run_apart(run_slow, rules, rules);
    }
}


/* --- the map count ------------------------------------------------------------------------------------------------ */

#define SMALL       4096u
#define SMALL_ONES  120000u

static uint32_t move_each(uint32_t first, uint32_t step, uint8_t tier, enum vt_status *last)
{
    uint32_t n = 0;

    for (uint32_t g = first; g < SMALL_ONES; g += step) {
        struct vt_move_one m = { .granule = moved.b->first + g, .tier = tier };
        struct mover_cost cost;

        mover_carry_out(&m, 1, 0, &cost);
        *last = m.status;
        if (m.status != VT_ST_OK)
            break;
        n++;
    }
    return n;
}

/*
 * Every other granule is sent away, each a mapping of its own, until the kernel's limit is near. It is
 * the mover that stops, in time for the way back, which is never barred. Goes through all the
 * mappings of which a process has 65530 unless that was changed.
 */
static void run_map_limit(const void *unused)
{
    enum vt_status last;
    uint32_t away;

    (void)unused;
    memory_set_up((size_t)SMALL * SMALL_ONES, SMALL);
    away = move_each(1, 2, 1, &last);
    g_test_message("%u granules of their own", away);
    g_assert_cmpint(last, ==, VT_ST_LIMIT);
    g_assert_cmpuint(away, >, 1000);
    for (int tries = 0; mover_retreat(); tries++) {
        g_assert_cmpint(tries, <, 50);
        g_usleep(150000);           /* mappings are not counted all the time */
    }
    g_assert_cmpuint(move_each(1, 4, 1, &last), >=, away / 2);
}

static bool limit_is_usual(void)
{
    g_autofree char *text = NULL;

    return g_file_get_contents("/proc/sys/vm/max_map_count", &text, NULL, NULL) &&
           g_ascii_strtoull(text, NULL, 10) <= 65530;
}

static void test_map_limit(void)
{
    if (limit_is_usual())
        run_apart(run_map_limit, NULL, "map limit");
    else
        g_test_skip("vm.max_map_count is above the kernel's default: getting there takes too long");
}

/* --- */

static void add_rows(bool can)
{
    char name[32];

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strconcat("/mover-fault/", fault_name(rows[i].point, name), NULL);

        if (can)
            g_test_add_data_func(path, &rows[i], run_row);
        else
            g_test_add_func(path, memory_skip);
    }
}

int main(int argc, char **argv)
{
    bool can;

    g_test_init(&argc, &argv, NULL);
    can = memory_usable();
    add_rows(can);
    g_test_add_func("/mover-fault/pairs", can ? test_pairs : memory_skip);
    g_test_add_func("/mover-fault/stale", can ? test_stale : memory_skip);
    g_test_add_func("/mover-fault/slow-steps", can ? test_slow : memory_skip);
    g_test_add_func("/mover-fault/map-limit", can ? test_map_limit : memory_skip);
    return g_test_run();
}
