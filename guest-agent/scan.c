// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The collectors' turn.
 *
 * A pass goes over RAM window by window, reads the pages' flags once and shows them to every collector.
 * It goes on only while the process as a whole has used less CPU time than its share of the time that
 * has gone by, so a pass takes as long as it takes and the agent never takes more than it may.
 *
 * Of a guest so large that a pass would outlast the hints, only some pages of each window are looked at: what is
 * said is then a share of the window. How many is guessed at first, and fewer as soon as a pass is seen to cost
 * too much; now and then it is guessed anew. The same ones are looked at twice, then others, as there are
 * collectors that have to see what has become of a page.
 */
#include "guest-agent/agent.h"

#define BURST_US 20000          /* CPU time that may be saved up */
#define WAKE_US  (BURST_US / 4) /* that is worth waking up for: where that itself costs much, it took all there was */
#define DEBT_MOST_US 1000000    /* beyond that it is forgiven: it would be minutes of silence */
#define CALL_US  4              /* a window: two system calls, */
#define PAGES_PER_US 24         /* and its pages */
#define GUESS_PASSES 64
#define ENOUGH_WINDOWS 64       /* to tell what a pass costs */
#define TICK_MS  1000           /* a collector's turn, at least */
#define LOOK_US  2000           /* at most in one go, so that the port is looked after */

const struct collector *const collectors[COLLECTORS] = {
    &collect_free, &collect_flags, &collect_idle, &collect_damon,
};
char collector_reason[COLLECTORS][96];
uint64_t scan_passes, scan_pass_ms;
unsigned scan_pages = WINDOW / PAGE;

/* How many pages of a window are looked at. 64: a word of the kernel's bitmaps. */
static const unsigned choice[] = { WINDOW / PAGE, 64, 8 };
#define CHOICES (sizeof(choice) / sizeof(choice[0]))

static bool works[COLLECTORS], any_looks;
static struct {
    bool on;
    uint64_t begun_ms, next_ms;
    size_t span;
    uint64_t at;
    unsigned level, level_before;       /* of choice[]; CHOICES: the pass had several */
    unsigned sample;            /* which pages of a window */
    bool again;                 /* the same as the pass before */
    uint64_t cpu, windows;      /* what the level has cost in this pass, and for how many */
} pass = { .level_before = CHOICES };
static struct {
    uint64_t ms, cpu;
    int64_t left;
} budget;

bool scan_open(void)
{
    bool any = false;

    for (int i = 0; i < COLLECTORS; i++) {
        if (!settings.use[i]) {
            text_to(collector_reason[i], sizeof(collector_reason[i]), "switched off");
            continue;
        }
        works[i] = collectors[i]->open(collector_reason[i], sizeof(collector_reason[i]));
        any |= works[i];
        any_looks |= works[i] && collectors[i]->look;
        if (!works[i])
            note("collector %s: %s", collectors[i]->name, collector_reason[i]);
    }
    return any;
}

static void earn(uint64_t now)
{
    uint64_t cpu = cpu_us();

    budget.left += (int64_t)((now - budget.ms) * settings.cpu_permille) - (int64_t)(cpu - budget.cpu);
    if (budget.left > BURST_US)
        budget.left = BURST_US;
    if (budget.left < -DEBT_MOST_US)
        budget.left = -DEBT_MOST_US;
    budget.ms = now;
    budget.cpu = cpu;
}

int budget_wait_ms(uint64_t now, unsigned debt_us)
{
    int64_t missing;

    if (!budget.ms)
        budget.ms = now;
    earn(now);
    missing = -budget.left - (int64_t)debt_us;
    return missing < 0 ? 0 : (int)(missing / settings.cpu_permille) + 1;
}

void scan_hurry(void)
{
    if (!pass.on)
        pass.next_ms = 0;
}

/* What a pass may cost, so that it ends long before the hints do; in us. */
static uint64_t pass_may_cost(void)
{
    return (uint64_t)settings.cpu_permille * session.life_ms / 2;
}

static uint64_t all_windows(void)
{
    return ram_bytes / WINDOW + ram_spans;
}

static void set_level(unsigned level)
{
    pass.level = level;
    pass.cpu = pass.windows = 0;
    scan_pages = choice[level];
}

static unsigned guess_level(void)
{
    unsigned i = 0;

    while (i < CHOICES - 1 && all_windows() * (CALL_US + choice[i] / PAGES_PER_US) > pass_may_cost())
        i++;
    return i;
}

static void choose_sample(void)
{
    bool known = pass.level == pass.level_before;

    pass.again = known && (!pass.level || !pass.again);
    pass.sample += !pass.again;
    pass.level_before = pass.level;
}

/* What a pass would cost that went on like this. */
static void account(uint64_t cpu)
{
    pass.cpu += cpu;
    if (pass.windows < ENOUGH_WINDOWS || pass.level == CHOICES - 1 ||
        pass.cpu / pass.windows * all_windows() <= pass_may_cost())
        return;
    set_level(pass.level + 1);
    pass.level_before = CHOICES;
    pass.again = false;
}

static bool begin(uint64_t now)
{
    char why[96];

    if (!ram_read(why, sizeof(why))) {
        text_to(collector_reason[0], sizeof(collector_reason[0]), "%s", why);
        pass.next_ms = now + 60000;
        return false;
    }
    pass.on = true;
    pass.begun_ms = now;
    pass.next_ms = now + settings.pass_s * 1000ull;
    pass.span = 0;
    pass.at = ram[0].start;
    set_level(scan_passes % GUESS_PASSES ? pass.level : guess_level());
    choose_sample();
    outbox_new_report();
    return true;
}

static void end(uint64_t now)
{
    pass.on = false;
    scan_passes++;
    scan_pass_ms = now - pass.begun_ms;
}

static void look(uint64_t from, uint64_t to)
{
    static uint64_t flags[WINDOW / 4096];
    unsigned all = (unsigned)((to - from) / PAGE), n = choice[pass.level];
    struct window w = { from, to - from, 0, all, pass.again, flags };

    pass.windows++;
    if (all > n) {
        w.pages = n;
        w.first = pass.sample % (all / n) * n;
    }
    if (!kpage_read(from / PAGE + w.first, flags, w.pages))
        return;
    for (int i = 0; i < COLLECTORS; i++)
        if (works[i] && collectors[i]->look)
            collectors[i]->look(&w);
}

static void look_at_next(uint64_t now)
{
    const struct vta_span *s = &ram[pass.span];
    uint64_t to = (pass.at / WINDOW + 1) * WINDOW;

    if (to > s->end)
        to = s->end;
    look(pass.at, to);
    pass.at = to;
    if (to < s->end)
        return;
    if (++pass.span < ram_spans)
        pass.at = ram[pass.span].start;
    else
        end(now);
}

void scan_tick(uint64_t now)
{
    uint64_t from = cpu_us();

    if (!session.welcome || session.muted || budget_wait_ms(now, 0))
        return;
    for (int i = 0; i < COLLECTORS; i++)
        if (works[i] && collectors[i]->tick)
            collectors[i]->tick(now);
    if (!any_looks || (!pass.on && (now < pass.next_ms || !begin(now))))
        return;
    while (pass.on && outbox_has_room() && cpu_us() - from < LOOK_US) {
        look_at_next(now);
        outbox_flush(now);
    }
    account(cpu_us() - from);
}

int scan_wait_ms(uint64_t now)
{
    if (!session.welcome || session.muted)
        return -1;
    if (budget.left <= 0)               /* not so rules, for which somebody waits: with it a hint takes 9 s, not 2 */
        return budget_wait_ms(now, 0) + WAKE_US / (int)settings.cpu_permille + 20;
    if (!any_looks)
        return TICK_MS;
    if (pass.on)
        return outbox_has_room() ? 0 : 250;
    return now < pass.next_ms ? (int)(pass.next_ms - now < TICK_MS ? pass.next_ms - now : TICK_MS) : 0;
}
