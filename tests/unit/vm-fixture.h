// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VM of the daemon's without a QEMU, for tests and fuzz targets that feed it messages, and what must
 * be true of its books whatever it was told.
 */
#ifndef VMTIER_TESTS_VM_FIXTURE_H
#define VMTIER_TESTS_VM_FIXTURE_H

#include "host/daemon.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The daemon's is in its main.c. Each program includes this file once. */
void daemon_emit(struct daemon *d, const char *event, const char *vm, const char *text)
{
    (void)d;
    g_test_message("%s: %s: %s", vm, event, text);
}

static const char *fixture_told;        /* the event that was told last */

void daemon_tell(struct daemon *d, const char *event, JsonObject *data)
{
    (void)d;
    fixture_told = event;
    g_test_message("%s", event);
    json_object_unref(data);
}

/* A daemon with two tiers and the usual settings, that listens nowhere. */
static inline struct daemon *fixture_daemon(void)
{
    struct daemon *d = g_new0(struct daemon, 1);
    char path[] = "/tmp/vmtierd-XXXXXX";
    int empty = g_mkstemp(path);

    d->config = config_load(path, NULL);
    close(empty);
    unlink(path);
    g_assert_nonnull(d->config);
    d->tiers = g_new0(struct tiers, 1);
    d->tiers->n = 2;
    g_strlcpy(d->tiers->tier[0].name, "dram", sizeof(d->tiers->tier[0].name));
    g_strlcpy(d->tiers->tier[1].name, "cxl", sizeof(d->tiers->tier[1].name));
    d->vms = g_ptr_array_new();
    d->userfault = d->listener = -1;
    return d;
}

static inline void fixture_daemon_free(struct daemon *d)
{
    config_free(d->config);
    tiers_free(d->tiers);
    g_ptr_array_unref(d->vms);
    g_free(d);
}

static inline struct vm *fixture_vm(struct daemon *d)
{
    struct vt_hello hello = { .pid = 1, .accel = VT_ACCEL_TCG, .page_size = 4096, .name = "toy",
                              .sources = (1u << VT_SRC_END) - 1 };

    return vm_new(d, &hello, open("/dev/null", O_RDWR | O_CLOEXEC));
}

static inline void fixture_check_counts(const struct vm *vm)
{
    guint32 count[VT_TIERS] = { 0 };

    for (guint32 g = 0; g < vm->ledger.n; g++)
        if (vm->ledger.tier[g] != LEDGER_NONE) {
            g_assert_cmpuint(vm->ledger.tier[g], <, vm->daemon->tiers->n);
            count[vm->ledger.tier[g]]++;
        }
    for (int t = 0; t < VT_TIERS; t++)
        g_assert_cmpuint(vm->ledger.count[t], ==, count[t]);
}

/*
 * Blocks do not overlap and lie within the ledger, exactly their granules are in a tier, no block
 * that is gone has files, and every array is as long as the ledger.
 */
static inline void fixture_check_books(const struct vm *vm)
{
    guint32 granules = 0, placed = 0;

    fixture_check_counts(vm);
    g_assert_cmpuint(vm->heat.n, ==, vm->ledger.n);
    for (guint32 g = 0; g < vm->ledger.n; g++)
        placed += vm->ledger.tier[g] != LEDGER_NONE;
    for (const struct vm_block *b = vm->block; b < vm->block + VT_BLOCKS; b++) {
        g_assert_true(b->present || b->file[0] < 0);
        if (!b->present)
            continue;
        g_assert_cmpuint(b->first, <=, vm->ledger.n);
        g_assert_cmpuint(b->count, <=, vm->ledger.n - b->first);
        granules += b->count;
        for (guint32 g = b->first; g < b->first + b->count; g++)
            g_assert_cmpuint(vm->ledger.tier[g], !=, LEDGER_NONE);
    }
    g_assert_cmpuint(granules, ==, placed);     /* so no two blocks share one */
}

static inline guint fixture_open_files(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    guint n = 0;

    while (g_dir_read_name(dir))
        n++;
    return n;
}

#endif
