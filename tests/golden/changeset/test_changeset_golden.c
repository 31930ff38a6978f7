/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte vectors of every kind of object, checked in as hex text. A release reads what an earlier one wrote:
 * these files never change, new ones are added.
 *
 *     test_changeset_golden FOLDER           check all
 *     test_changeset_golden --print NAME     print the vector that this build makes
 *
 * Vectors without compression are also made again and compared byte by byte. The output of zstd depends on
 * its version, so data-zstd.hex is only read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/hash.h"
#include "tests/unit/changeset/sample.h"

static const struct vector {
    const char *name;
    enum hadb_entry_kind kind;
    int zstd_level;
    bool blob; /* the reference of an entry with one blob of noise */
} vectors[] = {
    {.name = "data", .kind = HADB_ENTRY_DATA},
    {.name = "data-zstd", .kind = HADB_ENTRY_DATA, .zstd_level = 19},
    {.name = "data-blob", .kind = HADB_ENTRY_DATA, .blob = true},
    {.name = "seal", .kind = HADB_ENTRY_SEAL},
    {.name = "snapshot", .kind = HADB_ENTRY_SNAPSHOT},
    {.name = "meta", .kind = HADB_ENTRY_META},
    {.name = "manifest", .kind = HADB_ENTRY_MANIFEST},
    {.name = "name", .kind = HADB_ENTRY_NAME},
};

static const char *folder;

static void make_blob_framed(struct hadb_framed *framed)
{
    struct hadb_entry entry = sample_entry(HADB_ENTRY_DATA);
    struct hadb_buf noise = {0};
    sample_noise(11, HADB_ENTRY_INLINE_BYTES_MAX + 1, &noise);
    HADB_ASSERT(hadb_entry_frame(&entry, hadb_buf_slice(&noise), 0, framed, NULL) == 0);
    hadb_buf_deinit(&noise);
}

static void make(const struct vector *vector, struct hadb_buf *out)
{
    struct hadb_hash hash;
    if (!vector->blob) {
        sample_object(vector->kind, vector->zstd_level, out, &hash);
        return;
    }
    struct hadb_framed framed;
    make_blob_framed(&framed);
    HADB_ASSERT(hadb_buf_append(out, framed.entry.data, framed.entry.len) == 0);
    hadb_framed_deinit(&framed);
}

static int print(const char *name)
{
    for (size_t i = 0; i < HADB_LEN(vectors); i++) {
        if (strcmp(vectors[i].name, name) != 0) {
            continue;
        }
        struct hadb_buf bytes = {0};
        make(&vectors[i], &bytes);
        printf("# %s, format version %u\n", name, HADB_ENTRY_VERSION);
        for (size_t at = 0; at < bytes.len; at++) {
            printf("%02x%s", bytes.data[at], at % 32 == 31 || at + 1 == bytes.len ? "\n" : "");
        }
        hadb_buf_deinit(&bytes);
        return 0;
    }
    fprintf(stderr, "no vector is named %s\n", name);
    return 2;
}

/* Hex text with # comments to bytes. */
static void load(const char *name, struct hadb_buf *out)
{
    char path[HADB_PATH_BYTES_MAX];
    struct hadb_buf text = {0};
    struct hadb_fs fs = hadb_fs_host();
    snprintf(path, sizeof(path), "%s/%s.hex", folder, name);
    assert_int_equal(hadb_fs_read_file(&fs, path, 1u << 20, &text, NULL), 0);
    char *save = NULL;
    assert_non_null(hadb_buf_cstr(&text));
    for (char *line = strtok_r((char *)text.data, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        size_t len = strlen(line) / 2;
        if (line[0] == '#') {
            continue;
        }
        assert_int_equal(hadb_buf_reserve(out, len), 0);
        assert_true(hadb_hex_decode(line, strlen(line), out->data + out->len, len));
        out->len += len;
    }
    hadb_buf_deinit(&text);
}

static void golden__objects_read_as_they_were_meant(void **state)
{
    (void)state;
    for (size_t i = 0; i < HADB_LEN(vectors); i++) {
        struct hadb_buf bytes = {0};
        struct hadb_buf payload = {0};
        struct hadb_opened opened;
        struct hadb_entry expected = sample_entry(vectors[i].kind);
        load(vectors[i].name, &bytes);
        int r = hadb_entry_open(hadb_buf_slice(&bytes), &opened, NULL);
        if (vectors[i].blob) {
            struct hadb_framed framed;
            make_blob_framed(&framed);
            assert_int_equal(r, HADB_ABSENT);
            assert_int_equal(opened.parts_len, 1);
            assert_int_equal(hadb_entry_attach_blob(&opened, framed.blobs[0], NULL), 0);
            hadb_framed_deinit(&framed);
            expected.flags = HADB_ENTRY_FLAG_BLOB;
        } else {
            assert_int_equal(r, 0);
            sample_payload(vectors[i].kind, &payload);
            assert_true(hadb_slice_eq(hadb_buf_slice(&opened.payload), hadb_buf_slice(&payload)));
        }
        assert_int_equal(opened.entry.kind, expected.kind);
        assert_int_equal(opened.entry.flags, expected.flags);
        assert_true(hadb_id_eq(&opened.entry.db, &expected.db));
        assert_int_equal(opened.entry.term, expected.term);
        assert_int_equal(opened.entry.slot, expected.slot);
        assert_int_equal(opened.entry.first_txid, expected.first_txid);
        assert_int_equal(opened.entry.last_txid, expected.last_txid);
        assert_true(hadb_hash_eq(&opened.entry.prev, &expected.prev));
        assert_true(hadb_id_eq(&opened.entry.incarnation, &expected.incarnation));
        assert_true(hadb_id_eq(&opened.entry.put_id, &expected.put_id));
        assert_int_equal(opened.entry.time_unix_ms, expected.time_unix_ms);
        assert_int_equal(opened.entry.codec,
                         vectors[i].zstd_level != 0 ? HADB_CODEC_ZSTD : HADB_CODEC_NONE);
        hadb_opened_deinit(&opened);
        hadb_buf_deinit(&payload);
        hadb_buf_deinit(&bytes);
    }
}

static void golden__objects_are_made_again_byte_by_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < HADB_LEN(vectors); i++) {
        struct hadb_buf expected = {0};
        struct hadb_buf made = {0};
        if (vectors[i].zstd_level != 0) {
            continue;
        }
        load(vectors[i].name, &expected);
        make(&vectors[i], &made);
        assert_int_equal(made.len, expected.len);
        assert_memory_equal(made.data, expected.data, made.len);
        hadb_buf_deinit(&expected);
        hadb_buf_deinit(&made);
    }
}

/* The chain hash of the golden seal, from outside: sha256sum of its bytes. */
static void golden__seal_has_its_hash(void **state)
{
    (void)state;
    struct hadb_buf bytes = {0};
    struct hadb_entry entry;
    struct hadb_hash hash;
    char hex[2 * sizeof(hash.b) + 1];
    load("seal", &bytes);
    assert_int_equal(hadb_entry_peek(hadb_buf_slice(&bytes), &entry, &hash, NULL), 0);
    hadb_hex_encode(hash.b, sizeof(hash.b), hex);
    assert_string_equal(hex, "ec86410d6aeee5a7b3cc85c9182091738c7eb850a20643913e0d6a23be1a5dab");
    hadb_buf_deinit(&bytes);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--print") == 0) {
        return print(argv[2]);
    }
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER | --print NAME\n", argv[0]);
        return 2;
    }
    folder = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden__objects_read_as_they_were_meant),
        cmocka_unit_test(golden__objects_are_made_again_byte_by_byte),
        cmocka_unit_test(golden__seal_has_its_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
