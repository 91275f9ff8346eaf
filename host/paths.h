// SPDX-License-Identifier: GPL-2.0-or-later
/* Where what was installed beside this program is. */
#ifndef VMTIER_PATHS_H
#define VMTIER_PATHS_H

/*
 * A file of ours (vmtier-qemu.so, vmtier-libvirt.so): beside the program, as in a build, or in the
 * directory that it is installed to. The name that it would have there if there is none. g_free() it.
 */
char *paths_library(const char *name);

#endif
