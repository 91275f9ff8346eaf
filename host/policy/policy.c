// SPDX-License-Identifier: GPL-2.0-or-later
/* The table of policies, and what they share. */
#include "host/policy/policy.h"

#include <string.h>

static const struct policy *const policies[] = { &policy_cbx };

const struct policy *policy_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(policies); i++)
        if (!strcmp(name, policies[i]->name))
            return policies[i];
    return NULL;
}

/* list[0..n) is a heap whose root has the smallest key; puts list[at] where it belongs. */
static void sift_down(guint32 *list, const float *key, guint32 n, guint32 at)
{
    for (;;) {
        guint32 child = 2 * at + 1, least = at, swap;

        if (child < n && key[list[child]] < key[list[least]])
            least = child;
        if (child + 1 < n && key[list[child + 1]] < key[list[least]])
            least = child + 1;
        if (least == at)
            return;
        swap = list[at];
        list[at] = list[least];
        list[least] = swap;
        at = least;
    }
}

/* Keeps the best k in a heap whose root is the worst of them, then sorts the heap in place. */
guint32 policy_select(guint32 *list, const float *key, guint32 n, guint32 k)
{
    guint32 swap;

    k = MIN(k, n);
    for (guint32 i = k / 2; i-- > 0;)
        sift_down(list, key, k, i);
    for (guint32 i = k; k && i < n; i++)
        if (key[list[i]] > key[list[0]]) {
            swap = list[0];
            list[0] = list[i];
            list[i] = swap;
            sift_down(list, key, k, 0);
        }
    for (guint32 left = k; left > 1; left--) {
        swap = list[0];
        list[0] = list[left - 1];
        list[left - 1] = swap;
        sift_down(list, key, left - 1, 0);
    }
    return k;
}
