// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What in a domain keeps it from being tiered.
 *
 * The plugin refuses these at attach, by QEMU's names for them (vmm/memslots.c, vmm/fence.c); here they
 * have libvirt's names, and are found before the VM starts.
 */
#include "host/libvirt-domxml.h"

#include <string.h>

#define VFIO    "VFIO pins RAM for DMA"
#define VHOST_USER "vhost-user maps the RAM file in another process"
#define ENCRYPTS "encrypts RAM by its physical address"
#define OWN_IO  "its library does I/O of its own, possibly RDMA into the guest's memory"
#define OUTLIVES "keeps its contents in a file that outlives the VM"

/* An element, by its parent's name and its own; attribute and value NULL: whatever they are. */
static const struct {
    const char *parent, *name, *attribute, *value, *why;
} obstacles[] = {
    { "devices", "hostdev", "type", "pci", VFIO },
    { "devices", "hostdev", "type", "mdev", VFIO },
    { "devices", "hostdev", "type", "scsi_host", "vhost-scsi keeps requests in the kernel with pages pinned" },
    { "devices", "interface", "type", "hostdev", VFIO },
    { "devices", "interface", "type", "vdpa", "vDPA pins RAM for DMA" },
    { "devices", "interface", "type", "vhostuser", VHOST_USER },
    { "devices", "disk", "type", "vhostuser", VHOST_USER },
    { "devices", "disk", "type", "vhostvdpa", "vDPA pins RAM for DMA" },
    { "devices", "disk", "type", "nvme", VFIO },
    { "disk", "source", "protocol", "rbd", OWN_IO ": map the image with krbd, as a block device" },
    { "disk", "source", "protocol", "iscsi", OWN_IO ": log in with the host's initiator instead" },
    { "disk", "source", "protocol", "gluster", OWN_IO ": mount the volume instead" },
    { "filesystem", "driver", "type", "virtiofs", VHOST_USER },
    { "video", "driver", "name", "vhostuser", VHOST_USER },
    { "video", "model", "blob", "on", "blobs may have the GPU pin RAM" },
    { "devices", "shmem", NULL, NULL, "shares a RAM file with other VMs" },
    { "devices", "memory", "model", "nvdimm", OUTLIVES },
    { "devices", "memory", "model", "virtio-pmem", OUTLIVES },
    { "devices", "memory", "model", "sgx-epc", "has memory that only its enclaves can read" },
    { "domain", "launchSecurity", NULL, NULL, ENCRYPTS },
    { "memoryBacking", "locked", NULL, NULL, "pins all RAM" },
    { "cpu", "feature", "name", "vmx", "a guest's own guests have KVM pin pages without telling" },
};

/* In what QEMU is given past libvirt. */
static const struct {
    const char *text, *why;
} arguments[] = {
    { "vfio-", VFIO },                  { "vhost-user", VHOST_USER },
    { "vhost-vdpa", "vDPA pins RAM for DMA" },
    { "vhost-scsi", "keeps requests in the kernel with pages pinned" },
    { "sev-guest", ENCRYPTS },          { "sev-snp-guest", ENCRYPTS },
    { "tdx-guest", ENCRYPTS },          { "ivshmem-", "shares a RAM file with other VMs" },
    { "nvdimm", OUTLIVES },             { "mem-lock=on", "pins all RAM" },
    { "memory-backend-ram", "this RAM is no file" },
};

static void say(GString *said, const xmlNode *node, const char *what, const char *why)
{
    g_string_append_printf(said, "%sline %ld: <%s%s%s>: %s", said->len ? "\n" : "", xml_line(node),
                           (const char *)node->name, what[0] ? " " : "", what, why);
}

static bool is_obstacle(const xmlNode *node, guint i)
{
    const char *parent = node->parent->name ? (const char *)node->parent->name : "";

    if (node->ns || strcmp(parent, obstacles[i].parent) ||
        strcmp((const char *)node->name, obstacles[i].name))
        return false;
    return !obstacles[i].attribute || xml_attribute_is(node, obstacles[i].attribute, obstacles[i].value);
}

/* A CPU's feature that is switched off is none. */
static bool is_off(const xmlNode *node)
{
    return xml_attribute_is(node, "policy", "disable") || xml_attribute_is(node, "policy", "forbid");
}

static void look_at(const xmlNode *node, GString *said)
{
    for (guint i = 0; i < G_N_ELEMENTS(obstacles); i++) {
        g_autofree char *what = NULL;

        if (!is_obstacle(node, i) || is_off(node))
            continue;
        if (obstacles[i].attribute)
            what = g_strdup_printf("%s='%s'", obstacles[i].attribute, obstacles[i].value);
        say(said, node, what ? what : "", obstacles[i].why);
    }
}

static void look_at_argument(const xmlNode *node, GString *said)
{
    g_autofree char *value = xml_attribute(node, "value");

    if (xml_is_plugin(node))            /* ours has paths and names in it */
        return;
    for (guint i = 0; value && i < G_N_ELEMENTS(arguments); i++)
        if (strstr(value, arguments[i].text))
            say(said, node, arguments[i].text, arguments[i].why);
}

/* As deep as xml_read() lets XML be. Metadata is no hardware. */
static void look_below(xmlNode *node, GString *said)
{
    for (xmlNode *n = xml_element(node->children); n; n = xml_element(n->next)) {
        if (n->ns && !strcmp((const char *)n->ns->href, XML_NS_QEMU))
            look_at_argument(n, said);
        else
            look_at(n, said);
        if (!xml_is(n, NULL, "metadata"))
            look_below(n, said);
    }
}

static void look_at_machine(const xmlNode *domain, GString *said)
{
    const xmlNode *os = xml_child(domain, NULL, "os"), *type = os ? xml_child(os, NULL, "type") : NULL;
    g_autofree char *kind = xml_attribute(domain, "type"), *arch = type ? xml_attribute(type, "arch") : NULL;

    if (kind && strcmp(kind, "kvm") && strcmp(kind, "qemu"))
        say(said, domain, "", "its type is neither kvm nor qemu: only QEMU's VMs can be tiered");
    if (arch && strcmp(arch, "x86_64") && strcmp(arch, "i686"))
        say(said, type, "", "only x86 guests can be tiered");
}

char *domxml_obstacles(xmlNode *domain)
{
    GString *said = g_string_new(NULL);

    look_at_machine(domain, said);
    look_below(domain, said);
    return g_string_free(said, said->len == 0);
}
