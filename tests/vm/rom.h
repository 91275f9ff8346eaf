// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The mailbox of the test ROM (rom.S), shared by the ROM and by the tests that drive it.
 *
 * The ROM is a 64 KiB `-bios` payload: it enters flat 32-bit mode and obeys a mailbox in guest RAM.
 * It touches no memory but the mailbox's page, the ranges it is told to, and its own code in ROM,
 * so a test knows exactly which pages were read and written. The mailbox's own page is written
 * when a command ends, and by SPIN after each round.
 *
 * To give a command: fill in the arguments, then store `command`. It is done when `done` has grown
 * by one; `command` is IDLE again then. Ranges are `count` 32-bit words, `stride` bytes apart.
 */
#ifndef VT_TEST_ROM_H
#define VT_TEST_ROM_H

#define ROM_SIZE        0x10000
#define ROM_LOAD        0xf0000         /* where the ROM runs */
#define ROM_MAILBOX     0x8000          /* guest-physical */
#define ROM_MAGIC       0x4d4f5256

#define ROM_IDLE        0
#define ROM_WRITE       1               /* word i = value + i */
#define ROM_ADD         2               /* word i += value */
#define ROM_READ        3               /* result = sum of the words */
#define ROM_CHECK       4               /* result = words that are not value + i */
#define ROM_SPIN        5               /* every word += 1, round after round, until `stop` */
#define ROM_COMMANDS    6

#define ROM_AT_MAGIC        0
#define ROM_AT_COMMAND      4
#define ROM_AT_BASE         8
#define ROM_AT_STRIDE       12
#define ROM_AT_COUNT        16
#define ROM_AT_VALUE        20
#define ROM_AT_STOP         24
#define ROM_AT_DONE         28
#define ROM_AT_RESULT       32
#define ROM_AT_FIRST_BAD    36
#define ROM_AT_ROUNDS       40

#ifndef __ASSEMBLER__
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

struct rom_mailbox {
    uint32_t magic;         /* ROM_MAGIC once the ROM runs */
    uint32_t command;
    uint32_t base;
    uint32_t stride;
    uint32_t count;         /* at least 1 */
    uint32_t value;
    uint32_t stop;          /* set by the host to end SPIN, cleared by the ROM */
    uint32_t done;          /* commands carried out */
    uint32_t result;
    uint32_t first_bad;     /* CHECK: address of the first wrong word, or 0 */
    uint32_t rounds;        /* SPIN: rounds done */
};

static_assert(offsetof(struct rom_mailbox, command) == ROM_AT_COMMAND, "rom.S: command");
static_assert(offsetof(struct rom_mailbox, value) == ROM_AT_VALUE, "rom.S: value");
static_assert(offsetof(struct rom_mailbox, done) == ROM_AT_DONE, "rom.S: done");
static_assert(offsetof(struct rom_mailbox, rounds) == ROM_AT_ROUNDS, "rom.S: rounds");
static_assert(sizeof(struct rom_mailbox) == ROM_AT_ROUNDS + 4, "rom.S: the mailbox's size");
#endif

#endif
