// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the fake daemon and the fake QEMU of the tests share: either end of the VMM link, and ways to
 * misuse it that suit both.
 */
#ifndef VT_TEST_PEER_H
#define VT_TEST_PEER_H

#include "common/wire.h"
#include "rig.h"

#include <sys/socket.h>
#include <sys/un.h>

#define PEER_MS 5000            /* how long either side waits for the other */

/* Says something, right or wrong, on fd; `m` is a buffer to use. */
typedef void (*peer_fn)(int fd, struct wire_msg *m);

struct sockaddr_un peer_address(struct rig *rig);
/* The message goes out as `length` bytes, whatever its header says. */
void peer_send_raw(int fd, const struct wire_msg *m, size_t length);
/* The other side may have hung up already. */
void peer_send(int fd, const struct wire_msg *m);

void peer_say_a_byte(int fd, struct wire_msg *m);
void peer_say_too_much(int fd, struct wire_msg *m);
void peer_say_ready(int fd, struct wire_msg *m);

#endif
