// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Events about the state of tiering: it is frozen or not, there is a daemon or not. A guest that plugs a
 * device in and out, or a daemon that comes and goes, changes that as often as it likes, and each event
 * goes to every monitor. So after one of a kind the next ones wait until EVERY_MS have passed; of those
 * that wait only the latest is kept, so that what was said last is true. QEMU limits its own so, too.
 *
 * All of it belongs to the main loop.
 */
#include "vmm/announce.h"
#include "common/clock.h"
#include "vmm/qemu.h"
#include "vmtier/wire.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define EVERY_MS 1000

static struct {
    bool said;                  /* before, at `at` */
    uint32_t at;                /* ms */
    const char *waits;          /* the event that does, or NULL */
    char data[VT_TEXT + 32];
} kinds[ANNOUNCE_KINDS];

static void say(enum announce_about about)
{
    kinds[about].said = true;
    kinds[about].at = clock_ms();
    qemu_event(kinds[about].waits, kinds[about].data);
    kinds[about].waits = NULL;
}

static bool may_say(enum announce_about about)
{
    return !kinds[about].said || clock_ms() - kinds[about].at >= EVERY_MS;
}

/* The reason goes into JSON: quotes and backslashes become apostrophes and slashes. */
void announce(enum announce_about about, const char *event, const char *reason)
{
    char clean[VT_TEXT];
    size_t i;

    for (i = 0; i < sizeof(clean) - 1 && reason[i]; i++)
        clean[i] = reason[i] == '"' ? '\'' : reason[i] == '\\' ? '/' :
                   (unsigned char)reason[i] < ' ' ? ' ' : reason[i];
    clean[i] = '\0';
    snprintf(kinds[about].data, sizeof(kinds[about].data), "{\"reason\": \"%s\"}", clean);
    kinds[about].waits = event;
    if (may_say(about))
        say(about);
}

void announce_waiting(void)
{
    for (enum announce_about a = 0; a < ANNOUNCE_KINDS; a++)
        if (kinds[a].waits && may_say(a))
            say(a);
}
