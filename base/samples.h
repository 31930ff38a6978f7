/* SPDX-License-Identifier: Apache-2.0 */
/* How long things took, and percentiles of that. The zero value is empty. One thread at a time. */
#ifndef HADB_BASE_SAMPLES_H
#define HADB_BASE_SAMPLES_H
#include "hadb/error.h"

#define HADB_SAMPLES_LEN_MAX 65536u /* later ones are not taken */

struct hadb_samples {
    uint32_t *us;
    size_t len, cap;
};

/* Adds one, cut to what fits. 0 or HADB_ENOMEM. */
int hadb_samples_add(struct hadb_samples *samples, uint64_t us);
/*
 * The smallest sample that at least @percent (1..100) of all are not over (nearest rank: p99 of fewer than 100
 * is the largest). 0 when there are none. Sorts them.
 */
uint32_t hadb_samples_percentile(struct hadb_samples *samples, unsigned percent);
void hadb_samples_deinit(struct hadb_samples *samples);
#endif
