// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The demo's course: the phases one after the other.
 *
 * Whatever is waited for, tick() is called all the time; when it says false the demo is over:
 * interrupted, or broken, which is then told in `broken`.
 */
#include "demo.h"

#define BOOT_TIMEOUT 90.0
#define MEASURE_S 0.25
#define MOMENT_S 0.02
#define SETTLE_S 30.0               /* from the workload's start, and from the shift */
#define STRESS_SHIFTS 6
#define STRESS_S 10.0
#define SWEEP_TIMEOUT 60.0

volatile sig_atomic_t demo_signal;

double demo_now(const struct demo *d)
{
    return lab_now() - d->start;
}

static void give_up(struct demo *d, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void give_up(struct demo *d, const char *format, ...)
{
    va_list ap;

    if (d->broken)
        return;
    va_start(ap, format);
    d->broken = g_strdup_vprintf(format, ap);
    va_end(ap);
}

/* --- going on -------------------------------------------------------------------------------- */

/* ^C ends QEMU and the daemon, too, maybe a moment before we hear of it. */
static bool all_alive(struct demo *d)
{
    const char *gone = NULL;

    if (!child_alive(d->vm->qemu))
        gone = "QEMU";
    else if (!child_alive(d->daemon->process))
        gone = "vmtierd";
    if (gone)
        lab_sleep(0.1);
    if (gone && !demo_signal)
        give_up(d, "%s has ended", gone);
    return !gone;
}

static bool tick(struct demo *d)
{
    if (demo_signal || d->broken || !all_alive(d))
        return false;
    measure_guest(d);
    if (demo_now(d) - d->measured >= MEASURE_S)
        measure(d);
    screen_draw(d->screen, d);
    lab_sleep(MOMENT_S);
    return true;
}

static bool go_on_until(struct demo *d, double end)
{
    while (demo_now(d) < end)
        if (!tick(d))
            return false;
    measure(d);
    return true;
}

static bool go_on_while_not(struct demo *d, const bool *done, double timeout, const char *what)
{
    double end = demo_now(d) + timeout;

    while (!*done && demo_now(d) < end)
        if (!tick(d))
            return false;
    if (!*done)
        give_up(d, "the guest did not %s within %.0f s", what, timeout);
    return *done;
}

static void enter(struct demo *d, enum phase phase)
{
    double now = demo_now(d);

    d->runs[d->phase].end = now;
    d->phase = phase;
    d->runs[phase] = (struct phase_run) { now, 0, (double)g_get_real_time() / 1e6 };
}

static bool set_rate(struct demo *d, const char *rate)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) done = qmp_try(d->daemon->qmp, &error, "vmtier-set-rate",
                                       "{\"vm\":\"" DEMO_VM "\",\"bytes_per_s\":%s}", rate);

    if (!done && !demo_signal)
        give_up(d, "vmtier-set-rate: %s", error ? error->message : "");
    return done != NULL;
}

/* --- phases ---------------------------------------------------------------------------------- */

static bool take_hot(struct demo *d, unsigned phase)
{
    double end = demo_now(d) + 10;

    while (d->guest.hot_phase < phase && demo_now(d) < end)
        if (!tick(d))
            return false;
    if (d->guest.hot_phase < phase) {
        give_up(d, "the guest did not tell its hot set %u", phase);
        return false;
    }
    measure_take_hot(d, phase);
    return true;
}

static bool run_boot(struct demo *d)
{
    enter(d, PHASE_BOOT);
    if (!go_on_while_not(d, &d->guest.ready, BOOT_TIMEOUT, "boot"))
        return false;
    guest_reset_gap(d->vm->guest);
    return true;
}

/* The daemon was started with a rate of 0. */
static bool run_first_touch(struct demo *d)
{
    d->ready = demo_now(d);
    enter(d, PHASE_FIRST_TOUCH);
    if (!take_hot(d, 1))
        return false;
    d->pages_at_ready = measure_last(d)->pages;
    d->moved_at_ready = measure_last(d)->moved_bytes;
    if (!go_on_until(d, d->ready + HIT_WINDOW_S))
        return false;
    d->first_touch = measure_hit_now(d);
    return true;
}

static bool run_settle(struct demo *d)
{
    enter(d, PHASE_SETTLE);
    d->moves_on = demo_now(d);
    if (!set_rate(d, d->options.rate) || !go_on_until(d, d->ready + SETTLE_S))
        return false;
    d->steady = measure_hit_now(d);
    return true;
}

static bool shift(struct demo *d)
{
    guest_command(d->vm->guest, "shift");
    return take_hot(d, d->guest.hot_phase + 1);
}

static bool run_shift(struct demo *d)
{
    enter(d, PHASE_SHIFT);
    d->shifted = demo_now(d);
    if (!shift(d) || !go_on_until(d, d->shifted + SETTLE_S))
        return false;
    d->after_shift = measure_hit_now(d);
    return true;
}

static bool enough_moves(const struct demo *d)
{
    return measure_last(d)->pages - d->pages_at_ready >= PAGES_WANTED;
}

static bool run_stress(struct demo *d)
{
    if (enough_moves(d))
        return true;
    enter(d, PHASE_STRESS);
    for (int i = 0; i < STRESS_SHIFTS && !enough_moves(d); i++)
        if (!shift(d) || !go_on_until(d, demo_now(d) + STRESS_S))
            return false;
    return true;
}

static bool run_sweep(struct demo *d)
{
    enter(d, PHASE_SWEEP);
    guest_command(d->vm->guest, "sweep");
    if (!go_on_while_not(d, &d->guest.swept, SWEEP_TIMEOUT, "check its pages"))
        return false;
    d->heartbeat_gap_ms = guest_longest_gap(d->vm->guest);
    measure(d);
    d->runs[PHASE_SWEEP].end = demo_now(d);
    screen_finish(d->screen, d);
    return true;
}

bool phases_run(struct demo *d)
{
    return run_boot(d) && run_first_touch(d) && run_settle(d) && run_shift(d) && run_stress(d) &&
           run_sweep(d);
}
