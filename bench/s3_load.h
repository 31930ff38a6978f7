/* SPDX-License-Identifier: Apache-2.0 */
/* The two sides of the benchmark s3client: our client, and libcurl alone with its own signing. One thread each. */
#ifndef HADB_BENCH_S3_LOAD_H
#define HADB_BENCH_S3_LOAD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define S3_IN_FLIGHT_MAX 16u
#define S3_OBJECTS 16u /* read in turn */

/* Where the server is and who asks; what stands in the URL of the store, in parts. */
struct s3_place {
    const char *url;    /* of the store */
    const char *origin; /* http://127.0.0.1:PORT */
    const char *bucket, *prefix, *region, *key_id, *secret;
    const char *ca; /* NULL = none */
};

/* From what scripts/minio.py puts into the environment. */
struct s3_place s3_place_read(void);

/* @count requests, @in_flight at a time. */
struct s3_load {
    bool put; /* else get */
    size_t size;
    const uint8_t *bytes; /* of @size */
    unsigned count, in_flight;
    const char *names; /* put: unique in front of each name; get: the objects are NAMES-0… */
};

/* Each runs the load and gives the time it took; whatever fails ends the program. */
struct s3_ours;
struct s3_ours *s3_ours_open(const struct s3_place *place);
void s3_ours_close(struct s3_ours *ours);
uint64_t s3_ours_run_ns(struct s3_ours *ours, const struct s3_load *load);
/* Deletes what a put made. */
void s3_ours_clean(struct s3_ours *ours, const struct s3_load *load);

struct s3_plain;
struct s3_plain *s3_plain_open(const struct s3_place *place);
void s3_plain_close(struct s3_plain *plain);
uint64_t s3_plain_run_ns(struct s3_plain *plain, const struct s3_load *load);
#endif
