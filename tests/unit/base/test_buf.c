/* SPDX-License-Identifier: Apache-2.0 */
/* Memory, buffers, slices, integers, hex. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "tests/support/support.h"

static void alloc__calloc_refuses_a_product_that_overflows(void **state)
{
    (void)state;
    assert_null(hadb_calloc(SIZE_MAX / 2, 3));
}

static void alloc__calloc_gives_zeroes(void **state)
{
    (void)state;
    uint8_t *p = hadb_calloc(100, 3);
    assert_non_null(p);
    for (size_t i = 0; i < 300; i++) {
        assert_int_equal(p[i], 0);
    }
    hadb_free(p);
}

static void alloc__size_zero_is_not_out_of_memory(void **state)
{
    (void)state;
    void *p = hadb_malloc(0);
    assert_non_null(p);
    p = hadb_realloc(p, 0);
    assert_non_null(p);
    hadb_free(p);
    hadb_free(NULL);
}

static void alloc__the_nth_allocation_fails_once(void **state)
{
    (void)state;
    test_alloc_fail_at(2);
    void *a = hadb_malloc(1);
    void *b = hadb_malloc(1);
    char *c = hadb_strdup("c");
    bool hit = test_alloc_hit();
    int64_t live = test_alloc_live();
    hadb_free(a);
    hadb_free(c);
    int64_t live_after = test_alloc_live();
    test_alloc_reset();
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    assert_true(hit);
    assert_int_equal(live, 2);
    assert_int_equal(live_after, 0);
}

static void buf__append_grows_and_keeps_the_bytes(void **state)
{
    (void)state;
    struct hadb_buf buf = {0};
    for (int i = 0; i < 1000; i++) {
        uint8_t byte = (uint8_t)i;
        assert_int_equal(hadb_buf_append(&buf, &byte, 1), 0);
    }
    assert_int_equal(buf.len, 1000);
    assert_true(buf.cap >= buf.len);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(buf.data[i], (uint8_t)i);
    }
    hadb_buf_deinit(&buf);
}

static void buf__failed_growth_changes_nothing(void **state)
{
    (void)state;
    struct hadb_buf buf = {0};
    hadb_buf_append_str(&buf, "kept");
    struct hadb_buf before = buf;
    char big[1000] = {0};
    test_alloc_fail_at(1);
    int r = hadb_buf_append(&buf, big, sizeof big);
    int r2 = hadb_buf_reserve(&buf, SIZE_MAX);
    test_alloc_reset();
    assert_int_equal(r, HADB_ENOMEM);
    assert_int_equal(r2, HADB_ENOMEM);
    assert_memory_equal(&buf, &before, sizeof buf);
    assert_memory_equal(buf.data, "kept", 4);
    hadb_buf_deinit(&buf);
}

static void buf__append_of_nothing_needs_no_memory(void **state)
{
    (void)state;
    struct hadb_buf buf = {0};
    assert_int_equal(hadb_buf_append(&buf, NULL, 0), 0);
    assert_null(buf.data);
}

static void buf__printf_appends_without_a_nul(void **state)
{
    (void)state;
    struct hadb_buf buf = {0};
    assert_int_equal(hadb_buf_printf(&buf, "%s-%03d", "a", 7), 0);
    assert_int_equal(hadb_buf_printf(&buf, "%200s", "end"), 0);
    assert_int_equal(buf.len, 205);
    assert_memory_equal(buf.data, "a-007   ", 8);
    assert_string_equal(hadb_buf_cstr(&buf) + 202, "end");
    assert_int_equal(buf.len, 205);
    hadb_buf_deinit(&buf);
}

static void buf__take_empties_and_clear_keeps_memory(void **state)
{
    (void)state;
    struct hadb_buf buf = {0};
    hadb_buf_append_str(&buf, "abc");
    struct hadb_buf taken = hadb_buf_take(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.len, 0);
    assert_int_equal(taken.len, 3);
    hadb_buf_clear(&taken);
    assert_int_equal(taken.len, 0);
    assert_non_null(taken.data);
    hadb_buf_deinit(&taken);
    hadb_buf_deinit(&taken);
    hadb_buf_deinit(NULL);
}

static void slice__order_is_bytes_then_length(void **state)
{
    (void)state;
    assert_true(hadb_slice_cmp(hadb_slice_str("a"), hadb_slice_str("b")) < 0);
    assert_true(hadb_slice_cmp(hadb_slice_str("a"), hadb_slice_str("aa")) < 0);
    assert_true(hadb_slice_cmp(hadb_slice_str("\xff"), hadb_slice_str("a")) > 0);
    assert_int_equal(hadb_slice_cmp(hadb_slice(NULL, 0), hadb_slice_str("")), 0);
    assert_true(hadb_slice_cmp(hadb_slice("a\0b", 3), hadb_slice("a\0c", 3)) < 0);
}

static void slice__prefix_and_equality(void **state)
{
    (void)state;
    assert_true(hadb_slice_starts(hadb_slice_str("abc"), hadb_slice_str("ab")));
    assert_true(hadb_slice_starts(hadb_slice_str("abc"), hadb_slice(NULL, 0)));
    assert_false(hadb_slice_starts(hadb_slice_str("a"), hadb_slice_str("ab")));
    assert_true(hadb_slice_eq(hadb_slice(NULL, 0), hadb_slice_str("")));
    assert_false(hadb_slice_eq(hadb_slice_str("ab"), hadb_slice_str("ac")));
}

static void integers__are_little_endian_at_any_alignment(void **state)
{
    (void)state;
    uint8_t bytes[16] = {0};
    hadb_put_u64(bytes + 1, 0x1122334455667788u);
    assert_int_equal(bytes[1], 0x88);
    assert_int_equal(bytes[8], 0x11);
    assert_true(hadb_get_u64(bytes + 1) == 0x1122334455667788u);
    hadb_put_u32(bytes + 3, 0xfedcba98u);
    assert_true(hadb_get_u32(bytes + 3) == 0xfedcba98u);
    hadb_put_u16(bytes + 5, 0xfffe);
    assert_int_equal(hadb_get_u16(bytes + 5), 0xfffe);
}

static void hex__round_trips_and_refuses_what_is_not_hex(void **state)
{
    (void)state;
    uint8_t bytes[4];
    char text[9];
    hadb_hex_encode("\x00\x7f\x80\xff", 4, text);
    assert_string_equal(text, "007f80ff");
    assert_true(hadb_hex_decode("007F80fF", 8, bytes, 4));
    assert_memory_equal(bytes, "\x00\x7f\x80\xff", 4);
    assert_false(hadb_hex_decode("007f80f", 7, bytes, 4));
    assert_false(hadb_hex_decode("007f80fg", 8, bytes, 4));
    assert_false(hadb_hex_decode("007f80ff", 8, bytes, 3));
    assert_true(hadb_hex_decode("", 0, bytes, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alloc__calloc_refuses_a_product_that_overflows),
        cmocka_unit_test(alloc__calloc_gives_zeroes),
        cmocka_unit_test(alloc__size_zero_is_not_out_of_memory),
        cmocka_unit_test(alloc__the_nth_allocation_fails_once),
        cmocka_unit_test(buf__append_grows_and_keeps_the_bytes),
        cmocka_unit_test(buf__failed_growth_changes_nothing),
        cmocka_unit_test(buf__append_of_nothing_needs_no_memory),
        cmocka_unit_test(buf__printf_appends_without_a_nul),
        cmocka_unit_test(buf__take_empties_and_clear_keeps_memory),
        cmocka_unit_test(slice__order_is_bytes_then_length),
        cmocka_unit_test(slice__prefix_and_equality),
        cmocka_unit_test(integers__are_little_endian_at_any_alignment),
        cmocka_unit_test(hex__round_trips_and_refuses_what_is_not_hex),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
