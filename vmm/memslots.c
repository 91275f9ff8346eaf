// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * QEMU's memory layout: which RAM blocks can be tiered, where they are in the guest.
 *
 * A block is tiered if all of it is file-backed and shared, it is at least a granule long, and the
 * guest's address space shows it as RAM. The files are what placement stands on: private memory is
 * not in the file, so it cannot be remapped.
 *
 * Identity. QEMU may delete a block and put another one at the same address; inode and device of the
 * backing file tell them apart. A block that leaves the guest (memory unplug) keeps its entry, its
 * files and its placement, because its object can be plugged again with contents. It is dropped once
 * the object is deleted, which nothing announces: while there is such a block it is looked after.
 */
#include "vmm/memslots.h"
#include "vmm/backing.h"
#include "vmm/fence.h"
#include "vmm/plugin.h"
#include "vmm/qemu.h"
#include "vmm/ram.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct scan {
    struct ram_slots slots;
    bool there[VT_BLOCKS];      /* QEMU has the block, */
    bool seen[VT_BLOCKS];       /* and the guest sees it */
    bool changed;
};

/* Blocks that turned out not to be possible. One entry per block that QEMU has, so there is room. */
static struct left_out {
    const uint8_t *host;
    uint64_t length;
    ino_t inode;
    dev_t device;
} left_out[VT_BLOCKS];

/* --- blocks --------------------------------------------------------------------------------- */

static bool can_tier(const struct qemu_ram *r)
{
    uint64_t granule = ram_granule();
    char why[VT_TEXT];

    return r->fd >= 0 && r->shared && r->name[0] && r->length >= granule &&
           granule % r->page_size == 0 && !backing_unfit(r->fd, why);
}

/*
 * Where in its file a mapping of QEMU's begins, as long as nothing was moved. QEMU from 8.1 on can put
 * RAM anywhere in a file, and some releases forget about that when they punch holes: then nobody can
 * tell which page is meant.
 */
static uint64_t file_offset(const uint8_t *host)
{
    FILE *f = fopen("/proc/self/maps", "re");
    unsigned long from, to;
    unsigned long long offset;
    uint64_t at = 0;
    char line[512];

    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "%lx-%lx %*s %llx", &from, &to, &offset) == 3 &&
            (unsigned long)host >= from && (unsigned long)host < to)
            at = offset + ((unsigned long)host - from);
    if (f)
        fclose(f);
    return at;
}

/* Is this a block that is new, and not at the beginning of its file? */
static bool is_amid_file(const struct qemu_ram *r)
{
    for (const struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        if (b->used && b->host == r->host)
            return false;
    return file_offset(r->host) != 0;
}

void memslots_leave_out(struct ram_block *b)
{
    struct left_out *l = left_out;

    while (l->host && l->host != b->host && l < left_out + VT_BLOCKS - 1)
        l++;
    *l = (struct left_out){ b->host, b->length, b->inode, b->device };
    for (unsigned i = 0; i < ram_slots.n;)
        if (ram_slots.slot[i].block == (uint64_t)(b - ram_blocks()))
            memmove(&ram_slots.slot[i], &ram_slots.slot[i + 1],
                    (--ram_slots.n - i) * sizeof(ram_slots.slot[0]));
        else
            i++;
    memset(&ram_slots.slot[ram_slots.n], 0,
           (RAM_SLOTS - ram_slots.n) * sizeof(ram_slots.slot[0]));
    ram_drop(b);
    ram_changed();
}

static bool is_left_out(const struct qemu_ram *r)
{
    struct stat st;

    for (const struct left_out *l = left_out; l < left_out + VT_BLOCKS && l->host; l++)
        if (l->host == r->host && l->length == r->length)
            return !fstat(r->fd, &st) && st.st_ino == l->inode && st.st_dev == l->device;
    return false;
}

static struct ram_block *known_block(const struct qemu_ram *r)
{
    struct stat st;

    if (fstat(r->fd, &st))
        return NULL;
    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++) {
        if (!b->used || b->host != r->host)
            continue;
        if (b->length == r->length && b->inode == st.st_ino && b->device == st.st_dev)
            return b;
        ram_drop(b);    /* another block lives at this address now */
    }
    return NULL;
}

static int see_block(const struct qemu_ram *r, void *opaque)
{
    struct scan *scan = opaque;
    struct ram_block *b;
    struct vt_err err;

    if (r->fd < 0)
        return 0;
    b = known_block(r);
    if (!b && (!can_tier(r) || is_left_out(r) || is_amid_file(r)))
        return 0;               /* one that was unplugged has lost its name, no more */
    if (!b) {
        b = ram_add(r->name, r->host, r->length, (uint32_t)r->page_size, r->fd, &err);
        if (!b) {
            qemu_say("%s; it stays in dram", err.text);
            return 0;
        }
        b->ram_addr = r->ram_addr;
        b->present = false;     /* until a memslot shows it */
        scan->changed = true;
    }
    scan->there[b - ram_blocks()] = true;
    return 0;
}

/* Their addresses are anybody's now, and our files and views keep memory that nobody has a use for. */
static void drop_vanished(struct scan *scan)
{
    for (int i = 0; i < VT_BLOCKS; i++)
        if (ram_blocks()[i].used && !scan->there[i]) {
            ram_drop(&ram_blocks()[i]);
            scan->changed = true;
        }
}

static int see_range(const struct qemu_range *r, void *opaque)
{
    struct scan *scan = opaque;

    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++) {
        uint64_t offset = (uint64_t)(r->host - b->host);

        if (!b->used || r->host < b->host || offset >= b->length || r->device)
            continue;
        if (scan->slots.n < RAM_SLOTS)
            scan->slots.slot[scan->slots.n++] = (struct ram_slot){
                .gpa = r->gpa, .length = r->length, .offset = offset,
                .block = (uint64_t)(b - ram_blocks()),
            };
        scan->seen[b - ram_blocks()] = true;
    }
    return 0;
}

static void note_presence(struct scan *scan)
{
    for (int i = 0; i < VT_BLOCKS; i++) {
        struct ram_block *b = &ram_blocks()[i];

        if (!b->used || b->present == scan->seen[i])
            continue;
        b->present = scan->seen[i];
        scan->changed = true;
    }
}

/* One block's slots follow each other where only the guest's firmware split them (PAM): join them. */
static void join_slots(struct ram_slots *s)
{
    unsigned n = 0;

    for (unsigned i = 0; i < s->n; i++) {
        struct ram_slot *last = n ? &s->slot[n - 1] : NULL, *now = &s->slot[i];

        if (last && last->block == now->block && last->gpa + last->length == now->gpa &&
            last->offset + last->length == now->offset)
            last->length += now->length;
        else
            s->slot[n++] = *now;
    }
    memset(&s->slot[n], 0, (s->n - n) * sizeof(s->slot[0]));
    s->n = n;
}

bool memslots_refresh(void)
{
    static struct scan scan;    /* large; the BQL makes it ours */

    if (!ram_granule())
        return false;
    memset(&scan, 0, sizeof(scan));
    ram_lock();
    qemu_each_ram(see_block, &scan);
    drop_vanished(&scan);
    qemu_each_range(see_range, &scan);
    join_slots(&scan.slots);
    note_presence(&scan);
    if (memcmp(&scan.slots, &ram_slots, sizeof(scan.slots))) {
        ram_slots = scan.slots;
        scan.changed = true;
    }
    if (scan.changed)
        ram_changed();
    ram_unlock();
    return scan.changed;
}

/* --- what cannot be tiered -------------------------------------------------------------------- */

struct usable {
    bool any;
    uint64_t largest;
    char why[220];
};

static int judge_block(const struct qemu_ram *r, void *opaque)
{
    struct usable *u = opaque;
    char why[VT_TEXT];

    if (can_tier(r) && !is_amid_file(r)) {
        u->any = true;
        return 1;
    }
    if (r->length <= u->largest || !r->name[0])
        return 0;
    u->largest = r->length;
    if (r->fd < 0 || !r->shared)
        snprintf(u->why, sizeof(u->why), "RAM block '%s' is private (%s)", r->name,
                 r->fd < 0 ? "anonymous memory" : "share=off");
    else if (backing_unfit(r->fd, why))
        snprintf(u->why, sizeof(u->why), "RAM block '%.40s' %.150s", r->name, why);
    else if (ram_granule() % r->page_size)
        snprintf(u->why, sizeof(u->why), "RAM block '%s' has pages of %zu bytes, larger than the "
                 "granule", r->name, r->page_size);
    else if (r->length < ram_granule())
        snprintf(u->why, sizeof(u->why), "RAM block '%s' is shorter than a granule", r->name);
    else
        snprintf(u->why, sizeof(u->why), "RAM block '%s' is not at the beginning of its file "
                 "(offset=)", r->name);
    return 0;
}

int memslots_usable(struct vt_err *err)
{
    struct usable u = { .why = "there is no RAM" };

    qemu_each_ram(judge_block, &u);
    if (u.any)
        return 0;
    return vt_fail(err, EINVAL, "%s: start QEMU with -object memory-backend-memfd,id=ram0,size=SIZE,"
                   "share=on -machine memory-backend=ram0", u.why);
}

/*
 * QOM types, by prefix, that reach RAM past QEMU's mapping or forbid remapping it.
 *
 * Not among them, as they go through QEMU's mapping and wait for memory that is protected: vhost-net and
 * vhost-vsock (what vhost-net sends without a copy is the fence's business), vIOMMUs, displays, and
 * virtio-gpu without blobs.
 */
static const struct {
    const char *type, *why;
} refused[] = {
    { "vhost-user", "maps the RAM file itself" },
    { "cryptodev-vhost-user", "maps the RAM file itself" },
    { "vfio-", "pins RAM for DMA" },
    { "pvrdma", "maps RAM a second time, and pins it" },
    { "virtio-gpu-rutabaga", "may have the GPU pin RAM" },
    { "vhost-vdpa", "pins RAM for DMA" },
    { "vhost-scsi", "keeps requests in the kernel with pages pinned" },
    { "ivshmem-", "shares a RAM file with other VMs" },
    { "nvdimm", "keeps its contents in a file that outlives the VM" },
    { "virtio-pmem", "keeps its contents in a file that outlives the VM" },
    { "sgx-epc", "has memory that only its enclaves can read" },
    { "sev-", "encrypts RAM by its physical address" },
    { "tdx-guest", "encrypts RAM by its physical address" },
    { "x-remote", "maps the RAM file in another process" },
    { "x-pci-proxy-dev", "maps the RAM file in another process" },
    { "x-vfio-user-server", "maps the RAM file in another process" },
};

/* Those that do so only with a property that is on. */
static const struct {
    const char *type, *property, *why;
} refused_with[] = {
    { "virtio-gpu", "blob", "pins the RAM of its blobs (udmabuf)" },
};

/*
 * KVM on Intel keeps hold of pages of a guest that runs guests of its own (virtual APICs, posted
 * interrupts) and writes to them past the mapping; nothing tells when. On AMD it does so only while it
 * enters and leaves them.
 */
static const char *why_nested(const char *type, const char *path)
{
    static const char suffix[] = "-x86_64-cpu";
    size_t n = strlen(type), m = sizeof(suffix) - 1;

    return n > m && !strcmp(type + n - m, suffix) && qemu_accel_is_kvm() && qemu_object_is(path, "vmx") ?
           "lets the guest run guests of its own, for which KVM pins RAM; start QEMU with vmx=off after "
           "the CPU's name" : NULL;
}

static bool begins(const char *type, const char *prefix)
{
    return !strncmp(type, prefix, strlen(prefix));
}

static const char *why_refused(const char *type, const char *path)
{
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        if (begins(type, refused[i].type))
            return refused[i].why;
    for (size_t i = 0; i < sizeof(refused_with) / sizeof(refused_with[0]); i++)
        if (begins(type, refused_with[i].type) && qemu_object_is(path, refused_with[i].property))
            return refused_with[i].why;
    return why_nested(type, path);
}

static int check_object(const char *type, const char *path, void *opaque)
{
    const char *why = why_refused(type, path);

    if (why)
        vt_fail(opaque, EBUSY, "device %s (%s) %s: vmtier cannot keep it coherent; remove the device "
                "or run this VM untiered", path, type, why);
    return why != NULL;
}

/* The name that a line of "info network" begins with: " \ net0: index=0,type=vhost-user,..." */
static void name_of_line(const char *text, const char *in_line, char *name, size_t size)
{
    const char *start = in_line;

    while (start > text && start[-1] != '\n')
        start--;
    start += strspn(start, " \\");
    snprintf(name, size, "%.*s", (int)strcspn(start, ":\n"), start);
}

/* Network back-ends are no QOM objects; only the monitor's text names them. */
static int check_netdevs(struct vt_err *err)
{
    static const char *const kinds[] = { "vhost-user", "vhost-vdpa" };
    char *text = qemu_monitor("info network"), type[32], name[64];
    int rc = 0;

    for (size_t i = 0; text && !rc && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const char *at;

        snprintf(type, sizeof(type), "type=%s", kinds[i]);
        at = strstr(text, type);
        if (!at)
            continue;
        name_of_line(text, at, name, sizeof(name));
        rc = vt_fail(err, EBUSY, "network back-end %s (%s) maps the RAM file itself: vmtier cannot "
                     "keep it coherent; use another back-end or run this VM untiered", name,
                     kinds[i]);
    }
    free(text);
    return rc;
}

/* Disk engines that reach RAM by ways the fence does not see. */
static int check_disk(const char *driver, const char *node, void *opaque)
{
    const char *why = fence_refuses(driver);

    if (why)
        vt_fail(opaque, EBUSY, "disk %s (driver %s): %s; vmtier cannot keep it coherent: use "
                "another driver or run this VM untiered", node && node[0] ? node : "?", driver, why);
    return why != NULL;
}

static int check_settings(struct vt_err *err)
{
    if (!qemu_locks_memory())
        return 0;
    return vt_fail(err, EBUSY, "-overcommit mem-lock keeps every mapping of RAM in memory, in each tier: "
                   "start QEMU without it or run this VM untiered");
}

int memslots_check_devices(struct vt_err *err)
{
    if (check_settings(err))
        return -err->code;
    err->code = 0;
    qemu_each_object(check_object, err);
    if (!err->code)
        qemu_each_block_node(check_disk, err);
    return err->code ? -err->code : check_netdevs(err);
}
