/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clock, random numbers, samples and percentiles of the benchmark programs.
 *
 * Thread: any; a bench_samples belongs to one thread at a time.
 * Failure: running out of memory ends the program; a benchmark has nothing to save.
 */
#include "bench/stats.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

uint64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void bench_sleep_ns(uint64_t ns)
{
    struct timespec pause = {.tv_sec = (time_t)(ns / 1000000000u),
                             .tv_nsec = (long)(ns % 1000000000u)};
    nanosleep(&pause, NULL);
}

static void random_bytes(void *out, size_t len)
{
    if (getrandom(out, len, 0) != (ssize_t)len) {
        bench_die("the system gives no random bytes");
    }
}

uint64_t bench_random(uint64_t lo, uint64_t hi)
{
    uint64_t value;
    random_bytes(&value, sizeof value);
    return lo + value % (hi - lo + 1);
}

void bench_request_id(char out[37])
{
    uint8_t b[16];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    random_bytes(b, sizeof b);
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    for (int i = 0; i < 6; i++) {
        b[i] = (uint8_t)(ms >> (40 - 8 * i));
    }
    b[6] = (uint8_t)(0x70 | (b[6] & 0x0f));
    b[8] = (uint8_t)(0x80 | (b[8] & 0x3f));
    int at = 0;
    for (int i = 0; i < 16; i++) {
        at += sprintf(out + at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", b[i]);
    }
}

void bench_samples_add(struct bench_samples *samples, double value)
{
    if (samples->len == samples->cap) {
        samples->cap = samples->cap ? samples->cap * 2 : 64;
        samples->values = realloc(samples->values, samples->cap * sizeof *samples->values);
        if (samples->values == NULL) {
            bench_die("out of memory");
        }
    }
    samples->values[samples->len++] = value;
}

void bench_samples_deinit(struct bench_samples *samples)
{
    free(samples->values);
    *samples = (struct bench_samples){0};
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_percentile(struct bench_samples *samples, double percent)
{
    if (samples->len == 0) {
        return 0;
    }
    qsort(samples->values, samples->len, sizeof *samples->values, compare);
    double exact = percent / 100 * (double)samples->len;
    size_t rank = (size_t)exact;
    rank += (double)rank < exact; /* rounded up */
    return samples->values[rank == 0 ? 0 : rank - 1];
}

double bench_median(struct bench_samples *samples)
{
    return bench_percentile(samples, 50);
}

void bench_die(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fflush(stdout);
    fprintf(stderr, "bench: ");
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void *bench_alloc(size_t bytes)
{
    void *memory = calloc(1, bytes ? bytes : 1);
    if (memory == NULL) {
        bench_die("out of memory");
    }
    return memory;
}
