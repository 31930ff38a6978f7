/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptions of objects. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/fs.h"
#include "hadb/changeset.h"
#include "tests/support/support.h"
#include "tests/unit/changeset/sample.h"

static json_t *describe(struct hadb_slice object)
{
    struct hadb_buf text = {0};
    assert_int_equal(hadb_inspect(object, true, &text, NULL), 0);
    assert_int_equal(text.data[text.len - 1], '\n');
    json_t *json = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    hadb_buf_deinit(&text);
    return json;
}

static json_t *describe_kind(enum hadb_entry_kind kind)
{
    struct hadb_buf object = {0};
    struct hadb_hash hash;
    sample_object(kind, 19, &object, &hash);
    json_t *json = describe(hadb_buf_slice(&object));
    char hex[65];
    hadb_hex_encode(hash.b, sizeof(hash.b), hex);
    assert_string_equal(json_string_value(json_object_get(json, "hash")), hex);
    assert_string_equal(json_string_value(json_object_get(json, "kind")),
                        hadb_entry_kind_name(kind));
    hadb_buf_deinit(&object);
    return json;
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "(no text)";
}

static json_int_t number_of(const json_t *object, const char *name)
{
    assert_true(json_is_integer(json_object_get(object, name)));
    return json_integer_value(json_object_get(object, name));
}

static void inspect__shows_transactions_and_keys_but_no_values(void **state)
{
    (void)state;
    json_t *json = describe_kind(HADB_ENTRY_DATA);
    assert_int_equal(number_of(json, "transactions_len"), 3);
    assert_int_equal(number_of(json, "slot"), 0x2a);
    assert_string_equal(text_of(json, "time"), "2023-11-14T22:13:20.123Z");
    json_t *txns = json_object_get(json, "transactions");
    json_t *first = json_array_get(json_object_get(json_array_get(txns, 0), "ops"), 0);
    json_t *second = json_array_get(json_object_get(json_array_get(txns, 0), "ops"), 1);
    json_t *third = json_array_get(json_object_get(json_array_get(txns, 1), "ops"), 0);
    assert_string_equal(text_of(first, "op"), "put");
    assert_string_equal(text_of(first, "key"), "apple");
    assert_int_equal(number_of(first, "value_bytes"), 3);
    assert_string_equal(text_of(second, "op"), "delete");
    assert_string_equal(text_of(third, "key"), "\\x00\\xff\\x5c");
    char *whole = json_dumps(json, 0);
    assert_null(strstr(whole, "\"red\""));
    free(whole);
    json_decref(json);
}

static void inspect__shows_seal_meta_name_items_and_manifest(void **state)
{
    (void)state;
    json_t *json = describe_kind(HADB_ENTRY_SEAL);
    json_t *seal = json_object_get(json, "seal");
    assert_string_equal(text_of(seal, "reason"), "failover");
    assert_string_equal(text_of(seal, "node"), "node-b");
    assert_string_equal(text_of(seal, "address"), "127.0.0.1:4280");
    json_decref(json);

    json = describe_kind(HADB_ENTRY_META);
    assert_string_equal(text_of(json_object_get(json, "meta"), "database"), "orders");
    assert_int_equal(number_of(json_object_get(json, "meta"), "parent_slot"), 12);
    json_decref(json);

    json = describe_kind(HADB_ENTRY_NAME);
    assert_string_equal(text_of(json, "points_to"), "10111213-1415-1617-1819-1a1b1c1d1e1f");
    json_decref(json);

    json = describe_kind(HADB_ENTRY_SNAPSHOT);
    assert_int_equal(number_of(json, "items_len"), 3);
    assert_int_equal(number_of(json, "part"), 1);
    assert_true(json_is_true(json_object_get(json, "last_part")));
    json_decref(json);

    json = describe_kind(HADB_ENTRY_MANIFEST);
    json_t *manifest = json_object_get(json, "manifest");
    assert_int_equal(number_of(manifest, "boundary_slot"), 40);
    assert_int_equal(json_array_size(json_object_get(manifest, "snapshots")), 2);
    assert_int_equal(json_array_size(json_object_get(manifest, "terms")), 2);
    assert_int_equal(json_array_size(json_object_get(manifest, "condemned")), 2);
    assert_int_equal(json_array_size(json_object_get(manifest, "unknown_sections")), 1);
    json_decref(json);
}

static void inspect__speaks_to_people(void **state)
{
    (void)state;
    for (int kind = 1; kind <= HADB_ENTRY_NAME; kind++) {
        struct hadb_buf object = {0};
        struct hadb_buf text = {0};
        struct hadb_hash hash;
        char first_line[64];
        sample_object((enum hadb_entry_kind)kind, 19, &object, &hash);
        assert_int_equal(hadb_inspect(hadb_buf_slice(&object), false, &text, NULL), 0);
        snprintf(first_line, sizeof(first_line), "kind: %s\n",
                 hadb_entry_kind_name((enum hadb_entry_kind)kind));
        assert_memory_equal(text.data, first_line, strlen(first_line));
        if (kind == HADB_ENTRY_DATA) {
            const char *all = hadb_buf_cstr(&text);
            assert_non_null(strstr(all, "    ops:\n      - op: put  key: apple  value_bytes: 3\n"));
        }
        hadb_buf_deinit(&object);
        hadb_buf_deinit(&text);
    }
}

static void inspect__describes_blobs_by_their_parts(void **state)
{
    (void)state;
    struct hadb_entry entry = sample_entry(HADB_ENTRY_DATA);
    struct hadb_buf payload = {0};
    struct hadb_framed framed;
    sample_noise(3, HADB_ENTRY_INLINE_BYTES_MAX + 1, &payload);
    assert_int_equal(hadb_entry_frame(&entry, hadb_buf_slice(&payload), 0, &framed, NULL), 0);
    json_t *json = describe(hadb_buf_slice(&framed.entry));
    json_t *blobs = json_object_get(json, "blobs");
    assert_int_equal(json_array_size(blobs), 1);
    assert_int_equal(number_of(json_array_get(blobs, 0), "bytes"), payload.len);
    json_decref(json);
    hadb_framed_deinit(&framed);
    hadb_buf_deinit(&payload);
}

static void inspect__stops_listing_at_its_limit_and_says_so(void **state)
{
    (void)state;
    struct hadb_entry entry = sample_entry(HADB_ENTRY_SNAPSHOT);
    struct hadb_buf payload = {0};
    struct hadb_buf object = {0};
    struct hadb_hash hash;
    char key[400];
    for (unsigned i = 0; i <= HADB_INSPECT_LINES_MAX; i++) {
        int len = snprintf(key, sizeof(key), "%0300u", i);
        struct hadb_item item = {.key = hadb_slice(key, (size_t)len)};
        assert_int_equal(hadb_item_encode(&item, &payload, NULL), 0);
    }
    assert_int_equal(hadb_entry_encode(&entry, hadb_buf_slice(&payload), 1, &object, &hash, NULL),
                     0);
    json_t *json = describe(hadb_buf_slice(&object));
    json_t *items = json_object_get(json, "items");
    assert_int_equal(number_of(json, "items_len"), HADB_INSPECT_LINES_MAX + 1);
    assert_int_equal(json_array_size(items), HADB_INSPECT_LINES_MAX);
    assert_true(json_is_true(json_object_get(json, "shortened")));
    assert_int_equal(strlen(text_of(json_array_get(items, 0), "key")), HADB_INSPECT_KEY_BYTES_MAX);
    assert_int_equal(number_of(json_array_get(items, 0), "key_bytes"), 300);
    json_decref(json);
    hadb_buf_deinit(&payload);
    hadb_buf_deinit(&object);
}

static void inspect__writes_large_numbers_as_text(void **state)
{
    (void)state;
    struct hadb_entry entry = sample_entry(HADB_ENTRY_SNAPSHOT);
    struct hadb_buf object = {0};
    struct hadb_hash hash;
    entry.slot = UINT64_MAX;
    entry.time_unix_ms = INT64_MAX;
    assert_int_equal(hadb_entry_encode(&entry, hadb_slice(NULL, 0), 0, &object, &hash, NULL), 0);
    json_t *json = describe(hadb_buf_slice(&object));
    assert_string_equal(text_of(json, "slot"), "18446744073709551615");
    assert_int_equal(number_of(json, "time_unix_ms"), INT64_MAX);
    json_decref(json);
    hadb_buf_deinit(&object);
}

static void inspect__refuses_what_does_not_verify(void **state)
{
    (void)state;
    struct hadb_buf object = {0};
    struct hadb_buf text = {0};
    struct hadb_hash hash;
    struct hadb_error err = {0};
    struct hadb_entry entry = sample_entry(HADB_ENTRY_SEAL);
    assert_int_equal(hadb_inspect(hadb_slice_str("GIF89a"), false, &text, &err), HADB_ECORRUPT);
    sample_object(HADB_ENTRY_SEAL, 0, &object, &hash);
    object.data[object.len - 1] ^= 1;
    assert_int_equal(hadb_inspect(hadb_buf_slice(&object), false, &text, &err), HADB_ECORRUPT);
    /* A sound container around a payload that is no seal. */
    hadb_buf_clear(&object);
    assert_int_equal(hadb_entry_encode(&entry, hadb_slice_str("\x01?"), 0, &object, &hash, NULL),
                     0);
    assert_int_equal(hadb_inspect(hadb_buf_slice(&object), true, &text, &err), HADB_ECORRUPT);
    assert_int_equal(text.len, 0);
    hadb_buf_deinit(&object);
    hadb_buf_deinit(&text);
}

static void inspect__reads_a_file(void **state)
{
    (void)state;
    char folder[HADB_PATH_BYTES_MAX];
    char path[HADB_PATH_BYTES_MAX];
    struct hadb_buf object = {0};
    struct hadb_buf text = {0};
    struct hadb_hash hash;
    struct hadb_error err = {0};
    struct hadb_fs fs = hadb_fs_host();
    test_tmp_make(folder);
    assert_int_equal(hadb_path_join(path, folder, "entry", NULL), 0);
    assert_int_equal(hadb_inspect_file(path, false, &text, &err), HADB_ABSENT);
    sample_object(HADB_ENTRY_DATA, 1, &object, &hash);
    assert_int_equal(hadb_fs_replace_file(&fs, path, hadb_buf_slice(&object), NULL), 0);
    assert_int_equal(hadb_inspect_file(path, false, &text, &err), 0);
    assert_memory_equal(text.data, "kind: data\n", 11);
    assert_int_equal(hadb_fs_replace_file(&fs, path, hadb_slice(object.data, object.len - 1), NULL),
                     0);
    assert_int_equal(hadb_inspect_file(path, false, &text, &err), HADB_ECORRUPT);
    assert_non_null(strstr(err.message, path)); /* the message names the file */
    hadb_buf_deinit(&object);
    hadb_buf_deinit(&text);
    test_tmp_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inspect__shows_transactions_and_keys_but_no_values),
        cmocka_unit_test(inspect__shows_seal_meta_name_items_and_manifest),
        cmocka_unit_test(inspect__speaks_to_people),
        cmocka_unit_test(inspect__describes_blobs_by_their_parts),
        cmocka_unit_test(inspect__stops_listing_at_its_limit_and_says_so),
        cmocka_unit_test(inspect__writes_large_numbers_as_text),
        cmocka_unit_test(inspect__refuses_what_does_not_verify),
        cmocka_unit_test(inspect__reads_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
