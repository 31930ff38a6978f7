/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes tell each other: forwarded writes, answers, lease records, base64 in JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/base64.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "node/api_private.h"
#include "node/peers.h"
#include "node/req.h"
#include "tests/support/support.h"

static struct hadb_req put_request(void)
{
    struct hadb_req req = {
        .kind = HADB_REQ_WRITE,
        .request = {.type = HADB_REQUEST_PUT,
                    .id = {{1, 2, 3, 4}},
                    .key = hadb_slice("k\0k", 3),
                    .value = hadb_slice_str("value"),
                    .if_version = {.term = 3, .txid = 77}},
        .ack = HADB_ACK_BOTH,
        .sent_term = 12,
    };
    return req;
}

static void a_put__travels(void **state)
{
    (void)state;
    struct hadb_req req = put_request(), back = {.kind = HADB_REQ_READ};
    struct hadb_kv_op *ops = NULL;
    struct hadb_buf bytes = {0};
    uint32_t left = 0;
    assert_int_equal(hadb__wire_encode_request(&req, 500, &bytes, NULL), 0);
    assert_int_equal(hadb__wire_decode_request(hadb_buf_slice(&bytes), &back, &ops, &left, NULL),
                     0);
    assert_null(ops);
    assert_int_equal(left, 500);
    assert_int_equal(back.kind, HADB_REQ_WRITE);
    assert_true(back.forwarded);
    assert_int_equal(back.forwarded_term, 12);
    assert_int_equal(back.ack, HADB_ACK_BOTH);
    assert_int_equal(back.request.type, HADB_REQUEST_PUT);
    assert_memory_equal(&back.request.id, &req.request.id, sizeof req.request.id);
    assert_true(hadb_slice_eq(back.request.key, req.request.key));
    assert_true(hadb_slice_eq(back.request.value, req.request.value));
    assert_int_equal(back.request.if_version.txid, 77);
    assert_false(back.request.if_absent);
    hadb_buf_deinit(&bytes);
}

static void a_batch__travels(void **state)
{
    (void)state;
    struct hadb_kv_op list[] = {
        {.type = HADB_OP_PUT,
         .key = hadb_slice_str("a"),
         .value = hadb_slice_str("1"),
         .if_absent = true},
        {.type = HADB_OP_DELETE, .key = hadb_slice_str("b"), .if_version = {.term = 1, .txid = 2}},
    };
    struct hadb_req req = {.kind = HADB_REQ_WRITE,
                           .request = {.type = HADB_REQUEST_BATCH, .ops = list, .ops_len = 2},
                           .ack = HADB_ACK_DURABLE};
    struct hadb_req back = {.kind = HADB_REQ_READ};
    struct hadb_kv_op *ops = NULL;
    struct hadb_buf bytes = {0};
    uint32_t left = 0;
    assert_int_equal(hadb__wire_encode_request(&req, 1, &bytes, NULL), 0);
    assert_int_equal(hadb__wire_decode_request(hadb_buf_slice(&bytes), &back, &ops, &left, NULL),
                     0);
    assert_ptr_equal(ops, back.request.ops);
    assert_int_equal(back.request.ops_len, 2);
    assert_true(ops[0].if_absent);
    assert_int_equal(ops[1].type, HADB_OP_DELETE);
    assert_int_equal(ops[1].if_version.txid, 2);
    assert_true(hadb_slice_eq(ops[1].key, hadb_slice_str("b")));
    hadb_free(ops);
    hadb_buf_deinit(&bytes);
}

/* Whatever is cut or changed: a clean refusal, or a request whose slices lie inside the bytes. */
static void damaged_requests__are_refused_or_stay_inside_their_bytes(void **state)
{
    (void)state;
    struct hadb_req req = put_request();
    struct hadb_buf bytes = {0};
    assert_int_equal(hadb__wire_encode_request(&req, 500, &bytes, NULL), 0);
    for (size_t len = 0; len < bytes.len; len++) {
        struct hadb_req back = {.kind = HADB_REQ_WRITE};
        struct hadb_kv_op *ops = NULL;
        uint32_t left;
        uint8_t *copy = malloc(len + 1); /* its end is watched by the sanitizer */
        memcpy(copy, bytes.data, len);
        assert_int_equal(hadb__wire_decode_request(hadb_slice(copy, len), &back, &ops, &left, NULL),
                         HADB_EPROTO);
        free(copy);
    }
    for (size_t i = 0; i < bytes.len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct hadb_req back = {.kind = HADB_REQ_WRITE};
            struct hadb_kv_op *ops = NULL;
            uint32_t left;
            bytes.data[i] ^= (uint8_t)(1u << bit);
            int r = hadb__wire_decode_request(hadb_buf_slice(&bytes), &back, &ops, &left, NULL);
            assert_true(r == 0 || r == HADB_EPROTO);
            if (r == 0 && !ops) {
                const uint8_t *key = back.request.key.data;
                assert_true(key >= bytes.data &&
                            key + back.request.key.len + back.request.value.len <=
                                bytes.data + bytes.len);
            }
            hadb_free(ops);
            bytes.data[i] ^= (uint8_t)(1u << bit);
        }
    }
    hadb_buf_deinit(&bytes);
}

/* A put that says delete must be neither. */
static void requests__that_contradict_themselves_are_refused(void **state)
{
    (void)state;
    struct hadb_req req = put_request(), back = {.kind = HADB_REQ_READ};
    struct hadb_kv_op *ops = NULL;
    struct hadb_buf bytes = {0};
    uint32_t left = 0;
    const size_t type_at = 1, op_type_at = 36, op_flags_at = 37;
    assert_int_equal(hadb__wire_encode_request(&req, 500, &bytes, NULL), 0);
    bytes.data[op_type_at] = HADB_OP_DELETE;
    assert_int_equal(hadb__wire_decode_request(hadb_buf_slice(&bytes), &back, &ops, &left, NULL),
                     HADB_EPROTO);
    bytes.data[type_at] = HADB_REQUEST_DELETE; /* with a value */
    assert_int_equal(hadb__wire_decode_request(hadb_buf_slice(&bytes), &back, &ops, &left, NULL),
                     HADB_EPROTO);
    bytes.data[op_type_at] = HADB_OP_PUT;
    assert_int_equal(hadb__wire_decode_request(hadb_buf_slice(&bytes), &back, &ops, &left, NULL),
                     HADB_EPROTO);
    hadb_buf_clear(&bytes);
    req.request.type = HADB_REQUEST_DELETE;
    req.request.value = hadb_slice(NULL, 0);
    assert_int_equal(hadb__wire_encode_request(&req, 500, &bytes, NULL), 0);
    bytes.data[op_flags_at] = 1; /* a delete of what is absent */
    assert_int_equal(hadb__wire_decode_request(hadb_buf_slice(&bytes), &back, &ops, &left, NULL),
                     HADB_EPROTO);
    hadb_buf_deinit(&bytes);
}

/* It would be passed on to a client as the outcome of its write. */
static void an_answer__with_a_code_that_no_write_has_is_refused(void **state)
{
    (void)state;
    static const int bad[] = {HADB_ABSENT, HADB_END, HADB_DIVERGED, 7, 999, -99, INT32_MIN};
    static const int good[] = {0, HADB_NOT_MET, HADB_EINVAL, HADB_ESTATE};
    struct hadb_req req = {.kind = HADB_REQ_WRITE}, back = {.kind = HADB_REQ_WRITE};
    struct hadb_buf bytes = {0};
    assert_int_equal(hadb__wire_encode_answer(&req, &bytes, NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hadb_put_u32(bytes.data + 4, (uint32_t)bad[i]);
        assert_int_equal(hadb__wire_decode_answer(hadb_buf_slice(&bytes), &back, NULL),
                         HADB_EPROTO);
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        hadb_put_u32(bytes.data + 4, (uint32_t)good[i]);
        assert_int_equal(hadb__wire_decode_answer(hadb_buf_slice(&bytes), &back, NULL), 0);
        assert_int_equal(back.r, good[i]);
    }
    hadb_buf_deinit(&bytes);
}

static void an_answer__travels_with_its_error(void **state)
{
    (void)state;
    struct hadb_req req = {.kind = HADB_REQ_WRITE, .r = HADB_EUNKNOWN},
                    back = {.kind = HADB_REQ_WRITE};
    struct hadb_buf bytes = {0};
    hadb_fail(&req.err, HADB_EUNKNOWN, "nobody knows");
    req.response.version = (struct hadb_version){4, 5};
    req.position = (struct hadb_version){6, 7};
    req.response.failed_op = 3;
    req.response.deduplicated = true;
    assert_int_equal(hadb__wire_encode_answer(&req, &bytes, NULL), 0);
    assert_int_equal(hadb__wire_decode_answer(hadb_buf_slice(&bytes), &back, NULL), 0);
    assert_int_equal(back.r, HADB_EUNKNOWN);
    assert_string_equal(back.err.message, "nobody knows");
    assert_int_equal(back.response.version.txid, 5);
    assert_int_equal(back.position.term, 6);
    assert_int_equal(back.response.failed_op, 3);
    assert_true(back.response.deduplicated);
    for (size_t len = 0; len < bytes.len; len++) {
        assert_int_equal(hadb__wire_decode_answer(hadb_slice(bytes.data, len), &back, NULL),
                         HADB_EPROTO);
    }
    hadb_buf_deinit(&bytes);
}

static void a_node_record__comes_back_and_every_damage_is_noticed(void **state)
{
    (void)state;
    struct hadb_id given_up[] = {{{1}}, {{2}}};
    struct hadb_node_record record = {.state = HADB_HINT_LIVE,
                                      .ttl_ms = 1234,
                                      .owner = {.node = {{5}}, .incarnation = {{6}}},
                                      .counter = 99,
                                      .name = "node-a",
                                      .address = "127.0.0.1:4280",
                                      .given_up = given_up,
                                      .given_up_len = 2};
    struct hadb_node_record back;
    struct hadb_buf bytes = {0};
    assert_int_equal(hadb_node_record_encode(&record, &bytes, NULL), 0);
    assert_int_equal(hadb_node_record_decode(hadb_buf_slice(&bytes), &back, NULL), 0);
    assert_int_equal(back.state, HADB_HINT_LIVE);
    assert_int_equal(back.ttl_ms, 1234);
    assert_int_equal(back.counter, 99);
    assert_string_equal(back.name, "node-a");
    assert_string_equal(back.address, "127.0.0.1:4280");
    assert_int_equal(back.given_up_len, 2);
    assert_memory_equal(back.given_up, given_up, sizeof given_up);
    hadb_node_record_deinit(&back);
    for (size_t i = 0; i < bytes.len; i++) {
        bytes.data[i] ^= 4;
        assert_true(hadb_node_record_decode(hadb_buf_slice(&bytes), &back, NULL) < 0);
        bytes.data[i] ^= 4;
        assert_true(hadb_node_record_decode(hadb_slice(bytes.data, i), &back, NULL) < 0);
    }
    hadb_buf_deinit(&bytes);
}

static void put_crc(struct hadb_buf *bytes)
{
    hadb_put_u32(bytes->data + bytes->len - 4, hadb_crc32c(0, bytes->data, bytes->len - 4));
}

/* Whoever may write to the lease store may write anything: a name and an address end up in URLs and logs. */
static void a_node_record__with_texts_that_no_node_has_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"h\n:80", "h :80", "h\x7f:80", "h\xff:80"};
    struct hadb_node_record record = {.state = HADB_HINT_LIVE, .name = "node-a"}, back;
    struct hadb_buf bytes = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(record.address, sizeof record.address, "%s", bad[i]);
        assert_int_equal(hadb_node_record_encode(&record, &bytes, NULL), 0);
        assert_int_equal(hadb_node_record_decode(hadb_buf_slice(&bytes), &back, NULL),
                         HADB_ECORRUPT);
        hadb_buf_clear(&bytes);
    }
    snprintf(record.address, sizeof record.address, "host:80");
    assert_int_equal(hadb_node_record_encode(&record, &bytes, NULL), 0);
    const size_t name_at = 60, address_at = name_at + strlen(record.name);
    for (size_t i = 0; i < 2; i++) {
        uint8_t *at = bytes.data + (i == 0 ? name_at : address_at) + 2;
        uint8_t before = *at;
        *at = 0;
        put_crc(&bytes);
        assert_int_equal(hadb_node_record_decode(hadb_buf_slice(&bytes), &back, NULL),
                         HADB_ECORRUPT);
        *at = before;
    }
    put_crc(&bytes);
    assert_int_equal(hadb_node_record_decode(hadb_buf_slice(&bytes), &back, NULL), 0);
    hadb_node_record_deinit(&back);
    hadb_buf_deinit(&bytes);
}

static void base64__has_the_vectors_of_its_standard(void **state)
{
    (void)state;
    static const char *const vectors[][2] = {{"", ""},
                                             {"f", "Zg=="},
                                             {"fo", "Zm8="},
                                             {"foo", "Zm9v"},
                                             {"foob", "Zm9vYg=="},
                                             {"fooba", "Zm9vYmE="},
                                             {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        struct hadb_buf text = {0}, back = {0};
        assert_int_equal(hadb__base64_encode(hadb_slice_str(vectors[i][0]), &text), 0);
        assert_int_equal(text.len, strlen(vectors[i][1]));
        assert_memory_equal(text.len ? text.data : (uint8_t *)"", vectors[i][1], text.len);
        assert_true(hadb__base64_decode(vectors[i][1], strlen(vectors[i][1]), &back));
        assert_int_equal(back.len, strlen(vectors[i][0]));
        assert_memory_equal(back.len ? back.data : (uint8_t *)"", vectors[i][0], back.len);
        hadb_buf_deinit(&text);
        hadb_buf_deinit(&back);
    }
    static const char *const bad[] = {
        "Z", "Zg=", "Zg", "Z===", "Zh==", "Zm9=", "Zg==Zg==", "Z\xc3=="};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct hadb_buf back = {0};
        assert_false(hadb__base64_decode(bad[i], strlen(bad[i]), &back));
        hadb_buf_deinit(&back);
    }
}

static void bytes_in_json__are_text_where_they_are_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        const char *member;
    } cases[] = {{"plain", 5, "v"}, {"", 0, "v"}, {"z\0z", 3, "v"}, {"\xff\xfe", 2, "v_base64"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *object = json_object();
        struct hadb_buf back = {0};
        struct hadb_slice bytes = hadb_slice(cases[i].bytes, cases[i].len);
        assert_int_equal(hadb__json_set_bytes(object, "v", bytes), 0);
        assert_non_null(json_object_get(object, cases[i].member));
        assert_int_equal(hadb__json_get_bytes(object, "v", &back), 0);
        assert_true(hadb_slice_eq(hadb_buf_slice(&back), bytes));
        assert_int_equal(hadb__json_get_bytes(object, "w", &back), HADB_ABSENT);
        hadb_buf_deinit(&back);
        json_decref(object);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_put__travels),
        cmocka_unit_test(a_batch__travels),
        cmocka_unit_test(damaged_requests__are_refused_or_stay_inside_their_bytes),
        cmocka_unit_test(requests__that_contradict_themselves_are_refused),
        cmocka_unit_test(an_answer__travels_with_its_error),
        cmocka_unit_test(an_answer__with_a_code_that_no_write_has_is_refused),
        cmocka_unit_test(a_node_record__comes_back_and_every_damage_is_noticed),
        cmocka_unit_test(a_node_record__with_texts_that_no_node_has_is_refused),
        cmocka_unit_test(base64__has_the_vectors_of_its_standard),
        cmocka_unit_test(bytes_in_json__are_text_where_they_are_utf8),
    };
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
