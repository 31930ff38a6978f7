/* SPDX-License-Identifier: Apache-2.0 */
/*
 * s3client: our S3 client against libcurl alone with its own signing, on one server, same sizes, same payload
 * signatures; and what 16 requests in flight on one thread gain when each takes 10 ms longer.
 *
 *   bench_s3client [--json] [--rounds N] [--op get|put] [--size BYTES] [--in-flight N] [--quick]
 *
 * Expects HADB_TEST_S3_URL and credentials in AWS_…, as tests/support/with_s3.py gives them. Rounds are
 * interleaved, the first side changes with each; a figure is the median of a side's rounds, a ratio the median of
 * the rounds' ratios. Exit code 0: it ran.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/relay.h"
#include "bench/s3_load.h"
#include "bench/stats.h"

#define DELAY_MS 10u

struct row {
    bool put;
    size_t size;
    unsigned in_flight, count;
};

static const struct row rows[] = {
    {false, 4096, 1, 750},     {false, 4096, 16, 1500}, {true, 4096, 1, 250},
    {true, 4096, 16, 500},     {false, 1 << 20, 1, 75}, {false, 1 << 20, 16, 160},
    {true, 1 << 20, 1, 30},    {true, 1 << 20, 16, 48}, {false, 64 << 20, 1, 4},
    {false, 64 << 20, 16, 16}, {true, 64 << 20, 1, 3},  {true, 64 << 20, 16, 16},
};

struct bench {
    struct s3_place place;
    struct s3_ours *ours;
    struct s3_plain *plain;
    uint8_t *bytes;
    unsigned rounds;
    bool quick, json;
    const char *only_op; /* NULL = both */
    size_t only_size;    /* 0 = all */
    unsigned only_in_flight;
    unsigned serial;
    double cpu_us; /* per request of the side that ran last */
};

static double per_second(const struct s3_load *load, uint64_t ns)
{
    return (double)load->count * 1e9 / (double)ns;
}

static void make_objects(struct bench *b, struct s3_load *load, char *names, size_t cap)
{
    struct s3_load made = *load;
    snprintf(names, cap, "read-%zu-%u", load->size, b->serial++);
    made.put = true;
    made.names = names;
    made.count = S3_OBJECTS;
    made.in_flight = 4;
    (void)s3_ours_run_ns(b->ours, &made);
    load->names = names;
}

static uint64_t cpu_ns(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static double run_side(struct bench *b, struct s3_load *load, bool ours)
{
    char names[64];
    if (load->put) {
        snprintf(names, sizeof names, "put-%zu-%u", load->size, b->serial++);
        load->names = names;
    }
    uint64_t cpu = cpu_ns();
    uint64_t ns = ours ? s3_ours_run_ns(b->ours, load) : s3_plain_run_ns(b->plain, load);
    b->cpu_us = (double)(cpu_ns() - cpu) / 1000 / load->count;
    if (load->put) {
        s3_ours_clean(b->ours, load);
    }
    return per_second(load, ns);
}

static void put_real(json_t *out, const char *name, double value, int digits)
{
    double scale = pow(10, digits);
    json_object_set_new(out, name, json_real(round(value * scale) / scale));
}

static json_t *measure(struct bench *b, const struct row *row)
{
    struct bench_samples ours = {0}, plain = {0}, ratio = {0}, cpu = {0}, plain_cpu = {0};
    char names[64];
    struct s3_load load = {.put = row->put,
                           .size = row->size,
                           .bytes = b->bytes,
                           .count = b->quick ? row->in_flight : row->count,
                           .in_flight = row->in_flight};
    if (!row->put) {
        make_objects(b, &load, names, sizeof names);
    }
    for (unsigned i = 0; i < b->rounds + 1; i++) { /* the first one warms up */
        bool ours_first = i % 2 == 0;
        double first = run_side(b, &load, ours_first), first_cpu = b->cpu_us;
        double second = run_side(b, &load, !ours_first), second_cpu = b->cpu_us;
        if (i > 0) {
            double mine = ours_first ? first : second, other = ours_first ? second : first;
            bench_samples_add(&cpu, ours_first ? first_cpu : second_cpu);
            bench_samples_add(&plain_cpu, ours_first ? second_cpu : first_cpu);
            bench_samples_add(&ours, mine);
            bench_samples_add(&plain, other);
            bench_samples_add(&ratio, mine / other);
        }
    }
    if (!row->put) {
        load.put = true; /* the objects' names are those of a put */
        load.count = S3_OBJECTS;
        s3_ours_clean(b->ours, &load);
    }
    json_t *out = json_pack("{s:s, s:I, s:i}", "op", row->put ? "put" : "get", "size",
                            (json_int_t)row->size, "in_flight", (int)row->in_flight);
    put_real(out, "ours", bench_median(&ours), 1);
    put_real(out, "plain", bench_median(&plain), 1);
    put_real(out, "ratio", bench_median(&ratio), 3);
    put_real(out, "ours_cpu_us", bench_median(&cpu), 1);
    put_real(out, "plain_cpu_us", bench_median(&plain_cpu), 1);
    bench_samples_deinit(&cpu);
    bench_samples_deinit(&plain_cpu);
    bench_samples_deinit(&ours);
    bench_samples_deinit(&plain);
    bench_samples_deinit(&ratio);
    return out;
}

/* 16 in flight on one thread against one, each request DELAY_MS later than the server answers. */
static json_t *measure_latency(struct bench *b)
{
    char url[512], origin[64], names[64];
    int pid = 0;
    struct bench_relay relay = {.host = "127.0.0.1",
                                .port = (unsigned)atoi(strrchr(b->place.origin, ':') + 1),
                                .delay_ms = DELAY_MS};
    unsigned port = bench_relay_start(&relay, &pid);
    snprintf(origin, sizeof origin, "http://127.0.0.1:%u", port);
    snprintf(url, sizeof url, "s3://%s/%s?endpoint=%s&path_style=1", b->place.bucket,
             b->place.prefix, origin);
    struct s3_place place = b->place;
    place.url = url;
    struct s3_ours *ours = s3_ours_open(&place);
    struct bench_samples one = {0}, many = {0}, speedup = {0};
    struct s3_load load = {.size = 4096, .bytes = b->bytes};
    make_objects(b, &load, names, sizeof names);
    for (unsigned i = 0; i < b->rounds + 1; i++) {
        struct s3_load single = load, full = load;
        single.in_flight = 1;
        single.count = b->quick ? 3 : 40;
        full.in_flight = 16;
        full.count = b->quick ? 32 : 640;
        double slow = per_second(&single, s3_ours_run_ns(ours, &single));
        double fast = per_second(&full, s3_ours_run_ns(ours, &full));
        if (i > 0) {
            bench_samples_add(&one, slow);
            bench_samples_add(&many, fast);
            bench_samples_add(&speedup, fast / slow);
        }
    }
    s3_ours_close(ours);
    bench_relay_stop(pid);
    json_t *out = json_pack("{s:s, s:i, s:i, s:i}", "op", "get", "size", 4096, "in_flight", 16,
                            "latency_ms", (int)DELAY_MS);
    put_real(out, "one_in_flight", bench_median(&one), 1);
    put_real(out, "ours", bench_median(&many), 1);
    put_real(out, "speedup", bench_median(&speedup), 2);
    bench_samples_deinit(&one);
    bench_samples_deinit(&many);
    bench_samples_deinit(&speedup);
    return out;
}

static void print_row(const json_t *row)
{
    fprintf(stderr, "%-4s %9lld %10lld %12.1f %12.1f %8.3f %10.1f %10.1f\n",
            json_string_value(json_object_get(row, "op")),
            (long long)json_integer_value(json_object_get(row, "size")),
            (long long)json_integer_value(json_object_get(row, "in_flight")),
            json_real_value(json_object_get(row, "ours")),
            json_real_value(json_object_get(row, "plain")),
            json_real_value(json_object_get(row, "ratio")),
            json_real_value(json_object_get(row, "ours_cpu_us")),
            json_real_value(json_object_get(row, "plain_cpu_us")));
}

static void *make_bytes(size_t len)
{
    uint32_t *words = bench_alloc(len);
    uint32_t x = 2463534242u;
    for (size_t i = 0; i < len / sizeof *words; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        words[i] = x;
    }
    return words;
}

static bool take_option(int argc, char **argv, int *i, struct bench *b)
{
    const char *name = argv[*i], *value = *i + 1 < argc ? argv[*i + 1] : NULL;
    if (strcmp(name, "--json") == 0) {
        return b->json = true;
    }
    if (strcmp(name, "--quick") == 0) {
        b->rounds = 1;
        return b->quick = true;
    }
    if (value == NULL) {
        return false;
    }
    ++*i;
    if (strcmp(name, "--op") == 0) {
        b->only_op = value;
        return strcmp(value, "get") == 0 || strcmp(value, "put") == 0;
    }
    long number = atol(value);
    if (strcmp(name, "--size") == 0) {
        b->only_size = (size_t)number;
    } else if (strcmp(name, "--in-flight") == 0) {
        b->only_in_flight = (unsigned)number;
    } else if (strcmp(name, "--rounds") == 0) {
        b->rounds = (unsigned)number;
    } else {
        return false;
    }
    return number > 0;
}

static bool is_wanted(const struct bench *b, const struct row *row)
{
    return (b->only_op == NULL || row->put == (strcmp(b->only_op, "put") == 0)) &&
           (b->only_size == 0 || row->size == b->only_size) &&
           (b->only_in_flight == 0 || row->in_flight == b->only_in_flight);
}

int main(int argc, char **argv)
{
    struct bench b = {.rounds =
                          15}; /* short ones: what disturbs one seldom disturbs most of them */
    for (int i = 1; i < argc; i++) {
        if (!take_option(argc, argv, &i, &b)) {
            fprintf(stderr, "usage: bench_s3client [--json] [--rounds N] [--op get|put] [--size "
                            "BYTES] [--in-flight N] [--quick]\n");
            return 2;
        }
    }
    b.place = s3_place_read();
    b.bytes = make_bytes((size_t)64 << 20);
    b.ours = s3_ours_open(&b.place);
    b.plain = s3_plain_open(&b.place);
    json_t *list = json_array();
    fprintf(stderr, "%-4s %9s %10s %12s %12s %8s %10s %10s\n", "op", "size", "in_flight", "ours /s",
            "plain /s", "ratio", "cpu us", "plain's");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!is_wanted(&b, &rows[i])) {
            continue;
        }
        json_t *row = measure(&b, &rows[i]);
        print_row(row);
        json_array_append_new(list, row);
    }
    json_t *latency = b.place.ca == NULL ? measure_latency(&b) : NULL;
    if (latency != NULL) {
        fprintf(stderr,
                "with %u ms of latency: %.1f/s one at a time, %.1f/s 16 in flight: x %.2f\n",
                DELAY_MS, json_real_value(json_object_get(latency, "one_in_flight")),
                json_real_value(json_object_get(latency, "ours")),
                json_real_value(json_object_get(latency, "speedup")));
    }
    if (b.json) {
        json_t *all =
            json_pack("{s:s, s:b, s:i, s:o, s:o*}", "bench", "s3client", "tls", b.place.ca != NULL,
                      "rounds", (int)b.rounds, "rows", list, "latency", latency);
        json_dumpf(all, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12));
        putchar('\n');
    }
    s3_plain_close(b.plain);
    s3_ours_close(b.ours);
    return fflush(stdout) == 0 ? 0 : 1;
}
