// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Drives the test ROM through its mailbox (rom.h) in a VM's memory.
 */
#include "harness.h"

struct rom_mailbox rom_mailbox(struct vm *vm)
{
    struct rom_mailbox box;

    vm_peek(vm, ROM_MAILBOX, &box, sizeof(box));
    return box;
}

static bool is_alive(void *vm)
{
    return rom_mailbox(vm).magic == ROM_MAGIC;
}

void rom_wait_alive(struct vm *vm, double timeout)
{
    if (!lab_wait(is_alive, vm, timeout))
        g_error("the test ROM does not run after %.0f s", timeout);
}

static void poke_word(struct vm *vm, uint32_t at, uint32_t value)
{
    vm_poke(vm, ROM_MAILBOX + at, &value, sizeof(value));
}

/* The command goes last: the ROM reads the rest once it sees it. */
void rom_give(struct vm *vm, uint32_t command, struct rom_range range, uint32_t value)
{
    poke_word(vm, ROM_AT_BASE, range.base);
    poke_word(vm, ROM_AT_STRIDE, range.stride);
    poke_word(vm, ROM_AT_COUNT, range.count);
    poke_word(vm, ROM_AT_VALUE, value);
    poke_word(vm, ROM_AT_COMMAND, command);
}

static bool is_idle(void *vm)
{
    return rom_mailbox(vm).command == ROM_IDLE;
}

static void wait_idle(struct vm *vm, double timeout)
{
    if (!lab_wait(is_idle, vm, timeout))
        g_error("the test ROM's command %u did not end within %.0f s", rom_mailbox(vm).command,
                timeout);
}

struct rom_mailbox rom_run(struct vm *vm, uint32_t command, struct rom_range range, uint32_t value,
                           double timeout)
{
    rom_give(vm, command, range, value);
    wait_idle(vm, timeout);
    return rom_mailbox(vm);
}

void rom_stop_spin(struct vm *vm, double timeout)
{
    poke_word(vm, ROM_AT_STOP, 1);
    wait_idle(vm, timeout);
}
