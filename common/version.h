// SPDX-License-Identifier: GPL-2.0-or-later
/* The version of vmtier, once for the daemon's greeting, the command line and the man pages. */
#ifndef VMTIER_VERSION_H
#define VMTIER_VERSION_H

#define VMTIER_VERSION_MAJOR 0
#define VMTIER_VERSION_MINOR 1
#define VMTIER_VERSION_MICRO 0
#define VMTIER_VERSION "0.1.0"

#endif
