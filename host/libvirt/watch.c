// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Watches the domains of one libvirtd.
 *
 * libvirt's own event loop is GLib's default main context, so its callbacks come in the main thread, where
 * nothing may block: they note what was said and wake the watch's thread. That connects, asks for domains' XML,
 * and connects again when the connection is lost. It only reads, so a read-only connection will do. What it
 * has to tell goes to the main context; a watch that has ended tells nothing any more, even if its thread
 * is still stuck in a call: it is never freed.
 */
#include "host/libvirt/internal.h"

#include <libvirt/virterror.h>

#define RETRY_S     2
#define ALIVE_S     5           /* a libvirtd that does not answer for three times this is lost */

struct libvirt_watch {
    char *uri;
    struct libvirt_watcher watcher;
    gpointer opaque;
    GThread *thread;
    GMutex lock;                /* of what follows, up to `changed` */
    GCond woken;
    bool ended, done;           /* it is to end; the thread is through */
    bool lost;                  /* the connection */
    GPtrArray *changed;         /* of char *: UUIDs whose XML may be another one */
    int callback[2];            /* the thread's own; -1: not registered */
};

/* --- telling ---------------------------------------------------------------------------------------------- */

enum what { CONNECTION, DOMAIN_XML, LIFECYCLE };

struct news {
    struct libvirt_watch *watch;
    enum what what;
    bool connected;
    char *uuid, *text, *event;
};

static gboolean deliver(gpointer data)
{
    struct news *n = data;
    const struct libvirt_watcher *to = &n->watch->watcher;
    bool ended;

    g_mutex_lock(&n->watch->lock);
    ended = n->watch->ended;
    g_mutex_unlock(&n->watch->lock);
    if (ended)
        return G_SOURCE_REMOVE;
    if (n->what == CONNECTION)
        to->connection(n->watch->opaque, n->connected, n->text);
    else if (n->what == DOMAIN_XML)
        to->domain(n->watch->opaque, n->uuid, n->text);
    else
        to->lifecycle(n->watch->opaque, n->uuid, n->text, n->event);
    return G_SOURCE_REMOVE;
}

static void free_news(gpointer data)
{
    struct news *n = data;

    g_free(n->uuid);
    g_free(n->text);
    g_free(n->event);
    g_free(n);
}

static void tell(struct libvirt_watch *w, enum what what, bool connected, const char *uuid, const char *text,
                 const char *event)
{
    struct news *n = g_new0(struct news, 1);

    *n = (struct news){ w, what, connected, g_strdup(uuid), g_strdup(text), g_strdup(event) };
    g_main_context_invoke_full(NULL, G_PRIORITY_DEFAULT, deliver, n, free_news);
}

/* --- callbacks: in the main thread ----------------------------------------------------------------------------- */

static char *uuid_of(virDomainPtr domain)
{
    char uuid[VIR_UUID_STRING_BUFLEN] = "";

    virDomainGetUUIDString(domain, uuid);
    return g_strdup(uuid);
}

static void note_change(struct libvirt_watch *w, virDomainPtr domain)
{
    g_autofree char *uuid = uuid_of(domain);

    g_mutex_lock(&w->lock);
    if (!g_ptr_array_find_with_equal_func(w->changed, uuid, g_str_equal, NULL))
        g_ptr_array_add(w->changed, g_steal_pointer(&uuid));
    g_cond_broadcast(&w->woken);
    g_mutex_unlock(&w->lock);
}

static int on_lifecycle(virConnectPtr conn, virDomainPtr domain, int event, int detail, void *opaque)
{
    static const char *const names[] = {
        [VIR_DOMAIN_EVENT_DEFINED] = "defined",     [VIR_DOMAIN_EVENT_UNDEFINED] = "undefined",
        [VIR_DOMAIN_EVENT_STARTED] = "started",     [VIR_DOMAIN_EVENT_SUSPENDED] = "suspended",
        [VIR_DOMAIN_EVENT_RESUMED] = "resumed",     [VIR_DOMAIN_EVENT_STOPPED] = "stopped",
        [VIR_DOMAIN_EVENT_SHUTDOWN] = "shutdown",   [VIR_DOMAIN_EVENT_PMSUSPENDED] = "pmsuspended",
        [VIR_DOMAIN_EVENT_CRASHED] = "crashed",
    };
    struct libvirt_watch *w = opaque;
    g_autofree char *uuid = uuid_of(domain);

    (void)conn, (void)detail;
    if (event >= 0 && event < (int)G_N_ELEMENTS(names) && names[event])
        tell(w, LIFECYCLE, true, uuid, virDomainGetName(domain), names[event]);
    if (event == VIR_DOMAIN_EVENT_STARTED || event == VIR_DOMAIN_EVENT_RESUMED)
        note_change(w, domain);
    return 0;
}

static void on_metadata(virConnectPtr conn, virDomainPtr domain, int type, const char *ns, void *opaque)
{
    (void)conn, (void)type;
    g_debug("libvirt: domain %s: metadata of %s", virDomainGetName(domain), ns ? ns : "no namespace");
    note_change(opaque, domain);
}

static void on_close(virConnectPtr conn, int reason, void *opaque)
{
    struct libvirt_watch *w = opaque;

    (void)conn, (void)reason;
    g_mutex_lock(&w->lock);
    w->lost = true;
    g_cond_broadcast(&w->woken);
    g_mutex_unlock(&w->lock);
}

/* --- a connection ------------------------------------------------------------------------------------------ */

/* No SECURE flag: we want no passwords. One that does not run has no metadata that matters. */
static void tell_domain(struct libvirt_watch *w, virDomainPtr domain)
{
    g_autofree char *uuid = uuid_of(domain);
    char *xml = virDomainIsActive(domain) == 1 ? virDomainGetXMLDesc(domain, 0) : NULL;

    if (xml)
        tell(w, DOMAIN_XML, true, uuid, xml, NULL);
    else
        g_debug("libvirt: domain %s: %s", uuid, lv_last_error());
    free(xml);
}

static void tell_changed(struct libvirt_watch *w, virConnectPtr conn, const char *uuid)
{
    virDomainPtr domain = virDomainLookupByUUIDString(conn, uuid);

    g_debug("libvirt: domain %s has changed%s", uuid, domain ? "" : " and is gone");
    if (!domain)
        return;
    tell_domain(w, domain);
    virDomainFree(domain);
}

static bool tell_all(struct libvirt_watch *w, virConnectPtr conn)
{
    virDomainPtr *domains = NULL;
    int n = virConnectListAllDomains(conn, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);

    for (int i = 0; i < n; i++) {
        tell_domain(w, domains[i]);
        virDomainFree(domains[i]);
    }
    free(domains);
    if (n >= 0)
        tell(w, CONNECTION, true, NULL, w->uri, NULL);
    return n >= 0;
}

static bool listen_to(struct libvirt_watch *w, virConnectPtr conn)
{
    virConnectSetKeepAlive(conn, ALIVE_S, 3);
    w->callback[0] = virConnectDomainEventRegisterAny(conn, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                                      VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), w, NULL);
    w->callback[1] = virConnectDomainEventRegisterAny(conn, NULL, VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
                                                      VIR_DOMAIN_EVENT_CALLBACK(on_metadata), w, NULL);
    return w->callback[0] >= 0 && w->callback[1] >= 0 &&
           virConnectRegisterCloseCallback(conn, on_close, w, NULL) == 0;
}

/* The connection would stay, in part, if they were not taken back. */
static void stop_listening(const struct libvirt_watch *w, virConnectPtr conn)
{
    virConnectUnregisterCloseCallback(conn, on_close);
    for (guint i = 0; i < G_N_ELEMENTS(w->callback); i++)
        if (w->callback[i] >= 0)
            virConnectDomainEventDeregisterAny(conn, w->callback[i]);
}

static bool is_over(struct libvirt_watch *w)
{
    bool ended;

    g_mutex_lock(&w->lock);
    ended = w->ended;
    g_mutex_unlock(&w->lock);
    return ended;
}

/* The next domain that has changed; NULL: the connection or the watch is at its end. */
static char *next_change(struct libvirt_watch *w)
{
    char *uuid = NULL;

    g_mutex_lock(&w->lock);
    while (!w->ended && !w->lost && !w->changed->len)
        g_cond_wait(&w->woken, &w->lock);
    if (!w->ended && !w->lost)
        uuid = g_ptr_array_steal_index(w->changed, 0);
    g_mutex_unlock(&w->lock);
    return uuid;
}

/* Registered first and listed then, so that nothing falls in between. */
static void serve(struct libvirt_watch *w, virConnectPtr conn)
{
    char *uuid;

    g_mutex_lock(&w->lock);
    w->lost = false;
    g_ptr_array_set_size(w->changed, 0);
    g_mutex_unlock(&w->lock);
    if (!listen_to(w, conn) || !tell_all(w, conn)) {
        tell(w, CONNECTION, false, NULL, lv_last_error(), NULL);
        return;
    }
    while ((uuid = next_change(w))) {
        tell_changed(w, conn, uuid);
        g_free(uuid);
    }
    tell(w, CONNECTION, false, NULL, "the connection was lost", NULL);
}

static void wait_a_while(struct libvirt_watch *w)
{
    gint64 until = g_get_monotonic_time() + RETRY_S * G_USEC_PER_SEC;

    g_mutex_lock(&w->lock);
    while (!w->ended && g_cond_wait_until(&w->woken, &w->lock, until))
        ;
    g_mutex_unlock(&w->lock);
}

static gpointer run(gpointer data)
{
    struct libvirt_watch *w = data;

    while (!is_over(w)) {
        virConnectPtr conn = virConnectOpenReadOnly(w->uri);

        if (conn)
            serve(w, conn);
        else
            tell(w, CONNECTION, false, NULL, lv_last_error(), NULL);
        if (conn) {
            stop_listening(w, conn);
            virConnectClose(conn);
        }
        wait_a_while(w);
    }
    g_mutex_lock(&w->lock);
    w->done = true;
    g_cond_broadcast(&w->woken);
    g_mutex_unlock(&w->lock);
    return NULL;
}

/* --- the watch ----------------------------------------------------------------------------------------------- */

static void be_quiet(void *data, virErrorPtr error)
{
    (void)data, (void)error;
}

struct libvirt_watch *lv_watch(const char *uri, const struct libvirt_watcher *watcher, gpointer opaque)
{
    struct libvirt_watch *w = g_new0(struct libvirt_watch, 1);

    virSetErrorFunc(NULL, be_quiet);
    virEventRegisterDefaultImpl();
    w->uri = g_strdup(uri);
    w->watcher = *watcher;
    w->opaque = opaque;
    w->changed = g_ptr_array_new_with_free_func(g_free);
    g_mutex_init(&w->lock);
    g_cond_init(&w->woken);
    w->thread = g_thread_new("libvirt", run, w);
    return w;
}

void lv_unwatch(struct libvirt_watch *w)
{
    gint64 until = g_get_monotonic_time() + G_USEC_PER_SEC;

    g_mutex_lock(&w->lock);
    w->ended = true;
    g_cond_broadcast(&w->woken);
    while (!w->done && g_cond_wait_until(&w->woken, &w->lock, until))
        ;
    g_mutex_unlock(&w->lock);
    g_thread_unref(w->thread);      /* it uses `w` to the end, as may news on their way: not freed */
}
