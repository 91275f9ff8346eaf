// SPDX-License-Identifier: GPL-2.0-or-later
/* The daemon's error domain: see error.h. */
#include "host/error.h"

G_DEFINE_QUARK(vmt-error-quark, vmt_error)
