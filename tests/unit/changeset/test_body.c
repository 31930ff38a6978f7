/* SPDX-License-Identifier: Apache-2.0 */
/* Payloads of seal, meta and name; items of snapshots. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/core.h"
#include "tests/unit/changeset/sample.h"

/* core/ has its own enum, because it includes only public headers. The numbers are the same. */
static_assert((int)HADB_SEAL_GENESIS == HADB_SEAL_REASON_GENESIS, "genesis");
static_assert((int)HADB_SEAL_FAILOVER == HADB_SEAL_REASON_FAILOVER, "failover");
static_assert((int)HADB_SEAL_HANDOFF == HADB_SEAL_REASON_HANDOFF, "hand-off");
static_assert((int)HADB_SEAL_RESIGN == HADB_SEAL_REASON_RESIGN, "resign");
static_assert((int)HADB_SEAL_RETIRED == HADB_SEAL_REASON_RETIRED, "retired");

typedef int (*decode_fn)(struct hadb_slice payload, void *out);

static int decode_seal(struct hadb_slice payload, void *out)
{
    return hadb_seal_decode(payload, out, NULL);
}
static int decode_meta(struct hadb_slice payload, void *out)
{
    return hadb_meta_decode(payload, out, NULL);
}
static int decode_name(struct hadb_slice payload, void *out)
{
    return hadb_name_decode(payload, out, NULL);
}

static const struct {
    enum hadb_entry_kind kind;
    decode_fn decode;
} bodies[] = {
    {HADB_ENTRY_SEAL, decode_seal},
    {HADB_ENTRY_META, decode_meta},
    {HADB_ENTRY_NAME, decode_name},
};

union any {
    struct hadb_seal seal;
    struct hadb_meta meta;
    struct hadb_name name;
};

static void body__is_corrupt_at_every_truncation_and_with_a_byte_too_many(void **state)
{
    (void)state;
    for (size_t i = 0; i < HADB_LEN(bodies); i++) {
        struct hadb_buf bytes = {0};
        union any out;
        sample_payload(bodies[i].kind, &bytes);
        assert_int_equal(bodies[i].decode(hadb_buf_slice(&bytes), &out), 0);
        for (size_t len = 0; len < bytes.len; len++) {
            assert_int_equal(bodies[i].decode(hadb_slice(bytes.data, len), &out), HADB_ECORRUPT);
        }
        assert_int_equal(hadb_buf_append(&bytes, "a", 1), 0);
        assert_int_equal(bodies[i].decode(hadb_buf_slice(&bytes), &out), HADB_ECORRUPT);
        hadb_buf_deinit(&bytes);
    }
}

static void body__of_another_version_is_a_version_error(void **state)
{
    (void)state;
    for (size_t i = 0; i < HADB_LEN(bodies); i++) {
        struct hadb_buf bytes = {0};
        union any out;
        sample_payload(bodies[i].kind, &bytes);
        bytes.data[0] = 2;
        assert_int_equal(bodies[i].decode(hadb_buf_slice(&bytes), &out), HADB_EVERSION);
        hadb_buf_deinit(&bytes);
    }
}

/* ---- seal ---- */

static void seal_round_trip(const struct hadb_seal *seal)
{
    struct hadb_buf bytes = {0};
    struct hadb_seal read;
    assert_int_equal(hadb_seal_encode(seal, &bytes, NULL), 0);
    assert_int_equal(hadb_seal_decode(hadb_buf_slice(&bytes), &read, NULL), 0);
    assert_int_equal(read.reason, seal->reason);
    assert_string_equal(read.node, seal->node);
    assert_string_equal(read.address, seal->address);
    assert_memory_equal(read.node_id.b, seal->node_id.b, sizeof(read.node_id.b));
    assert_memory_equal(read.incarnation.b, seal->incarnation.b, sizeof(read.incarnation.b));
    hadb_buf_deinit(&bytes);
}

static void seal__comes_back_as_it_went_in(void **state)
{
    (void)state;
    struct hadb_seal seal = sample_seal();
    for (seal.reason = 1; seal.reason <= HADB_SEAL_REASON_RETIRED; seal.reason++) {
        seal_round_trip(&seal);
    }
    seal.reason = HADB_SEAL_REASON_GENESIS;
    memset(seal.node, 'n', HADB_NAME_BYTES_MAX);
    memset(seal.address, 'a', HADB_ADDRESS_BYTES_MAX);
    seal_round_trip(&seal);
    seal.address[0] = '\0';
    seal_round_trip(&seal);
    seal = (struct hadb_seal){.reason = HADB_SEAL_REASON_RESIGN};
    seal_round_trip(&seal);
    seal.reason = HADB_SEAL_REASON_RETIRED;
    seal_round_trip(&seal);
}

static void refuse_seal(const struct hadb_seal *seal)
{
    struct hadb_buf bytes = {0};
    assert_int_equal(hadb_seal_encode(seal, &bytes, NULL), HADB_EINVAL);
    assert_int_equal(bytes.len, 0);
}

static void seal__that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    struct hadb_seal seal = sample_seal();
    seal.reason = 0;
    refuse_seal(&seal);
    seal.reason = 6;
    refuse_seal(&seal);
    seal = sample_seal();
    seal.node[0] = '.';
    refuse_seal(&seal);
    seal = sample_seal();
    memset(seal.node, 'n', sizeof(seal.node)); /* no end */
    refuse_seal(&seal);
    seal = sample_seal();
    memset(seal.address, 'a', sizeof(seal.address));
    refuse_seal(&seal);
    seal = sample_seal();
    seal.address[3] = '\n';
    refuse_seal(&seal);
    seal = (struct hadb_seal){.reason = HADB_SEAL_REASON_FAILOVER}; /* to nobody */
    refuse_seal(&seal);
    seal = (struct hadb_seal){.reason = HADB_SEAL_REASON_RESIGN, .address = "a:1"};
    refuse_seal(&seal);
    seal = (struct hadb_seal){.reason = HADB_SEAL_REASON_RESIGN, .node_id = sample_id(1)};
    refuse_seal(&seal);
}

static void seal__that_is_doctored_is_not_taken(void **state)
{
    (void)state;
    static const struct {
        size_t offset;
        uint8_t value;
        int code;
    } cases[] = {
        {1, 0, HADB_EVERSION},  {1, 6, HADB_EVERSION}, /* reason */
        {2, 7, HADB_ECORRUPT},  {2, 255, HADB_ECORRUPT},
        {3, 15, HADB_ECORRUPT}, {36, '/', HADB_ECORRUPT}, /* node name */
        {38, 0, HADB_ECORRUPT}, {42, 0, HADB_ECORRUPT},   /* zero bytes in texts */
        {43, 7, HADB_ECORRUPT},
    };
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct hadb_buf bytes = {0};
        struct hadb_seal seal;
        sample_payload(HADB_ENTRY_SEAL, &bytes);
        bytes.data[cases[i].offset] = cases[i].value;
        assert_int_equal(hadb_seal_decode(hadb_buf_slice(&bytes), &seal, NULL), cases[i].code);
        hadb_buf_deinit(&bytes);
    }
}

static void seal__reasons_have_names(void **state)
{
    (void)state;
    assert_string_equal(hadb_seal_reason_name(HADB_SEAL_REASON_GENESIS), "genesis");
    assert_string_equal(hadb_seal_reason_name(HADB_SEAL_REASON_RETIRED), "retired");
    assert_null(hadb_seal_reason_name(0));
    assert_null(hadb_seal_reason_name(6));
}

/* ---- meta, name ---- */

static void meta__comes_back_as_it_went_in(void **state)
{
    (void)state;
    struct hadb_meta meta = sample_meta();
    struct hadb_meta read;
    struct hadb_buf bytes = {0};
    meta.page_bytes = 4096;
    assert_int_equal(hadb_meta_encode(&meta, &bytes, NULL), 0);
    assert_int_equal(hadb_meta_decode(hadb_buf_slice(&bytes), &read, NULL), 0);
    assert_int_equal(read.format, HADB_META_FORMAT);
    assert_int_equal(read.page_bytes, 4096);
    assert_string_equal(read.database, "orders");
    assert_string_equal(read.engine, "kv");
    assert_string_equal(read.hash, "sha256");
    assert_int_equal(read.created_unix_ms, meta.created_unix_ms);
    assert_int_equal(read.parent_slot, 12);
    assert_memory_equal(read.cluster.b, meta.cluster.b, sizeof(read.cluster.b));
    assert_memory_equal(read.parent.b, meta.parent.b, sizeof(read.parent.b));
    hadb_buf_deinit(&bytes);
}

static void meta__of_another_world_is_a_version_error(void **state)
{
    (void)state;
    struct hadb_meta read;
    struct hadb_buf bytes = {0};
    sample_payload(HADB_ENTRY_META, &bytes);
    bytes.data[4]++; /* format of the log */
    assert_int_equal(hadb_meta_decode(hadb_buf_slice(&bytes), &read, NULL), HADB_EVERSION);
    bytes.data[4]--;
    bytes.data[12] = 1; /* must be zero */
    assert_int_equal(hadb_meta_decode(hadb_buf_slice(&bytes), &read, NULL), HADB_EVERSION);
    bytes.data[12] = 0;
    bytes.data[bytes.len - 1] = '7'; /* sha257 */
    assert_int_equal(hadb_meta_decode(hadb_buf_slice(&bytes), &read, NULL), HADB_EVERSION);
    bytes.data[bytes.len - 1] = ' ';
    assert_int_equal(hadb_meta_decode(hadb_buf_slice(&bytes), &read, NULL), HADB_ECORRUPT);
    hadb_buf_deinit(&bytes);
}

static void refuse_meta(const struct hadb_meta *meta)
{
    struct hadb_buf bytes = {0};
    assert_int_equal(hadb_meta_encode(meta, &bytes, NULL), HADB_EINVAL);
    assert_int_equal(bytes.len, 0);
}

static void meta__that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    struct hadb_meta meta = sample_meta();
    meta.format = 2;
    refuse_meta(&meta);
    meta = sample_meta();
    meta.hash[0] = 'S';
    refuse_meta(&meta);
    meta = sample_meta();
    meta.engine[0] = '\0';
    refuse_meta(&meta);
    meta = sample_meta();
    memset(meta.database, 'd', sizeof(meta.database));
    refuse_meta(&meta);
}

static void name__comes_back_and_never_points_nowhere(void **state)
{
    (void)state;
    struct hadb_name name = {.db = sample_id(5)};
    struct hadb_name read;
    struct hadb_buf bytes = {0};
    assert_int_equal(hadb_name_encode(&name, &bytes, NULL), 0);
    assert_int_equal(hadb_name_decode(hadb_buf_slice(&bytes), &read, NULL), 0);
    assert_memory_equal(read.db.b, name.db.b, sizeof(read.db.b));
    bytes.data[7] = 1;
    assert_int_equal(hadb_name_decode(hadb_buf_slice(&bytes), &read, NULL), HADB_ECORRUPT);
    bytes.data[7] = 0;
    memset(bytes.data + 8, 0, 16);
    assert_int_equal(hadb_name_decode(hadb_buf_slice(&bytes), &read, NULL), HADB_ECORRUPT);
    name = (struct hadb_name){0};
    assert_int_equal(hadb_name_encode(&name, &bytes, NULL), HADB_EINVAL);
    hadb_buf_deinit(&bytes);
}

/* ---- items ---- */

static void items__come_back_in_key_order(void **state)
{
    (void)state;
    struct hadb_buf bytes = {0};
    struct hadb_item item;
    sample_payload(HADB_ENTRY_SNAPSHOT, &bytes);
    struct hadb_items items = {.rest = hadb_buf_slice(&bytes)};
    assert_int_equal(hadb_items_next(&items, &item, NULL), 0);
    assert_true(hadb_slice_eq(item.key, hadb_slice_str("a")));
    assert_true(hadb_slice_eq(item.value, hadb_slice_str("1")));
    assert_int_equal(item.version.term, 1);
    assert_int_equal(item.version.txid, 7);
    assert_int_equal(hadb_items_next(&items, &item, NULL), 0);
    assert_true(hadb_slice_eq(item.key, hadb_slice_str("a\x01")));
    assert_int_equal(item.value.len, 0);
    assert_int_equal(hadb_items_next(&items, &item, NULL), 0);
    assert_int_equal(hadb_items_next(&items, &item, NULL), HADB_END);
    assert_int_equal(hadb_items_next(&items, &item, NULL), HADB_END);
    hadb_buf_deinit(&bytes);
}

static void items__out_of_order_are_corrupt_also_across_parts(void **state)
{
    (void)state;
    struct hadb_buf first = {0};
    struct hadb_buf second = {0};
    struct hadb_item item = {.key = hadb_slice_str("m")};
    struct hadb_item read;
    assert_int_equal(hadb_item_encode(&item, &first, NULL), 0);
    assert_int_equal(hadb_item_encode(&item, &second, NULL), 0);
    struct hadb_items items = {.rest = hadb_buf_slice(&first)};
    assert_int_equal(hadb_items_next(&items, &read, NULL), 0);
    assert_int_equal(hadb_items_next(&items, &read, NULL), HADB_END);
    items.rest = hadb_buf_slice(&second);
    assert_int_equal(hadb_items_next(&items, &read, NULL), HADB_ECORRUPT); /* m, m */
    second.data[HADB_ITEM_HEADER_BYTES] = 'l';
    assert_int_equal(hadb_items_next(&items, &read, NULL), HADB_ECORRUPT); /* m, l */
    second.data[HADB_ITEM_HEADER_BYTES] = 'n';
    assert_int_equal(hadb_items_next(&items, &read, NULL), 0);
    hadb_buf_deinit(&first);
    hadb_buf_deinit(&second);
}

static void items__are_corrupt_when_cut_or_when_a_length_lies(void **state)
{
    (void)state;
    const uint32_t lies[] = {0, 3, 0x7fffffff, 0x80000000, UINT32_MAX};
    struct hadb_buf bytes = {0};
    struct hadb_item item = {.key = hadb_slice_str("kk"), .value = hadb_slice_str("v")};
    struct hadb_item read;
    assert_int_equal(hadb_item_encode(&item, &bytes, NULL), 0);
    for (size_t len = 1; len < bytes.len; len++) {
        struct hadb_items items = {.rest = hadb_slice(bytes.data, len)};
        assert_int_equal(hadb_items_next(&items, &read, NULL), HADB_ECORRUPT);
        assert_int_equal(items.rest.len, len);
    }
    for (size_t i = 0; i < HADB_LEN(lies); i++) {
        for (size_t field = 0; field <= 4; field += 4) {
            uint32_t right = hadb_get_u32(bytes.data + field);
            struct hadb_items items = {.rest = hadb_buf_slice(&bytes)};
            hadb_put_u32(bytes.data + field, lies[i]);
            int r = hadb_items_next(&items, &read, NULL);
            r = r == 0 ? hadb_items_next(&items, &read, NULL) : r; /* a byte is left over */
            assert_int_equal(r, HADB_ECORRUPT);
            hadb_put_u32(bytes.data + field, right);
        }
    }
    hadb_buf_deinit(&bytes);
}

static void item__over_a_limit_is_refused(void **state)
{
    (void)state;
    struct hadb_buf bytes = {0};
    struct hadb_item item = {.key = hadb_slice("", HADB_ENGINE_KEY_BYTES_MAX + 1)};
    assert_int_equal(hadb_item_encode(&item, &bytes, NULL), HADB_ETOOBIG);
    item = (struct hadb_item){.key = hadb_slice_str("k"),
                              .value = hadb_slice("", HADB_VALUE_BYTES_MAX + 1)};
    assert_int_equal(hadb_item_encode(&item, &bytes, NULL), HADB_ETOOBIG);
    item = (struct hadb_item){0};
    assert_int_equal(hadb_item_encode(&item, &bytes, NULL), HADB_EINVAL);
    assert_null(bytes.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(body__is_corrupt_at_every_truncation_and_with_a_byte_too_many),
        cmocka_unit_test(body__of_another_version_is_a_version_error),
        cmocka_unit_test(seal__comes_back_as_it_went_in),
        cmocka_unit_test(seal__that_makes_no_sense_is_refused),
        cmocka_unit_test(seal__that_is_doctored_is_not_taken),
        cmocka_unit_test(seal__reasons_have_names),
        cmocka_unit_test(meta__comes_back_as_it_went_in),
        cmocka_unit_test(meta__of_another_world_is_a_version_error),
        cmocka_unit_test(meta__that_makes_no_sense_is_refused),
        cmocka_unit_test(name__comes_back_and_never_points_nowhere),
        cmocka_unit_test(items__come_back_in_key_order),
        cmocka_unit_test(items__out_of_order_are_corrupt_also_across_parts),
        cmocka_unit_test(items__are_corrupt_when_cut_or_when_a_length_lies),
        cmocka_unit_test(item__over_a_limit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
