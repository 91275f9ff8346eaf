// SPDX-License-Identifier: GPL-2.0-or-later
/* The daemon's errors outside QMP: one domain, codes are errno values. */
#ifndef VMTIER_ERROR_H
#define VMTIER_ERROR_H

#include <glib.h>

#define VMT_ERROR (vmt_error_quark())
GQuark vmt_error_quark(void);

#endif
