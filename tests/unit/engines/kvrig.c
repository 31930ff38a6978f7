/* SPDX-License-Identifier: Apache-2.0 */
/* See kvrig.h. One thread. */
#include "tests/unit/engines/kvrig.h"

#include <stdio.h>
#include <string.h>

static void count_line(void *arg, enum hadb_log_level level, const char *component,
                       const char *database, const char *text)
{
    (void)component;
    (void)database;
    (void)text;
    struct kvrig *rig = arg;
    rig->warnings += level <= HADB_LOG_WARN;
}

void kvrig_init(struct kvrig *rig, uint64_t seed)
{
    *rig = (struct kvrig){.memfs = test_memfs_new(seed)};
    rig->fault.inner = test_memfs_fs(rig->memfs);
    rig->env = *hadb_env_host();
    rig->env.fs = test_faultfs(&rig->fault);
    rig->env.log = count_line;
    rig->env.arg = rig;
}

void kvrig_deinit(struct kvrig *rig)
{
    kvrig_close(rig);
    test_memfs_free(rig->memfs);
}

int kvrig_open(struct kvrig *rig, struct hadb_error *err)
{
    return hadb_engine_open("kv", KVRIG_FOLDER, &rig->options, &rig->env, &rig->engine, err);
}

void kvrig_must_open(struct kvrig *rig)
{
    struct hadb_error err = {0};
    int r = kvrig_open(rig, &err);
    if (r != 0) {
        fail_msg("open: %d %s", r, err.message);
    }
}

void kvrig_close(struct kvrig *rig)
{
    hadb_engine_close(&rig->engine);
}

struct picture kvrig_picture(struct kvrig *rig)
{
    struct picture out = {0};
    struct hadb_error err = {0};
    int r = hadb_engine_digest(&rig->engine, NULL, hadb_slice(NULL, 0), &out.digest, &err);
    if (r != 0) {
        fail_msg("digest: %d %s", r, err.message);
    }
    struct hadb_engine_position position;
    hadb_engine_position(&rig->engine, &position);
    struct hadb_engine_stats stats;
    hadb_engine_stats(&rig->engine, &stats);
    out.mark = position.mark;
    out.last_txid = position.last_txid;
    out.keys = stats.keys;
    return out;
}

bool kvrig_picture_eq(const struct picture *a, const struct picture *b)
{
    return memcmp(&a->digest, &b->digest, sizeof(a->digest)) == 0 &&
           memcmp(&a->mark, &b->mark, sizeof(a->mark)) == 0 && a->last_txid == b->last_txid &&
           a->keys == b->keys;
}

static int apply(struct kvrig *rig, const struct hadb_op *ops, size_t len, size_t txns,
                 const struct hadb_pos *mark, struct hadb_error *err)
{
    struct hadb_engine_position position;
    hadb_engine_position(&rig->engine, &position);
    struct hadb_buf bytes = {0};
    for (size_t i = 1; i <= txns; i++) {
        int r = hadb_txn_encode(2, position.last_txid + i, 0, ops, len, &bytes, NULL);
        assert_int_equal(r, 0);
    }
    int r = hadb_engine_apply(&rig->engine, hadb_buf_slice(&bytes), mark, err);
    hadb_buf_deinit(&bytes);
    return r;
}

int kvrig_put(struct kvrig *rig, const char *key, const char *value, struct hadb_error *err)
{
    const struct hadb_op op = {
        .type = HADB_OP_PUT, .key = hadb_slice_str(key), .value = hadb_slice_str(value)};
    return apply(rig, &op, 1, 1, NULL, err);
}

static int ingest(struct kvrig *rig, struct hadb_error *err)
{
    const struct hadb_item items[] = {
        {.key = hadb_slice_str("i1"), .value = hadb_slice_str("one"), .version = {1, 4}},
        {.key = hadb_slice_str("i2"), .value = hadb_slice_str(""), .version = {1, 5}},
    };
    return hadb_engine_ingest(&rig->engine, items, HADB_LEN(items), err);
}

int kvrig_step(struct kvrig *rig, unsigned number, struct hadb_error *err)
{
    struct hadb_engine_position position;
    hadb_engine_position(&rig->engine, &position);
    struct hadb_pos mark = {.term = 2, .slot = position.mark.slot + 1, .txid = position.last_txid};
    memset(mark.hash.b, (int)number, sizeof(mark.hash.b));
    if (number == 0) {
        return ingest(rig, err);
    }
    if (number == 1) {
        mark.txid = 5;
        return hadb_engine_mark(&rig->engine, &mark, err);
    }
    char keys[3][8], value[40];
    for (unsigned i = 0; i < 3; i++) {
        snprintf(keys[i], sizeof(keys[i]), "k%u", (number * (i + 3)) % 11);
    }
    snprintf(value, sizeof(value), "value-%u-%.*s", number, (int)(number % 17),
             "abcdefghijklmnopq");
    const struct hadb_op ops[] = {
        {.type = HADB_OP_PUT, .key = hadb_slice_str(keys[0]), .value = hadb_slice_str(value)},
        {.type = HADB_OP_DELETE, .key = hadb_slice_str(keys[1])},
        {.type = HADB_OP_PUT, .key = hadb_slice_str(keys[2]), .value = hadb_slice_str("v")},
    };
    switch (number % 6) {
    case 3:
        return hadb_engine_mark(&rig->engine, &mark, err);
    case 4:
        mark.txid++;
        return apply(rig, ops, 3, 2, &mark, err); /* the second one stays in the tail */
    case 0:
        return hadb_engine_rewind(&rig->engine, err);
    default:
        return apply(rig, ops, 3, 1 + number % 3, NULL, err);
    }
}

void kvrig_read(struct kvrig *rig, const char *path, struct hadb_buf *out)
{
    assert_int_equal(hadb_fs_read_file(&rig->fault.inner, path, 1u << 30, out, NULL), 0);
}

void kvrig_write(struct kvrig *rig, const char *path, struct hadb_slice bytes)
{
    const struct hadb_fs *fs = &rig->fault.inner;
    struct hadb_fs_file *file = NULL;
    unsigned flags = HADB_FS_WRITE | HADB_FS_CREATE | HADB_FS_TRUNC;
    assert_int_equal(hadb_fs_open(fs, path, flags, &file, NULL), 0);
    assert_int_equal(hadb_fs_write_at(fs, file, 0, bytes.data, bytes.len, NULL), 0);
    assert_int_equal(hadb_fs_sync(fs, file, NULL), 0);
    hadb_fs_close(fs, file);
    assert_int_equal(hadb_fs_sync_dir(fs, KVRIG_FOLDER, NULL), 0);
}
