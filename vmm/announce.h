// SPDX-License-Identifier: GPL-2.0-or-later
/* Events in QEMU's monitors, at a rate that whoever listens can bear. */
#ifndef VMTIER_ANNOUNCE_H
#define VMTIER_ANNOUNCE_H

/* What an event is about: of each, one a second at most is said, and the latest wins. */
enum announce_about { ANNOUNCE_FREEZE, ANNOUNCE_LINK, ANNOUNCE_KINDS };

/* Says it, now or in a moment, with the reason as its data. BQL. */
void announce(enum announce_about about, const char *event, const char *reason);

/* What has waited for long enough is said. Call it about once a second. BQL. */
void announce_waiting(void);

#endif
