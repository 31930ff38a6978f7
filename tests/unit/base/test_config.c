/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/error.h"
#include "base/fs.h"
#include "tests/support/support.h"

static int parse(const char *text, struct hadb_config *out, struct hadb_error *err)
{
    return hadb_config_parse("hadb.conf", hadb_slice_str(text), out, err);
}

static void config__items_know_section_value_and_line(void **state)
{
    (void)state;
    struct hadb_config config = {0};
    const char *text = "# top\n"
                       "name = n1\n"
                       "\n"
                       "[store]\n"
                       "  url = file:///x ; where\n"
                       "db = a=kv\r\n"
                       "db = b=kv";
    assert_int_equal(parse(text, &config, NULL), 0);
    assert_int_equal(config.len, 4);
    assert_string_equal(config.items[0].section, "");
    assert_string_equal(config.items[0].name, "name");
    assert_string_equal(config.items[0].value, "n1");
    assert_int_equal(config.items[0].line, 2);
    const struct hadb_config_item *url = hadb_config_find(&config, "store", "url", NULL);
    assert_non_null(url);
    assert_string_equal(url->value, "file:///x");
    assert_int_equal(url->line, 5);
    const struct hadb_config_item *db = hadb_config_find(&config, "store", "db", NULL);
    assert_string_equal(db->value, "a=kv");
    db = hadb_config_find(&config, "store", "db", db);
    assert_string_equal(db->value, "b=kv");
    assert_int_equal(db->line, 7);
    assert_null(hadb_config_find(&config, "store", "db", db));
    assert_null(hadb_config_find(&config, "", "url", NULL));
    hadb_config_deinit(&config);
    hadb_config_deinit(&config);
}

static void config__empty_and_comments_only_are_fine(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "\n\n", "; x\n# y\n", "[section]\n"};
    for (size_t i = 0; i < HADB_LEN(texts); i++) {
        struct hadb_config config = {0};
        assert_int_equal(parse(texts[i], &config, NULL), 0);
        assert_int_equal(config.len, 0);
        hadb_config_deinit(&config);
    }
}

/* libinih would take an indented line for the rest of the value above. */
static void config__indentation_means_nothing(void **state)
{
    (void)state;
    struct hadb_config config = {0};
    assert_int_equal(parse("a = 1\n   b = 2\n\tc = 3\n", &config, NULL), 0);
    assert_int_equal(config.len, 3);
    assert_string_equal(hadb_config_find(&config, "", "b", NULL)->value, "2");
    hadb_config_deinit(&config);
}

static void config__errors_name_file_and_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *start;
    } rows[] = {
        {"a = 1\nnonsense\n", "hadb.conf:2: "},
        {"a = 1\n[open\n", "hadb.conf:2: "},
        {"\n\n= 1\n", "hadb.conf:3: "},
    };
    for (size_t i = 0; i < HADB_LEN(rows); i++) {
        struct hadb_config config = {0};
        struct hadb_error err = {0};
        assert_int_equal(parse(rows[i].text, &config, &err), HADB_EINVAL);
        assert_memory_equal(err.message, rows[i].start, strlen(rows[i].start));
        assert_null(config.items);
    }
}

static void config__a_line_that_is_too_long_is_refused_not_split(void **state)
{
    (void)state;
    char text[9000] = "a = 1\nb = ";
    memset(text + strlen(text), 'x', 8000);
    struct hadb_config config = {0};
    struct hadb_error err = {0};
    assert_int_equal(parse(text, &config, &err), HADB_EINVAL);
    assert_string_equal(err.message, "hadb.conf:2: line is too long");
}

static void config__a_binary_file_is_refused(void **state)
{
    (void)state;
    struct hadb_config config = {0};
    struct hadb_error err = {0};
    assert_int_equal(hadb_config_parse("f", hadb_slice("a = 1\nb\0 = 2\n", 13), &config, &err),
                     HADB_EINVAL);
    assert_memory_equal(err.message, "f:2: ", 5);
}

static void config__known_names_the_first_stranger(void **state)
{
    (void)state;
    static const char *const known[] = {".name", "store.url", "store.db*", NULL};
    struct hadb_config config = {0};
    struct hadb_error err = {0};
    assert_int_equal(parse("name=a\n[store]\nurl=b\ndb=1\ndb=2\n", &config, NULL), 0);
    assert_int_equal(hadb_config_known(&config, known, &err), 0);
    hadb_config_deinit(&config);
    assert_int_equal(parse("[store]\nurl=b\n\nurI=c\n", &config, NULL), 0);
    assert_int_equal(hadb_config_known(&config, known, &err), HADB_EINVAL);
    assert_string_equal(err.message, "hadb.conf:4: unknown setting 'urI' in section 'store'");
    hadb_config_deinit(&config);
}

static void config__known_refuses_a_second_value_for_one_name(void **state)
{
    (void)state;
    static const char *const known[] = {".name", NULL};
    struct hadb_config config = {0};
    struct hadb_error err = {0};
    assert_int_equal(parse("name=a\nname=b\n", &config, NULL), 0);
    assert_int_equal(hadb_config_known(&config, known, &err), HADB_EINVAL);
    assert_string_equal(err.message, "hadb.conf:2: 'name' was set in line 1 already");
    hadb_config_deinit(&config);
}

static void config__read_takes_a_file(void **state)
{
    (void)state;
    char folder[HADB_PATH_BYTES_MAX], path[HADB_PATH_BYTES_MAX];
    test_tmp_make(folder);
    assert_int_equal(hadb_path_join(path, folder, "c.conf", NULL), 0);
    struct hadb_config config = {0};
    assert_int_equal(hadb_config_read(NULL, path, &config, NULL), HADB_ABSENT);
    assert_int_equal(hadb_fs_replace_file(NULL, path, hadb_slice_str("a=1"), NULL), 0);
    assert_int_equal(hadb_config_read(NULL, path, &config, NULL), 0);
    assert_string_equal(hadb_config_find(&config, "", "a", NULL)->value, "1");
    struct hadb_error err = {0};
    hadb_config_fail(&config, &config.items[0], &err, "must be %d", 2);
    assert_memory_equal(err.message, path, strlen(path));
    assert_string_equal(err.message + strlen(path), ":1: must be 2");
    hadb_config_deinit(&config);
    test_tmp_remove(folder);
}

static void config__survives_every_failing_allocation(void **state)
{
    (void)state;
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        struct hadb_config config = {0};
        test_alloc_fail_at(n);
        int r = parse("a=1\n[s]\nb=2\n", &config, NULL);
        hit = test_alloc_hit();
        hadb_config_deinit(&config);
        int64_t live = test_alloc_live();
        test_alloc_reset();
        assert_int_equal(r, hit ? HADB_ENOMEM : 0);
        assert_int_equal(live, 0);
        assert_true(n < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config__items_know_section_value_and_line),
        cmocka_unit_test(config__empty_and_comments_only_are_fine),
        cmocka_unit_test(config__indentation_means_nothing),
        cmocka_unit_test(config__errors_name_file_and_line),
        cmocka_unit_test(config__a_line_that_is_too_long_is_refused_not_split),
        cmocka_unit_test(config__a_binary_file_is_refused),
        cmocka_unit_test(config__known_names_the_first_stranger),
        cmocka_unit_test(config__known_refuses_a_second_value_for_one_name),
        cmocka_unit_test(config__read_takes_a_file),
        cmocka_unit_test(config__survives_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
