// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The workload's port. A thread reads it, so that a line's time of arrival is not ours to spoil.
 *
 * Under `lock`: every line so far, how many of them have been read, the newest whole hot set, and
 * the times of the beats. `news` is signalled for every line and at the end of the connection.
 */
#include "harness.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct guest {
    int fd;
    GThread *reader;
    GMutex lock;
    GCond news;
    GPtrArray *lines;
    guint unread;               /* index of the first unread line */
    GArray *hot;                /* struct extent; of `hot_phase`, 0 if there was none yet */
    unsigned hot_phase;
    guint hot_sets;             /* reported so far */
    GArray *hot_coming;         /* the parts of a set that is being received */
    guint64 beats;
    gint64 last_beat, longest_gap;
    bool ended;
};

/* --- the reader ----------------------------------------------------------------------------- */

static void note_beat(struct guest *g)
{
    gint64 now = g_get_monotonic_time();

    if (g->last_beat)
        g->longest_gap = MAX(g->longest_gap, now - g->last_beat);
    g->last_beat = now;
    g->beats++;
}

static void add_extents(GArray *to, const char *line)
{
    const char *at = strstr(line, "gpa=");
    int n = 0;
    unsigned long long gpa, length;

    for (at = at ? at + 4 : ""; sscanf(at, "%llx:%llx %n", &gpa, &length, &n) == 2; at += n) {
        struct extent e = { gpa, length };

        g_array_append_val(to, e);
    }
}

/* "VMT HOT phase=N part=I/OF gpa=START:LENGTH ..." */
static void note_hot(struct guest *g, const char *line)
{
    unsigned phase, part, of;

    if (sscanf(line, "VMT HOT phase=%u part=%u/%u", &phase, &part, &of) != 3)
        return;
    if (part == 1)
        g_array_set_size(g->hot_coming, 0);
    add_extents(g->hot_coming, line);
    if (part < of)
        return;
    g_array_set_size(g->hot, 0);
    g_array_append_vals(g->hot, g->hot_coming->data, g->hot_coming->len);
    g->hot_phase = phase;
    g->hot_sets++;
}

/* The guest has (re)booted: what was known of it is over, and booting is not a gap. */
static void note_ready(struct guest *g)
{
    g->hot_phase = 0;
    g->last_beat = 0;
}

static void note_line(struct guest *g, char *line)
{
    g_mutex_lock(&g->lock);
    if (g_str_has_prefix(line, "VMT BEAT"))
        note_beat(g);
    else if (g_str_has_prefix(line, "VMT HOT"))
        note_hot(g, line);
    else if (g_str_has_prefix(line, "VMT READY"))
        note_ready(g);
    g_ptr_array_add(g->lines, line);
    g_cond_broadcast(&g->news);
    g_mutex_unlock(&g->lock);
}

static gpointer read_port(gpointer arg)
{
    struct guest *g = arg;
    FILE *in = fdopen(dup(g->fd), "r");
    char line[512];

    while (fgets(line, sizeof(line), in)) {
        g_strchomp(line);
        if (line[0])
            note_line(g, g_strdup(line));
    }
    fclose(in);
    g_mutex_lock(&g->lock);
    g->ended = true;
    g_cond_broadcast(&g->news);
    g_mutex_unlock(&g->lock);
    return NULL;
}

/* --- connection ----------------------------------------------------------------------------- */

struct guest *guest_open(const char *path, struct child *server, double timeout)
{
    struct guest *g = g_new0(struct guest, 1);

    g->fd = lab_connect(path, server, timeout);
    if (g->fd < 0)
        g_error("no guest port at %s", path);
    g_mutex_init(&g->lock);
    g_cond_init(&g->news);
    g->lines = g_ptr_array_new_with_free_func(g_free);
    g->hot = g_array_new(FALSE, FALSE, sizeof(struct extent));
    g->hot_coming = g_array_new(FALSE, FALSE, sizeof(struct extent));
    g->reader = g_thread_new("guest port", read_port, g);
    return g;
}

void guest_close(struct guest *g)
{
    shutdown(g->fd, SHUT_RDWR);
    g_thread_join(g->reader);
    close(g->fd);
    g_ptr_array_unref(g->lines);
    g_array_unref(g->hot);
    g_array_unref(g->hot_coming);
    g_mutex_clear(&g->lock);
    g_cond_clear(&g->news);
    g_free(g);
}

void guest_command(struct guest *g, const char *command)
{
    g_autofree char *line = g_strconcat(command, "\n", NULL);

    if (send(g->fd, line, strlen(line), MSG_NOSIGNAL) < 0)
        g_test_message("guest port: the peer is gone while sending %s", command);
}

/* --- lines ---------------------------------------------------------------------------------- */

/* With the lock held. */
static const char *next_line(struct guest *g, const char *prefix)
{
    while (g->unread < g->lines->len) {
        const char *line = g_ptr_array_index(g->lines, g->unread++);

        if (g_str_has_prefix(line, prefix))
            return line;
    }
    return NULL;
}

/* With the lock held; false if there will be no news. */
static bool wait_news(struct guest *g, gint64 end)
{
    return !g->ended && g_cond_wait_until(&g->news, &g->lock, end);
}

static gint64 deadline(double timeout)
{
    return (gint64)(lab_deadline(timeout) * 1e6);
}

char *guest_wait_line(struct guest *g, const char *prefix, double timeout)
{
    gint64 end = deadline(timeout);
    const char *line;

    g_mutex_lock(&g->lock);
    while (!(line = next_line(g, prefix)) && wait_news(g, end))
        ;
    char *copy = g_strdup(line);
    g_mutex_unlock(&g->lock);
    return copy;
}

char *guest_expect(struct guest *g, const char *prefix, double timeout)
{
    char *line = guest_wait_line(g, prefix, timeout);

    if (!line)
        g_error("the guest did not say '%s' within %.0f s%s", prefix, timeout,
                g->ended ? " (the connection ended)" : "");
    return line;
}

uint64_t guest_number(const char *line, const char *name)
{
    g_autofree char *key = g_strdup_printf(" %s=", name);
    const char *at = strstr(line, key);

    if (!at)
        g_error("no %s= in '%s'", name, line);
    return g_ascii_strtoull(at + strlen(key), NULL, 0);
}

/* --- hot set, beats ------------------------------------------------------------------------- */

GArray *guest_hot(struct guest *g, unsigned phase, double timeout)
{
    gint64 end = deadline(timeout);
    GArray *hot = NULL;

    g_mutex_lock(&g->lock);
    while (g->hot_phase < phase && wait_news(g, end))
        ;
    if (g->hot_phase >= phase)
        hot = g_array_copy(g->hot);
    g_mutex_unlock(&g->lock);
    if (!hot)
        g_error("the guest did not report a hot set of phase %u within %.0f s", phase, timeout);
    return hot;
}

/* With the lock held. */
static const char *newest_beat(struct guest *g)
{
    for (guint i = g->lines->len; i > 0; i--)
        if (g_str_has_prefix(g_ptr_array_index(g->lines, i - 1), "VMT BEAT"))
            return g_ptr_array_index(g->lines, i - 1);
    return NULL;
}

char *guest_beat(struct guest *g, double timeout)
{
    gint64 end = deadline(timeout);

    g_mutex_lock(&g->lock);
    guint64 before = g->beats;

    while (g->beats == before && wait_news(g, end))
        ;
    char *line = g->beats > before ? g_strdup(newest_beat(g)) : NULL;
    g_mutex_unlock(&g->lock);
    if (!line)
        g_error("no beat from the guest within %.0f s", timeout);
    return line;
}

double guest_longest_gap(struct guest *g)
{
    g_mutex_lock(&g->lock);
    gint64 gap = g->last_beat ? g_get_monotonic_time() - g->last_beat : 0;

    gap = MAX(gap, g->longest_gap);
    g_mutex_unlock(&g->lock);
    return (double)gap / 1000;
}

void guest_reset_gap(struct guest *g)
{
    g_mutex_lock(&g->lock);
    g->longest_gap = 0;
    g_mutex_unlock(&g->lock);
    lab_reset_delay();
}

/* --- commands with an answer ---------------------------------------------------------------- */

uint64_t guest_sweep(struct guest *g, double timeout)
{
    while (true) {
        g_autofree char *old = guest_wait_line(g, "VMT SWEEP", 0);

        if (!old)
            break;
    }
    guest_command(g, "sweep");
    g_autofree char *line = guest_expect(g, "VMT SWEEP", timeout);

    return guest_number(line, "bad");
}

static GArray *hot_after(struct guest *g, const char *command, double timeout)
{
    gint64 end = deadline(timeout);

    g_mutex_lock(&g->lock);
    guint before = g->hot_sets;

    guest_command(g, command);
    while (g->hot_sets == before && wait_news(g, end))
        ;
    GArray *hot = g->hot_sets > before ? g_array_copy(g->hot) : NULL;
    g_mutex_unlock(&g->lock);
    if (!hot)
        g_error("the guest reported no hot set within %.0f s after '%s'", timeout, command);
    return hot;
}

GArray *guest_shift(struct guest *g, double timeout)
{
    return hot_after(g, "shift", timeout);
}

GArray *guest_hot_now(struct guest *g, double timeout)
{
    return hot_after(g, "hot", timeout);
}
