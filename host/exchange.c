// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Talking with one QEMU, from a worker.
 *
 * QEMU may have news at any time (layout, freezing); they are taken care of wherever the next message
 * is waited for, so that whoever asked something sees only answers.
 *
 * A QEMU that talks without end holds a worker up no longer than one that says nothing: an answer has to
 * be there LINK_MS after the question, whatever else came meanwhile, and news that come unasked are read for
 * NEWS_MS at a time. That it freezes and thaws is said once a second at most; the latest state wins.
 */
#include "host/vm.h"

#include <errno.h>
#include <string.h>

#define NEWS_MS  100
#define EVENT_US G_USEC_PER_SEC

int vm_send(struct vm *vm, struct vt_err *err)
{
    vm->deadline_us = g_get_monotonic_time() + LINK_MS * 1000;
    return wire_send(vm->link, &vm->out, LINK_MS, err);
}

/* If it still is, and the last time was long enough ago. */
static void say_frozen(struct vm *vm)
{
    gint64 now = g_get_monotonic_time();

    if (!vm->unsaid || (vm->said_us && now - vm->said_us < EVENT_US))
        return;
    vm->unsaid = false;
    vm->said_us = now;
    vm_event(vm, vm->placed ? "VMTIER_VM_FROZEN" : "VMTIER_VM_REFUSED", vm->stats.reason);
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
    vm->unsaid = frozen;
    say_frozen(vm);
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
    gint64 end = timeout_ms ? vm->deadline_us : g_get_monotonic_time() + NEWS_MS * 1000;
    bool news = false;
    int rc;

    say_frozen(vm);
    do {
        gint64 left_ms = MAX((end - g_get_monotonic_time()) / 1000, 0);

        rc = left_ms || !news ? wire_recv(vm->link, &vm->in, MIN(timeout_ms, (int)left_ms), err) : -EAGAIN;
        if (!rc) {
            rc = vm_take_news(vm, err);
            news = true;
        }
    } while (!rc);
    if (rc == -EAGAIN && news && timeout_ms)
        return vt_fail(err, ETIMEDOUT, "QEMU talks, but has not answered for %d s", LINK_MS / 1000);
    return MIN(rc, 0);
}
