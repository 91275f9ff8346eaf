// SPDX-License-Identifier: GPL-2.0-or-later
// link: -l:libaio.so.1 -l:liburing.so.2
/*
 * What the fence costs a guest's direct disk I/O, and a call by which a buffer goes to the kernel.
 *
 *   io [-r ROUNDS] [-s SECONDS] [-b BYTES_PER_S] [-c]
 *
 * A round is a VM each: QEMU as it comes; with the plugin but no fence, with the fence, without once
 * more, which tells the noise; with moves at the daemon's default rate; and with those, but no fence.
 * Every other round goes backwards. A ratio is of two VMs of one round; its median over the rounds
 * counts. -c: the calls only.
 *
 * An emulated guest is much slower with the plugin than without, whether there is a fence or not: with
 * emulation, sampling puts a call at every memory access, which is thought to be it. So the fence is
 * compared with no fence, and the whole plugin's cost is a row of its own.
 *
 * Ratios are given per second and per second of QEMU's CPU time. An emulated guest's I/O rate is what
 * its vCPU gets of a processor, so on a machine with other work the second says more.
 *
 * Output: build/bench/io.json and tables. How it is measured is said in bench/lib/io-call.c and
 * io-guest.c. Needs root, the test guest (make guest), and a build directory that can O_DIRECT.
 */
#include "bench/lib/child.h"
#include "bench/lib/io.h"
#include "bench/lib/report.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#define DEFAULT_RATE (256ull << 20)     /* vmtierd's */
#define BAR          0.97
#define ROUNDS_LEAST 5

static struct {
    guint rounds;
    double seconds;
    guint64 rate;
    bool calls_only;
} options = { 9, 6, DEFAULT_RATE, false };

/* --- calls ---------------------------------------------------------------------------------- */

static const struct io_call_case call_cases[] = {
    { IO_PREAD, 1, false }, { IO_AIO, 1, false }, { IO_AIO, 16, false },
    { IO_URING, 1, false }, { IO_URING, 16, false },
    { IO_PREAD, 1, true }, { IO_AIO, 1, true }, { IO_AIO, 16, true },
    { IO_URING, 1, true }, { IO_URING, 16, true },
};

static JsonObject *run_call(const struct io_call_case *c)
{
    JsonObject *o = json_object_new();
    struct io_call_result r = { 0 };
    const char *wrong = bench_child(io_call_run, c, &r, sizeof(r), 300);

    json_object_set_string_member(o, "call", io_call_names[c->call]);
    json_object_set_int_member(o, "batch", c->batch);
    json_object_set_boolean_member(o, "direct", c->direct);
    if (wrong || !r.ok) {
        json_object_set_string_member(o, "skipped", wrong ? wrong : r.why);
        g_print("%-25s skipped: %s\n", io_call_names[c->call], wrong ? wrong : r.why);
        return o;
    }
    json_object_set_double_member(o, "off_ns", r.off_ns.median);
    json_object_set_double_member(o, "on_ns", r.on_ns.median);
    json_object_set_double_member(o, "extra_ns", r.extra_ns.median);
    json_object_set_double_member(o, "extra_q1_ns", r.extra_ns.q1);
    json_object_set_double_member(o, "extra_q3_ns", r.extra_ns.q3);
    g_print("%-25s %2u at a time, %-9s %6.0f ns a request without hooks, %6.0f with: %+.0f (%+.0f..%+.0f)\n",
            io_call_names[c->call], c->batch, c->direct ? "O_DIRECT" : "in memory", r.off_ns.median,
            r.on_ns.median, r.extra_ns.median, r.extra_ns.q1, r.extra_ns.q3);
    return o;
}

static JsonArray *run_calls(void)
{
    JsonArray *list = json_array_new();

    for (gsize i = 0; i < G_N_ELEMENTS(call_cases); i++)
        json_array_add_object_element(list, run_call(&call_cases[i]));
    return list;
}

/* --- guests --------------------------------------------------------------------------------- */

static struct io_guest_result results[IO_ROUNDS_MOST][IO_GUESTS];

static const struct {
    const char *name;
    enum io_guest of, to;
    bool bar;
} ratios[] = {
    { "noise: no fence to itself", IO_BARE_AGAIN, IO_BARE, false },
    { "fence to no fence", IO_FENCE, IO_BARE, true },
    { "moves with the fence to moves without", IO_MOVES, IO_MOVES_BARE, true },
    { "moves to none, both with the fence", IO_MOVES, IO_FENCE, false },
    { "whole plugin to no plugin", IO_FENCE, IO_STOCK, false },
};

static JsonObject *guest_object(const struct io_guest_result *r, enum io_guest kind, guint round)
{
    JsonObject *o = json_object_new();
    const struct {
        const char *name;
        double value;
    } members[] = {
        { "reads_per_s", r->per_s }, { "reads_per_cpu_s", r->per_cpu_s },
        { "moved_mb_per_s", r->moved_mbs }, { "hold_p50_us", r->hold_p50_us },
        { "hold_p99_us", r->hold_p99_us }, { "hold_max_us", r->hold_max_us },
        { "undisturbed_p50_us", r->undisturbed_p50_us },
        { "undisturbed_p99_us", r->undisturbed_p99_us },
        { "undisturbed_max_us", r->undisturbed_max_us },
        { "wait_p99_us", r->wait_p99_us }, { "wait_max_us", r->wait_max_us },
        { "waited", (double)r->waited }, { "submissions", (double)r->submissions },
        { "deferred", (double)r->deferred }, { "stalls", r->stalls },
    };

    json_object_set_int_member(o, "round", round);
    json_object_set_string_member(o, "guest", io_guest_names[kind]);
    for (gsize i = 0; i < G_N_ELEMENTS(members); i++)
        json_object_set_double_member(o, members[i].name, members[i].value);
    g_print("%2u %-18s %6.0f reads/s, %6.0f per CPU second, %4.0f MB/s moved; %" G_GUINT64_FORMAT
            " waited, p99 %.0f us; held p50 %.0f p99 %.0f us, not preempted p50 %.0f p99 %.0f us\n", round,
            io_guest_names[kind], r->per_s, r->per_cpu_s, r->moved_mbs, r->waited, r->wait_p99_us,
            r->hold_p50_us, r->hold_p99_us, r->undisturbed_p50_us, r->undisturbed_p99_us);
    return o;
}

static JsonArray *run_guests(void)
{
    JsonArray *list = json_array_new();

    for (guint round = 0; round < options.rounds; round++)
        for (int i = 0; i < IO_GUESTS; i++) {
            int kind = round % 2 ? IO_GUESTS - 1 - i : i;
            struct io_guest_result *r = &results[round][kind];

            io_guest_run((enum io_guest)kind, options.rate, options.seconds, r);
            json_array_add_object_element(list, guest_object(r, (enum io_guest)kind, round));
        }
    return list;
}

static struct bench_spread spread_of(enum io_guest of, enum io_guest to, bool by_cpu)
{
    double v[IO_ROUNDS_MOST];

    for (guint i = 0; i < options.rounds; i++)
        v[i] = by_cpu ? results[i][of].per_cpu_s / results[i][to].per_cpu_s
                      : results[i][of].per_s / results[i][to].per_s;
    return bench_spread(v, options.rounds);
}

/* Of the median, were the values spread normally; from the quartiles, so that one VM counts little. */
static double error_of(const struct bench_spread *s)
{
    return 1.253 * (s->q3 - s->q1) / 1.349 / sqrt(s->n);
}

/* Said only if the median is further from the bar than twice its error: noise can do either. */
static const char *verdict(const struct bench_spread *s)
{
    if (s->n >= ROUNDS_LEAST && s->median - 2 * error_of(s) >= BAR)
        return "reached";
    if (s->n >= ROUNDS_LEAST && s->median + 2 * error_of(s) < BAR)
        return "MISSED";
    return "undecided: the noise is wider";
}

static JsonArray *compare(void)
{
    JsonArray *list = json_array_new();

    for (gsize i = 0; i < G_N_ELEMENTS(ratios); i++)
        for (int by_cpu = 0; by_cpu < 2; by_cpu++) {
            struct bench_spread s = spread_of(ratios[i].of, ratios[i].to, by_cpu);
            JsonObject *o = json_object_new();

            json_object_set_string_member(o, "ratio", ratios[i].name);
            json_object_set_string_member(o, "per", by_cpu ? "CPU second" : "second");
            json_object_set_double_member(o, "median", s.median);
            json_object_set_double_member(o, "q1", s.q1);
            json_object_set_double_member(o, "q3", s.q3);
            json_object_set_double_member(o, "low", s.low);
            json_object_set_double_member(o, "high", s.high);
            json_object_set_double_member(o, "error", error_of(&s));
            if (ratios[i].bar) {
                json_object_set_double_member(o, "bar", BAR);
                json_object_set_string_member(o, "verdict", verdict(&s));
            }
            json_array_add_object_element(list, o);
            g_print("%-40s per %-10s %.3f +- %.3f (all %.3f..%.3f)%s%s\n", ratios[i].name,
                    by_cpu ? "CPU second" : "second", s.median, error_of(&s), s.low, s.high,
                    ratios[i].bar ? "  0.97 " : "", ratios[i].bar ? verdict(&s) : "");
        }
    return list;
}

/* --- the program ---------------------------------------------------------------------------- */

static bool parse(int argc, char **argv)
{
    int c;

    while ((c = getopt(argc, argv, "r:s:b:c")) >= 0) {
        if (c == 'r')
            options.rounds = (guint)g_ascii_strtoull(optarg, NULL, 10);
        else if (c == 's')
            options.seconds = g_ascii_strtod(optarg, NULL);
        else if (c == 'b')
            options.rate = g_ascii_strtoull(optarg, NULL, 10);
        else if (c == 'c')
            options.calls_only = true;
        else
            return false;
    }
    options.rounds |= 1;            /* so that there is a middle */
    return optind == argc && options.rounds <= IO_ROUNDS_MOST && options.seconds > 0;
}

static bool put(JsonObject *o)
{
    g_autofree char *path = bench_path("io.json");
    bool written = bench_write(o, path);

    g_print("%s\n", path);
    return written;
}

/* The lab keeps the files of VMs that ran outside of a test, so this is one. */
static void run(void)
{
    g_autoptr(JsonObject) o = json_object_new();

    json_object_set_array_member(o, "calls", run_calls());
    if (!options.calls_only) {
        json_object_set_int_member(o, "bytes_per_s", (gint64)options.rate);
        json_object_set_array_member(o, "guests", run_guests());
        json_object_set_array_member(o, "ratios", compare());
    }
    json_object_set_object_member(o, "machine", bench_machine());
    g_assert_true(put(o));
}

int main(int argc, char **argv)
{
    char *own[] = { argv[0], NULL }, **list = own;
    int n = 1;

    if (!parse(argc, argv)) {
        g_printerr("usage: io [-r ROUNDS (odd, to %d)] [-s SECONDS] [-b BYTES_PER_S] [-c]\n", IO_ROUNDS_MOST);
        return 2;
    }
    g_test_init(&n, &list, NULL);
    g_test_add_func("/io", run);
    return g_test_run();
}
