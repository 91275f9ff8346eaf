// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The plugin's entry: options, start, and what happens when the machine changes.
 *
 * Start has two moments. qemu_plugin_install() runs before any memory exists: it binds QEMU's
 * functions, sets the hooks, and is the place to refuse a wrong option. machine_done() runs when the
 * machine is complete and nothing has been written to RAM: it attaches to the daemon and lets it
 * place memory, so that what does not fit the quota is on its tier before the guest touches it.
 */
#include "vmm/plugin.h"
#include "common/fault.h"
#include "vmm/announce.h"
#include "vmm/discard.h"
#include "vmm/fence.h"
#include "vmm/handover.h"
#include "vmm/kvmlog.h"
#include "vmm/letgo.h"
#include "vmm/link.h"
#include "vmm/memslots.h"
#include "vmm/mover.h"
#include "vmm/qemu.h"
#include "vmm/qmp.h"
#include "vmm/ram.h"
#include "vmm/refault.h"
#include "vmm/sample.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ATTACH_MS 5000      /* the longest an absent-minded daemon may delay the guest's start */

struct options plugin_options;
uint64_t plugin_id;
char plugin_no_source[VT_SRC_END][VT_NAME];

static atomic_bool check_pending;
static bool device_in_the_way;      /* and the world has been told */

/* --- options ------------------------------------------------------------------------------------ */

static int set_text(char *to, size_t size, const char *key, const char *value, struct vt_err *err)
{
    if (!value[0] || strlen(value) >= size)
        return vt_fail(err, EINVAL, "%s= must have 1 to %zu characters", key, size - 1);
    snprintf(to, size, "%s", value);
    return 0;
}

static int set_required(const char *value, struct vt_err *err)
{
    bool on = !strcmp(value, "on");

    if (!on && strcmp(value, "off"))
        return vt_fail(err, EINVAL, "required=%s: it is on or off", value);
    plugin_options.required = on;
    return 0;
}

static int set_option(const char *arg, struct vt_err *err)
{
    const char *eq = strchr(arg, '='), *value = eq ? eq + 1 : "";
    size_t n = eq ? (size_t)(eq - arg) : strlen(arg);
    struct options *o = &plugin_options;

    if (n == 6 && !strncmp(arg, "socket", n))
        return set_text(o->socket, sizeof(o->socket), "socket", value, err);
    if (n == 2 && !strncmp(arg, "vm", n))
        return set_text(o->id, sizeof(o->id), "vm", value, err);
    if (n == 8 && !strncmp(arg, "required", n))
        return set_required(value, err);
    return vt_fail(err, EINVAL, "unknown option '%.*s': there are socket=PATH, vm=NAME and "
                   "required=on|off", (int)n, arg);
}

static int set_options(int argc, char **argv, struct vt_err *err)
{
    int rc = 0;

    for (int i = 0; !rc && i < argc; i++)
        rc = set_option(argv[i], err);
    if (!rc && !plugin_options.socket[0])
        rc = vt_fail(err, EINVAL, "socket=PATH is missing: the daemon's socket, "
                     "/run/vmtier/vmm.sock unless configured otherwise");
    return rc;
}

/* --- the machine changes -------------------------------------------------------------------------- */

bool plugin_check_devices(void)
{
    struct vt_err err = { 0 };

    if (!memslots_check_devices(&err)) {
        device_in_the_way = false;
        return true;
    }
    letgo_freeze(err.text);
    if (mover_retreat() && !letgo_has(LETGO_LENT))
        plugin_look_at_devices();       /* a DMA was in flight, or memory short: again */
    if (device_in_the_way)
        return false;
    device_in_the_way = true;
    qemu_say("%s", err.text);
    announce(ANNOUNCE_FREEZE, "X_VMTIER_FROZEN", err.text);
    link_notify();
    return false;
}

static void check_devices(void *unused)
{
    (void)unused;
    atomic_store(&check_pending, false);
    /* Again: a DIMM gets its name, without which it is not tiered, after its memory region shows. */
    if (memslots_refresh())
        link_notify();
    plugin_check_devices();
}

void plugin_look_at_devices(void)
{
    if (!atomic_exchange(&check_pending, true))
        qemu_bh(check_devices, NULL);
}

/* With the BQL, from any thread. Devices announce themselves through their memory regions. */
static void layout_changed(void)
{
    if (memslots_refresh())
        link_notify();
    plugin_look_at_devices();
}

/* --- start ------------------------------------------------------------------------------------------ */

static void machine_done(void)
{
    struct vt_err err = { 0 };
    struct qemu_info info;
    int rc;

    qemu_get_info(&info);
    refault_set_guest(qemu_vcpus(), info.accel == VT_ACCEL_KVM);
    rc = link_start(ATTACH_MS, &err);
    qmp_register();
    if (rc && plugin_options.required && !handover_waits()) {
        qemu_say("required=on, and this VM cannot be tiered: %s", err.text);
        exit(EXIT_FAILURE);
    }
    qemu_on_layout_change(layout_changed);
    if (handover_start(&err)) {
        qemu_say("%s", err.text);
        exit(EXIT_FAILURE);
    }
}

static void note_sources(void)
{
    struct vt_err err;

    if (refault_init(&err))
        snprintf(plugin_no_source[VT_SRC_REFAULT], VT_NAME, "%.60s", err.text);
    if (!sample_init(&err))
        snprintf(plugin_no_source[VT_SRC_SAMPLE], VT_NAME, "%.60s", err.text);
}

/* The switch is for the test that proves what the fence is good for. It loses data. */
static int start_fence(struct vt_err *err)
{
    if (!getenv("VMTIER_TEST_NO_FENCE"))
        return fence_init(err);
    qemu_say("VMTIER_TEST_NO_FENCE is set: direct disk I/O will be CORRUPTED");
    return 0;
}

static int start_faults(struct vt_err *err)
{
    int rc = fault_init(err);

    if (rc > 0)
        qemu_say("VMTIER_TEST_FAULT is set: calls will FAIL and processes will DIE on purpose");
    return rc < 0 ? rc : 0;
}

static int start(int argc, char **argv, struct vt_err *err)
{
    int rc = set_options(argc, argv, err);

    if (!rc)
        rc = start_faults(err);
    if (!rc)
        rc = qemu_bind(err);
    if (!rc)
        rc = ram_init(err);
    if (!rc)
        rc = start_fence(err);
    if (!rc)
        rc = letgo_init(err);
    if (!rc)
        rc = kvmlog_init(err);
    if (!rc && plugin_options.required)
        rc = link_probe(err);
    return rc;
}

VMTIER_EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

VMTIER_EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    struct vt_err err = { 0 };

    (void)info;
    plugin_id = id;
    handover_init();
    if (start(argc, argv, &err)) {
        qemu_say("%s", err.text);
        return -1;
    }
    note_sources();
    fence_on_punch(discard_in_file);
    fence_on_map(discard_mapped);
    qemu_on_machine_done(machine_done);
    return 0;
}
