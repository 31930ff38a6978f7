/* SPDX-License-Identifier: Apache-2.0 */
/* Our side of the benchmark s3client: blocking methods for one request at a time, submit and drive for more. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/s3_load.h"
#include "bench/stats.h"
#include "hadb/hadb.h"

struct lane {
    struct hadb_storage_io io;
    struct hadb_buf got;
    char key[128];
    struct s3_ours *ours;
};

struct s3_ours {
    struct hadb_storage storage;
    const struct s3_load *load; /* of the run */
    unsigned begun, done;
    struct lane lanes[S3_IN_FLIGHT_MAX];
};

static void must(int r, const struct hadb_error *err)
{
    if (r != 0) {
        bench_die("ours: %d %s", r, err->message);
    }
}

struct s3_ours *s3_ours_open(const struct s3_place *place)
{
    struct s3_ours *ours = bench_alloc(sizeof *ours);
    struct hadb_error err = {0};
    struct hadb_object_meta meta;
    must(hadb_storage_open(place->url, NULL, &ours->storage, &err), &err);
    int r =
        hadb_storage_head(&ours->storage, NULL, "none", &meta, &err); /* credentials are there */
    must(r == HADB_ABSENT ? 0 : r, &err);
    return ours;
}

void s3_ours_close(struct s3_ours *ours)
{
    hadb_storage_close(&ours->storage);
    for (size_t i = 0; i < S3_IN_FLIGHT_MAX; i++) {
        hadb_buf_deinit(&ours->lanes[i].got);
    }
    free(ours);
}

static void name(const struct s3_load *load, unsigned number, char *out, size_t cap)
{
    snprintf(out, cap, "%s-%u", load->names, load->put ? number : number % S3_OBJECTS);
}

static void check(const struct s3_load *load, const struct lane *lane, int r,
                  const struct hadb_error *err)
{
    must(r, err);
    if (!load->put && lane->got.len != load->size) {
        bench_die("ours: %zu bytes in place of %zu", lane->got.len, load->size);
    }
}

static void run_one_by_one(struct s3_ours *ours, const struct s3_load *load)
{
    struct lane *lane = &ours->lanes[0];
    struct hadb_slice body = {.data = load->bytes, .len = load->size};
    for (unsigned i = 0; i < load->count; i++) {
        struct hadb_error err = {0};
        struct hadb_tag tag;
        name(load, i, lane->key, sizeof lane->key);
        lane->got.len = 0; /* empty: it lends its memory */
        int r = load->put
                    ? hadb_storage_create(&ours->storage, NULL, lane->key, body, &tag, &err)
                    : hadb_storage_get(&ours->storage, NULL, lane->key, &lane->got, &tag, &err);
        check(load, lane, r, &err);
    }
}

static void next(struct lane *lane);

static void on_done(struct hadb_storage_io *io)
{
    struct lane *lane = io->arg;
    check(lane->ours->load, lane, io->result, &io->err);
    lane->ours->done++;
    next(lane);
}

static void next(struct lane *lane)
{
    struct s3_ours *ours = lane->ours;
    const struct s3_load *load = ours->load;
    struct hadb_error err = {0};
    if (ours->begun == load->count) {
        return;
    }
    name(load, ours->begun++, lane->key, sizeof lane->key);
    lane->got.len = 0;
    lane->io = (struct hadb_storage_io){.type = load->put ? HADB_IO_CREATE : HADB_IO_GET,
                                        .key = lane->key,
                                        .body = {.data = load->bytes, .len = load->size},
                                        .out = &lane->got,
                                        .done = on_done,
                                        .arg = lane};
    must(hadb_storage_submit(&ours->storage, &lane->io, &err), &err);
}

static void run_many(struct s3_ours *ours, const struct s3_load *load)
{
    struct pollfd fd = {.fd = hadb_storage_fd(&ours->storage), .events = POLLIN};
    ours->load = load;
    ours->begun = ours->done = 0;
    for (unsigned i = 0; i < load->in_flight; i++) {
        ours->lanes[i].ours = ours;
        next(&ours->lanes[i]);
    }
    while (ours->done < load->count) {
        poll(&fd, 1, 1000);
        hadb_storage_drive(&ours->storage);
    }
}

uint64_t s3_ours_run_ns(struct s3_ours *ours, const struct s3_load *load)
{
    uint64_t start = bench_now_ns();
    if (load->in_flight == 1) {
        run_one_by_one(ours, load);
    } else {
        run_many(ours, load);
    }
    return bench_now_ns() - start;
}

void s3_ours_clean(struct s3_ours *ours, const struct s3_load *load)
{
    struct hadb_error err = {0};
    for (unsigned i = 0; i < load->count; i++) {
        char key[128];
        const char *keys[] = {key};
        name(load, i, key, sizeof key);
        must(hadb_storage_delete_many(&ours->storage, NULL, keys, 1, &err), &err);
    }
}
