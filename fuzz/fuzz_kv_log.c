/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as the segments of a kv database, opened through a file system in memory. The first byte says whether
 * checksums and positions are put right (else nearly all inputs fail at the first one) and whether there are
 * two segments; the next two bytes where they meet.
 *
 * What opens must be the same picture read-only, for writing, and when it is opened again; takes a write; and is
 * never cut twice. What is refused is left as it was. Memory is bounded by what lies there.
 */
#include "base/env.h"
#include "base/fs.h"
#include "base/hash.h"
#include "engines/kv/format_private.h"
#include "fuzz/input.h"
#include "fuzz/memory.h"
#include "tests/support/memfs.h"

#define FOLDER "/db"
#define LEN_MAX (64u << 10)
#define WINDOW_BYTES (1u << 20)

static const char *const paths[] = {FOLDER "/seg-0000000000000001.kv",
                                    FOLDER "/seg-0000000000000002.kv"};

struct picture {
    int r;
    struct hadb_hash digest;
    struct hadb_engine_position position;
    uint64_t keys, cut_bytes;
};

static void quiet(void *arg, enum hadb_log_level level, const char *component, const char *database,
                  const char *text)
{
    (void)arg;
    (void)level;
    (void)component;
    (void)database;
    HADB_ASSERT(strchr(text, '\n') == NULL);
}

/* Checksums, positions and the base of a segment as they would be; everything else as it came. */
static void reseal(uint8_t *segment, size_t len, uint64_t base)
{
    if (len < HADB__KV_SEGMENT_HEADER_BYTES) {
        return;
    }
    struct hadb_id db;
    memcpy(db.b, segment + HADB__KV_SEGMENT_DB, sizeof(db.b));
    hadb_put_u64(segment + HADB__KV_SEGMENT_BASE, base);
    hadb_put_u32(segment + HADB__KV_SEGMENT_CRC, hadb_crc32c(0, segment, HADB__KV_SEGMENT_CRC));
    size_t at = HADB__KV_SEGMENT_HEADER_BYTES;
    while (len - at >= HADB__KV_RECORD_HEADER_BYTES) {
        uint64_t bytes = hadb__kv_record_bytes(hadb_get_u32(segment + at + HADB__KV_RECORD_LEN));
        if (bytes > len - at) {
            return;
        }
        hadb_put_u64(segment + at + HADB__KV_RECORD_POSITION, base + at);
        hadb_put_u32(segment + at,
                     hadb_crc32c(hadb__kv_seed(&db), segment + at + 4, (size_t)bytes - 4));
        at += (size_t)bytes;
    }
}

static void write_file(const struct hadb_fs *fs, const char *path, struct hadb_slice bytes)
{
    struct hadb_fs_file *file = NULL;
    HADB_ASSERT(hadb_fs_open(fs, path, HADB_FS_WRITE | HADB_FS_CREATE, &file, NULL) == 0);
    HADB_ASSERT(hadb_fs_write_at(fs, file, 0, bytes.data, bytes.len, NULL) == 0);
    HADB_ASSERT(hadb_fs_sync(fs, file, NULL) == 0);
    hadb_fs_close(fs, file);
}

static void expect_file(const struct hadb_fs *fs, const char *path, struct hadb_slice bytes)
{
    struct hadb_buf now = {0};
    HADB_ASSERT(hadb_fs_read_file(fs, path, LEN_MAX, &now, NULL) == 0);
    HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(&now), bytes));
    hadb_buf_deinit(&now);
}

static struct picture look(const struct hadb_engine *engine)
{
    struct picture out = {0};
    struct hadb_engine_stats stats;
    HADB_ASSERT(hadb_engine_digest(engine, NULL, hadb_slice(NULL, 0), &out.digest, NULL) == 0);
    hadb_engine_position(engine, &out.position);
    hadb_engine_stats(engine, &stats);
    HADB_ASSERT(out.position.last_txid >= out.position.mark.txid);
    HADB_ASSERT((stats.cut_bytes > 0) == (stats.recovery[0] != '\0'));
    out.keys = stats.keys;
    out.cut_bytes = stats.cut_bytes;
    return out;
}

static bool same(const struct picture *a, const struct picture *b)
{
    return hadb_hash_eq(&a->digest, &b->digest) && a->keys == b->keys &&
           hadb_hash_eq(&a->position.mark.hash, &b->position.mark.hash) &&
           a->position.mark.txid == b->position.mark.txid &&
           a->position.mark.slot == b->position.mark.slot &&
           a->position.mark.term == b->position.mark.term &&
           a->position.last_txid == b->position.last_txid &&
           a->position.last_term == b->position.last_term;
}

static struct picture open_it(const struct hadb_env *env, bool read_only,
                              struct hadb_engine *engine)
{
    struct hadb_engine_options options = {.read_only = read_only};
    struct hadb_error err = {0};
    int r = hadb_engine_open("kv", FOLDER, &options, env, engine, &err);
    if (r != 0) {
        HADB_ASSERT(r == HADB_ECORRUPT || r == HADB_EVERSION);
        HADB_ASSERT(err.code == r && strstr(err.message, "seg-") != NULL);
        return (struct picture){.r = r};
    }
    return look(engine);
}

/* The tail can be read back and taken back, and the database takes a write and keeps it. */
static void use(const struct hadb_env *env, struct hadb_engine *engine, const struct picture *found)
{
    const struct hadb_engine_position *at = &found->position;
    const struct hadb_op op = {.type = HADB_OP_PUT, .key = hadb_slice_str("fuzz")};
    struct hadb_buf bytes = {0};
    int r = hadb_engine_tail(engine, at->mark.txid, 1u << 20, &bytes, NULL);
    HADB_ASSERT(r == (at->last_txid == at->mark.txid ? HADB_END : 0));
    hadb_buf_clear(&bytes);
    r = at->last_txid == UINT64_MAX
            ? HADB_END
            : hadb_txn_encode(at->last_term, at->last_txid + 1, 0, &op, 1, &bytes, NULL);
    HADB_ASSERT(r == 0 || r == HADB_END);
    if (r == 0) {
        HADB_ASSERT(hadb_engine_apply(engine, hadb_buf_slice(&bytes), NULL, NULL) == 0);
    }
    hadb_buf_deinit(&bytes);
    struct picture before = look(engine);
    hadb_engine_close(engine);
    struct picture after = open_it(env, false, engine);
    HADB_ASSERT(after.r == 0 && after.cut_bytes == 0 && same(&before, &after));
    HADB_ASSERT(hadb_engine_rewind(engine, NULL) == 0);
    struct picture undone = look(engine);
    HADB_ASSERT(undone.position.last_txid == at->mark.txid);
}

static void run(const struct hadb_env *env, const struct hadb_slice segments[2])
{
    struct hadb_engine engine = {0};
    size_t len = segments[1].data ? 2 : 1;
    HADB_ASSERT(hadb_fs_mkdir(&env->fs, FOLDER, NULL) == 0);
    for (size_t i = 0; i < len; i++) {
        write_file(&env->fs, paths[i], segments[i]);
    }
    struct picture read_only = open_it(env, true, &engine);
    hadb_engine_close(&engine);
    for (size_t i = 0; i < len; i++) {
        expect_file(&env->fs, paths[i], segments[i]);
    }
    struct picture found = open_it(env, false, &engine);
    HADB_ASSERT(found.r == read_only.r);
    if (found.r != 0) {
        for (size_t i = 0; i < len; i++) {
            expect_file(&env->fs, paths[i], segments[i]);
        }
        return;
    }
    HADB_ASSERT(same(&read_only, &found) && found.cut_bytes == read_only.cut_bytes);
    use(env, &engine, &found);
    hadb_engine_close(&engine);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in = {.at = data, .left = HADB_MIN(len, LEN_MAX)};
    uint8_t how = fuzz_u8(&in);
    size_t cut = (size_t)fuzz_u8(&in) | (size_t)fuzz_u8(&in) << 8;
    struct hadb_slice segments[2] = {hadb_slice(in.at, in.left)};
    uint8_t *copy = malloc(in.left + 1);
    HADB_ASSERT(copy != NULL);
    memcpy(copy, in.at, in.left);
    cut = how & 2 ? HADB_MIN(cut, in.left) : in.left;
    if (how & 1) {
        reseal(copy, cut, 0);
        reseal(copy + cut, in.left - cut, cut);
    }
    segments[0] = hadb_slice(copy, cut);
    segments[1] = how & 2 ? hadb_slice(copy + cut, in.left - cut) : hadb_slice(NULL, 0);
    struct test_memfs *memfs = test_memfs_new(1);
    struct hadb_env env = *hadb_env_host();
    env.fs = test_memfs_fs(memfs);
    env.log = quiet;
    fuzz_memory_start();
    run(&env, segments);
    fuzz_memory_end(WINDOW_BYTES, 2 * WINDOW_BYTES + 64 * len);
    test_memfs_free(memfs);
    free(copy);
    return 0;
}
