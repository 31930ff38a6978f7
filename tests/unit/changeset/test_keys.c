/* SPDX-License-Identifier: Apache-2.0 */
/* Names of objects in storage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/hash.h"
#include "changeset/keys.h"
#include "tests/unit/changeset/sample.h"

/* SHA-256 of the bytes 10 11 … 1f starts with H4 (computed by another program). */
#define DB H4 "/10111213-1415-1617-1819-1a1b1c1d1e1f"
#define H4 "fc2e"
#define NONCE "808182838485868788898a8b8c8d8e8f"

static void key__is_what_the_table_says(void **state)
{
    (void)state;
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_id db = sample_id(0x10);
    struct hadb_id nonce = sample_id(0x80);
    hadb_key_meta(&db, key);
    assert_string_equal(key, DB "/meta");
    hadb_key_manifest(&db, key);
    assert_string_equal(key, DB "/manifest");
    hadb_key_log(&db, 3, 0x1a2b, key);
    assert_string_equal(key, DB "/log/0000000000000003/0000000000001a2b");
    hadb_key_log(&db, UINT64_MAX, UINT64_MAX, key);
    assert_string_equal(key, DB "/log/ffffffffffffffff/ffffffffffffffff");
    hadb_key_snapshot_part(&db, 42, &nonce, 11, key);
    assert_string_equal(key, DB "/snap/000000000000002a-" NONCE "/0000000b");
    hadb_key_blob(&db, &nonce, 7, key);
    assert_string_equal(key, DB "/blob/" NONCE "-7");
    hadb_key_name("orders", key);
    assert_string_equal(key, "names/orders");
    hadb_key_probe("minio-1", key);
    assert_string_equal(key, "probe/minio-1");
    hadb_key_prefix_db(&db, key);
    assert_string_equal(key, DB "/");
    hadb_key_prefix_log(&db, key);
    assert_string_equal(key, DB "/log/");
    hadb_key_prefix_term(&db, 3, key);
    assert_string_equal(key, DB "/log/0000000000000003/");
    hadb_key_prefix_snapshots(&db, key);
    assert_string_equal(key, DB "/snap/");
    hadb_key_prefix_blobs(&db, key);
    assert_string_equal(key, DB "/blob/");
}

static void key__is_taken_apart_again(void **state)
{
    (void)state;
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_key_parts parts;
    struct hadb_id db = sample_id(0x10);
    struct hadb_id nonce = sample_id(0x80);
    hadb_key_log(&db, 0xabc, UINT64_MAX, key);
    assert_true(hadb_key_parse(key, &parts));
    assert_int_equal(parts.type, HADB_KEY_LOG);
    assert_true(hadb_id_eq(&parts.db, &db));
    assert_int_equal(parts.term, 0xabc);
    assert_int_equal(parts.slot, UINT64_MAX);
    hadb_key_snapshot_part(&db, 42, &nonce, UINT32_MAX, key);
    assert_true(hadb_key_parse(key, &parts));
    assert_int_equal(parts.type, HADB_KEY_SNAPSHOT);
    assert_int_equal(parts.slot, 42);
    assert_int_equal(parts.part, UINT32_MAX);
    assert_true(hadb_id_eq(&parts.nonce, &nonce));
    hadb_key_blob(&db, &nonce, 3, key);
    assert_true(hadb_key_parse(key, &parts));
    assert_int_equal(parts.type, HADB_KEY_BLOB);
    assert_int_equal(parts.part, 3);
    assert_true(hadb_id_eq(&parts.nonce, &nonce));
    assert_true(hadb_key_parse(DB "/meta", &parts));
    assert_int_equal(parts.type, HADB_KEY_META);
    assert_true(hadb_key_parse(DB "/manifest", &parts));
    assert_int_equal(parts.type, HADB_KEY_MANIFEST);
    assert_true(hadb_key_parse("names/a.b-c_D", &parts));
    assert_int_equal(parts.type, HADB_KEY_NAME);
    assert_string_equal(parts.name, "a.b-c_D");
    assert_true(hadb_key_parse("probe/1", &parts));
    assert_int_equal(parts.type, HADB_KEY_PROBE);
    assert_string_equal(parts.name, "1");
}

static void key__that_nobody_writes_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "names/",
        "names/.hidden",
        "names/a/b",
        "probe/",
        "meta",
        DB,
        DB "/",
        DB "/metA",
        DB "/meta/",
        DB "/log/",
        DB "/log/0000000000000003",
        DB "/log/0000000000000003/",
        DB "/log/0000000000000003/000000000000000",
        DB "/log/0000000000000003/00000000000000000",
        DB "/log/000000000000000A/0000000000000001",
        DB "/log/3/1",
        DB "/snap/000000000000002a-" NONCE,
        DB "/snap/000000000000002a-" NONCE "/",
        DB "/snap/000000000000002a-" NONCE "/0000000g",
        DB "/snap/000000000000002a-808182838485868788898A8B8C8D8E8F/00000000",
        DB "/blob/" NONCE,
        DB "/blob/" NONCE "-8",
        DB "/blob/" NONCE "-a",
        DB "/blob/" NONCE "-00",
        "0000/10111213-1415-1617-1819-1a1b1c1d1e1f/meta", /* not the hash of that uuid */
        H4 "/10111213-1415-1617-1819-1A1B1C1D1E1F/meta",
        H4 "-10111213-1415-1617-1819-1a1b1c1d1e1f/meta",
        H4 "/10111213-1415-1617-1819-1a1b1c1d1e1f-meta",
    };
    struct hadb_key_parts parts;
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        if (hadb_key_parse(bad[i], &parts)) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
}

static void snapshot_name__reads_back(void **state)
{
    (void)state;
    char name[HADB_SNAPSHOT_NAME_BYTES];
    struct hadb_id nonce = sample_id(0x80);
    struct hadb_id read;
    uint64_t slot = 0;
    hadb_snapshot_name(0x2a, &nonce, name);
    assert_string_equal(name, "000000000000002a-" NONCE);
    assert_true(hadb_snapshot_name_parse(name, &slot, &read));
    assert_int_equal(slot, 0x2a);
    assert_true(hadb_id_eq(&read, &nonce));
    assert_false(hadb_snapshot_name_parse("", &slot, &read));
    assert_false(hadb_snapshot_name_parse("000000000000002a", &slot, &read));
    assert_false(hadb_snapshot_name_parse("000000000000002a-" NONCE "0", &slot, &read));
    assert_false(hadb_snapshot_name_parse("000000000000002A-" NONCE, &slot, &read));
}

static void key__order_of_the_log_is_the_order_of_history(void **state)
{
    (void)state;
    char a[HADB_OBJECT_KEY_BYTES];
    char b[HADB_OBJECT_KEY_BYTES];
    struct hadb_id db = sample_id(0x10);
    hadb_key_log(&db, 9, 0xff, a);
    hadb_key_log(&db, 9, 0x100, b);
    assert_true(strcmp(a, b) < 0);
    hadb_key_log(&db, 10, 1, a);
    assert_true(strcmp(b, a) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key__is_what_the_table_says),
        cmocka_unit_test(key__is_taken_apart_again),
        cmocka_unit_test(key__that_nobody_writes_is_refused),
        cmocka_unit_test(snapshot_name__reads_back),
        cmocka_unit_test(key__order_of_the_log_is_the_order_of_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
