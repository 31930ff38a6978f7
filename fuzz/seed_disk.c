/* SPDX-License-Identifier: Apache-2.0 */
/* First inputs for what lies in a node's folders: written by the code itself on a file system in memory. One thread;
 * aborts on failure. */
#include "base/env.h"
#include "base/fs.h"
#include "fuzz/seed.h"
#include "hadb/engine.h"
#include "hadb/lease.h"
#include "node/terms.h"
#include "tests/support/memfs.h"
#include "tests/unit/changeset/sample.h"

static void read_file(const struct hadb_env *env, const char *path, struct hadb_buf *out)
{
    HADB_ASSERT(hadb_fs_read_file(&env->fs, path, 1u << 20, out, NULL) == 0);
}

static void seed_terms(void)
{
    struct hadb_terms terms = {.db = sample_id(1)};
    struct hadb_buf bytes = {0};
    HADB_ASSERT(hadb_terms_encode(&terms, &bytes, NULL) == 0);
    seed_put("terms", "none", hadb_buf_slice(&bytes));
    hadb_buf_clear(&bytes);
    for (uint64_t i = 0; i < 3; i++) {
        struct hadb_term term = {.term = i, .last_slot = 10 * i + 1, .last_txid = 20 * i};
        HADB_ASSERT(hadb_terms_add(&terms, &term, "node-1", "127.0.0.1:4281", NULL) == 0);
    }
    HADB_ASSERT(hadb_terms_encode(&terms, &bytes, NULL) == 0);
    seed_put("terms", "three", hadb_buf_slice(&bytes));
    hadb_buf_deinit(&bytes);
    hadb_terms_deinit(&terms);
}

static void seed_lease(const struct hadb_env *env)
{
    struct hadb_lease lease = {0};
    struct hadb_tag tag = {0};
    struct hadb_buf bytes = {0};
    struct hadb_call call = hadb_call_within(env, 60000);
    HADB_ASSERT(hadb_lease_open("file:///l", env, &lease, NULL) == 0);
    struct hadb_slice record = hadb_slice_str("a record");
    HADB_ASSERT(hadb_lease_write_if_match(&lease, &call, "k", record, NULL, &tag, NULL) == 0);
    read_file(env, "/l/k", &bytes);
    seed_put("lease_file", "record", hadb_buf_slice(&bytes));
    hadb_buf_deinit(&bytes);
    hadb_lease_close(&lease);
}

static void apply(const struct hadb_engine *engine, const struct hadb_op *ops, size_t len,
                  const struct hadb_pos *mark)
{
    struct hadb_engine_position at;
    struct hadb_buf bytes = {0};
    hadb_engine_position(engine, &at);
    HADB_ASSERT(hadb_txn_encode(2, at.last_txid + 1, 5, ops, len, &bytes, NULL) == 0);
    HADB_ASSERT(hadb_engine_apply(engine, hadb_buf_slice(&bytes), mark, NULL) == 0);
    hadb_buf_deinit(&bytes);
}

/* An ingest, its mark, puts and deletes, a mark with a write, a tail, a rewind. */
static void history(const struct hadb_engine *engine)
{
    const struct hadb_item items[] = {
        {.key = hadb_slice_str("i1"), .value = hadb_slice_str("one"), .version = {1, 4}},
        {.key = hadb_slice_str("i2"), .value = hadb_slice_str(""), .version = {1, 5}}};
    const struct hadb_op ops[] = {
        {.type = HADB_OP_PUT, .key = hadb_slice_str("k"), .value = hadb_slice_str("value")},
        {.type = HADB_OP_DELETE, .key = hadb_slice_str("i1")}};
    struct hadb_pos mark = {.term = 1, .slot = 3, .txid = 5};
    HADB_ASSERT(hadb_engine_ingest(engine, items, HADB_LEN(items), NULL) == 0);
    HADB_ASSERT(hadb_engine_mark(engine, &mark, NULL) == 0);
    apply(engine, ops, 2, NULL);
    mark = (struct hadb_pos){.term = 2, .slot = 4, .txid = 7};
    apply(engine, ops, 1, &mark);
    apply(engine, ops, 2, NULL);
    HADB_ASSERT(hadb_engine_rewind(engine, NULL) == 0);
    apply(engine, ops, 1, NULL);
}

/* See fuzz_kv_log.c: what to put right, where the second segment starts. */
static void put_log(const char *name, uint8_t how, size_t cut, struct hadb_slice log)
{
    struct hadb_buf input = {0};
    const uint8_t head[] = {how, (uint8_t)cut, (uint8_t)(cut >> 8)};
    HADB_ASSERT(hadb_buf_append(&input, head, sizeof(head)) == 0);
    HADB_ASSERT(hadb_buf_append(&input, log.data, log.len) == 0);
    seed_put("kv_log", name, hadb_buf_slice(&input));
    hadb_buf_deinit(&input);
}

static void seed_kv_log(const struct hadb_env *env)
{
    static const char *const paths[] = {"/db/seg-0000000000000001.kv",
                                        "/db/seg-0000000000000002.kv"};
    struct hadb_engine engine = {0};
    struct hadb_engine_options options = {0};
    struct hadb_buf one = {0}, two = {0};
    HADB_ASSERT(hadb_fs_mkdir(&env->fs, "/db", NULL) == 0);
    HADB_ASSERT(hadb_engine_open("kv", "/db", &options, env, &engine, NULL) == 0);
    history(&engine);
    read_file(env, paths[0], &one);
    put_log("open", 0, 0, hadb_buf_slice(&one));
    put_log("torn", 0, 0, hadb_slice(one.data, one.len - 9));
    put_log("open-sealed", 1, 0, hadb_buf_slice(&one));
    hadb_engine_close(&engine);
    read_file(env, paths[0], &one);
    put_log("closed", 0, 0, hadb_buf_slice(&one));
    options.segment_bytes_max =
        1; /* as small as the engine lets it be: the next write goes to a new one */
    HADB_ASSERT(hadb_engine_open("kv", "/db", &options, env, &engine, NULL) == 0);
    const struct hadb_op op = {
        .type = HADB_OP_PUT, .key = hadb_slice_str("n"), .value = hadb_slice_str("new")};
    apply(&engine, &op, 1, NULL);
    hadb_engine_close(&engine);
    read_file(env, paths[0], &one);
    read_file(env, paths[1], &two);
    size_t cut = one.len;
    HADB_ASSERT(hadb_buf_append(&one, two.data, two.len) == 0);
    put_log("two", 2, cut, hadb_buf_slice(&one));
    put_log("two-sealed", 3, cut, hadb_buf_slice(&one));
    hadb_buf_deinit(&one);
    hadb_buf_deinit(&two);
}

void seed_disk(void)
{
    static const char folder[] = "01890a5d-ac96-774b-bcce-b302099a8057\n\0app=kv\n";
    static const char bare[] = "01890A5D-AC96-774B-BCCE-B302099A8057\0a=\n";
    struct test_memfs *memfs = test_memfs_new(1);
    struct hadb_env env = *hadb_env_host();
    env.fs = test_memfs_fs(memfs);
    seed_put("folder", "whole", hadb_slice(folder, sizeof(folder) - 1));
    seed_put("folder", "bare", hadb_slice(bare, sizeof(bare) - 1));
    seed_terms();
    seed_lease(&env);
    seed_kv_log(&env);
    test_memfs_free(memfs);
}
