/* SPDX-License-Identifier: Apache-2.0 */
/* Clock, random numbers, samples and their percentiles. One thread per object. */
#ifndef HADB_BENCH_STATS_H
#define HADB_BENCH_STATS_H
#include <stddef.h>
#include <stdint.h>

uint64_t bench_now_ns(void);
void bench_sleep_ns(uint64_t ns);
/* A number in lo..hi, both inclusive. */
uint64_t bench_random(uint64_t lo, uint64_t hi);
/* A UUIDv7 in its text form. */
void bench_request_id(char out[37]);

/* Numbers that are added one by one. The zero value is empty. */
struct bench_samples {
    double *values;
    size_t len, cap;
};
void bench_samples_add(struct bench_samples *samples, double value);
void bench_samples_deinit(struct bench_samples *samples);
/* Nearest rank: the smallest value that at least @percent of all values do not exceed. 0 when empty. */
double bench_percentile(struct bench_samples *samples, double percent);
double bench_median(struct bench_samples *samples);

/* Prints "bench: …" on stderr and ends the program with exit code 1: a figure that cannot be had is never guessed. */
void bench_die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void *bench_alloc(size_t bytes); /* zeroed, or the program ends */
#endif
