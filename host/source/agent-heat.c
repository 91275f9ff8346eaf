// SPDX-License-Identifier: GPL-2.0-or-later
/* What heat is told of hot granules: see agent-heat.h. */
#include "host/source/agent-heat.h"
#include "host/source/source.h"
#include "host/daemon.h"

#include <math.h>
#include <string.h>

#define HEAT_LEAST 1000.0       /* accesses a second of a hot granule, if nothing is known of any */

void agent_heat_resize(struct agent_heat *h, guint32 n)
{
    if (n <= h->n)
        return;
    h->said = g_renew(float, h->said, n);
    h->told = g_renew(float, h->told, n);
    memset(h->said + h->n, 0, (n - h->n) * sizeof(h->said[0]));
    memset(h->told + h->n, 0, (n - h->n) * sizeof(h->told[0]));
    h->n = n;
}

void agent_heat_free(struct agent_heat *h)
{
    g_free(h->said);
    g_free(h->told);
    memset(h, 0, sizeof(*h));
}

void agent_heat_forget(struct agent_heat *h)
{
    if (h->n)
        memset(h->said, 0, h->n * sizeof(h->said[0]));
}

/*
 * The mean heat of the hot: of granules above twice the mean of all. In accesses per second; of what hints
 * have added nothing, else they would grow by themselves.
 */
static double hot_rate(const struct vm *vm)
{
    double sum = 0, hot = 0;
    guint32 n_hot = 0;

    for (guint32 g = 0; g < vm->ledger.n; g++)
        sum += heat_rate_unhinted(&vm->heat, g).rate;
    for (guint32 g = 0; g < vm->ledger.n; g++) {
        double rate = heat_rate_unhinted(&vm->heat, g).rate;

        if (rate > 2 * sum / vm->ledger.n) {
            hot += rate;
            n_hot++;
        }
    }
    return MAX((n_hot ? hot / n_hot : 4 * sum / MAX(vm->ledger.n, 1)), HEAT_LEAST);
}

void agent_heat_tell(struct agent_heat *h, struct vm *vm, double seconds)
{
    double rate = vm->stats.agent.hot_bytes ? hot_rate(vm) : 0;
    float keep = (float)exp2(-seconds / HEAT_HALF_LIFE);

    for (guint32 g = 0; g < h->n; g++) {
        float more = h->said[g] - (h->told[g] *= keep);

        if (more <= 0)
            continue;
        h->told[g] = h->said[g];
        source_observe(vm, SRC_AGENT, g, (double)more * rate * HEAT_HALF_LIFE / M_LN2, seconds);
    }
}
