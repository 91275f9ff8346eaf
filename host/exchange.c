// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Talking with one QEMU, from a worker.
 *
 * QEMU may have news at any time (layout, freezing); they are taken care of wherever the next message
 * is waited for, so that whoever asked something sees only answers.
 */
#include "host/vm.h"

#include <errno.h>
#include <string.h>

int vm_send(struct vm *vm, struct vt_err *err)
{
    return wire_send(vm->link, &vm->out, LINK_MS, err);
}

static void take_frozen(struct vm *vm, const struct vt_text *news)
{
    bool frozen = news->code || news->text[0];
    char reason[VT_TEXT];
    enum vm_state state = !frozen ? VM_ATTACHING : vm->placed ? VM_FROZEN : VM_REFUSED;

    bool same = vm->stats.state == state;

    vm_clean_text(reason, news->text, sizeof(reason));
    vm->stats.state = state;
    memcpy(vm->stats.reason, reason, sizeof(vm->stats.reason));
    if (same)
        return;
    vm_show(vm);
    if (frozen)
        vm_event(vm, vm->placed ? "VMTIER_VM_FROZEN" : "VMTIER_VM_REFUSED", vm->stats.reason);
}

int vm_take_news(struct vm *vm, struct vt_err *err)
{
    int rc = 0;

    if (vm_is_layout(&vm->in))
        rc = vm_take_layout(vm, &vm->in, err);
    else if (vm->in.h.type == VT_FROZEN)
        take_frozen(vm, &vm->in.text);
    else
        rc = 1;
    wire_drop_fds(&vm->in);     /* only the layout has some that we want */
    return rc;
}

int vm_receive(struct vm *vm, int timeout_ms, struct vt_err *err)
{
    int rc;

    do {
        rc = wire_recv(vm->link, &vm->in, timeout_ms, err);
        if (!rc)
            rc = vm_take_news(vm, err);
    } while (!rc);
    return MIN(rc, 0);
}
