/* SPDX-License-Identifier: Apache-2.0 */
/* base/txn.c: encoded transactions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "hadb/engine.h"

static const struct hadb_op ops[] = {
    {.type = HADB_OP_PUT, .key = {"k1", 2}, .value = {"value", 5}},
    {.type = HADB_OP_DELETE, .key = {"k2", 2}},
    {.type = HADB_OP_PUT, .key = {"\0\xff", 2}, .value = {NULL, 0}},
};

static void assert_slice(struct hadb_slice a, struct hadb_slice b)
{
    assert_true(hadb_slice_eq(a, b));
}

static void txn__reads_back_what_was_encoded(void **state)
{
    (void)state;
    struct hadb_buf out = {0};
    assert_int_equal(hadb_txn_encode(7, 42, -5, ops, HADB_LEN(ops), &out, NULL), 0);
    assert_int_equal(hadb_txn_encode(8, 43, 6, NULL, 0, &out, NULL), 0);
    struct hadb_slice rest = hadb_buf_slice(&out);
    struct hadb_txn txn;
    assert_int_equal(hadb_txn_next(&rest, &txn, NULL), 0);
    assert_int_equal(txn.term, 7);
    assert_int_equal(txn.txid, 42);
    assert_int_equal(txn.time_unix_ms, -5);
    assert_int_equal(txn.ops_len, HADB_LEN(ops));
    assert_ptr_equal(txn.bytes.data, out.data);
    struct hadb_op op;
    size_t cursor = 0;
    for (size_t i = 0; i < HADB_LEN(ops); i++) {
        assert_int_equal(hadb_txn_op(&txn, &cursor, &op), 0);
        assert_int_equal(op.type, ops[i].type);
        assert_slice(op.key, ops[i].key);
        assert_slice(op.value, ops[i].value);
    }
    assert_int_equal(hadb_txn_op(&txn, &cursor, &op), HADB_END);
    assert_int_equal(hadb_txn_op(&txn, &cursor, &op), HADB_END);
    assert_int_equal(hadb_txn_next(&rest, &txn, NULL), 0);
    assert_int_equal(txn.txid, 43);
    assert_int_equal(txn.bytes.len, HADB_TXN_HEADER_BYTES);
    cursor = 0;
    assert_int_equal(hadb_txn_op(&txn, &cursor, &op), HADB_END);
    assert_int_equal(rest.len, 0);
    assert_int_equal(hadb_txn_next(&rest, &txn, NULL), HADB_END);
    hadb_buf_deinit(&out);
}

static void txn__has_the_bytes_of_the_table(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        46,  0,   0,   0,                       /* length */
        1,   2,   0,   0,   0,   0, 0, 0,       /* term 513 */
        3,   0,   0,   0,   0,   0, 0, 0x80,    /* txid */
        4,   0,   0,   0,   0,   0, 0, 0,       /* time */
        1,   0,   0,   0,                       /* operations */
        1,   2,   0,   0,   0,   3, 0, 0,    0, /* put, key length, value length */
        'k', 'y', 'v', 'a', 'l',
    };
    const struct hadb_op op = {.type = HADB_OP_PUT, .key = {"ky", 2}, .value = {"val", 3}};
    struct hadb_buf out = {0};
    assert_int_equal(hadb_txn_encode(513, 0x8000000000000003u, 4, &op, 1, &out, NULL), 0);
    assert_int_equal(out.len, sizeof(expected));
    assert_memory_equal(out.data, expected, sizeof(expected));
    hadb_buf_deinit(&out);
}

static void refuse(const struct hadb_op *op, size_t ops_len, hadb_txid txid, int code)
{
    struct hadb_error err = {0};
    struct hadb_buf out = {0};
    assert_int_equal(hadb_buf_append(&out, "x", 1), 0);
    assert_int_equal(hadb_txn_encode(1, txid, 0, op, ops_len, &out, &err), code);
    assert_int_equal(err.code, code);
    assert_int_equal(out.len, 1);
    hadb_buf_deinit(&out);
}

static void txn__is_refused_when_it_breaks_a_limit(void **state)
{
    (void)state;
    char *big = calloc(1, HADB_VALUE_BYTES_MAX + 1);
    assert_non_null(big);
    struct hadb_op op = {.type = HADB_OP_PUT, .key = {big, HADB_ENGINE_KEY_BYTES_MAX + 1}};
    refuse(&op, 1, 1, HADB_ETOOBIG);
    op = (struct hadb_op){
        .type = HADB_OP_PUT, .key = {"k", 1}, .value = {big, HADB_VALUE_BYTES_MAX + 1}};
    refuse(&op, 1, 1, HADB_ETOOBIG);
    struct hadb_op four[4];
    for (size_t i = 0; i < HADB_LEN(four); i++) {
        four[i] = op;
        four[i].value.len = HADB_VALUE_BYTES_MAX;
    }
    refuse(four, HADB_LEN(four), 1, HADB_ETOOBIG);
    free(big);
}

static void txn__is_refused_when_an_operation_makes_no_sense(void **state)
{
    (void)state;
    struct hadb_op op = {.type = HADB_OP_PUT};
    refuse(&op, 1, 1, HADB_EINVAL); /* empty key */
    op = (struct hadb_op){.type = (enum hadb_op_type)3, .key = {"k", 1}};
    refuse(&op, 1, 1, HADB_EINVAL);
    op = (struct hadb_op){.type = HADB_OP_DELETE, .key = {"k", 1}, .value = {"v", 1}};
    refuse(&op, 1, 1, HADB_EINVAL);
    op.value.len = 0;
    refuse(&op, 1, 0, HADB_EINVAL); /* txid 0 */
}

static void txn__takes_the_largest_key_and_an_empty_value(void **state)
{
    (void)state;
    char *key = calloc(1, HADB_ENGINE_KEY_BYTES_MAX);
    assert_non_null(key);
    struct hadb_op op = {.type = HADB_OP_PUT, .key = {key, HADB_ENGINE_KEY_BYTES_MAX}};
    struct hadb_buf out = {0};
    struct hadb_txn txn;
    assert_int_equal(hadb_txn_encode(1, 1, 0, &op, 1, &out, NULL), 0);
    struct hadb_slice rest = hadb_buf_slice(&out);
    assert_int_equal(hadb_txn_next(&rest, &txn, NULL), 0);
    hadb_buf_deinit(&out);
    free(key);
}

static void txn__is_corrupt_at_every_truncation(void **state)
{
    (void)state;
    struct hadb_buf out = {0};
    assert_int_equal(hadb_txn_encode(7, 42, 5, ops, HADB_LEN(ops), &out, NULL), 0);
    for (size_t len = 1; len < out.len; len++) {
        struct hadb_slice rest = hadb_slice(out.data, len);
        struct hadb_txn txn = {.txid = 99};
        assert_int_equal(hadb_txn_next(&rest, &txn, NULL), HADB_ECORRUPT);
        assert_int_equal(rest.len, len);
        assert_int_equal(txn.txid, 99);
    }
    hadb_buf_deinit(&out);
}

static void corrupt_at(size_t offset, uint32_t value)
{
    struct hadb_buf out = {0};
    struct hadb_txn txn;
    assert_int_equal(hadb_txn_encode(7, 42, 5, ops, HADB_LEN(ops), &out, NULL), 0);
    hadb_put_u32(out.data + offset, value);
    struct hadb_slice rest = hadb_buf_slice(&out);
    assert_int_equal(hadb_txn_next(&rest, &txn, NULL), HADB_ECORRUPT);
    hadb_buf_deinit(&out);
}

static void txn__is_corrupt_when_a_length_lies(void **state)
{
    (void)state;
    const uint32_t lies[] = {0, 1, 4, 1000, 0x7fffffff, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < HADB_LEN(lies); i++) {
        corrupt_at(0, lies[i]);                         /* whole length */
        corrupt_at(28, lies[i]);                        /* number of operations */
        corrupt_at(HADB_TXN_HEADER_BYTES + 1, lies[i]); /* key length */
        corrupt_at(HADB_TXN_HEADER_BYTES + 5, lies[i]); /* value length */
    }
    corrupt_at(28, 2); /* an operation too few leaves bytes behind */
    corrupt_at(28, 4);
    /* The type, followed by the right key length: none, unknown, a delete with a value. */
    corrupt_at(HADB_TXN_HEADER_BYTES, 0 | 2u << 8);
    corrupt_at(HADB_TXN_HEADER_BYTES, 3 | 2u << 8);
    corrupt_at(HADB_TXN_HEADER_BYTES, HADB_OP_DELETE | 2u << 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(txn__reads_back_what_was_encoded),
        cmocka_unit_test(txn__has_the_bytes_of_the_table),
        cmocka_unit_test(txn__is_refused_when_it_breaks_a_limit),
        cmocka_unit_test(txn__is_refused_when_an_operation_makes_no_sense),
        cmocka_unit_test(txn__takes_the_largest_key_and_an_empty_value),
        cmocka_unit_test(txn__is_corrupt_at_every_truncation),
        cmocka_unit_test(txn__is_corrupt_when_a_length_lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
