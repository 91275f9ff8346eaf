// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * New links: accepts QEMUs, answers HELLO, and sends VMs to the workers.
 *
 * A connection that says nothing is closed after SILENCE_S seconds. The peer must be who may talk to
 * the socket by its file mode; the pid that counts is the kernel's (SO_PEERCRED), not the one in
 * HELLO. A process, and a user, may have so many links and no more, so that one that takes all it can
 * get leaves some to the others; a QEMU needs one, and another for a moment.
 */
#include "host/daemon.h"
#include "host/sharing.h"

#include "common/fault.h"
#include "host/error.h"
#include "host/libvirt.h"
#include "host/mover/mover.h"
#include "host/unix-path.h"

#include <errno.h>
#include <glib-unix.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SILENCE_S   5
#define VMS_MOST    1024
#define GUESTS_MOST 64          /* connections before HELLO: a flood leaves descriptors for VMs */
#define USERS_MOST  (GUESTS_MOST / 2)   /* of these, one user's */
#define PIDS_MOST   8           /* links of one process, VMs included */

/* A connection before HELLO. */
struct guest {
    struct daemon *daemon;
    int fd;
    struct ucred peer;
    guint watch, timer;
};

static GPtrArray *guests;       /* struct guest */

static struct ucred peer_of(int fd)
{
    struct ucred peer = { 0 };
    socklen_t size = sizeof(peer);

    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
    return peer;
}

static guint32 peer_pid(int fd)
{
    return (guint32)peer_of(fd).pid;
}

/* NULL: there is room for a link of this peer. */
static char *too_many(const struct daemon *d, const struct ucred *peer)
{
    guint of_pid = 0, of_user = 0;

    for (guint i = 0; i < guests->len; i++) {
        const struct guest *g = g_ptr_array_index(guests, i);

        of_pid += g->peer.pid == peer->pid;
        of_user += g->peer.uid == peer->uid;
    }
    for (guint i = 0; i < d->vms->len; i++)
        of_pid += ((const struct vm *)g_ptr_array_index(d->vms, i))->pid == (guint32)peer->pid;
    if (peer->pid && of_pid >= PIDS_MOST)
        return g_strdup_printf("process %d has %u links already: one is enough for a VM", (int)peer->pid,
                               of_pid);
    if (of_user >= USERS_MOST)
        return g_strdup_printf("%u connections of user %u have not said HELLO: that is as many as one "
                               "user may have", of_user, peer->uid);
    if (guests->len >= GUESTS_MOST || d->vms->len >= VMS_MOST)
        return g_strdup_printf("there are %u VMs and %u connections that have not said HELLO: no more fit",
                               d->vms->len, guests->len);
    return NULL;
}

/* --- rounds -------------------------------------------------------------------------------------- */

static gboolean round_due(gpointer data)
{
    struct vm *vm = data;

    if (g_atomic_int_get(&vm->daemon->stopping))
        return G_SOURCE_REMOVE;
    if (g_atomic_int_get(&vm->gone)) {
        daemon_forget(vm->daemon, vm);
        return G_SOURCE_REMOVE;
    }
    if (g_atomic_int_compare_and_exchange(&vm->busy, 0, 1))
        g_thread_pool_push(vm->daemon->workers, vm_ref(vm), NULL);
    return G_SOURCE_CONTINUE;
}

void daemon_work(gpointer data, gpointer unused)
{
    g_autoptr(Vm) vm = data;
    int (*attach)(struct vm *vm, struct vt_err *err);
    struct vt_err err = { 0 };
    int rc;

    (void)unused;
    if (g_atomic_int_get(&vm->gone))
        return;
    fault_refresh();
    attach = vm->mover->attach ? vm->mover->attach : vm_attach;
    rc = vm->placed ? vm_round(vm, &err) : attach(vm, &err);
    if (rc && !g_atomic_int_get(&vm->daemon->stopping)) {
        g_autofree char *text = g_utf8_make_valid(err.text, -1);

        if (vm->stats.state != VM_REFUSED)
            vm_event(vm, "VMTIER_VM_DETACHED", text);
        g_atomic_int_set(&vm->gone, 1);
    }
    g_atomic_int_set(&vm->busy, 0);
}

void daemon_take_on(struct daemon *d, struct vm *vm)
{
    sharing_welcome(d, vm);
    g_ptr_array_add(d->vms, vm);
    g_timeout_add(ROUND_MS, round_due, vm);
    round_due(vm);
}

/* --- HELLO ----------------------------------------------------------------------------------------- */

static void say_refuse(int fd, const char *text)
{
    g_autofree struct wire_msg *m = g_new0(struct wire_msg, 1);

    wire_start(m, VT_REFUSE, 0, sizeof(m->text));
    m->text.code = EPERM;
    g_strlcpy(m->text.text, text, sizeof(m->text.text));
    wire_send(fd, m, 0, NULL);
}

static void refuse(int fd, const char *text)
{
    g_warning("a QEMU was refused: %s", text);
    say_refuse(fd, text);
}

/* One that comes too often, and so would fill the log as well. */
static void turn_away(int fd, const char *text)
{
    static gint64 said_us;
    gint64 now = g_get_monotonic_time();

    if (!said_us || now - said_us > G_USEC_PER_SEC) {
        said_us = now;
        g_warning("a link was turned away: %s", text);
    }
    say_refuse(fd, text);
    close(fd);
}

static int welcome(struct vm *vm, struct vt_err *err)
{
    const struct tiers *tiers = vm->daemon->tiers;
    struct vt_welcome *w = &vm->out.welcome;

    memset(w, 0, sizeof(*w));
    wire_start(&vm->out, VT_WELCOME, 0, sizeof(*w));
    w->granule = vm->config.granule;
    w->tiers = tiers->n;
    w->sources = vm->sources;
    w->sample_period = vm->config.sample_period;
    for (guint t = 0; t < tiers->n; t++)
        memcpy(w->tier[t], tiers->tier[t].name, sizeof(w->tier[t]));
    if (vm->daemon->userfault >= 0) {
        vm->out.fd[0] = vm->daemon->userfault;
        vm->out.n_fds = 1;
    }
    return wire_send(vm->link, &vm->out, 0, err);
}

static bool acceptable(struct daemon *d, const struct wire_msg *m, char *why, size_t size)
{
    const struct vt_hello *h = &m->hello;
    guint64 g = m->h.type == VT_HELLO ? h->granule : 0;
    guint64 quota = m->h.type == VT_HELLO ? libvirt_vm_config(d, h->name, h->uuid).quota.bytes : 0;

    if (m->h.type != VT_HELLO)
        g_snprintf(why, size, "%s instead of HELLO", wire_type_name(m->h.type));
    else if (!vm_name_is_good(h->name))
        g_snprintf(why, size, "its name is empty or has other characters than letters, digits and "
                   "._:@+-: give it one with vm=");
    else if (g && (g < VT_GRANULE_MIN || g > VT_GRANULE_MAX || (g & (g - 1))))
        g_snprintf(why, size, "%s: granules of %" G_GUINT64_FORMAT " bytes", h->name, g);
    else if (quota && g > quota)
        g_snprintf(why, size, "%s: granules of %" G_GUINT64_FORMAT " bytes are larger than its quota",
                   h->name, g);
    else if (daemon_find_vm(d, h->name))
        g_snprintf(why, size, "a VM '%.60s' is attached already: give this one another vm=",
                   h->name);
    else if (d->userfault < 0)
        g_snprintf(why, size, "%.200s", d->no_userfault);
    else
        return true;
    return false;
}

static void meet(struct daemon *d, int fd, const struct wire_msg *m)
{
    char why[VT_TEXT];
    struct vt_err err;
    struct vm *vm;

    if (daemon_switch_over(d, peer_pid(fd), why, sizeof(why)) ||
        !acceptable(d, m, why, sizeof(why))) {
        refuse(fd, why);
        close(fd);
        return;
    }
    vm = vm_new(d, &m->hello, fd);
    vm->pid = peer_pid(fd);
    if (welcome(vm, &err)) {
        g_warning("%s: %s", vm->name, err.text);
        vm_unref(vm);
        return;
    }
    daemon_take_on(d, vm);
}

static void guest_free(struct guest *g)
{
    g_clear_handle_id(&g->watch, g_source_remove);
    g_clear_handle_id(&g->timer, g_source_remove);
    if (g->fd >= 0)
        close(g->fd);
    g_ptr_array_remove_fast(guests, g);
    g_free(g);
}

static gboolean guest_silent(gpointer data)
{
    struct guest *g = data;

    g->timer = 0;
    guest_free(g);
    return G_SOURCE_REMOVE;
}

static gboolean guest_speaks(gint fd, GIOCondition condition, gpointer data)
{
    struct guest *g = data;
    g_autofree struct wire_msg *m = g_new0(struct wire_msg, 1);
    struct vt_err err;
    int rc = wire_recv(fd, m, 0, &err);

    (void)condition;
    if (!rc) {
        wire_drop_fds(m);
        meet(g->daemon, fd, m);
        g->fd = -1;
    } else if (rc != -ECONNRESET) {     /* a probe connects and closes */
        refuse(fd, err.text);
    }
    g->watch = 0;
    guest_free(g);
    return G_SOURCE_REMOVE;
}

/* --- the socket -------------------------------------------------------------------------------------- */

static gboolean knock(gint listener, GIOCondition condition, gpointer data)
{
    struct daemon *d = data;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    g_autofree char *why = NULL;
    struct ucred peer;
    struct guest *g;

    (void)condition;
    if (fd < 0)
        return G_SOURCE_CONTINUE;
    fault_refresh();
    (void)fault_at(FAULT_ACCEPTED);
    peer = peer_of(fd);
    why = too_many(d, &peer);
    if (why) {
        turn_away(fd, why);
        return G_SOURCE_CONTINUE;
    }
    g_debug("a link from pid %d", (int)peer.pid);
    g = g_new0(struct guest, 1);
    g->daemon = d;
    g->fd = fd;
    g->peer = peer;
    g->watch = g_unix_fd_add(fd, G_IO_IN, guest_speaks, g);
    g->timer = g_timeout_add_seconds(SILENCE_S, guest_silent, g);
    g_ptr_array_add(guests, g);
    return G_SOURCE_CONTINUE;
}

/* A QEMU of libvirt's is of a user that has no right to the socket but by its group. */
static bool give_to_group(const char *path, const char *name, GError **error)
{
    // cppcheck-suppress getgrnamCalled ; no other thread asks for groups
    const struct group *group = name ? getgrnam(name) : NULL;

    if (name && !group) {
        g_set_error(error, VMT_ERROR, EINVAL, "vmm-group=%s: there is no such group", name);
        return false;
    }
    if (group && chown(path, (uid_t)-1, group->gr_gid)) {
        g_set_error(error, VMT_ERROR, errno, "%s: giving it to the group %s: %s", path, name,
                    g_strerror(errno));
        return false;
    }
    return true;
}

/*
 * Where QEMUs make the sockets of their agents' channels, unless told otherwise: whoever may speak to us may.
 * Nobody can put a socket in another's place; whose it is we ask the kernel when we connect (agent-link.c).
 */
static void make_agent_directory(const struct daemon *d)
{
    g_autofree char *dir = g_path_get_dirname(d->config->vmm_socket);
    g_autofree char *path = g_build_filename(dir, "agent", NULL);
    g_autoptr(GError) error = NULL;

    if ((mkdir(path, 0700) && errno != EEXIST) || chmod(path, d->config->vmm_group ? 01770 : 0755))
        g_warning("%s, for the agents' channels: %s", path, g_strerror(errno));
    else if (!give_to_group(path, d->config->vmm_group, &error))
        g_warning("%s", error->message);
}

bool daemon_listen(struct daemon *d, GError **error)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    if (g_strlcpy(a.sun_path, d->config->vmm_socket, sizeof(a.sun_path)) >= sizeof(a.sun_path)) {
        g_set_error(error, VMT_ERROR, ENAMETOOLONG, "%s: a socket's path has at most %zu bytes",
                    d->config->vmm_socket, sizeof(a.sun_path) - 1);
        return false;
    }
    if (!unix_path_clear("QEMU's socket", a.sun_path, SOCK_SEQPACKET, error))
        return false;
    d->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (d->listener < 0 || bind(d->listener, (struct sockaddr *)&a, sizeof(a)) ||
        !(d->bound = true) || chmod(a.sun_path, 0660) || listen(d->listener, 64)) {
        g_set_error(error, VMT_ERROR, errno, "listening on %s: %s", a.sun_path,
                    g_strerror(errno));
        return false;
    }
    if (!give_to_group(a.sun_path, d->config->vmm_group, error))
        return false;
    make_agent_directory(d);
    if (!guests)
        guests = g_ptr_array_new();
    d->knocks = g_unix_fd_add(d->listener, G_IO_IN, knock, d);
    return true;
}

void daemon_unlisten(struct daemon *d)
{
    g_clear_handle_id(&d->knocks, g_source_remove);
    if (d->listener < 0)
        return;
    close(d->listener);
    if (d->bound)
        unlink(d->config->vmm_socket);
}
