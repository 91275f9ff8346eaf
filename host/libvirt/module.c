// SPDX-License-Identifier: GPL-2.0-or-later
/* vmtier-libvirt.so: its table, and reading and defining domains. */
#include "host/libvirt/internal.h"

#include <libvirt/virterror.h>

static void say_nothing(void *data, virErrorPtr error)
{
    (void)data, (void)error;
}

const char *lv_last_error(void)
{
    const virError *e = virGetLastError();

    return e && e->message ? e->message : "no reason given";
}

bool lv_fail(GError **error, const char *what)
{
    g_set_error(error, g_quark_from_static_string("vmtier-libvirt-error"), 1, "%s: %s", what,
                lv_last_error());
    return false;
}

static virConnectPtr connect_to(const char *uri, GError **error)
{
    virConnectPtr conn;

    virSetErrorFunc(NULL, say_nothing);         /* it would print */
    conn = virConnectOpen(uri);
    if (!conn)
        lv_fail(error, uri);
    return conn;
}

static virDomainPtr find(virConnectPtr conn, const char *name)
{
    virDomainPtr domain = virDomainLookupByName(conn, name);

    return domain ? domain : virDomainLookupByUUIDString(conn, name);
}

/* With passwords: they would be lost when this is defined again. */
static char *read_domain(const char *uri, const char *name, GError **error)
{
    virConnectPtr conn = connect_to(uri, error);
    virDomainPtr domain = conn ? find(conn, name) : NULL;
    char *xml = domain ? virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_INACTIVE) : NULL;
    char *copy = g_strdup(xml);

    if (conn && !xml)
        lv_fail(error, name);
    free(xml);
    if (domain)
        virDomainFree(domain);
    if (conn)
        virConnectClose(conn);
    return copy;
}

static bool define_domain(const char *uri, const char *xml, GError **error)
{
    virConnectPtr conn = connect_to(uri, error);
    virDomainPtr domain = conn ? virDomainDefineXMLFlags(conn, xml, VIR_DOMAIN_DEFINE_VALIDATE) : NULL;

    if (conn && !domain)
        lv_fail(error, "defining the domain");
    if (domain)
        virDomainFree(domain);
    if (conn)
        virConnectClose(conn);
    return domain;
}

__attribute__((visibility("default"))) extern const struct libvirt_module vmtier_libvirt;

const struct libvirt_module vmtier_libvirt = {
    .version = LIBVIRT_MODULE_VERSION,
    .read = read_domain,
    .define = define_domain,
    .watch = lv_watch,
    .unwatch = lv_unwatch,
};
