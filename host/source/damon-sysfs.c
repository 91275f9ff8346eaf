// SPDX-License-Identifier: GPL-2.0-or-later
/* DAMON's sysfs interface: see damon-sysfs.h, and the kernel's admin-guide/mm/damon/usage.rst. */
#include "host/source/damon-sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUSY_TRIES   50         /* the interface has one lock, and does not wait for it */
#define BUSY_US      10000
#define REGIONS_MOST 100000     /* that are read */
#define SLOTS_MOST   1024

/* --- files -------------------------------------------------------------------------------------- */

static char *path_of(const struct damon *d, const char *format, va_list args)
{
    g_autofree char *name = g_strdup_vprintf(format, args);

    return g_build_filename(d->root, name, NULL);
}

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    size_t n = strlen(text);
    int rc;

    if (fd < 0)
        return -errno;
    rc = write(fd, text, n) == (ssize_t)n ? 0 : -errno;
    close(fd);
    return rc;
}

/* Writes `value` to the file that the rest names. */
static int put(const struct damon *d, struct vt_err *err, const char *value, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int put(const struct damon *d, struct vt_err *err, const char *value, const char *format, ...)
{
    g_autofree char *path = NULL;
    va_list args;
    int rc;

    va_start(args, format);
    path = path_of(d, format, args);
    va_end(args);
    for (int i = 0; (rc = write_file(path, value)) == -EBUSY && i < BUSY_TRIES; i++)
        g_usleep(BUSY_US);
    return rc ? vt_fail(err, -rc, "writing '%s' to %s: %s", value, path, g_strerror(-rc)) : 0;
}

static int put_number(const struct damon *d, struct vt_err *err, guint64 value, const char *context,
                      const char *key)
{
    char text[24];

    g_snprintf(text, sizeof(text), "%" G_GUINT64_FORMAT, value);
    return put(d, err, text, "%s/%s", context, key);
}

static char *get(const struct damon *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

static char *get(const struct damon *d, const char *format, ...)
{
    g_autofree char *path = NULL;
    char *text = NULL;
    va_list args;

    va_start(args, format);
    path = path_of(d, format, args);
    va_end(args);
    return g_file_get_contents(path, &text, NULL, NULL) ? g_strstrip(text) : NULL;
}

/* -1: it is not there, or no number. */
static gint64 number_in(const char *text)
{
    gint64 n;

    return text && g_ascii_string_to_signed(text, 10, -1, G_MAXINT64, &n, NULL) ? n : -1;
}

/* --- whose are they? ---------------------------------------------------------------------------- */

/* "BOOT\nTHREAD TARGET\n...": what is compared with what is there. */
static char *describe(const struct damon *d, guint32 slots)
{
    g_autofree char *boot = NULL;
    GString *text = g_string_new(NULL);

    if (g_file_get_contents("/proc/sys/kernel/random/boot_id", &boot, NULL, NULL))
        g_string_append(text, boot);
    for (guint32 i = 0; i < slots; i++) {
        g_autofree char *thread = get(d, "kdamonds/%u/pid", i);
        g_autofree char *target = get(d, "kdamonds/%u/contexts/0/targets/0/pid_target", i);

        g_string_append_printf(text, "%s %s\n", thread ? thread : "?", target ? target : "?");
    }
    return g_string_free(text, FALSE);
}

static bool no_thread(const char *line)
{
    return g_str_has_prefix(line, "-1 ");
}

/* The same threads look at the same processes; one of -1 had not begun then, or has ended since. */
static bool matches(const char *record, const char *now)
{
    g_auto(GStrv) was = g_strsplit(record, "\n", -1), is = g_strsplit(now, "\n", -1);

    if (g_strv_length(was) != g_strv_length(is) || g_strcmp0(was[0], is[0]) != 0)
        return false;
    for (guint i = 1; was[i]; i++) {
        if (strcmp(was[i], is[i]) != 0 &&
            !((no_thread(was[i]) || no_thread(is[i])) &&
              g_strcmp0(strchr(was[i], ' '), strchr(is[i], ' ')) == 0))
            return false;
    }
    return true;
}

static gint64 count_slots(const struct damon *d)
{
    g_autofree char *text = get(d, "kdamonds/nr_kdamonds");

    return number_in(text);
}

static bool are_ours(const struct damon *d, guint32 slots)
{
    g_autofree char *record = NULL, *now = NULL;

    if (slots > SLOTS_MOST || !g_file_get_contents(d->record, &record, NULL, NULL))
        return false;
    now = describe(d, slots);
    return matches(record, now);
}

bool damon_is_free(const struct damon *d, char *reason)
{
    gint64 slots = count_slots(d);

    if (slots < 0)
        g_snprintf(reason, VT_TEXT, "this kernel has no DAMON, or vmtierd is not root: no %s", d->root);
    else if (slots && !are_ours(d, (guint32)slots))
        g_snprintf(reason, VT_TEXT, "in use by someone else: %s/kdamonds/nr_kdamonds is %" G_GINT64_FORMAT,
                   d->root, slots);
    else
        return true;
    return false;
}

/* --- setting up --------------------------------------------------------------------------------- */

static int release(struct damon *d, struct vt_err *err)
{
    gint64 slots = count_slots(d);
    struct vt_err ignored;
    int rc;

    d->slots = 0;
    if (slots <= 0)
        return 0;
    for (guint32 i = 0; i < slots; i++)     /* one whose process has ended is off already */
        (void)put(d, &ignored, "off", "kdamonds/%u/state", i);
    rc = put(d, err, "0", "kdamonds/nr_kdamonds");
    if (!rc)
        unlink(d->record);
    return rc;
}

static int choose_operations(const struct damon *d, const char *context, struct vt_err *err)
{
    g_autofree char *all = get(d, "%s/avail_operations", context);
    g_auto(GStrv) names = g_strsplit_set(all ? all : "", " \n", -1);
    const char *const *list = (const char *const *)names;

    if (g_strv_contains(list, "fvaddr"))
        return put(d, err, "fvaddr", "%s/operations", context);
    if (g_strv_contains(list, "vaddr"))
        return put(d, err, "vaddr", "%s/operations", context);
    return vt_fail(err, ENOTSUP, "this kernel's DAMON cannot look at processes (it has '%s'): it needs "
                   "CONFIG_DAMON_VADDR", all ? all : "");
}

static guint32 count_pieces(const struct damon_target *t)
{
    guint32 n = 0;

    for (guint32 i = 0; i < t->n; i++)
        n += (guint32)((t->range[i].end - t->range[i].start + t->piece - 1) / t->piece);
    return n;
}

static int put_region(const struct damon *d, const char *context, guint32 i, guint64 start, guint64 end,
                      struct vt_err *err)
{
    g_autofree char *region = g_strdup_printf("%s/targets/0/regions/%u", context, i);
    int rc = put_number(d, err, start, region, "start");

    return rc ? rc : put_number(d, err, end, region, "end");
}

static int put_regions(const struct damon *d, const char *context, const struct damon_target *t, struct vt_err *err)
{
    int rc = put_number(d, err, count_pieces(t), context, "targets/0/regions/nr_regions");
    guint32 n = 0;

    for (const struct damon_range *r = t->range; r < t->range + t->n; r++)
        for (guint64 at = r->start; !rc && at < r->end; at += t->piece)
            rc = put_region(d, context, n++, at, MIN(at + t->piece, r->end), err);
    return rc;
}

static int set_attrs(const struct damon *d, const char *context, const struct damon_target *t,
                     const struct damon_attrs *attrs, struct vt_err *err)
{
    const guint32 least = MAX(count_pieces(t), 10u);
    const struct {
        const char *key;
        guint64 value;
    } keys[] = {
        { "monitoring_attrs/intervals/sample_us", attrs->sample_us },
        { "monitoring_attrs/intervals/aggr_us", attrs->aggr_us },
        { "monitoring_attrs/intervals/update_us", 1000000 },
        { "monitoring_attrs/nr_regions/min", least },
        { "monitoring_attrs/nr_regions/max", MAX(t->regions_most, least + 1) },
        { "targets/nr_targets", 1 },
        { "targets/0/pid_target", t->pid },
    };
    int rc = 0;

    for (gsize i = 0; !rc && i < G_N_ELEMENTS(keys); i++)
        rc = put_number(d, err, keys[i].value, context, keys[i].key);
    return rc ? rc : put_regions(d, context, t, err);
}

/* A scheme that does nothing, with every region there is: so all are "tried", and told. */
static int set_scheme(const struct damon *d, const char *context, struct vt_err *err)
{
    static const struct {
        const char *key, *value;
    } keys[] = {
        { "schemes/nr_schemes", "1" },
        { "schemes/0/action", "stat" },
        { "schemes/0/access_pattern/sz/min", "0" },
        { "schemes/0/access_pattern/sz/max", "18446744073709551615" },
        { "schemes/0/access_pattern/nr_accesses/min", "0" },
        { "schemes/0/access_pattern/nr_accesses/max", "4294967295" },
        { "schemes/0/access_pattern/age/min", "0" },
        { "schemes/0/access_pattern/age/max", "4294967295" },
    };
    int rc = 0;

    for (gsize i = 0; !rc && i < G_N_ELEMENTS(keys); i++)
        rc = put(d, err, keys[i].value, "%s/%s", context, keys[i].key);
    return rc;
}

static int set_up(const struct damon *d, guint32 slot, const struct damon_target *t,
                  const struct damon_attrs *attrs, struct vt_err *err)
{
    g_autofree char *context = g_strdup_printf("kdamonds/%u/contexts/0", slot);
    int rc = put(d, err, "1", "kdamonds/%u/contexts/nr_contexts", slot);

    if (!rc)
        rc = choose_operations(d, context, err);
    if (!rc)
        rc = set_attrs(d, context, t, attrs, err);
    return rc ? rc : set_scheme(d, context, err);
}

/* What there is of ours, for the daemon that comes if this one dies. */
static int write_record(const struct damon *d, guint32 n, struct vt_err *err)
{
    g_autofree char *text = describe(d, n);
    g_autoptr(GError) error = NULL;

    if (g_file_set_contents(d->record, text, -1, &error))
        return 0;
    return vt_fail(err, EIO, "%s", error->message);
}

static int make(struct damon *d, const struct damon_target *targets, guint32 n,
                const struct damon_attrs *attrs, struct vt_err *err)
{
    char count[16];
    int rc;

    g_snprintf(count, sizeof(count), "%u", n);
    rc = put(d, err, count, "kdamonds/nr_kdamonds");
    for (guint32 i = 0; !rc && i < n; i++)
        rc = set_up(d, i, &targets[i], attrs, err);
    if (!rc)                    /* none runs yet; so one that is found running is in it */
        rc = write_record(d, n, err);
    for (guint32 i = 0; !rc && i < n; i++)
        rc = put(d, err, "on", "kdamonds/%u/state", i);
    return rc ? rc : write_record(d, n, err);
}

int damon_apply(struct damon *d, const struct damon_target *targets, guint32 n,
                const struct damon_attrs *attrs, struct vt_err *err)
{
    struct vt_err ignored;
    char reason[VT_TEXT];
    int rc;

    if (!damon_is_free(d, reason))
        return vt_fail(err, EBUSY, "%s", reason);
    rc = release(d, err);
    if (rc || !n)
        return rc;
    rc = make(d, targets, n, attrs, err);
    if (rc)
        (void)release(d, &ignored);
    else
        d->slots = n;
    return rc;
}

/* --- results ------------------------------------------------------------------------------------ */

guint32 damon_thread(const struct damon *d, guint32 slot)
{
    g_autofree char *text = get(d, "kdamonds/%u/pid", slot);
    gint64 pid = number_in(text);

    return pid > 0 && pid <= G_MAXINT32 ? (guint32)pid : 0;
}

int damon_read(const struct damon *d, guint32 slot, damon_fn fn, gpointer opaque, struct vt_err *err)
{
    int rc = put(d, err, "update_schemes_tried_regions", "kdamonds/%u/state", slot);

    if (rc)
        return rc == -EBUSY ? -EAGAIN : rc;
    for (guint32 i = 0; i < REGIONS_MOST; i++) {
        static const char *const keys[] = { "start", "end", "nr_accesses" };
        guint64 value[G_N_ELEMENTS(keys)];

        for (gsize k = 0; k < G_N_ELEMENTS(keys); k++) {
            g_autofree char *text = get(d, "kdamonds/%u/contexts/0/schemes/0/tried_regions/%u/%s", slot, i,
                                        keys[k]);

            if (!text || !g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT64, &value[k], NULL))
                return 0;       /* that was the last one */
        }
        if (value[0] < value[1])
            fn(value[0], value[1], (guint32)MIN(value[2], G_MAXUINT32), opaque);
    }
    return 0;
}
