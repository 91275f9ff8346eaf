// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Records a VM's observations: see trace-record.h.
 *
 * The worker fills `batch`, which is its own, and pushes it. `lock` guards the queue and the state; a batch
 * that is taken off the queue is the thread's. The thread holds a reference of its own and ends with the
 * last batch, or when a write fails.
 */
#include "host/trace-record.h"
#include "host/trace-write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

struct seen {
    double events, exposure_s;
    guint32 granule;
    guint8 source, tier;
};

struct batch {
    struct trace_layout *layout;        /* NULL: as before */
    guint64 us;
    guint32 sources;
    GArray *seen;                       /* of struct seen */
    guint64 gap_rounds, gap_observations, gap_us;       /* dropped before it */
    bool last;                          /* nothing but the end */
    enum trace_reason reason;
};

struct recorder {
    gatomicrefcount refs;
    int fd;
    struct trace_header header;
    double seconds;

    /* the worker's */
    struct batch *batch;
    struct trace_layout layout;         /* handed in last */
    guint32 near;                       /* the block in it that was looked for last */
    guint64 gap_rounds, gap_observations, gap_us;
    guint64 lost;                       /* observations, since ever */
    bool layout_owed;                   /* the queue has not taken it yet */

    GMutex lock;
    GCond news;
    GQueue queue;                       /* of struct batch */
    gsize queued;                       /* its bytes */
    bool ending;                        /* the last batch is in the queue */
    struct recorder_state state;

    /* the thread's */
    struct trace_writer *writer;
    struct trace_obs *obs;
    gsize room;
};

static gint n_threads;                  /* atomic */

/* --- batches ---------------------------------------------------------------------------------------- */

static struct batch *batch_new(void)
{
    struct batch *b = g_new0(struct batch, 1);

    b->seen = g_array_new(FALSE, FALSE, sizeof(struct seen));
    return b;
}

static void batch_free(struct batch *b)
{
    if (!b)
        return;
    g_array_unref(b->seen);
    g_free(b->layout);
    g_free(b);
}

static gsize batch_bytes(const struct batch *b)
{
    return sizeof(*b) + (b->layout ? sizeof(*b->layout) : 0) + b->seen->len * sizeof(struct seen);
}

/* --- the thread --------------------------------------------------------------------------------------- */

static int put(gpointer opaque, const void *bytes, gsize length, struct vt_err *err)
{
    const struct recorder *r = opaque;
    const char *from = bytes;

    while (length) {
        gssize n = send(r->fd, from, length, MSG_NOSIGNAL);

        if (n < 0 && errno == ENOTSOCK)
            n = write(r->fd, from, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return vt_fail(err, ETIMEDOUT, "who reads the recording has taken nothing for %d s",
                           RECORD_PATIENCE_S);
        if (n <= 0)
            return vt_fail(err, errno, "writing the recording: %s", g_strerror(errno));
        from += n;
        length -= (gsize)n;
    }
    return 0;
}

static int by_source(const void *a, const void *b)
{
    const struct seen *x = a, *y = b;

    return x->source != y->source ? x->source - y->source : x->tier - y->tier;
}

/* Observations of one source in one tier. */
static int write_group(struct recorder *r, const struct seen *seen, gsize n, struct vt_err *err)
{
    const double scale = r->header.source[seen->source].scale;

    if (r->room < n) {
        r->obs = g_renew(struct trace_obs, r->obs, n);
        r->room = n;
    }
    for (gsize i = 0; i < n; i++)
        r->obs[i] = (struct trace_obs){ seen[i].granule, seen[i].events / scale, seen[i].exposure_s };
    return trace_write_obs(r->writer, seen->source, seen->tier, r->obs, n, err);
}

static int write_seen(struct recorder *r, struct batch *b, struct vt_err *err)
{
    struct seen *seen = (struct seen *)(gpointer)b->seen->data;
    const gsize n = b->seen->len;
    gsize end;
    int rc = 0;

    if (n)
        qsort(seen, n, sizeof(seen[0]), by_source);
    for (gsize i = 0; i < n && !rc; i = end) {
        for (end = i + 1; end < n && !by_source(&seen[i], &seen[end]); end++)
            ;
        rc = write_group(r, seen + i, end - i, err);
    }
    return rc;
}

static int write_batch(struct recorder *r, struct batch *b, struct vt_err *err)
{
    int rc = 0;

    if (b->gap_rounds || b->gap_observations)
        rc = trace_write_gap(r->writer, b->gap_rounds, b->gap_observations, b->gap_us, err);
    if (!rc && b->layout)
        rc = trace_write_layout(r->writer, b->layout, err);
    if (!rc && b->last)
        return trace_write_end(r->writer, b->reason, err);
    if (!rc)
        rc = trace_write_round(r->writer, b->us, b->sources, err);
    return rc ? rc : write_seen(r, b, err);
}

static struct batch *take_batch(struct recorder *r)
{
    struct batch *b;

    g_mutex_lock(&r->lock);
    while (!(b = g_queue_pop_head(&r->queue)))
        g_cond_wait(&r->news, &r->lock);
    r->queued -= batch_bytes(b);
    g_mutex_unlock(&r->lock);
    return b;
}

static void note_progress(struct recorder *r, bool ended, const char *error)
{
    const struct trace_footer *t = trace_writer_totals(r->writer);

    g_mutex_lock(&r->lock);
    r->state.bytes = trace_writer_bytes(r->writer);
    r->state.rounds = t->rounds;
    r->state.observations = t->observations;
    r->state.ended = ended;
    if (error)
        g_strlcpy(r->state.error, error, sizeof(r->state.error));
    g_mutex_unlock(&r->lock);
}

static gpointer write_all(gpointer data)
{
    struct recorder *r = data;
    struct vt_err err = { 0 };
    bool last = false;
    int rc = 0;

    while (!last && !rc) {
        struct batch *b = take_batch(r);

        rc = write_batch(r, b, &err);
        last = b->last;
        batch_free(b);
        note_progress(r, last || rc, rc ? err.text : NULL);
    }
    shutdown(r->fd, SHUT_RDWR);
    recorder_unref(r);
    g_atomic_int_add(&n_threads, -1);
    return NULL;
}

void recorders_wait(double seconds)
{
    const gint64 end = g_get_monotonic_time() + (gint64)(seconds * 1e6);

    while (g_atomic_int_get(&n_threads) && g_get_monotonic_time() < end)
        g_usleep(5000);
}

/* --- life --------------------------------------------------------------------------------------------- */

struct recorder *recorder_new(const struct trace_header *header, int fd, double seconds)
{
    const struct timeval patience = { .tv_sec = RECORD_PATIENCE_S };
    struct recorder *r = g_new0(struct recorder, 1);

    g_atomic_ref_count_init(&r->refs);
    g_mutex_init(&r->lock);
    g_cond_init(&r->news);
    r->fd = fd;
    r->header = *header;
    r->seconds = seconds;
    r->batch = batch_new();
    r->writer = trace_writer_new(header, put, r);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    g_atomic_int_inc(&n_threads);
    g_thread_unref(g_thread_new("vmtier-record", write_all, recorder_ref(r)));
    return r;
}

struct recorder *recorder_ref(struct recorder *r)
{
    g_atomic_ref_count_inc(&r->refs);
    return r;
}

void recorder_unref(struct recorder *r)
{
    if (!r || !g_atomic_ref_count_dec(&r->refs))
        return;
    g_queue_clear_full(&r->queue, (GDestroyNotify)(gpointer)batch_free);
    batch_free(r->batch);
    trace_writer_free(r->writer);
    g_free(r->obs);
    close(r->fd);
    g_cond_clear(&r->news);
    g_mutex_clear(&r->lock);
    g_free(r);
}

void recorder_look(struct recorder *r, struct recorder_state *state)
{
    g_mutex_lock(&r->lock);
    *state = r->state;
    g_mutex_unlock(&r->lock);
}

/* --- the worker's side ----------------------------------------------------------------------------------- */

void recorder_layout(struct recorder *r, const struct trace_layout *layout)
{
    if (!memcmp(layout, &r->layout, sizeof(*layout)))
        return;
    r->layout = *layout;
    r->layout_owed = true;
}

void recorder_round(struct recorder *r, double dt, guint32 sources)
{
    r->batch->us = (guint64)(dt * 1e6 + 0.5);
    r->batch->sources = sources;
    g_array_set_size(r->batch->seen, 0);
}

/* The memory may change while a round is harvested; what is not in the layout told cannot be written. */
static bool in_layout(struct recorder *r, guint32 granule)
{
    const struct trace_layout *l = &r->layout;

    for (guint32 i = 0; i <= l->n_blocks; i++) {
        const struct trace_block *b = &l->block[r->near];

        if (r->near < l->n_blocks && granule >= b->first && granule - b->first < b->count)
            return true;
        r->near = r->near + 1 < l->n_blocks ? r->near + 1 : 0;
    }
    return false;
}

void recorder_observe(struct recorder *r, guint8 source, guint8 tier, guint32 granule, double events,
                      double exposure_s)
{
    const struct seen seen = { events, exposure_s, granule, source, tier };

    if (!in_layout(r, granule))
        return;
    if (r->batch->seen->len < RECORD_ROUND_MOST)
        g_array_append_val(r->batch->seen, seen);
    else
        r->gap_observations++, r->lost++;
}

/* With the lock. */
static void push(struct recorder *r, struct batch *b)
{
    b->gap_rounds = r->gap_rounds;
    b->gap_observations = r->gap_observations;
    b->gap_us = r->gap_us;
    r->gap_rounds = r->gap_observations = r->gap_us = 0;
    r->queued += batch_bytes(b);
    g_queue_push_tail(&r->queue, b);
    g_cond_signal(&r->news);
}

/* With the lock. */
static void drop(struct recorder *r)
{
    r->gap_rounds++;
    r->gap_observations += r->batch->seen->len;
    r->gap_us += r->batch->us;
    r->lost += r->batch->seen->len;
    r->state.lost_rounds++;
}

bool recorder_commit(struct recorder *r)
{
    bool over, full;

    if (r->layout_owed && !r->batch->layout)
        r->batch->layout = g_new(struct trace_layout, 1);
    if (r->layout_owed)
        *r->batch->layout = r->layout;
    g_mutex_lock(&r->lock);
    r->state.seconds += (double)r->batch->us / 1e6;
    full = r->queued + batch_bytes(r->batch) > RECORD_QUEUE_MOST;
    over = r->ending || r->state.ended;
    if (!over && full)
        drop(r);
    else if (!over)
        push(r, r->batch);
    r->state.lost_observations = r->lost;
    g_mutex_unlock(&r->lock);
    if (!over && !full) {
        r->layout_owed = false;
        r->batch = batch_new();
    }
    if (!over && r->seconds > 0 && r->state.seconds >= r->seconds)
        recorder_end(r, TRACE_TIME_OVER);
    return !over;
}

bool recorder_wants(struct recorder *r)
{
    bool over;

    g_mutex_lock(&r->lock);
    over = r->ending || r->state.ended;
    g_mutex_unlock(&r->lock);
    return !over;
}

void recorder_end(struct recorder *r, enum trace_reason reason)
{
    struct batch *b = batch_new();

    b->last = true;
    b->reason = reason;
    g_mutex_lock(&r->lock);
    if (r->ending) {
        batch_free(b);
    } else {
        r->ending = true;
        push(r, b);
    }
    g_mutex_unlock(&r->lock);
}
