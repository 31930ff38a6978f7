/* SPDX-License-Identifier: Apache-2.0 */
/* The benchmarks of the program hadb-bench: each fills one JSON object with what it measured. */
#ifndef HADB_BENCH_BENCH_H
#define HADB_BENCH_BENCH_H
#include <jansson.h>

#include "bench/writers.h"

/* Each returns 0 when nothing was lost or applied twice, else 1; figures go into @out. */
int bench_failover(const struct bench_options *options, json_t *out);
int bench_handoff(const struct bench_options *options, json_t *out);
int bench_zombie(const struct bench_options *options, json_t *out);
int bench_durable(const struct bench_options *options, json_t *out);

/* "name": value, rounded to @digits behind the point. */
void bench_put_real(json_t *out, const char *name, double value, int digits);
void bench_put_int(json_t *out, const char *name, uint64_t value);
/* One line on stderr, overwritten on a terminal; every tenth elsewhere. */
void bench_progress(const char *what, unsigned done, unsigned total, double last_ms);
#endif
