// SPDX-License-Identifier: GPL-2.0-or-later
/* How the sources in QEMU hand on what they saw. */
#ifndef VMTIER_OBS_H
#define VMTIER_OBS_H

#include "vmtier/wire.h"

typedef void (*obs_fn)(const struct vt_obs *obs, void *opaque);

#endif
