// SPDX-License-Identifier: GPL-2.0-or-later
/* userfaultfd write protection of guest RAM: thin wrappers that retry what the kernel asks to retry. */
#ifndef VMTIER_UFFD_H
#define VMTIER_UFFD_H

#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Makes this process's userfaultfd context from an open /dev/userfaultfd. The context must see
 * faults taken inside the kernel (KVM, system calls), which is why the plain system call of an
 * unprivileged process is no substitute: with user-mode faults only, a guest's write to a protected
 * page becomes an MMIO access and is lost. Once; a second call does nothing.
 */
int uffd_open(int device, struct vt_err *err);
bool uffd_owns(int fd);         /* is it that context? */

/* Each returns 0 or a negative errno. */
int uffd_register(uint8_t *start, uint64_t length);
int uffd_unregister(uint8_t *start, uint64_t length);
int uffd_protect(uint8_t *start, uint64_t length);      /* writers now wait */
int uffd_unprotect(uint8_t *start, uint64_t length);    /* ... and now go on */
int uffd_wake(uint8_t *start, uint64_t length);

#endif
