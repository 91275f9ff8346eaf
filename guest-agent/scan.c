// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The collectors' turn.
 *
 * A pass goes over RAM window by window, reads the pages' flags once and shows them to every collector.
 * It goes on only while the process as a whole has used less CPU time than its share of the time that
 * has gone by, so a pass takes as long as it takes and the agent never takes more than it may. Of a guest
 * so large that a pass would outlast the hints, only some pages of each window are looked at, others each
 * time: what is said is then a share of the window.
 */
#include "guest-agent/agent.h"

#define BURST_US 20000          /* CPU time that may be saved up */
#define LOOK_US  2000           /* at most in one go, so that the port is looked after */

const struct collector *const collectors[COLLECTORS] = {
    &collect_free, &collect_flags, &collect_idle, &collect_damon,
};
char collector_reason[COLLECTORS][96];
uint64_t scan_passes, scan_pass_ms;

static bool works[COLLECTORS], any_looks;
static struct {
    bool on;
    uint64_t begun_ms, next_ms;
    size_t span;
    uint64_t at;
    unsigned pages;             /* of a window that are looked at */
    unsigned turn;              /* which of them */
} pass;
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

/* Few enough pages of each window that a pass at our share of a core ends before the hints do. */
static unsigned pages_of_window(void)
{
    static const unsigned choice[] = { 512, 64, 8 };
    uint64_t windows = ram_bytes / WINDOW + 1, cpu = settings.cpu_permille * session.life_ms / 2;
    unsigned i = 0;

    while (i < 2 && windows * (1 + choice[i] / 16) > cpu)   /* us: a call, and about 1/16 each page */
        i++;
    return choice[i];
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
    pass.pages = pages_of_window();
    pass.turn++;
    outbox_new_report();
    for (int i = 0; i < COLLECTORS; i++)
        if (works[i] && collectors[i]->begin)
            collectors[i]->begin();
    return true;
}

static void end(uint64_t now)
{
    pass.on = false;
    scan_passes++;
    scan_pass_ms = now - pass.begun_ms;
    session.asked = 0;
    for (int i = 0; i < COLLECTORS; i++)
        if (works[i] && collectors[i]->end)
            collectors[i]->end();
}

static void look(uint64_t from, uint64_t to)
{
    static uint64_t flags[WINDOW / 4096];
    unsigned all = (unsigned)((to - from) / PAGE), n = all, skip = 0;
    struct window w = { from, to - from, 0, flags };

    if (all > pass.pages) {
        n = pass.pages;
        skip = pass.turn * 8 % (all - n + 1) / 8 * 8;
    }
    w.pages = n;
    if (!kpage_read(from / PAGE + skip, flags, n))
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
}

int scan_wait_ms(uint64_t now)
{
    if (!session.welcome || session.muted)
        return -1;
    if (budget.left <= 0)
        return budget_wait_ms(now, 0) + 20;
    if (pass.on)
        return outbox_has_room() ? 0 : 250;
    return now < pass.next_ms ? (int)(pass.next_ms - now < 1000 ? pass.next_ms - now : 1000) : 0;
}
