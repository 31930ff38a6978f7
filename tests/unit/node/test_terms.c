/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fs.h"
#include "base/hash.h"
#include "node/terms.h"
#include "tests/support/support.h"

static const struct hadb_id db = {{1, 2, 3}};

static struct hadb_term term(uint64_t number)
{
    struct hadb_term t = {.term = number,
                          .last_slot = number * 10,
                          .last_txid = number * 100,
                          .seal_hash = {{(uint8_t)number, 7}},
                          .next = {.node = {{9}}, .incarnation = {{(uint8_t)(number + 1)}}}};
    return t;
}

static void fill(struct hadb_terms *terms, uint64_t from, uint64_t to)
{
    *terms = (struct hadb_terms){.db = db};
    for (uint64_t i = from; i <= to; i++) {
        struct hadb_term t = term(i);
        assert_int_equal(hadb_terms_add(terms, &t, "node", "host:1", NULL), 0);
    }
}

static void a_table__finds_terms_and_owners(void **state)
{
    (void)state;
    struct hadb_terms terms;
    fill(&terms, 0, 5);
    assert_int_equal(hadb_terms_find(&terms, 3)->last_txid, 300);
    assert_null(hadb_terms_find(&terms, 6));
    assert_int_equal(hadb_terms_owner(&terms, 4).incarnation.b[0], 4);
    assert_int_equal(hadb_terms_owner(&terms, 0).incarnation.b[0], 0);
    assert_int_equal(hadb_terms_owner(&terms, 9).incarnation.b[0], 0);
    hadb_terms_deinit(&terms);
    hadb_terms_deinit(&terms);
}

/* Term t ends with slot 10 t; the present term is the one behind the last that has ended. */
static void swept_terms__are_passed_over(void **state)
{
    (void)state;
    struct hadb_terms terms = {.db = db};
    assert_int_equal(hadb_terms_unswept(&terms, 7), 0);
    fill(&terms, 0, 5);
    assert_int_equal(hadb_terms_unswept(&terms, 0), 1);
    assert_int_equal(hadb_terms_unswept(&terms, 29), 3);
    assert_int_equal(hadb_terms_unswept(&terms, 30), 4);
    assert_int_equal(hadb_terms_unswept(&terms, 50), 6);
    assert_int_equal(hadb_terms_unswept(&terms, 5000), 6);
    hadb_terms_deinit(&terms);
    fill(&terms, 3, 5); /* it does not know the terms before */
    assert_int_equal(hadb_terms_unswept(&terms, 29), 0);
    assert_int_equal(hadb_terms_unswept(&terms, 30), 4);
    hadb_terms_deinit(&terms);
}

static void a_gap__is_refused_and_changes_nothing(void **state)
{
    (void)state;
    struct hadb_terms terms;
    struct hadb_term t = term(5);
    fill(&terms, 0, 3);
    assert_int_equal(hadb_terms_add(&terms, &t, "n", "a", NULL), HADB_EINVAL);
    assert_int_equal(terms.len, 4);
    hadb_terms_deinit(&terms);
}

static void a_term_that_is_passed_again__drops_what_came_after_it(void **state)
{
    (void)state;
    struct hadb_terms terms;
    struct hadb_term t = term(2);
    fill(&terms, 0, 5);
    t.seal_hash.b[5] = 1;
    assert_int_equal(hadb_terms_add(&terms, &t, "other", "host:2", NULL), 0);
    assert_int_equal(terms.len, 3);
    assert_int_equal(hadb_terms_find(&terms, 2)->seal_hash.b[5], 1);
    assert_string_equal(terms.next_name, "other");
    hadb_terms_deinit(&terms);
}

static void a_full_table__forgets_the_oldest(void **state)
{
    (void)state;
    struct hadb_terms terms;
    fill(&terms, 7, 7 + HADB_TERMS_MAX);
    assert_int_equal(terms.len, HADB_TERMS_MAX);
    assert_int_equal(terms.floor, 8);
    assert_null(hadb_terms_find(&terms, 7));
    assert_int_equal(hadb_terms_find(&terms, 8)->term, 8);
    hadb_terms_deinit(&terms);
}

static void a_table__comes_back_from_its_bytes(void **state)
{
    (void)state;
    struct hadb_terms terms, back;
    struct hadb_buf bytes = {0}, again = {0};
    fill(&terms, 3, 9);
    assert_int_equal(hadb_terms_encode(&terms, &bytes, NULL), 0);
    assert_int_equal(hadb_terms_decode(hadb_buf_slice(&bytes), &db, &back, NULL), 0);
    assert_int_equal(back.len, terms.len);
    assert_memory_equal(back.items, terms.items, terms.len * sizeof *terms.items);
    assert_string_equal(back.next_name, "node");
    assert_string_equal(back.next_address, "host:1");
    assert_int_equal(hadb_terms_encode(&back, &again, NULL), 0);
    assert_int_equal(again.len, bytes.len);
    assert_memory_equal(again.data, bytes.data, bytes.len);
    hadb_buf_deinit(&bytes);
    hadb_buf_deinit(&again);
    hadb_terms_deinit(&terms);
    hadb_terms_deinit(&back);
}

static void every_damaged_byte__is_noticed(void **state)
{
    (void)state;
    struct hadb_terms terms, back;
    struct hadb_buf bytes = {0};
    fill(&terms, 0, 2);
    assert_int_equal(hadb_terms_encode(&terms, &bytes, NULL), 0);
    for (size_t i = 0; i < bytes.len; i++) {
        bytes.data[i] ^= 0x10;
        int r = hadb_terms_decode(hadb_buf_slice(&bytes), &db, &back, NULL);
        assert_true(r == HADB_ECORRUPT || r == HADB_EVERSION);
        bytes.data[i] ^= 0x10;
    }
    for (size_t len = 0; len < bytes.len; len++) {
        assert_int_equal(hadb_terms_decode(hadb_slice(bytes.data, len), &db, &back, NULL),
                         HADB_ECORRUPT);
    }
    struct hadb_id other = {{8}};
    assert_int_equal(hadb_terms_decode(hadb_buf_slice(&bytes), &other, &back, NULL), HADB_ECORRUPT);
    hadb_buf_deinit(&bytes);
    hadb_terms_deinit(&terms);
}

/* The address is where writes are sent to. */
static void texts__that_no_seal_has_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t byte;
    } bad[] = {{40, '/'}, {42, 0}, {50, 'x'}, {104, '\n'}, {106, 0}, {107, 0xff}, {359, 'x'}};
    struct hadb_terms terms, back;
    struct hadb_buf bytes = {0};
    fill(&terms, 0, 2);
    assert_int_equal(hadb_terms_encode(&terms, &bytes, NULL), 0);
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        uint8_t before = bytes.data[bad[i].at];
        bytes.data[bad[i].at] = bad[i].byte;
        hadb_put_u32(bytes.data + bytes.len - 4, hadb_crc32c(0, bytes.data, bytes.len - 4));
        assert_int_equal(hadb_terms_decode(hadb_buf_slice(&bytes), &db, &back, NULL),
                         HADB_ECORRUPT);
        bytes.data[bad[i].at] = before;
    }
    hadb_buf_deinit(&bytes);
    hadb_terms_deinit(&terms);
}

static void an_absent_file__is_an_empty_table_and_a_damaged_one_is_named(void **state)
{
    (void)state;
    char dir[HADB_PATH_BYTES_MAX], path[HADB_PATH_BYTES_MAX];
    struct hadb_fs fs = hadb_fs_host();
    struct hadb_terms terms, back;
    struct hadb_error err;
    test_tmp_make(dir);
    assert_int_equal(hadb_path_join(path, dir, "terms", NULL), 0);
    assert_int_equal(hadb_terms_load(&fs, path, &db, &back, NULL), 0);
    assert_int_equal(back.len, 0);
    fill(&terms, 0, 2);
    assert_int_equal(hadb_terms_store(&fs, path, &terms, NULL), 0);
    assert_int_equal(hadb_terms_load(&fs, path, &db, &back, NULL), 0);
    assert_int_equal(back.len, 3);
    hadb_terms_deinit(&back);
    assert_int_equal(hadb_fs_replace_file(&fs, path, hadb_slice_str("rubbish"), NULL), 0);
    assert_int_equal(hadb_terms_load(&fs, path, &db, &back, &err), HADB_ECORRUPT);
    assert_non_null(strstr(err.message, path));
    hadb_terms_deinit(&terms);
    test_tmp_remove(dir);
}

static void without_memory__nothing_changes(void **state)
{
    (void)state;
    struct hadb_terms terms;
    fill(&terms, 0, 7); /* the next one grows the table */
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        struct hadb_term t = term(8);
        struct hadb_terms copy;
        struct hadb_buf bytes = {0};
        test_alloc_fail_at(n);
        int r = hadb_terms_copy(&terms, &copy, NULL);
        if (r == 0) {
            r = hadb_terms_add(&copy, &t, "n", "a", NULL);
            assert_int_equal(copy.len, r == 0 ? 9 : 8);
            if (r == 0) {
                r = hadb_terms_encode(&copy, &bytes, NULL);
            }
            hadb_terms_deinit(&copy);
        }
        hit = test_alloc_hit();
        assert_int_equal(r, hit ? HADB_ENOMEM : 0);
        test_alloc_reset();
        hadb_buf_deinit(&bytes);
    }
    hadb_terms_deinit(&terms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table__finds_terms_and_owners),
        cmocka_unit_test(swept_terms__are_passed_over),
        cmocka_unit_test(a_gap__is_refused_and_changes_nothing),
        cmocka_unit_test(a_term_that_is_passed_again__drops_what_came_after_it),
        cmocka_unit_test(a_full_table__forgets_the_oldest),
        cmocka_unit_test(a_table__comes_back_from_its_bytes),
        cmocka_unit_test(every_damaged_byte__is_noticed),
        cmocka_unit_test(texts__that_no_seal_has_are_refused),
        cmocka_unit_test(an_absent_file__is_an_empty_table_and_a_damaged_one_is_named),
        cmocka_unit_test(without_memory__nothing_changes),
    };
    return cmocka_run_group_tests_name("terms", tests, NULL, NULL);
}
