/* SPDX-License-Identifier: Apache-2.0 */
/* UUIDs and names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/hash.h"
#include "base/id.h"

static int64_t fixed_unix_ms(void *arg)
{
    return *(int64_t *)arg;
}

static void id__v7_carries_the_wall_clock_and_its_version(void **state)
{
    (void)state;
    int64_t now = 1645557742000; /* the example of RFC 9562, A.6 */
    struct hadb_env env = {.now_unix_ms = fixed_unix_ms, .arg = &now};
    struct hadb_id id;
    hadb_id_v7(&env, &id);
    assert_true(hadb_id_is_v7(&id));
    assert_true(hadb_id_v7_unix_ms(&id) == now);
    char text[HADB_ID_TEXT_BYTES];
    hadb_id_format(&id, text);
    assert_memory_equal(text, "017f22e2-79b0-7", 15);
    assert_non_null(strchr("89ab", text[19]));
}

static void id__v7_of_a_later_millisecond_sorts_later(void **state)
{
    (void)state;
    int64_t now = 0xffff;
    struct hadb_env env = {.now_unix_ms = fixed_unix_ms, .arg = &now};
    struct hadb_id previous = {{0}};
    for (int i = 0; i < 1000; i++) {
        struct hadb_id id;
        now += 255;
        hadb_id_v7(&env, &id);
        assert_true(memcmp(previous.b, id.b, sizeof id.b) < 0);
        previous = id;
    }
}

static void id__v7_of_one_millisecond_differ(void **state)
{
    (void)state;
    int64_t now = 5;
    struct hadb_env env = {.now_unix_ms = fixed_unix_ms, .arg = &now};
    struct hadb_id a, b;
    hadb_id_v7(&env, &a);
    hadb_id_v7(&env, &b);
    assert_false(hadb_id_eq(&a, &b));
}

/* A clock before 1970 must not give ids that seem to come from the far future. */
static void id__v7_of_a_negative_clock_is_the_epoch(void **state)
{
    (void)state;
    int64_t now = -5;
    struct hadb_env env = {.now_unix_ms = fixed_unix_ms, .arg = &now};
    struct hadb_id id;
    hadb_id_v7(&env, &id);
    assert_true(hadb_id_v7_unix_ms(&id) == 0);
}

static void id__random_is_version_4(void **state)
{
    (void)state;
    struct hadb_id id;
    hadb_id_random(NULL, &id);
    assert_int_equal(id.b[6] >> 4, 4);
    assert_int_equal(id.b[8] >> 6, 2);
    assert_false(hadb_id_is_v7(&id));
}

static void id__text_round_trips_in_any_case(void **state)
{
    (void)state;
    struct hadb_id id, other;
    char text[HADB_ID_TEXT_BYTES];
    assert_true(hadb_id_parse("00112233-4455-6677-8899-AABBccddeeff", &id));
    hadb_id_format(&id, text);
    assert_string_equal(text, "00112233-4455-6677-8899-aabbccddeeff");
    assert_true(hadb_id_parse(text, &other));
    assert_true(hadb_id_eq(&id, &other));
}

static void id__parse_refuses_everything_else(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "00112233-4455-6677-8899-aabbccddeef",
        "00112233-4455-6677-8899-aabbccddeeff0",
        "00112233445566778899aabbccddeeff",
        "{0112233-4455-6677-8899-aabbccddeeff",
        "00112233-4455-6677-8899-aabbccddeefg",
        "0011223-34455-6677-8899-aabbccddeeff",
        "00112233-4455-6677-8899--abbccddeeff",
    };
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        struct hadb_id id = {{42}};
        assert_false(hadb_id_parse(bad[i], &id));
        assert_int_equal(id.b[0], 42);
    }
}

static void name__valid_ones(void **state)
{
    (void)state;
    char longest[HADB_NAME_BYTES_MAX + 2];
    memset(longest, 'n', sizeof longest);
    longest[HADB_NAME_BYTES_MAX] = '\0';
    assert_true(hadb_name_valid("a"));
    assert_true(hadb_name_valid("node-1_B.x"));
    assert_true(hadb_name_valid("-"));
    assert_true(hadb_name_valid(longest));
}

static void name__invalid_ones(void **state)
{
    (void)state;
    char longer[HADB_NAME_BYTES_MAX + 2];
    memset(longer, 'n', sizeof longer);
    longer[HADB_NAME_BYTES_MAX + 1] = '\0';
    static const char *const bad[] = {"", ".", "..", ".a", "a/b", "a b", "a\n", "\xc3\xa4", "a%"};
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        assert_false(hadb_name_valid(bad[i]));
    }
    assert_false(hadb_name_valid(longer));
    assert_false(hadb_name_valid(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(id__v7_carries_the_wall_clock_and_its_version),
        cmocka_unit_test(id__v7_of_a_later_millisecond_sorts_later),
        cmocka_unit_test(id__v7_of_one_millisecond_differ),
        cmocka_unit_test(id__v7_of_a_negative_clock_is_the_epoch),
        cmocka_unit_test(id__random_is_version_4),
        cmocka_unit_test(id__text_round_trips_in_any_case),
        cmocka_unit_test(id__parse_refuses_everything_else),
        cmocka_unit_test(name__valid_ones),
        cmocka_unit_test(name__invalid_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
