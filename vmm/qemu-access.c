// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory accesses of an emulated guest: the plugin API that QEMU means plugins to use, found with
 * dlsym() like all else of QEMU's. Every function may be missing.
 *
 * What differs between releases: 7.2 gives a ram_addr as an access' address, later releases give a
 * guest-physical address; and see forget_callbacks().
 *
 * A call at each access costs an emulated guest a third of its speed even if it returns at once. So
 * code is translated with these calls only while somebody wants them, and what was translated before
 * is thrown away when that changes. A QEMU without tb_flush() has the calls in its code for ever.
 */
#include "vmm/plugin.h"
#include "vmm/qemu-symbols.h"
#include "vmm/qemu.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef void mem_cb(unsigned cpu, uint32_t info, uint64_t vaddr, void *opaque);

#define OPTIONAL(F) \
    F(const char *, current_accel_name, (void)) \
    F(void *, qemu_get_cpu, (int)) \
    F(void, tb_flush, (void *)) \
    F(int, qemu_plugin_n_vcpus, (void)) \
    F(int, qemu_plugin_num_vcpus, (void)) \
    F(void, qemu_plugin_disable_mem_helpers, (void *)) \
    F(void, qemu_plugin_register_flush_cb, (uint64_t, void (*)(uint64_t))) \
    F(void, qemu_plugin_register_vcpu_tb_trans_cb, (uint64_t, void (*)(uint64_t, void *))) \
    F(size_t, qemu_plugin_tb_n_insns, (void *)) \
    F(void *, qemu_plugin_tb_get_insn, (void *, size_t)) \
    F(void, qemu_plugin_register_vcpu_mem_cb, (void *, mem_cb *, int, int, void *)) \
    F(void *, qemu_plugin_get_hwaddr, (uint32_t, uint64_t)) \
    F(bool, qemu_plugin_hwaddr_is_io, (void *)) \
    F(uint64_t, qemu_plugin_hwaddr_phys_addr, (void *))

#define DECLARE(ret, name, args) static ret(*q_##name) args;
OPTIONAL(DECLARE)
#undef DECLARE

#define ROW(ret, name, args) { #name, &q_##name },
static const struct qemu_symbol symbols[] = { OPTIONAL(ROW) };
#undef ROW

#define MEM_RW 3
#define CPUS_MOST 1024
#define CB_NO_REGS 0

static qemu_access_fn access_fn;
static atomic_bool wanted;

static void instrument(uint64_t id, void *tb)
{
    size_t n = atomic_load(&wanted) ? q_qemu_plugin_tb_n_insns(tb) : 0;

    (void)id;
    for (size_t i = 0; i < n; i++)
        q_qemu_plugin_register_vcpu_mem_cb(q_qemu_plugin_tb_get_insn(tb, i), access_fn,
                                           CB_NO_REGS, MEM_RW, NULL);
}

/*
 * QEMU 7.2 leaves in a vCPU a pointer to the callbacks of the last translated code it ran, and frees
 * them when all translated code is flushed (loadvm does that; so does a full code buffer). The next
 * access outside of translated code, such as an interrupt's push, would call through freed memory.
 * This runs right after they are freed, while no vCPU does.
 */
static void forget_callbacks(uint64_t id)
{
    (void)id;
    for (int i = 0; i < CPUS_MOST; i++) {
        void *cpu = q_qemu_get_cpu(i);

        if (cpu)
            q_qemu_plugin_disable_mem_helpers(cpu);
    }
}

/* Later releases have mended that, and no longer export what it takes. */
static bool guard_callbacks(uint64_t id)
{
    if (qemu_plugin_version >= 2)
        return true;
    if (!q_qemu_get_cpu || !q_qemu_plugin_disable_mem_helpers || !q_qemu_plugin_register_flush_cb)
        return false;
    q_qemu_plugin_register_flush_cb(id, forget_callbacks);
    return true;
}

static bool can_switch(void)
{
    return q_tb_flush && q_qemu_get_cpu;
}

bool qemu_access_start(uint64_t id, qemu_access_fn fn, struct vt_err *err)
{
    qemu_find_symbols(symbols, sizeof(symbols) / sizeof(symbols[0]), false, NULL);
    if (qemu_accel_of(q_current_accel_name()) != VT_ACCEL_TCG) {
        vt_fail(err, ENODEV, "only an emulated guest (TCG) can be sampled");
        return false;
    }
    if (!q_qemu_plugin_register_vcpu_tb_trans_cb || !q_qemu_plugin_register_vcpu_mem_cb ||
        !q_qemu_plugin_get_hwaddr || !q_qemu_plugin_hwaddr_phys_addr) {
        vt_fail(err, ENOSYS, "this QEMU has no plugin memory callbacks");
        return false;
    }
    if (!guard_callbacks(id)) {
        vt_fail(err, ENOSYS, "this QEMU's plugin memory callbacks are not safe");
        return false;
    }
    access_fn = fn;
    atomic_store(&wanted, !can_switch());
    q_qemu_plugin_register_vcpu_tb_trans_cb(id, instrument);
    return true;
}

/* With the BQL. QEMU does it when no vCPU runs translated code. */
static void translate_anew(void *unused)
{
    void *cpu = q_qemu_get_cpu(0);

    (void)unused;
    if (cpu)
        q_tb_flush(cpu);
}

void qemu_access_switch(bool on)
{
    if (access_fn && can_switch() && atomic_exchange(&wanted, on) != on)
        qemu_bh(translate_anew, NULL);
}

unsigned qemu_vcpus(void)
{
    int n = q_qemu_plugin_num_vcpus ? q_qemu_plugin_num_vcpus() :
            q_qemu_plugin_n_vcpus ? q_qemu_plugin_n_vcpus() : 1;

    return n > 0 ? (unsigned)n : 1;
}

bool qemu_access_address(uint32_t info, uint64_t vaddr, uint64_t *address)
{
    void *hw = q_qemu_plugin_get_hwaddr(info, vaddr);

    if (!hw || q_qemu_plugin_hwaddr_is_io(hw))
        return false;
    *address = q_qemu_plugin_hwaddr_phys_addr(hw);
    return true;
}

enum qemu_space qemu_access_space(void)
{
    /* The change came with 8.x; API version 2 marks those releases (see the constructor). */
    return qemu_plugin_version >= 2 ? QEMU_SPACE_GPA : QEMU_SPACE_RAM_ADDR;
}
