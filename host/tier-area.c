// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Pieces of a file that all VMs share: see tier-area.h.
 *
 * Who has which piece is kept by the kernel, not here: a piece is handed out with a descriptor of its
 * own on which it is locked (F_OFD_SETLK). Such a lock belongs to the open file, so it lasts until the
 * last descriptor and the last mapping of it are gone, in this process and in QEMU: just as long as
 * anybody could reach the memory. The daemon may end and come back, or lose the link to a VM that
 * lives on; it finds everybody's pieces by asking which parts of the file are locked.
 *
 * A thread looks once a second for data that is under no lock, whose VM is gone, and punches it. A
 * piece that is handed out is punched once more and looked at, so that nobody reads what another VM
 * has left.
 *
 * The mutex keeps the sweep from locking, for a moment, what somebody else is looking for.
 *
 * What this does not do: QEMU gets a descriptor of the whole file. One that has been taken over by its
 * guest can map the others' pieces. vmtierd.conf(5) says so; in a directory each VM has its own files.
 */
#include "host/tier-area.h"
#include "host/error.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SWEEP_S     1
#define PUNCH_BYTES (64ull << 20)   /* at a time, with the mutex held */
#define LOCKS_MOST  16384           /* more than VMs have blocks; a QEMU may have set any number */

struct tier_area {
    char *path;
    int fd;                         /* holds no lock but while it sweeps */
    GMutex lock;
    GCond stop_cond;
    bool stop;
    GThread *sweeper;
};

struct range {
    guint64 from, to;
};

#define FAIL(error, code, ...) g_set_error(error, VMT_ERROR, code, __VA_ARGS__)

/* --- who has what ------------------------------------------------------------------------------------- */

/* Any one lock of others within the range; false: there is none. */
static bool find_lock(int fd, struct range in, struct range *held)
{
    struct flock q = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET,
        .l_start = (off_t)in.from, .l_len = (off_t)(in.to - in.from),
    };

    if (fcntl(fd, F_OFD_GETLK, &q)) {
        *held = in;                 /* cannot be told: it is somebody's */
        return true;
    }
    if (q.l_type == F_UNLCK)
        return false;
    held->from = MAX((guint64)q.l_start, in.from);
    held->to = q.l_len ? MIN((guint64)(q.l_start + q.l_len), in.to) : in.to;
    return true;
}

/* The parts of the file that are nobody's, in order. A lock splits what is left to ask about. */
static GArray *find_unused(const struct tier_area *a, guint64 size)
{
    GArray *unused = g_array_new(FALSE, FALSE, sizeof(struct range));
    g_autoptr(GArray) todo = g_array_new(FALSE, FALSE, sizeof(struct range));
    struct range r = { 0, size }, held;
    guint locks = 0;

    if (size)
        g_array_append_val(todo, r);
    while (todo->len) {
        r = g_array_index(todo, struct range, todo->len - 1);
        g_array_set_size(todo, todo->len - 1);
        if (!find_lock(a->fd, r, &held)) {
            g_array_append_val(unused, r);
            continue;
        }
        if (++locks > LOCKS_MOST)
            break;
        if (held.to < r.to)
            g_array_append_vals(todo, &(struct range){ held.to, r.to }, 1);
        if (held.from > r.from)
            g_array_append_vals(todo, &(struct range){ r.from, held.from }, 1);
    }
    return unused;
}

static guint64 file_size(const struct tier_area *a)
{
    struct stat st;

    return fstat(a->fd, &st) ? 0 : (guint64)st.st_size;
}

struct tier_room tier_area_room(struct tier_area *a)
{
    struct tier_room room = { .size = file_size(a) };
    g_autoptr(GArray) unused = NULL;

    g_mutex_lock(&a->lock);
    unused = find_unused(a, room.size);
    g_mutex_unlock(&a->lock);
    for (guint i = 0; i < unused->len; i++) {
        struct range r = g_array_index(unused, struct range, i);

        room.unused += r.to - r.from;
        room.longest = MAX(room.longest, r.to - r.from);
    }
    return room;
}

/* --- taking ------------------------------------------------------------------------------------------- */

static bool set_lock(int fd, struct range r, short type)
{
    struct flock l = {
        .l_type = type, .l_whence = SEEK_SET,
        .l_start = (off_t)r.from, .l_len = (off_t)(r.to - r.from),
    };

    return fcntl(fd, F_OFD_SETLK, &l) == 0;
}

/* Frees the range, and looks whether it is free: nothing but holes. */
static bool punch(int fd, struct range r)
{
    off_t data;

    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)r.from,
                  (off_t)(r.to - r.from)))
        return false;
    data = lseek(fd, (off_t)r.from, SEEK_DATA);
    return data < 0 ? errno == ENXIO : (guint64)data >= r.to;
}

/* The first place in the unused parts where so much fits. */
static bool first_fit(const GArray *unused, guint64 length, guint64 align, struct range *place)
{
    for (guint i = 0; i < unused->len; i++) {
        struct range r = g_array_index(unused, struct range, i);
        guint64 at = (r.from + align - 1) / align * align;

        if (at < r.to && length <= r.to - at) {
            *place = (struct range){ at, at + length };
            return true;
        }
    }
    return false;
}

/* Another daemon that shares the file may be faster: then it is looked for again. */
static bool take(struct tier_area *a, int fd, guint64 length, guint64 align, struct range *place)
{
    for (int tries = 0; tries < 8; tries++) {
        g_autoptr(GArray) unused = find_unused(a, file_size(a));

        if (!first_fit(unused, length, align, place))
            return false;
        if (set_lock(fd, *place, F_WRLCK))
            return true;
    }
    return false;
}

static void say_full(struct tier_area *a, guint64 length, GError **error)
{
    struct tier_room room = tier_area_room(a);

    FAIL(error, ENOSPC, "%s has no %" G_GUINT64_FORMAT " MiB in one piece: of its %" G_GUINT64_FORMAT
         " MiB %" G_GUINT64_FORMAT " are unused, %" G_GUINT64_FORMAT " at most together; make the "
         "file longer (truncate -s)", a->path, length >> 20, room.size >> 20, room.unused >> 20,
         room.longest >> 20);
}

int tier_area_take(struct tier_area *a, guint64 length, guint64 align, guint64 *offset,
                   GError **error)
{
    g_autofree char *self = g_strdup_printf("/proc/self/fd/%d", a->fd);
    int fd = open(self, O_RDWR | O_CLOEXEC);
    struct range place;
    bool found;

    if (fd < 0) {
        FAIL(error, errno, "%s: %s", a->path, g_strerror(errno));
        return -1;
    }
    length = (length + align - 1) / align * align;
    g_mutex_lock(&a->lock);
    found = take(a, fd, length, align, &place);
    g_mutex_unlock(&a->lock);
    if (!found) {
        say_full(a, length, error);
    } else if (!punch(fd, place)) {
        FAIL(error, EIO, "%s: what was at %" G_GUINT64_FORMAT " cannot be deleted", a->path,
             place.from);
    } else {
        *offset = place.from;
        return fd;
    }
    close(fd);
    return -1;
}

/* --- giving back -------------------------------------------------------------------------------------- */

/* The next data in the range, not too much at a time. */
static bool find_data(int fd, struct range *r, struct range *data)
{
    off_t from = r->from < r->to ? lseek(fd, (off_t)r->from, SEEK_DATA) : -1;
    off_t to = from >= 0 && (guint64)from < r->to ? lseek(fd, from, SEEK_HOLE) : -1;

    if (to < 0)
        return false;
    data->from = (guint64)from;
    data->to = MIN(MIN((guint64)to, r->to), data->from + PUNCH_BYTES);
    r->from = data->to;
    return true;
}

/* The range was unused a moment ago; locking it tells whether it still is. */
static guint64 give_back(struct tier_area *a, struct range unused)
{
    struct range data;
    guint64 freed = 0;

    while (find_data(a->fd, &unused, &data)) {
        g_mutex_lock(&a->lock);
        if (a->stop)
            unused.to = 0;          /* the next daemon goes on */
        else if (set_lock(a->fd, data, F_WRLCK)) {
            freed += punch(a->fd, data) ? data.to - data.from : 0;
            set_lock(a->fd, data, F_UNLCK);
        }
        g_mutex_unlock(&a->lock);
    }
    return freed;
}

guint64 tier_area_sweep(struct tier_area *a)
{
    g_autoptr(GArray) unused = NULL;
    guint64 freed = 0;

    g_mutex_lock(&a->lock);
    unused = find_unused(a, file_size(a));
    g_mutex_unlock(&a->lock);
    for (guint i = 0; i < unused->len; i++)
        freed += give_back(a, g_array_index(unused, struct range, i));
    return freed;
}

static gpointer sweep(gpointer data)
{
    struct tier_area *a = data;
    bool stop = false;

    while (!stop) {
        guint64 freed = tier_area_sweep(a);
        gint64 until = g_get_monotonic_time() + SWEEP_S * G_TIME_SPAN_SECOND;

        if (freed)
            g_info("%s: gave back %" G_GUINT64_FORMAT " bytes that nobody had any more", a->path,
                   freed);
        g_mutex_lock(&a->lock);
        while (!a->stop && g_cond_wait_until(&a->stop_cond, &a->lock, until))
            ;
        stop = a->stop;
        g_mutex_unlock(&a->lock);
    }
    return NULL;
}

/* --- opening ------------------------------------------------------------------------------------------ */

struct tier_area *tier_area_new(const char *path, GError **error)
{
    struct tier_area *a = g_new0(struct tier_area, 1);

    a->path = g_strdup(path);
    g_mutex_init(&a->lock);
    g_cond_init(&a->stop_cond);
    a->fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (a->fd < 0)
        FAIL(error, errno, "path=%s: %s", path, g_strerror(errno));
    else if (!file_size(a))
        FAIL(error, EINVAL, "path=%s is empty: make it as long as the tier is to be (truncate -s)",
             path);
    else
        a->sweeper = g_thread_new("vmtier-area", sweep, a);
    if (!a->sweeper)
        g_clear_pointer(&a, tier_area_free);
    return a;
}

void tier_area_free(struct tier_area *a)
{
    if (a->sweeper) {
        g_mutex_lock(&a->lock);
        a->stop = true;
        g_cond_signal(&a->stop_cond);
        g_mutex_unlock(&a->lock);
        g_thread_join(a->sweeper);
    }
    if (a->fd >= 0)
        close(a->fd);
    g_mutex_clear(&a->lock);
    g_cond_clear(&a->stop_cond);
    g_free(a->path);
    g_free(a);
}
