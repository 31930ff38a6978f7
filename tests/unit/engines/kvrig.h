/* SPDX-License-Identifier: Apache-2.0 */
/* A kv engine on a file system in memory, small histories, and pictures of what it holds. */
#ifndef HADB_TESTS_KVRIG_H
#define HADB_TESTS_KVRIG_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "hadb/engine.h"
#include "tests/support/memfs.h"
#include "tests/support/support.h"

#define KVRIG_FOLDER "/db"
#define KVRIG_SEGMENT_1 "/db/seg-0000000000000001.kv"
#define KVRIG_SEGMENT_2 "/db/seg-0000000000000002.kv"

struct kvrig {
    struct test_memfs *memfs;
    struct test_faultfs fault; /* in front of memfs; counts, fails when told */
    struct hadb_env env;
    struct hadb_engine_options options;
    struct hadb_engine engine;
    unsigned warnings; /* log lines of level warn and error */
};

/* What an engine holds: compared as a whole. */
struct picture {
    struct hadb_hash digest;
    struct hadb_pos mark;
    hadb_txid last_txid;
    uint64_t keys;
};

void kvrig_init(struct kvrig *rig, uint64_t seed);
void kvrig_deinit(struct kvrig *rig);
int kvrig_open(struct kvrig *rig, struct hadb_error *err);
void kvrig_must_open(struct kvrig *rig);
void kvrig_close(struct kvrig *rig);
struct picture kvrig_picture(struct kvrig *rig); /* reads every value */
bool kvrig_picture_eq(const struct picture *a, const struct picture *b);

/* One step of a history; several by their number make one of every kind. Returns the engine's answer. */
#define KVRIG_STEPS 24u
int kvrig_step(struct kvrig *rig, unsigned number, struct hadb_error *err);
int kvrig_put(struct kvrig *rig, const char *key, const char *value, struct hadb_error *err);

/* Whole files, past the engine and the faults. */
void kvrig_read(struct kvrig *rig, const char *path, struct hadb_buf *out);
void kvrig_write(struct kvrig *rig, const char *path, struct hadb_slice bytes);
#endif
