// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How soon a guest that is placed by probes alone is placed right, by how fast it is and what a page fault
 * costs: the probes' own code (vmm/refault*.c), heat and cbx, in a guest that is only numbers.
 *
 *   probe            build/bench/probe.json and a table
 *
 * 1 GiB of small pages, a quarter of it dram; a hot set of 80 granules of 2 MiB gets 95 % of the visits, the
 * rest is spread over the 358 granules that the guest uses. It jumps after 60 s and again after 120 s. It is what
 * tests/vm/test-track has in its long form, where the machine decides how fast the guest is.
 *
 * What the probes ask the kernel is answered here: the functions in the lines below are ours (ld's --wrap), and
 * time only passes as they say. When an unmapped page will be touched is drawn as it is unmapped. Faults that
 * have nothing to do with probes come at FAULTS a second. The state of the probes is static, so each run is
 * a process of its own.
 */
// link: -Wl,--wrap=clock_gettime,--wrap=madvise,--wrap=usleep,--wrap=getrusage,--wrap=memfd_create
// link: -Wl,--wrap=pagemap_look,--wrap=uffd_register
#include "bench/lib/report.h"
#include "host/pace.h"
#include "host/policy/policy.h"
#include "vmm/pagemap.h"
#include "vmm/ram.h"
#include "vmm/refault.h"
#include "vmm/uffd.h"

#include <json-glib/json-glib.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define N        512u       /* granules */
#define QUOTA    128u
#define USED     358u
#define HOT      80u
#define HOT_GETS 0.95
#define PAGES    512u
#define PAGE     4096u
#define GRANULE  (2u << 20)
#define ROUND    0.25
#define PHASE    60.0
#define PHASES   3
#define BUDGET   2500       /* us of CPU per round, as the daemon gives */
#define MOVED    (1024ull << 20)
#define REACHED  0.9
#define FAULTS   100.0
#define SEEDS    3
/* Seconds of the tracker's CPU. */
#define CALL     4e-6       /* madvise(), and what it zaps */
#define ZAP      0.15e-6
#define LOOK     1.2e-6     /* PAGEMAP_SCAN, and what it scans */
#define SCAN     0.01e-6

static struct {
    double now, cpu;        /* seconds */
    double touch_ns;        /* of a page */
    bool measuring;         /* they find out what a touch costs */
    guint64 faults;
    guint8 *ram;
    double rate[N];         /* visits per second */
    double touch[N * PAGES];    /* when an unmapped page is touched; 0: it is mapped */
    GRand *rand;
} guest;

/* --- the kernel --------------------------------------------------------------------------------- */

int __wrap_clock_gettime(clockid_t id, struct timespec *t);
int __wrap_madvise(void *start, size_t length, int advice);
int __wrap_usleep(useconds_t us);
int __wrap_getrusage(int who, struct rusage *usage);
int __wrap_memfd_create(const char *name, unsigned flags);
int __real_memfd_create(const char *name, unsigned flags);
int __wrap_pagemap_look(struct pagemap_range *range, unsigned n);
int __wrap_uffd_register(uint8_t *start, uint64_t length);

int __wrap_clock_gettime(clockid_t id, struct timespec *t)
{
    double s = id == CLOCK_MONOTONIC ? guest.now : guest.cpu;

    if (guest.measuring)
        guest.cpu += 2 * 32 * guest.touch_ns / 1e9;     /* pages of them are read, and written */
    t->tv_sec = (time_t)s;
    t->tv_nsec = (long)((s - floor(s)) * 1e9);
    return 0;
}

static void spend(double seconds)
{
    guest.cpu += seconds;
    guest.now += seconds;
}

static double next_touch(guint32 page)
{
    double per_s = guest.rate[page / PAGES] / PAGES;

    return per_s > 0 ? guest.now - log(1 - g_rand_double(guest.rand)) / per_s : INFINITY;
}

int __wrap_madvise(void *start, size_t length, int advice)
{
    size_t at = (size_t)((guint8 *)start - guest.ram) / PAGE, n = length / PAGE;

    (void)advice;
    if ((guint8 *)start < guest.ram || at >= N * PAGES)
        return 0;
    for (size_t i = at; i < at + n; i++)
        if (guest.touch[i] <= guest.now)
            guest.touch[i] = next_touch((guint32)i);
    spend(CALL + (double)n * ZAP);
    return 0;
}

int __wrap_pagemap_look(struct pagemap_range *range, unsigned n)
{
    guest.measuring = false;
    for (unsigned k = 0; k < n; k++) {
        size_t at = (size_t)(range[k].start - guest.ram) / PAGE, pages = range[k].length / PAGE;

        range[k].huge = false;
        range[k].bytes = 0;
        for (size_t i = at; i < at + pages; i++)
            range[k].bytes += guest.touch[i] <= guest.now ? PAGE : 0;
        spend((double)pages * SCAN);
    }
    spend(LOOK);
    return 0;
}

int __wrap_usleep(useconds_t us)
{
    guest.now += us / 1e6;
    return 0;
}

int __wrap_getrusage(int who, struct rusage *usage)
{
    memset(usage, 0, sizeof(*usage));
    if (who != RUSAGE_SELF)
        return 0;
    for (guint32 i = 0; i < N * PAGES; i++)
        if (guest.touch[i] > 0 && guest.touch[i] <= guest.now) {
            guest.touch[i] = 0;
            guest.faults++;
        }
    usage->ru_utime.tv_sec = (time_t)guest.now;             /* one processor, which is busy */
    usage->ru_utime.tv_usec = (long)((guest.now - floor(guest.now)) * 1e6);
    usage->ru_minflt = (long)(guest.faults + (guint64)(FAULTS * guest.now));
    return 0;
}

int __wrap_memfd_create(const char *name, unsigned flags)
{
    guest.measuring = true;
    return __real_memfd_create(name, flags);
}

int __wrap_uffd_register(uint8_t *start, uint64_t length)
{
    (void)start, (void)length;
    return 0;
}

/* --- the guest ---------------------------------------------------------------------------------- */

static void make_ram(void)
{
    struct vt_err err;
    struct ram_block *b;
    int fd = __real_memfd_create("guest", MFD_CLOEXEC);

    g_assert_cmpint(ftruncate(fd, (off_t)N * GRANULE), ==, 0);
    guest.ram = mmap(NULL, (size_t)N * GRANULE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    g_assert_true(ram_init(&err) == 0 && refault_init(&err) == 0);
    ram_set_granule(GRANULE);
    ram_lock();
    b = ram_add("guest", guest.ram, (guint64)N * GRANULE, PAGE, fd, &err);
    b->watched = true;
    ram_unlock();
    refault_set_guest(1, false);
}

/* `order`: of the granules, at random; the hot set begins at one of them. */
static void set_hot(const guint32 *order, guint32 first, double visits)
{
    memset(guest.rate, 0, sizeof(guest.rate));
    for (guint32 i = 0; i < USED; i++)
        guest.rate[order[(first + i) % USED]] = visits * ((1 - HOT_GETS) / USED + (i < HOT ? HOT_GETS / HOT : 0));
    for (guint32 i = 0; i < N * PAGES; i++)
        if (guest.touch[i] > guest.now)
            guest.touch[i] = next_touch(i);
}

static void shuffle(guint32 *order)
{
    for (guint32 i = 0; i < N; i++)
        order[i] = i;
    for (guint32 i = N; i-- > 1;) {
        guint32 j = (guint32)g_rand_int_range(guest.rand, 0, (gint32)i + 1), was = order[i];

        order[i] = order[j];
        order[j] = was;
    }
}

/* --- the daemon --------------------------------------------------------------------------------- */

struct host {
    struct heat heat;
    struct ledger ledger;
    struct pace pace;
    gpointer policy;
    double clock;
};

static void absorb(const struct vt_obs *o, void *heat)
{
    heat_add(heat, HEAT_PROBES, o->granule, o->events, o->exposure / 1000.0);
}

static void move(struct host *h, guint32 granule, guint8 tier)
{
    ledger_put(&h->ledger, granule, tier);
    heat_note_moved(&h->heat, granule, h->clock);
    memset(&guest.touch[granule * PAGES], 0, PAGES * sizeof(guest.touch[0]));
    refault_forget(granule, 1);
    pace_spend(&h->pace, GRANULE);
}

static void place(struct host *h)
{
    guint32 up[256], down[256];
    struct plan plan = { .promote = up, .demote = down };
    struct outlook look = {
        .heat = &h->heat, .ledger = &h->ledger, .dram_most = QUOTA, .now = h->clock,
        .moves_most = MIN(pace_units(&h->pace, GRANULE), 256), .move_cost_s = 200e-6, .pages = PAGES,
    };

    policy_cbx.plan(h->policy, &look, &plan);
    for (guint32 i = 0; i < plan.n_demote; i++)
        move(h, down[i], 1);
    for (guint32 i = 0; i < plan.n_promote; i++)
        move(h, up[i], 0);
    policy_cbx.carried_out(h->policy, &look, &plan);
}

/* Share of what the best placement would serve from dram. */
static double round_once(struct host *h)
{
    double dram = 0, all = 0;

    h->clock += ROUND;
    guest.now = MAX(guest.now, 1000 + h->clock);
    pace_advance(&h->pace, ROUND, MOVED, GRANULE);
    heat_advance(&h->heat, ROUND, 1u << HEAT_PROBES);
    refault_harvest(BUDGET, absorb, &h->heat);
    heat_digest(&h->heat);
    place(h);
    for (guint32 g = 0; g < N; g++) {
        all += guest.rate[g];
        dram += h->ledger.tier[g] == 0 ? guest.rate[g] : 0;
    }
    return dram / all / (HOT_GETS + (1 - HOT_GETS) * QUOTA / USED);
}

static void begin(struct host *h)
{
    heat_init(&h->heat);
    heat_resize(&h->heat, N);
    heat_set_unit(&h->heat, HEAT_PROBES, PAGES * HEAT_VISIT);
    ledger_init(&h->ledger, GRANULE);
    ledger_resize(&h->ledger, N);
    for (guint32 g = 0; g < N; g++)
        ledger_put(&h->ledger, g, g < QUOTA ? 0 : 1);
    h->policy = policy_cbx.create();
}

/* --- a run --------------------------------------------------------------------------------------- */

struct result {
    double reached_s[PHASES];       /* PHASE: never */
    double share[PHASES];           /* in its last round */
    double vcpu_ms_s;
};

static struct result run(double visits, double touch_ns, guint32 seed)
{
    static struct host h;
    struct result r = { 0 };
    struct refault_cost cost;
    guint32 order[N];

    guest.rand = g_rand_new_with_seed(seed);
    guest.now = 1000;
    guest.touch_ns = touch_ns;
    make_ram();
    shuffle(order);
    begin(&h);
    for (int p = 0; p < PHASES; p++) {
        set_hot(order, (guint32)p * HOT, visits);
        r.reached_s[p] = PHASE;
        for (int i = 1; i <= (int)(PHASE / ROUND); i++) {
            r.share[p] = round_once(&h);
            if (r.share[p] >= REACHED)
                r.reached_s[p] = MIN(r.reached_s[p], i * ROUND);
        }
    }
    refault_get_cost(&cost);
    r.vcpu_ms_s = (double)cost.vcpu_ns / 1e6 / (PHASES * PHASE);
    return r;
}

static struct result run_apart(double visits, double touch_ns, guint32 seed)
{
    struct result r;
    int ends[2], status;
    pid_t child;

    g_assert_cmpint(pipe(ends), ==, 0);
    child = fork();
    if (child == 0) {
        r = run(visits, touch_ns, seed);
        _exit(write(ends[1], &r, sizeof(r)) == sizeof(r) ? 0 : 1);
    }
    g_assert_cmpint(read(ends[0], &r, sizeof(r)), ==, sizeof(r));
    g_assert_true(waitpid(child, &status, 0) == child && status == 0);
    close(ends[0]);
    close(ends[1]);
    return r;
}

/* --- output -------------------------------------------------------------------------------------- */

static void measure(JsonBuilder *b, double visits, double touch_us)
{
    double cold = 0, jump = 0, share = 1, vcpu = 0;

    for (guint32 seed = 1; seed <= SEEDS; seed++) {
        struct result r = run_apart(visits, touch_us * 1000, seed);

        cold += r.reached_s[0] / SEEDS;
        vcpu += r.vcpu_ms_s / SEEDS;
        for (int p = 0; p < PHASES; p++)
            share = MIN(share, r.share[p]);
        for (int p = 1; p < PHASES; p++)
            jump += r.reached_s[p] / SEEDS / (PHASES - 1);
    }
    g_print("%10.0f %8.1f %8.1f %8.1f %8.3f %8.1f\n", visits, touch_us, cold, jump, share, vcpu);
    json_builder_begin_object(b);
    json_builder_set_member_name(b, "visits_per_s");
    json_builder_add_double_value(b, visits);
    json_builder_set_member_name(b, "fault_us");
    json_builder_add_double_value(b, touch_us);
    json_builder_set_member_name(b, "cold_s");
    json_builder_add_double_value(b, cold);
    json_builder_set_member_name(b, "jump_s");
    json_builder_add_double_value(b, jump);
    json_builder_set_member_name(b, "share_least");
    json_builder_add_double_value(b, share);
    json_builder_set_member_name(b, "vcpu_ms_s");
    json_builder_add_double_value(b, vcpu);
    json_builder_end_object(b);
}

static bool write_json(JsonBuilder *b)
{
    g_autofree char *path = bench_path("probe.json");
    g_autoptr(JsonNode) root = json_builder_get_root(b);
    g_autofree char *text = json_to_string(root, TRUE);
    g_autoptr(GError) error = NULL;

    if (!g_file_set_contents(path, text, -1, &error))
        g_printerr("probe: %s\n", error->message);
    else
        g_print("%s\n", path);
    return !error;
}

int main(void)
{
    static const double visits[] = { 10e3, 30e3, 100e3, 300e3, 1e6 }, touch_us[] = { 1, 2, 5 };
    g_autoptr(JsonBuilder) b = json_builder_new();

    g_print("%10s %8s %8s %8s %8s %8s\n", "visits/s", "fault us", "cold s", "jump s", "share", "vcpu ms");
    json_builder_begin_array(b);
    for (gsize t = 0; t < G_N_ELEMENTS(touch_us); t++)
        for (gsize v = 0; v < G_N_ELEMENTS(visits); v++)
            measure(b, visits[v], touch_us[t]);
    json_builder_end_array(b);
    return write_json(b) ? 0 : 1;
}
