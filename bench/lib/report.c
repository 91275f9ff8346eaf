// SPDX-License-Identifier: GPL-2.0-or-later
/* Cases in words: see report.h. */
#include "bench/lib/report.h"
#include "bench/lib/child.h"

#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* A stall may take twice the granule's memcpy() and what the calls cost. */
#define STALL_CALLS_US 35.0
#define LIMIT_S        300u     /* of one case */
#define HUGE_PAGES     340u     /* most that a case takes */

static const char *const kind_names[] = { "speed", "stall", "vcpu" };
static_assert(G_N_ELEMENTS(kind_names) == BENCH_KINDS, "a kind has no name");

static const char *const control_names[] = { "moves", "sleeps", "copies" };

static void set_spread(JsonObject *o, const char *name, const struct bench_spread *s)
{
    JsonObject *inner = json_object_new();

    json_object_set_int_member(inner, "n", s->n);
    json_object_set_double_member(inner, "median", s->median);
    json_object_set_double_member(inner, "min", s->low);
    json_object_set_double_member(inner, "q1", s->q1);
    json_object_set_double_member(inner, "q3", s->q3);
    json_object_set_double_member(inner, "p99", s->p99);
    json_object_set_double_member(inner, "max", s->high);
    json_object_set_object_member(o, name, inner);
}

static struct bench_spread set_values(JsonObject *o, const char *name, double *v, guint n)
{
    struct bench_spread s = bench_spread(v, n);

    set_spread(o, name, &s);
    return s;
}

static void set_case(JsonObject *o, const struct bench_row *row)
{
    const struct bench_case *c = &row->c;

    json_object_set_string_member(o, "backing", bench_backing_names[c->backing]);
    json_object_set_int_member(o, "granule_bytes", (gint64)c->granule);
    json_object_set_int_member(o, "run_bytes", (gint64)MAX(c->run_bytes, c->granule));
    json_object_set_string_member(o, "destination", c->keep ? "pool kept" : "allocated, punched");
    json_object_set_int_member(o, "threads", c->threads);
    json_object_set_boolean_member(o, "aged", c->aged);
    if (row->kind == BENCH_VCPU) {
        json_object_set_int_member(o, "rate_mbs", c->rate);
        json_object_set_string_member(o, "of", control_names[c->control]);
    }
}

static char *size_text(guint64 bytes)
{
    return bytes >= 1u << 20 ? g_strdup_printf("%" G_GUINT64_FORMAT "M", bytes >> 20) :
                               g_strdup_printf("%" G_GUINT64_FORMAT "K", bytes >> 10);
}

static void print_case(const struct bench_row *row)
{
    const struct bench_case *c = &row->c;
    g_autofree char *granule = size_text(c->granule), *run = size_text(c->run_bytes);

    g_print("%-5s %-17s %4s %-9s %-7s", kind_names[row->kind], bench_backing_names[c->backing],
            granule, c->run_bytes > c->granule ? run : "separate", c->aged ? "aged" : c->keep ? "kept" : "punched");
    if (row->kind == BENCH_SPEED)
        g_print(" %u thread%s ", c->threads, c->threads > 1 ? "s" : " ");
    if (row->kind == BENCH_VCPU)
        g_print(" %3u MB/s %-6s", c->rate, control_names[c->control]);
}

static void print_bar(struct bench_report *r, JsonObject *o, bool ok, const char *sign, double bar)
{
    json_object_set_double_member(o, "bar", bar);
    json_object_set_boolean_member(o, "ok", ok);
    g_print("  bar %s %.4g %s", sign, bar, ok ? "ok" : "MISS");
    r->misses += !ok;
}

static void set_steps(JsonObject *o, const struct speed_result *s)
{
    JsonObject *steps = json_object_new();

    for (guint i = 0; i < MOVER_STEPS; i++)
        json_object_set_double_member(steps, mover_step_name(i), s->step_us[i]);
    json_object_set_object_member(o, "step_us_per_granule", steps);
}

static void report_speed(struct bench_report *r, const struct bench_row *row, JsonObject *o,
                         struct speed_result *s)
{
    struct bench_spread ratio = set_values(o, "ratio_to_memcpy", s->ratio, s->reps);
    struct bench_spread move = set_values(o, "gb_per_cpu_s", s->move_gbs, s->reps);
    struct bench_spread copy = set_values(o, "memcpy_gb_per_cpu_s", s->copy_gbs, s->reps);
    struct bench_spread wall = set_values(o, "gb_per_s", s->wall_gbs, s->reps);

    set_values(o, "memcpy_gb_per_s", s->copy_wall_gbs, s->reps);
    json_object_set_double_member(o, "us_per_granule", s->granule_us);
    json_object_set_int_member(o, "huge_mapped_bytes", (gint64)s->huge_bytes);
    set_steps(o, s);
    g_print(" %6.2f GB/cpu-s (wall %5.2f, memcpy %5.2f)  ratio %.3f [%.3f %.3f]", move.median,
            wall.median, copy.median, ratio.median, ratio.low, ratio.high);
    if (row->bar > 0)
        print_bar(r, o, ratio.median >= row->bar, ">=", row->bar);
    g_print("\n       us/granule %.2f:", s->granule_us);
    for (guint i = 0; i < MOVER_STEPS; i++)
        g_print(" %s %.2f", mover_step_name(i), s->step_us[i]);
}

static void report_stall(struct bench_report *r, const struct bench_row *row, JsonObject *o,
                         const struct stall_result *s)
{
    double bar = 2 * s->copy_us + STALL_CALLS_US;

    set_spread(o, "writer_us", &s->writer);
    set_spread(o, "reader_us", &s->reader);
    set_spread(o, "writer_floor_us", &s->writer_floor);
    set_spread(o, "reader_floor_us", &s->reader_floor);
    json_object_set_double_member(o, "memcpy_us", s->copy_us);
    json_object_set_int_member(o, "epochs", s->epochs);
    g_print(" us p50/p99: writer %.0f/%.0f (n=%u) reader %.0f/%.0f (n=%u) floor %.1f/%.1f "
            "%.1f/%.1f memcpy %.0f", s->writer.median, s->writer.p99, s->writer.n,
            s->reader.median, s->reader.p99, s->reader.n, s->writer_floor.median,
            s->writer_floor.p99, s->reader_floor.median, s->reader_floor.p99, s->copy_us);
    if (row->bar > 0)
        print_bar(r, o, s->writer.n && s->writer.median <= bar, "<=", bar);
}

static void report_vcpu(struct bench_report *r, const struct bench_row *row, JsonObject *o,
                        const struct vcpu_result *v)
{
    set_spread(o, "ratio", &v->ratio);
    json_object_set_double_member(o, "standard_error", v->error);
    json_object_set_double_member(o, "million_accesses_per_s", v->ops);
    json_object_set_double_member(o, "moved_mbs", v->moved_mbs);
    g_print(" ratio %.3f +- %.3f [%.3f %.3f] n=%u (%.1f M accesses/s, %.0f MB/s moved)",
            v->ratio.median, v->error, v->ratio.q1, v->ratio.q3, v->ratio.n, v->ops, v->moved_mbs);
    if (row->bar > 0)
        print_bar(r, o, v->ratio.median >= row->bar, ">=", row->bar);
}

/* What any of the cases gives. Each begins with these two. */
union result {
    struct {
        bool ok;
        char why[200];
    } head;
    struct speed_result speed;
    struct stall_result stall;
    struct vcpu_result vcpu;
};

static void run(const struct bench_row *row, union result *result)
{
    const char *why;
    static void (*const functions[])(const void *, void *) = { bench_speed, bench_stall, bench_vcpu };

    static_assert(G_N_ELEMENTS(functions) == BENCH_KINDS, "a kind has no function");
    why = bench_child(functions[row->kind], &row->c, result, sizeof(*result), LIMIT_S);
    if (why)
        g_strlcpy(result->head.why, why, sizeof(result->head.why));
}

void bench_report_run(struct bench_report *r, const struct bench_row *row)
{
    g_autofree union result *result = g_new0(union result, 1);
    gint64 start = g_get_monotonic_time();
    JsonObject *o = json_object_new();

    set_case(o, row);
    print_case(row);
    if (row->c.backing != BENCH_HUGETLB || bench_huge_take(HUGE_PAGES, result->head.why))
        run(row, result);
    bench_huge_give();
    if (!result->head.ok) {
        json_object_set_string_member(o, "skipped", result->head.why);
        g_print(" skipped: %s", result->head.why);
    } else if (row->kind == BENCH_SPEED) {
        report_speed(r, row, o, &result->speed);
    } else if (row->kind == BENCH_STALL) {
        report_stall(r, row, o, &result->stall);
    } else {
        report_vcpu(r, row, o, &result->vcpu);
    }
    g_print("\n");
    json_object_set_double_member(o, "took_s", (double)(g_get_monotonic_time() - start) / 1e6);
    json_array_add_object_element(r->list[row->kind], o);
}

void bench_report_begin(struct bench_report *r)
{
    *r = (struct bench_report){ 0 };
    for (int i = 0; i < BENCH_KINDS; i++)
        r->list[i] = json_array_new();
}

JsonObject *bench_machine(void)
{
    JsonObject *o = json_object_new();
    g_autofree char *load = NULL, *cpu = NULL;
    const char *model = NULL;
    struct utsname u;

    uname(&u);
    json_object_set_string_member(o, "kernel", u.release);
    json_object_set_int_member(o, "processors", sysconf(_SC_NPROCESSORS_ONLN));
    if (g_file_get_contents("/proc/cpuinfo", &cpu, NULL, NULL))
        model = strstr(cpu, "model name\t: ");
    if (model) {
        g_autofree char *line = g_strndup(model + 13, strcspn(model + 13, "\n"));

        json_object_set_string_member(o, "cpu", line);
    }
    if (g_file_get_contents("/proc/loadavg", &load, NULL, NULL))
        json_object_set_string_member(o, "load_at_end", g_strchomp(load));
    return o;
}

bool bench_write(JsonObject *o, const char *path)
{
    g_autofree char *directory = g_path_get_dirname(path), *text = NULL;
    g_autoptr(JsonNode) root = json_node_init_object(json_node_alloc(), o);
    g_autoptr(GError) error = NULL;

    text = json_to_string(root, TRUE);
    g_mkdir_with_parents(directory, 0755);
    if (g_file_set_contents(path, text, -1, &error))
        return true;
    g_printerr("%s\n", error->message);
    return false;
}

char *bench_path(const char *file)
{
    const char *build = g_getenv("BUILD");

    return g_build_filename(build ? build : "build", "bench", file, NULL);
}

bool bench_report_write(struct bench_report *r, const char *path)
{
    g_autoptr(JsonObject) o = json_object_new();

    json_object_set_object_member(o, "machine", bench_machine());
    for (int i = 0; i < BENCH_KINDS; i++)
        json_object_set_array_member(o, kind_names[i], g_steal_pointer(&r->list[i]));
    return bench_write(o, path);
}
