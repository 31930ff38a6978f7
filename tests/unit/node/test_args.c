/* SPDX-License-Identifier: Apache-2.0 */
/* What an HTTP request says: what reading it may cost, and that want of memory is not called malformed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "node/api_private.h"
#include "tests/support/support.h"

static size_t json_allocs;

static void *count_alloc(size_t size)
{
    json_allocs++;
    return malloc(size);
}

static int parse(struct hadb_slice body, size_t *ops_len, struct hadb_error *err)
{
    struct hadb_api_op op = {0};
    json_allocs = 0;
    json_set_alloc_funcs(count_alloc, free);
    int r = hadb__api_batch_parse(&op, body, err);
    *ops_len = op.req.request.ops_len;
    for (size_t i = 0; i < op.op_bytes_len; i++) {
        hadb_buf_deinit(&op.op_bytes[i]);
    }
    hadb_free(op.op_bytes);
    hadb_free(op.ops);
    json_decref(op.json);
    return r;
}

/* {"ops":[ITEM,ITEM,…]} */
static void make(const char *item, size_t times, struct hadb_buf *out)
{
    hadb_buf_clear(out);
    assert_int_equal(hadb_buf_append_str(out, "{\"ops\":["), 0);
    for (size_t i = 0; i < times; i++) {
        assert_int_equal(hadb_buf_append_str(out, i ? "," : ""), 0);
        assert_int_equal(hadb_buf_append_str(out, item), 0);
    }
    assert_int_equal(hadb_buf_append_str(out, "]}"), 0);
}

/* Two bytes of text are 250 of memory: a body within its limit would take tens of gigabytes. */
static void a_batch__of_too_many_operations_is_refused_before_it_is_parsed(void **state)
{
    (void)state;
    static const char *const items[] = {"{}", "[]", "1", "{\"op\":[[],[],[],[],[],[],[],[]]}"};
    struct hadb_buf body = {0};
    struct hadb_error err;
    size_t ops_len;
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        make(items[i], 8 * HADB_BATCH_OPS_MAX, &body);
        assert_int_equal(parse(hadb_buf_slice(&body), &ops_len, &err), HADB_ETOOBIG);
        assert_int_equal(json_allocs, 0);
        assert_non_null(strstr(err.message, "100000"));
    }
    hadb_buf_deinit(&body);
}

static void a_batch__of_as_many_as_are_allowed_is_taken(void **state)
{
    (void)state;
    struct hadb_buf body = {0};
    struct hadb_error err;
    size_t ops_len;
    static const char most[] = "{\"op\":\"put\",\"key_base64\":\"YQ==\",\"value_base64\":\"\","
                               "\"if_absent\":false,\"if_version\":\"1.2\"}";
    make(most, HADB_BATCH_OPS_MAX, &body);
    assert_int_equal(parse(hadb_buf_slice(&body), &ops_len, &err), 0);
    assert_int_equal(ops_len, HADB_BATCH_OPS_MAX);
    make(most, HADB_BATCH_OPS_MAX + 1, &body);
    assert_int_equal(parse(hadb_buf_slice(&body), &ops_len, &err), HADB_ETOOBIG);
    hadb_buf_deinit(&body);
}

static void a_value__may_look_like_anything(void **state)
{
    (void)state;
    struct hadb_buf body = {0};
    struct hadb_error err;
    size_t ops_len;
    assert_int_equal(
        hadb_buf_append_str(&body, "{\"ops\":[{\"op\":\"put\",\"key\":\"\\\\\",\"value\":\""), 0);
    for (size_t i = 0; i < 300000; i++) {
        assert_int_equal(hadb_buf_append_str(&body, "{[,\\\""), 0);
    }
    assert_int_equal(hadb_buf_append_str(&body, "\"}]}"), 0);
    assert_int_equal(parse(hadb_buf_slice(&body), &ops_len, &err), 0);
    assert_int_equal(ops_len, 1);
    hadb_buf_deinit(&body);
}

static void a_query__without_memory_is_not_called_malformed(void **state)
{
    (void)state;
    static const char *const names[] = {"prefix", "limit", NULL};
    struct hadb_slice query = hadb_slice_str("prefix=%61b&limit=3");
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        struct hadb_error err = {0};
        test_alloc_fail_at(n);
        int r = hadb__api_check_query(query, names, &err);
        hit = test_alloc_hit();
        test_alloc_reset();
        assert_int_equal(r, hit ? HADB_ENOMEM : 0);
        assert_int_equal(err.code, r);
    }
    assert_int_equal(hadb__api_check_query(hadb_slice(NULL, 0), names, NULL), 0);
}

static void bytes__without_memory_are_not_called_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int want;
    } cases[] = {
        {"{\"k\":\"plain\"}", 0},
        {"{\"k_base64\":\"AAECAwQFBgcICQ==\"}", 0},
    };
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        json_t *object = json_loads(cases[i].json, 0, NULL);
        struct hadb_buf out = {0};
        assert_non_null(object);
        assert_int_equal(hadb__json_get_bytes(object, "k", &out), cases[i].want);
        hadb_buf_deinit(&out);
        test_alloc_fail_at(1);
        assert_int_equal(hadb__json_get_bytes(object, "k", &out), HADB_ENOMEM);
        test_alloc_reset();
        hadb_buf_deinit(&out);
        json_decref(object);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch__of_too_many_operations_is_refused_before_it_is_parsed),
        cmocka_unit_test(a_batch__of_as_many_as_are_allowed_is_taken),
        cmocka_unit_test(a_query__without_memory_is_not_called_malformed),
        cmocka_unit_test(bytes__without_memory_are_not_called_malformed),
        cmocka_unit_test(a_value__may_look_like_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
