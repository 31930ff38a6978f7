/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the first inputs of the fuzz corpora: one well-formed example of everything, and a few that are wrong in
 * one place. What fuzzing adds to a corpus lies beside them under its hash.
 *
 *     seed_corpus FOLDER        writes FOLDER/<target>/<name>
 */
#include <stdio.h>

#include "base/fs.h"
#include "changeset/keys.h"
#include "fuzz/seed.h"
#include "tests/unit/changeset/sample.h"

static const char *root;

void seed_put(const char *target, const char *name, struct hadb_slice data)
{
    char folder[HADB_PATH_BYTES_MAX];
    char path[HADB_PATH_BYTES_MAX];
    struct hadb_fs fs = hadb_fs_host();
    HADB_ASSERT(hadb_path_join(folder, root, target, NULL) == 0);
    HADB_ASSERT(hadb_fs_mkdir_all(&fs, folder, NULL) == 0);
    HADB_ASSERT(hadb_path_join(path, folder, name, NULL) == 0);
    HADB_ASSERT(hadb_fs_replace_file(&fs, path, data, NULL) == 0);
}

void seed_put_text(const char *target, const char *name, const char *text)
{
    seed_put(target, name, hadb_slice_str(text));
}

static void seed_objects(void)
{
    for (int k = 1; k <= HADB_ENTRY_NAME; k++) {
        enum hadb_entry_kind kind = (enum hadb_entry_kind)k;
        char name[64];
        for (int level = 0; level <= 1; level++) {
            struct hadb_buf object = {0};
            struct hadb_hash hash;
            snprintf(name, sizeof(name), "%s-%d", hadb_entry_kind_name(kind), level);
            sample_object(kind, level, &object, &hash);
            seed_put("entry", name, hadb_buf_slice(&object));
            seed_put("inspect", name, hadb_buf_slice(&object));
            hadb_buf_deinit(&object);
        }
        struct hadb_buf payload = {0};
        sample_payload(kind, &payload);
        const char *target = kind == HADB_ENTRY_DATA       ? "txn"
                             : kind == HADB_ENTRY_SNAPSHOT ? "snapshot_items"
                             : kind == HADB_ENTRY_MANIFEST ? "manifest"
                                                           : "seal";
        seed_put(target, hadb_entry_kind_name(kind), hadb_buf_slice(&payload));
        hadb_buf_deinit(&payload);
    }
}

static void seed_blobs(void)
{
    struct hadb_entry entry = sample_entry(HADB_ENTRY_DATA);
    struct hadb_buf payload = {0};
    struct hadb_framed framed;
    sample_noise(11, HADB_ENTRY_INLINE_BYTES_MAX + 1, &payload);
    HADB_ASSERT(hadb_entry_frame(&entry, hadb_buf_slice(&payload), 0, &framed, NULL) == 0);
    seed_put("entry", "data-blob", hadb_buf_slice(&framed.entry));
    hadb_framed_deinit(&framed);
    /* fuzz_blob: raw length 3 bytes, place of the cut 1 byte, frame. */
    payload.len = 3000;
    memset(payload.data + 100, 'x', 2900);
    HADB_ASSERT(hadb_entry_frame(&entry, hadb_buf_slice(&payload), 1, &framed, NULL) == 0);
    struct hadb_buf input = {0};
    const uint8_t head[] = {3000 & 0xff, 3000 >> 8, 0, 60};
    HADB_ASSERT(hadb_buf_append(&input, head, sizeof(head)) == 0);
    HADB_ASSERT(hadb_buf_append(&input, framed.entry.data + HADB_ENTRY_HEADER_BYTES,
                                framed.entry.len - HADB_ENTRY_HEADER_BYTES) == 0);
    seed_put("blob", "frame", hadb_buf_slice(&input));
    input.data[2] = 1; /* another raw length than the frame's */
    seed_put("blob", "wrong-length", hadb_buf_slice(&input));
    hadb_framed_deinit(&framed);
    hadb_buf_deinit(&input);
    hadb_buf_deinit(&payload);
}

static void seed_manifests(void)
{
    struct hadb_manifest empty = {.version = 1};
    struct hadb_buf bytes = {0};
    HADB_ASSERT(hadb_manifest_encode(&empty, &bytes, NULL) == 0);
    seed_put("manifest", "empty", hadb_buf_slice(&bytes));
    const uint8_t critical[] = {1, 0, 0, 0x80, 1, 0, 0, 0, 'x'};
    HADB_ASSERT(hadb_buf_append(&bytes, critical, sizeof(critical)) == 0);
    seed_put("manifest", "critical", hadb_buf_slice(&bytes));
    hadb_buf_deinit(&bytes);
}

static void seed_keys(void)
{
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_id db = sample_id(0x10);
    struct hadb_id nonce = sample_id(0x80);
    hadb_key_meta(&db, key);
    seed_put_text("key", "meta", key);
    hadb_key_manifest(&db, key);
    seed_put_text("key", "manifest", key);
    hadb_key_log(&db, 3, 42, key);
    seed_put_text("key", "log", key);
    hadb_key_snapshot_part(&db, 42, &nonce, 1, key);
    seed_put_text("key", "snapshot", key);
    hadb_key_blob(&db, &nonce, 7, key);
    seed_put_text("key", "blob", key);
    hadb_snapshot_name(42, &nonce, key);
    seed_put_text("key", "snapshot-name", key);
    seed_put_text("key", "name", "names/orders");
    seed_put_text("key", "probe", "probe/minio-1");
}

static void seed_urls(void)
{
    static const char *const urls[] = {
        "mem:",
        "mem:name?latency_ms=5",
        "file:///var/lib/hadb?fsync=1",
        "s3://bucket/prefix?region=eu-central-1&endpoint=http%3A%2F%2F127.0.0.1%3A9000",
        "http://user:secret@[::1]:8080/a%20b/c?x=&y",
        "etcd://10.0.0.1:2379,10.0.0.2:2379/prefix",
        "file://%zz?a=1&a=2&",
    };
    for (size_t i = 0; i < HADB_LEN(urls); i++) {
        char name[16];
        snprintf(name, sizeof(name), "url-%zu", i);
        seed_put_text("url", name, urls[i]);
    }
}

/* Bytes for the four choices of fuzz_round_trip, each at two compression levels. */
static void seed_round_trips(void)
{
    for (uint8_t what = 0; what < 4; what++) {
        for (uint8_t level = 0; level < 2; level++) {
            struct hadb_buf input = {0};
            char name[16];
            const uint8_t head[] = {what, level};
            HADB_ASSERT(hadb_buf_append(&input, head, sizeof(head)) == 0);
            sample_noise(what + 10u * level, 400, &input);
            for (size_t i = 80; i < input.len; i += 3) {
                input.data[i] %= 16; /* short lengths */
            }
            snprintf(name, sizeof(name), "choice-%u-%u", what, level);
            seed_put("round_trip", name, hadb_buf_slice(&input));
            hadb_buf_deinit(&input);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    root = argv[1];
    seed_objects();
    seed_blobs();
    seed_manifests();
    seed_keys();
    seed_urls();
    seed_round_trips();
    seed_above();
    seed_disk();
    return 0;
}
