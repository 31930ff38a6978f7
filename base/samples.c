/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns samples of durations: an array that grows, and its percentiles.
 *
 * Thread: one at a time. Failure modes: HADB_ENOMEM; more than HADB_SAMPLES_LEN_MAX are dropped.
 */
#include "base/samples.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/util.h"

int hadb_samples_add(struct hadb_samples *samples, uint64_t us)
{
    if (samples->len == HADB_SAMPLES_LEN_MAX) {
        return 0;
    }
    if (samples->len == samples->cap) {
        size_t cap = samples->cap ? samples->cap * 2 : 64;
        uint32_t *grown = hadb_realloc(samples->us, cap * sizeof(*grown));
        if (!grown) {
            return HADB_ENOMEM;
        }
        samples->us = grown;
        samples->cap = cap;
    }
    samples->us[samples->len++] = (uint32_t)HADB_MIN(us, (uint64_t)UINT32_MAX);
    return 0;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

uint32_t hadb_samples_percentile(struct hadb_samples *samples, unsigned percent)
{
    HADB_ASSERT(percent >= 1 && percent <= 100);
    if (samples->len == 0) {
        return 0;
    }
    qsort(samples->us, samples->len, sizeof(*samples->us), compare);
    return samples->us[(samples->len * percent + 99) / 100 - 1];
}

void hadb_samples_deinit(struct hadb_samples *samples)
{
    hadb_free(samples->us);
    *samples = (struct hadb_samples){0};
}
