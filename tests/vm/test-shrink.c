// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The quota of a busy guest is halved: it is reached, at the rate, with more and less of it done to be seen on the
 * way; dram is never above what was allowed when it was looked at; contents are as they were.
 *
 * How much the guest slows down meanwhile is said, in visits per second of its own clock, and not judged: a
 * machine that is busy with others has its part in it.
 */
#include "rig.h"
#include "tiered.h"

#define FROM    (256 * MIB)
#define TO      (128 * MIB)
#define RATE    (32 * MIB)
#define ANSWER  90.0

static uint64_t dram_of(struct tiered *t)
{
    g_autoptr(JsonObject) vm = daemon_vm(t->daemon, t->name);

    g_assert_nonnull(vm);
    return (uint64_t)json_int(vm, "tiers.0.file_bytes");
}

static bool is_filled(void *t)
{
    return dram_of(t) > FROM * 9 / 10;
}

/* Visits per second of the guest's between two beats. */
static double speed(const char *from, const char *to)
{
    double visits = (double)(guest_number(to, "ops") - guest_number(from, "ops"));

    return visits * 1000 / (double)MAX(guest_number(to, "t") - guest_number(from, "t"), 1);
}

static void set(struct tiered *t, const char *command, const char *what, uint64_t bytes)
{
    json_node_unref(qmp_ok(t->daemon->qmp, command, "{\"vm\":\"%s\",\"%s\":%" PRIu64 "}", t->name, what,
                           bytes));
}

struct shrink {
    unsigned between;               /* different sizes seen on the way */
    double seconds, speed;
};

static struct shrink shrink(struct tiered *t)
{
    g_autofree char *begin = guest_beat(t->vm->guest, ANSWER), *end = NULL;
    double start = lab_now(), deadline = lab_deadline(ANSWER);
    struct shrink s = { 0 };
    uint64_t last = 0, now;

    set(t, "vmtier-set-rate", "bytes_per_s", RATE);
    set(t, "vmtier-set-quota", "max", TO);
    while ((now = dram_of(t)) > TO) {
        g_assert_cmpfloat(lab_now(), <, deadline);
        s.between += now != last && now < FROM;
        last = now;
        lab_sleep(.02);
    }
    s.seconds = lab_now() - start;
    end = guest_beat(t->vm->guest, ANSWER);
    s.speed = speed(begin, end);
    return s;
}

static double usual_speed(struct guest *guest)
{
    g_autofree char *begin = guest_beat(guest, ANSWER), *end = NULL;

    lab_sleep(3);
    end = guest_beat(guest, ANSWER);
    return speed(begin, end);
}

static void test_halved(void)
{
    const struct tiered_options options = {
        .lab = "shrink", .ram = "384M", .append = "vmt.foot=280M vmt.hot=64M", .quota = "256M",
    };
    g_autoptr(Tiered) t = tiered_new(&options);
    struct shrink s;
    double before;

    g_assert_true(lab_wait(is_filled, t, ANSWER));
    before = usual_speed(t->vm->guest);
    s = shrink(t);
    watch_end(t->watch);            /* never above 256 MiB */
    t->watch = watch_start(t->vm->qemu->pid, TO);
    g_test_message("256 to 128 MiB in %.1f s, at 32 MiB/s; %u sizes seen on the way; the guest made %.2f of the visits "
                   "it made before", s.seconds, s.between, s.speed / before);
    g_assert_cmpuint(s.between, >=, 2);
    g_assert_cmpfloat(s.seconds, >, .5 * (FROM - TO) / RATE);
    g_assert_cmpuint(guest_sweep(t->vm->guest, ANSWER), ==, 0);
    tiered_check(t, 20);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/shrink/halved", test_halved);
    return g_test_run();
}
