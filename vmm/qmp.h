// SPDX-License-Identifier: GPL-2.0-or-later
/* vmtier's commands in QEMU's own monitor. */
#ifndef VMTIER_VMM_QMP_H
#define VMTIER_VMM_QMP_H

/* BQL; once. */
void qmp_register(void);

#endif
