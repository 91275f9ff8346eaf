// SPDX-License-Identifier: GPL-2.0-or-later
/* [host] of the configuration. */
#include "host/config.h"
#include "host/error.h"
#include "host/size.h"

#include <errno.h>
#include <string.h>

bool host_config_set(struct host_config *host, const char *key, const char *value, GError **error)
{
    if (!strcmp(key, "dram"))
        return size_parse(value, &host->dram, error);
    if (!strcmp(key, "reserve"))
        return size_parse(value, &host->reserve, error);
    if (!strcmp(key, "quota-rate"))
        return size_parse(value, &host->rate, error);
    if (strcmp(key, "sharing")) {
        g_set_error(error, VMT_ERROR, EINVAL, "unknown key '%s': there are dram=SIZE, reserve=SIZE, "
                    "sharing=off|throughput|fair and quota-rate=SIZE", key);
        return false;
    }
    if (arbiter_mode_parse(value, &host->arbiter))
        return true;
    g_set_error(error, VMT_ERROR, EINVAL, "sharing '%s': it is off, throughput or fair", value);
    return false;
}
