// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The fence: installs the engines' hooks, and knows which block drivers they cover.
 *
 * The table of requests is in fence-table.c; how each engine sees submissions and completions, in
 * fence-aio.c, fence-uring.c, fence-sync.c and fence-pin.c.
 */
#include "vmm/fence.h"
#include "vmm/fence-table.h"
#include "vmm/got.h"

#include <errno.h>
#include <string.h>

static const struct fence_engine *const engines[] = {
    &fence_sync, &fence_aio, &fence_uring, &fence_pin,
};

/*
 * Ways to hand a buffer to the kernel that no hook sees. No known QEMU has them; one that does must
 * not be served. Registered buffers stay pinned for as long as they are registered.
 */
static const char *const unseen_calls[] = {
    "io_uring_enter", "io_uring_enter2", "io_uring_wait_cqes", "io_uring_wait_cqes_min_timeout",
    "io_uring_wait_cqe_timeout", "io_uring_submit_and_wait_min_timeout",
    "io_uring_submit_and_wait_reg", "io_uring_register_buffers", "io_uring_register_buffers_tags",
    "io_uring_register_buffers_sparse", "io_uring_register_buffers_update_tag", "io_uring_register",
    "aio_read64", "aio_write64", "lio_listio64", "vmsplice",
};

/* --- hooks ---------------------------------------------------------------------------------- */

static int check_import(const struct fence_engine *e, const struct fence_hook *h, bool *any,
                        struct vt_err *err)
{
    bool needed = h->needed_by && (!*h->needed_by || got_defines(h->needed_by));
    int n = got_count(h->symbol);

    if (n < 0)
        return vt_fail(err, -n, "QEMU's import table: %s", n == -ENOTSUP ?
                       "QEMU binds its calls lazily; start it with LD_BIND_NOW=1" : strerror(-n));
    if (!n && needed)
        return vt_fail(err, ENOTSUP, "QEMU has %s, but does not import %s() (is it linked "
                       "statically?): DMA in flight could not be seen", e->name, h->symbol);
    *any |= n > 0;
    return 0;
}

static int check_engine(const struct fence_engine *e, struct vt_err *err)
{
    bool any = false;
    int rc = 0;

    for (size_t i = 0; i < e->n_hooks && !rc; i++)
        rc = check_import(e, &e->hooks[i], &any, err);
    return !rc && any && e->check ? e->check(err) : rc;
}

static int check_unseen(struct vt_err *err)
{
    for (size_t i = 0; i < sizeof(unseen_calls) / sizeof(unseen_calls[0]); i++)
        if (got_count(unseen_calls[i]) > 0)
            return vt_fail(err, ENOTSUP, "this QEMU calls %s(), by which DMA into the guest's "
                           "memory could start without being seen", unseen_calls[i]);
    return 0;
}

static int install(const struct fence_hook *h, struct vt_err *err)
{
    int n = got_hook(h->symbol, h->replacement, h->original);

    return n >= 0 ? 0 : vt_fail(err, -n, "cannot hook %s(): %s", h->symbol, strerror(-n));
}

int fence_init(struct vt_err *err)
{
    const size_t n = sizeof(engines) / sizeof(engines[0]);
    int rc = check_unseen(err);

    for (size_t e = 0; e < n && !rc; e++)
        rc = check_engine(engines[e], err);
    for (size_t e = 0; e < n && !rc; e++)
        for (size_t i = 0; i < engines[e]->n_hooks && !rc; i++)
            rc = install(&engines[e]->hooks[i], err);
    return rc;
}

/* --- block drivers -------------------------------------------------------------------------- */

/*
 * The drivers that reach guest memory through the calls hooked, or with the CPU only. Formats and
 * filters pass buffers on to other nodes, which are looked at by themselves.
 */
static const char *const covered[] = {
    /* through the hooked calls */
    "file", "host_device", "host_cdrom",
    /* formats: pass on, or go through a buffer of their own (compressed, encrypted) */
    "raw", "qcow2", "qcow", "qed", "vdi", "vhdx", "vmdk", "vpc", "parallels", "bochs", "cloop",
    "dmg", "luks", "vvfat",
    /* filters and the nodes that block jobs put in */
    "blkdebug", "blklogwrites", "blkreplay", "blkverify", "compress", "copy-before-write",
    "copy-on-read", "preallocate", "quorum", "replication", "snapshot-access", "throttle",
    "mirror_top", "commit_top", "backup-top",
    /* no I/O */
    "null-co", "null-aio",
    /* over a socket, which copies: QEMU's own, libcurl, libssh, and libnfs over TCP */
    "nbd", "http", "https", "ftp", "ftps", "ssh", "nfs",
};

#define LIBBLKIO "libblkio hands the guest's memory to the device for good"
#define OWN_IO   "its library does I/O of its own, possibly RDMA straight into the guest's memory"

static const struct {
    const char *driver, *why;
} refused[] = {
    { "rbd", OWN_IO },
    { "iscsi", OWN_IO },
    { "iser", OWN_IO },
    { "gluster", OWN_IO },
    { "nvme", "it drives the device from within QEMU (VFIO), by DMA into the guest's memory" },
    { "io_uring", LIBBLKIO },
    { "nvme-io_uring", LIBBLKIO },
    { "virtio-blk-vfio-pci", LIBBLKIO },
    { "virtio-blk-vhost-user", LIBBLKIO },
    { "virtio-blk-vhost-vdpa", LIBBLKIO },
};

const char *fence_refuses(const char *driver)
{
    for (size_t i = 0; i < sizeof(covered) / sizeof(covered[0]); i++)
        if (!strcmp(driver, covered[i]))
            return NULL;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        if (!strcmp(driver, refused[i].driver))
            return refused[i].why;
    return "vmtier does not know this driver, so it may do DMA that cannot be seen";
}
