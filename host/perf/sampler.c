// SPDX-License-Identifier: GPL-2.0-or-later
/* Samples of what a process' vCPU threads do: see sampler.h. */
#include "host/perf/sampler.h"
#include "common/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING_PAGES 16u          /* a power of two; 64 KiB: four hundred IBS samples */
#define LOOK_S     1.0          /* between looks for new threads */
#define PACE_S     0.2          /* the shortest time that tells a rate */
#define SLICE      64u          /* samples between looks at the clock */
#define PERIOD_MOST (1ull << 40)

struct tap {                    /* an event that is open */
    int fd;
    pid_t tid;                  /* of CPUs: -1 */
    struct ring ring;
};

struct sampler {
    struct event event;         /* ours; its text is not */
    struct perf_layout layout;
    pid_t pid;
    double want;
    GArray *taps;               /* of struct tap */
    bool per_cpu;
    guint8 *whole;
    guint next;                 /* tap to begin with */
    guint64 period, others, samples_then, lost_then;
    double events;              /* seen since the pace was set last */
    double paced_s, looked_s, rate;
    struct perf_counts counts;
    ring_take take;
    gpointer opaque;
};

static double now_s(void)
{
    return (double)clock_ns(CLOCK_MONOTONIC) / 1e9;
}

/* --- threads ---------------------------------------------------------------------------------------------- */

/* "CPU 3/KVM", "CPU 0/TCG", "ALL CPUs/TCG" */
static bool is_vcpu_name(const char *name)
{
    return g_str_has_prefix(name, "CPU ") || g_str_has_prefix(name, "ALL CPUs/");
}

GArray *sampler_threads(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task", (int)pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(pid_t));
    GArray *vcpus = g_array_new(FALSE, FALSE, sizeof(pid_t));
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, "comm", NULL);
        g_autofree char *comm = NULL;
        pid_t tid = (pid_t)g_ascii_strtoll(name, NULL, 10);

        if (!g_file_get_contents(file, &comm, NULL, NULL))
            continue;
        g_array_append_val(all, tid);
        if (is_vcpu_name(comm))
            g_array_append_val(vcpus, tid);
    }
    if (vcpus->len)
        return vcpus;
    g_array_unref(vcpus);
    return g_steal_pointer(&all);
}

/* --- opening ----------------------------------------------------------------------------------------------- */

static int open_event(struct perf_event_attr *attr, pid_t tid, int cpu)
{
    return (int)syscall(SYS_perf_event_open, attr, tid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

/* Asks for less where a PMU cannot do all: precision, and to leave the host out. */
static int open_as_can_be(struct event *e, pid_t tid, int cpu)
{
    int fd = open_event(&e->attr, tid, cpu);

    while (fd < 0 && (errno == EINVAL || errno == EOPNOTSUPP) && e->most_precise && e->attr.precise_ip) {
        e->attr.precise_ip--;
        fd = open_event(&e->attr, tid, cpu);
    }
    if (fd < 0 && errno == EINVAL && e->attr.exclude_host) {
        e->attr.exclude_host = 0;       /* what is the host's is known by its mode */
        fd = open_event(&e->attr, tid, cpu);
    }
    return fd;
}

static int no_event(const struct sampler *s, int e, struct vt_err *err)
{
    const char *text = s->event.text, *why = g_strerror(e);

    switch (e) {
    case EACCES: case EPERM:
        return vt_fail(err, e, "perf_event_open %s: %s: vmtierd needs CAP_PERFMON (or CAP_SYS_ADMIN), or a "
                       "lower kernel.perf_event_paranoid", text, why);
    case ENOENT: case ENODEV: case EOPNOTSUPP:
        return vt_fail(err, e, "perf_event_open %s: this CPU or kernel does not have it", text);
    case ENODATA:
        return vt_fail(err, e, "perf_event_open %s: this CPU samples loads in a group with mem-loads-aux "
                       "alone, which vmtierd does not make", text);
    case EMFILE:
        return vt_fail(err, e, "perf_event_open %s: %s: raise LimitNOFILE of vmtierd", text, why);
    case EBUSY:
        return vt_fail(err, e, "perf_event_open %s: somebody else has this PMU for himself", text);
    default:
        return vt_fail(err, e, "perf_event_open %s for process %d: %s", text, (int)s->pid, why);
    }
}

static int map_ring(struct sampler *s, struct tap *tap, struct vt_err *err)
{
    tap->ring.whole = s->whole;
    if (ring_map(&tap->ring, tap->fd, RING_PAGES))
        return 0;
    return vt_fail(err, errno, "ring of %s: mmap of %u pages: %s: raise kernel.perf_event_mlock_kb, or give "
                   "vmtierd CAP_IPC_LOCK", s->event.text, RING_PAGES + 1, g_strerror(errno));
}

/* Of a thread, or (-1) of a CPU. */
static int add_tap(struct sampler *s, pid_t tid, int cpu, struct vt_err *err)
{
    struct tap tap = { .tid = tid };
    int rc;

    s->event.attr.sample_period = s->period;
    tap.fd = open_as_can_be(&s->event, tid, cpu);
    if (tap.fd < 0)
        return no_event(s, errno, err);
    rc = map_ring(s, &tap, err);
    if (rc)
        close(tap.fd);
    else
        g_array_append_val(s->taps, tap);
    return rc;
}

static void close_tap(struct tap *tap)
{
    ring_unmap(&tap->ring);
    close(tap->fd);
}

static int add_cpus(struct sampler *s, struct vt_err *err)
{
    long n = sysconf(_SC_NPROCESSORS_CONF);
    int rc = -ENODEV;

    for (int cpu = 0; cpu < n; cpu++) {
        rc = add_tap(s, -1, cpu, err);
        if (rc && rc != -ENODEV)        /* ENODEV: it is off */
            return rc;
    }
    s->per_cpu = s->taps->len > 0;
    return s->per_cpu ? 0 : rc;
}

static bool has_tap(const struct sampler *s, pid_t tid)
{
    for (guint i = 0; i < s->taps->len; i++)
        if (g_array_index(s->taps, struct tap, i).tid == tid)
            return true;
    return false;
}

static bool is_among(const GArray *tids, pid_t tid)
{
    for (guint i = 0; i < tids->len; i++)
        if (g_array_index(tids, pid_t, i) == tid)
            return true;
    return false;
}

/* Drops those of threads that have ended, opens those of new ones. */
static int update_threads(struct sampler *s, struct vt_err *err)
{
    g_autoptr(GArray) tids = sampler_threads(s->pid);
    int rc = tids->len ? 0 : vt_fail(err, ESRCH, "process %d has ended", (int)s->pid);

    for (guint i = s->taps->len; i-- > 0;)
        if (!is_among(tids, g_array_index(s->taps, struct tap, i).tid)) {
            close_tap(&g_array_index(s->taps, struct tap, i));
            g_array_remove_index_fast(s->taps, i);
        }
    for (guint i = 0; !rc && i < tids->len; i++) {
        pid_t tid = g_array_index(tids, pid_t, i);

        if (!has_tap(s, tid))
            rc = add_tap(s, tid, -1, err);
        if (rc == -ESRCH)               /* it has just ended */
            rc = 0;
    }
    return rc;
}

struct sampler *sampler_new(const struct event *event, pid_t pid, double rate, struct vt_err *err)
{
    struct sampler *s = g_new0(struct sampler, 1);
    int rc;

    s->event = *event;
    s->event.text = g_strdup(event->text);
    s->layout = perf_layout_of(&event->attr);
    s->pid = pid;
    s->want = rate;
    s->period = event->period;
    s->taps = g_array_new(FALSE, FALSE, sizeof(struct tap));
    s->whole = g_malloc(RING_RECORD_MOST);
    s->paced_s = s->looked_s = now_s();
    rc = update_threads(s, err);
    if (rc == -EINVAL && event->space == EVENT_IBS)
        rc = add_cpus(s, err);
    if (!rc)
        return s;
    sampler_free(s);
    return NULL;
}

void sampler_free(struct sampler *s)
{
    if (!s)
        return;
    for (guint i = 0; i < s->taps->len; i++)
        close_tap(&g_array_index(s->taps, struct tap, i));
    g_array_unref(s->taps);
    g_free(s->event.text);
    g_free(s->whole);
    g_free(s);
}

/* --- pace --------------------------------------------------------------------------------------------------- */

guint64 sampler_next_period(const struct event *event, guint64 period, double rate, double events, double dt)
{
    double is = (double)period, wanted = events / dt / rate;
    double next = wanted > is ? MIN(wanted, is * 1000) : (is + MAX(wanted, is / 4)) / 2;
    guint64 most = event->space == EVENT_IBS ? 1u << 26 : PERIOD_MOST;
    guint64 rounded = (guint64)(next + (wanted > is ? 0.999 : 0)) / event->period_step * event->period_step;

    return CLAMP(rounded, event->period_least, most);
}

/* What was lost is told with the next sample, be that much later: it says that there were more events, not how many
 * and when. */
static void keep_pace(struct sampler *s)
{
    guint64 samples = s->counts.samples + s->others, lost = s->counts.lost + s->counts.throttled, period;
    double now = now_s(), dt = now - s->paced_s;

    if (dt < PACE_S)
        return;
    s->rate += 0.3 * ((double)(samples - s->samples_then) / dt - s->rate);
    if (lost > s->lost_then)
        s->events = MAX(s->events, 2 * (double)s->period * s->want * dt);
    period = sampler_next_period(&s->event, s->period, s->want, s->events, dt);
    s->samples_then = samples;
    s->lost_then = lost;
    s->paced_s = now;
    s->events = 0;
    if (period == s->period)
        return;
    s->period = period;
    for (guint i = 0; i < s->taps->len; i++)
        ioctl(g_array_index(s->taps, struct tap, i).fd, PERF_EVENT_IOC_PERIOD, &s->period);
}

/* --- reading ------------------------------------------------------------------------------------------------ */

static void take_own(const struct perf_sample *sample, gpointer opaque)
{
    struct sampler *s = opaque;

    s->events += (double)sample->period;
    if (sample->pid == (guint32)s->pid) {
        s->take(sample, s->opaque);
        return;
    }
    s->others++;
    s->counts.samples--;
}

int sampler_read(struct sampler *s, guint32 budget_us, ring_take take, gpointer opaque, struct vt_err *err)
{
    guint64 until = cpu_ns() + budget_us * 1000ull;
    guint empty = 0;
    int rc = 0;

    s->take = take;
    s->opaque = opaque;
    while (empty < s->taps->len && cpu_ns() < until) {
        struct tap *tap = &g_array_index(s->taps, struct tap, s->next++ % s->taps->len);

        if (ring_read(&tap->ring, &s->layout, SLICE, take_own, s, &s->counts) < SLICE)
            empty++;
        else
            empty = 0;
    }
    keep_pace(s);
    if (!s->per_cpu && now_s() - s->looked_s >= LOOK_S) {
        s->looked_s = now_s();
        rc = update_threads(s, err);
    }
    return rc;
}

void sampler_stats(const struct sampler *s, struct sampler_stats *stats)
{
    *stats = (struct sampler_stats){
        .counts = s->counts, .others = s->others, .threads = s->per_cpu ? 0 : s->taps->len,
        .cpus = s->per_cpu ? s->taps->len : 0, .period = s->period, .rate = s->rate,
    };
}
