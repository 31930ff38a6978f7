/* SPDX-License-Identifier: Apache-2.0 */
/* The mem backend beyond its contract, the URL factory, and what dispatch refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/thread.h"
#include "storage/counters.h"
#include "storage/key.h"
#include "storage/wrap.h"
#include "tests/support/support.h"

static struct hadb_storage must_open(const char *url)
{
    struct hadb_storage s = {0};
    struct hadb_error err = {0};
    if (hadb_storage_open(url, NULL, &s, &err) != 0) {
        fail_msg("%s: %s", url, err.message);
    }
    return s;
}

static int create(struct hadb_storage *s, const char *key, const char *body)
{
    return hadb_storage_create(s, NULL, key, hadb_slice_str(body), NULL, NULL);
}

static bool has(struct hadb_storage *s, const char *key)
{
    struct hadb_object_meta meta;
    return hadb_storage_head(s, NULL, key, &meta, NULL) == 0;
}

static void store__without_a_name_is_private(void **state)
{
    (void)state;
    struct hadb_storage a = must_open("mem:"), b = must_open("mem:");
    assert_int_equal(create(&a, "k", "x"), 0);
    assert_false(has(&b, "k"));
    hadb_storage_close(&a);
    hadb_storage_close(&b);
}

static void store__with_a_name_is_shared_until_the_last_close(void **state)
{
    (void)state;
    struct hadb_storage a = must_open("mem:one"), b = must_open("mem:one?latency_ms=0");
    struct hadb_storage other = must_open("mem:two");
    assert_int_equal(create(&a, "k", "x"), 0);
    assert_true(has(&b, "k"));
    assert_false(has(&other, "k"));
    hadb_storage_close(&a);
    assert_true(has(&b, "k"));
    struct hadb_storage c = must_open("mem:one");
    assert_true(has(&c, "k"));
    hadb_storage_close(&b);
    hadb_storage_close(&b); /* twice is fine */
    hadb_storage_close(&c);
    struct hadb_storage fresh = must_open("mem:one");
    assert_false(has(&fresh, "k"));
    hadb_storage_close(&fresh);
    hadb_storage_close(&other);
}

static void tag__never_comes_back_even_for_a_new_object(void **state)
{
    (void)state;
    struct hadb_storage s = must_open("mem:");
    struct hadb_tag first, second;
    const char *key = "k";
    struct hadb_slice body = hadb_slice_str("same");
    assert_int_equal(hadb_storage_create(&s, NULL, key, body, &first, NULL), 0);
    assert_int_equal(hadb_storage_delete_many(&s, NULL, &key, 1, NULL), 0);
    assert_int_equal(hadb_storage_create(&s, NULL, key, body, &second, NULL), 0);
    assert_string_not_equal(first.s, second.s);
    assert_int_equal(hadb_storage_replace(&s, NULL, key, body, &first, NULL, NULL), HADB_CAS_LOST);
    hadb_storage_close(&s);
}

static void latency__delays_every_request(void **state)
{
    (void)state;
    struct hadb_storage s = must_open("mem:?latency_ms=20");
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf got = {0};
    struct hadb_object_list list = {0};
    const char *key = "k";
    uint64_t begin = hadb_now_ms(NULL);
    assert_int_equal(create(&s, key, "x"), 0);
    assert_int_equal(hadb_storage_get(&s, NULL, key, &got, NULL, NULL), 0);
    assert_true(has(&s, key));
    assert_int_equal(hadb_storage_list(&s, NULL, "", "", 1, &list, NULL), 0);
    assert_int_equal(hadb_storage_delete_many(&s, NULL, &key, 1, NULL), 0);
    assert_true(hadb_now_ms(NULL) - begin >= 99);
    hadb_object_list_deinit(&list);
    hadb_storage_close(&s);
}

static void latency__is_cut_short_by_a_deadline(void **state)
{
    (void)state;
    struct hadb_storage s = must_open("mem:cut?latency_ms=60000"), fast = must_open("mem:cut");
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf got = {0};
    struct hadb_call call = hadb_call_within(NULL, 10);
    struct hadb_slice body = hadb_slice_str("x");
    assert_int_equal(hadb_storage_create(&s, &call, "k", body, NULL, NULL), HADB_EUNAVAIL);
    assert_false(has(&fast, "k"));
    call = hadb_call_within(NULL, 10);
    assert_int_equal(hadb_storage_get(&s, &call, "k", &got, NULL, NULL), HADB_ETIMEDOUT);
    hadb_storage_close(&s);
    hadb_storage_close(&fast);
}

struct canceller {
    struct hadb_cancel flag;
    struct hadb_storage s;
    int result;
};

static void create_slowly(void *arg)
{
    struct canceller *c = arg;
    struct hadb_call call = {.cancel = &c->flag};
    c->result = hadb_storage_create(&c->s, &call, "k", hadb_slice_str("x"), NULL, NULL);
}

static void latency__is_cut_short_by_cancel(void **state)
{
    (void)state;
    struct canceller c = {.s = must_open("mem:?latency_ms=60000")};
    struct hadb_thread thread = {0};
    assert_int_equal(hadb_thread_start(&thread, "creator", create_slowly, &c, NULL), 0);
    __atomic_store_n(&c.flag.flag, 1, __ATOMIC_RELEASE);
    hadb_thread_join(&thread);
    assert_int_equal(c.result, HADB_ECANCELED);
    hadb_storage_close(&c.s);
}

static void counters__tell_what_reached_the_store(void **state)
{
    (void)state;
    struct hadb_storage a = must_open("mem:counted"), b = must_open("mem:counted");
    struct hadb_storage_counters c = {0};
    struct hadb_error err = {0};
    create(&a, "k", "12345");
    create(&b, "k", "1");
    create(&b, "..", "1"); /* refused before it reaches the store */
    has(&a, "k");
    has(&a, "nothing");
    assert_int_equal(hadb_storage_mem_counters(&b, &c, &err), 0);
    assert_int_equal(c.op[HADB_STORAGE_OP_CREATE].done, 1);
    assert_int_equal(c.op[HADB_STORAGE_OP_CREATE].outcomes, 1);
    assert_int_equal(c.op[HADB_STORAGE_OP_CREATE].bytes, 5);
    assert_int_equal(hadb_storage_counters_op(&c, HADB_STORAGE_OP_HEAD), 2);
    assert_int_equal(hadb_storage_counters_total(&c), 4);
    assert_int_equal(hadb_storage_with_trace(&b, NULL, NULL, &b, NULL), 0);
    assert_int_equal(hadb_storage_mem_counters(&b, &c, &err), HADB_ENOTSUP);
    hadb_storage_close(&a);
    hadb_storage_close(&b);
}

static void url__that_is_wrong_is_refused_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        int code;
    } cases[] = {
        {NULL, HADB_EINVAL},
        {"", HADB_EINVAL},
        {"mem", HADB_EINVAL},
        {"mem://host/x", HADB_EINVAL},
        {"mem:?latency_ms=x", HADB_EINVAL},
        {"mem:?latency_ms=60001", HADB_EINVAL},
        {"mem:?latency=1", HADB_EINVAL},
        {"ftp://host/dir", HADB_ENOTSUP},
        {"s4://bucket", HADB_ENOTSUP},
    };
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct hadb_storage s = {0};
        struct hadb_error err = {0};
        assert_int_equal(hadb_storage_open(cases[i].url, NULL, &s, &err), cases[i].code);
        assert_string_not_equal(err.message, "");
        assert_null(s.ops);
    }
}

static void open__survives_failing_allocations(void **state)
{
    (void)state;
    static const char *const urls[] = {"mem:", "mem:named", "file:///tmp/no-such-folder-of-ours"};
    for (size_t i = 0; i < HADB_LEN(urls); i++) {
        bool hit = true;
        for (uint64_t n = 1; hit && n < 100; n++) {
            struct hadb_storage s = {0};
            test_alloc_fail_at(n);
            int r = hadb_storage_open(urls[i], NULL, &s, NULL);
            hit = test_alloc_hit();
            assert_true(r == (hit ? HADB_ENOMEM : 0));
            hadb_storage_close(&s);
            assert_int_equal(test_alloc_live(), 0);
            test_alloc_reset();
        }
        assert_false(hit);
    }
}

static void table__that_misses_a_required_method_is_refused(void **state)
{
    (void)state;
    struct hadb_storage good = must_open("mem:");
    struct hadb_error err = {0};
    assert_int_equal(hadb_storage_check(&good, &err), 0);
    for (unsigned i = 0; i < 10; i++) {
        struct hadb_storage_ops ops = *good.ops;
        const char *name = NULL;
        switch (i) {
        case 0:
            ops.abi = 0;
            name = "abi";
            break;
        case 1:
            ops.scheme = NULL;
            name = "scheme";
            break;
        case 2:
            ops.get = NULL;
            name = "get";
            break;
        case 3:
            ops.create = NULL;
            name = "create";
            break;
        case 4:
            ops.replace = NULL;
            name = "replace";
            break;
        case 5:
            ops.list = NULL;
            name = "list";
            break;
        case 6:
            ops.delete_many = NULL;
            name = "delete_many";
            break;
        case 7:
            ops.caps = NULL;
            name = "caps";
            break;
        case 8:
            ops.close = NULL;
            name = "close";
            break;
        default:
            ops.head = NULL;
            ops.get_range = NULL; /* optional */
        }
        struct hadb_storage s = {.ops = &ops, .self = good.self};
        assert_int_equal(hadb_storage_check(&s, &err), name ? HADB_EINVAL : 0);
        assert_true(!name || strstr(err.message, name));
    }
    struct hadb_storage none = {0};
    assert_int_equal(hadb_storage_check(&none, &err), HADB_EINVAL);
    hadb_storage_close(&none);
    hadb_storage_close(&good);
}

static void key__rules_hold_at_their_bounds(void **state)
{
    (void)state;
    char key[HADB_OBJECT_KEY_BYTES_MAX + 2];
    memset(key, 'k', sizeof(key));
    key[HADB_OBJECT_KEY_BYTES_MAX] = '\0';
    assert_int_equal(hadb__object_key_check(key, NULL), 0);
    assert_int_equal(hadb__object_prefix_check(key, NULL), 0);
    key[HADB_OBJECT_KEY_BYTES_MAX] = 'k';
    key[HADB_OBJECT_KEY_BYTES_MAX + 1] = '\0';
    assert_int_equal(hadb__object_key_check(key, NULL), HADB_EINVAL);
    assert_int_equal(hadb__object_prefix_check(key, NULL), HADB_EINVAL);
    assert_int_equal(hadb__object_key_check(NULL, NULL), HADB_EINVAL);
    assert_int_equal(hadb__object_key_check("a..b/c-.d/_", NULL), 0);
    assert_int_equal(hadb__object_prefix_check("", NULL), 0);
    assert_int_equal(hadb__object_prefix_check("a/", NULL), 0);
    for (unsigned c = 1; c < 256; c++) {
        char one[4] = {'x', (char)c, 'x', '\0'};
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    strchr("._-/", (int)c);
        assert_int_equal(hadb__object_key_check(one, NULL), good ? 0 : HADB_EINVAL);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(store__without_a_name_is_private),
        cmocka_unit_test(store__with_a_name_is_shared_until_the_last_close),
        cmocka_unit_test(tag__never_comes_back_even_for_a_new_object),
        cmocka_unit_test(latency__delays_every_request),
        cmocka_unit_test(latency__is_cut_short_by_a_deadline),
        cmocka_unit_test(latency__is_cut_short_by_cancel),
        cmocka_unit_test(counters__tell_what_reached_the_store),
        cmocka_unit_test(url__that_is_wrong_is_refused_with_a_reason),
        cmocka_unit_test(open__survives_failing_allocations),
        cmocka_unit_test(table__that_misses_a_required_method_is_refused),
        cmocka_unit_test(key__rules_hold_at_their_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
