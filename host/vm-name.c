// SPDX-License-Identifier: GPL-2.0-or-later
/* Names of VMs; by itself, as the command line has use for it as well. */
#include "host/vm.h"

#include <string.h>

bool vm_name_is_good(const char *name)
{
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@+-");

    return n > 0 && n < VT_NAME && !name[n];
}
