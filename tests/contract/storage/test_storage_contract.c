/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract of StorageBackend (include/hadb/storage.h), run on every backend and every wrapper.
 * Usage: test_storage_contract SPEC (see storage_world.h). Each test gets a fresh store.
 */
#include "base/alloc.h"
#include "base/env.h"
#include "tests/contract/storage/contract.h"
#include "tests/support/support.h"

static const char *spec;

int contract_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->world = storage_world_new(spec);
    storage_world_open(f->world, &f->s);
    *state = f;
    return 0;
}

int contract_teardown(void **state)
{
    struct fixture *f = *state;
    hadb_buf_deinit(&f->got);
    hadb_storage_close(&f->s);
    storage_world_free(f->world);
    free(f);
    return 0;
}

int create(struct fixture *f, const char *key, const char *body)
{
    return hadb_storage_create(&f->s, NULL, key, hadb_slice_str(body), NULL, &f->err);
}

void assert_holds(struct fixture *f, const char *key, const char *body)
{
    assert_done(f, hadb_storage_get(&f->s, NULL, key, &f->got, NULL, &f->err));
    assert_int_equal(f->got.len, strlen(body));
    if (f->got.len > 0) {
        assert_memory_equal(f->got.data, body, f->got.len);
    }
}

static void assert_absent(struct fixture *f, const char *key)
{
    assert_int_equal(hadb_storage_get(&f->s, NULL, key, &f->got, NULL, &f->err), HADB_ABSENT);
}

static struct hadb_tag tag_of(struct fixture *f, const char *key)
{
    struct hadb_tag tag = {0};
    assert_done(f, hadb_storage_get(&f->s, NULL, key, &f->got, &tag, &f->err));
    return tag;
}

/* --- one caller --------------------------------------------------------------------------------- */

static void create__stores_bytes_that_get_returns(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag made = {0}, read = {0};
    assert_done(f,
                hadb_storage_create(&f->s, NULL, "log/1/2", hadb_slice("a\0b", 3), &made, &f->err));
    assert_done(f, hadb_storage_get(&f->s, NULL, "log/1/2", &f->got, &read, &f->err));
    assert_int_equal(f->got.len, 3);
    assert_memory_equal(f->got.data, "a\0b", 3);
    assert_string_not_equal(made.s, "");
    assert_string_equal(made.s, read.s);
}

static void create__of_a_taken_key_says_exists_and_keeps_the_first_bytes(void **state)
{
    struct fixture *f = *state;
    assert_done(f, create(f, "k", "first"));
    assert_int_equal(create(f, "k", "second"), HADB_EXISTS);
    assert_int_equal(create(f, "k", "first"), HADB_EXISTS);
    assert_holds(f, "k", "first");
}

static void create__takes_an_empty_body(void **state)
{
    struct fixture *f = *state;
    struct hadb_object_meta meta = {.size_bytes = 7};
    assert_done(f,
                hadb_storage_create(&f->s, NULL, "empty", (struct hadb_slice){0}, NULL, &f->err));
    assert_holds(f, "empty", "");
    assert_done(f, hadb_storage_head(&f->s, NULL, "empty", &meta, &f->err));
    assert_int_equal(meta.size_bytes, 0);
    assert_int_equal(create(f, "empty", "x"), HADB_EXISTS);
}

static void create__takes_a_large_body(void **state)
{
    struct fixture *f = *state;
    struct test_rng rng;
    size_t len = (5u << 20) + 13;
    uint8_t *bytes = malloc(len);
    test_rng_seed(&rng, 7);
    test_rng_fill(&rng, bytes, len);
    assert_done(f, hadb_storage_create(&f->s, NULL, "big", hadb_slice(bytes, len), NULL, &f->err));
    assert_done(f, hadb_storage_get(&f->s, NULL, "big", &f->got, NULL, &f->err));
    assert_true(hadb_slice_eq(hadb_buf_slice(&f->got), hadb_slice(bytes, len)));
    assert_done(f,
                hadb_storage_get_range(&f->s, NULL, "big", len - 100000, 100000, &f->got, &f->err));
    assert_true(hadb_slice_eq(hadb_buf_slice(&f->got), hadb_slice(bytes + len - 100000, 100000)));
    free(bytes);
}

/* A backend may send such a body in parts: it still appears at once, and once. */
static void create__of_a_very_large_body_happens_once(void **state)
{
    struct fixture *f = *state;
    struct test_rng rng;
    struct hadb_tag made = {""}, read = {""};
    size_t len = (20u << 20) + 7;
    uint8_t *bytes = malloc(len);
    assert_non_null(bytes);
    test_rng_seed(&rng, 8);
    test_rng_fill(&rng, bytes, len);
    struct hadb_slice body = hadb_slice(bytes, len);
    assert_done(f, hadb_storage_create(&f->s, NULL, "vast", body, &made, &f->err));
    assert_int_equal(hadb_storage_create(&f->s, NULL, "vast", body, NULL, &f->err), HADB_EXISTS);
    assert_int_equal(create(f, "vast", "small"), HADB_EXISTS);
    assert_done(f, hadb_storage_get(&f->s, NULL, "vast", &f->got, &read, &f->err));
    assert_true(hadb_slice_eq(hadb_buf_slice(&f->got), body));
    assert_string_equal(made.s, read.s);
    body.len--;
    assert_done(f, hadb_storage_replace(&f->s, NULL, "vast", body, &made, NULL, &f->err));
    free(bytes);
}

static void create__refuses_a_body_over_the_limit(void **state)
{
    struct fixture *f = *state;
    char byte = 'x'; /* dispatch must look at the length alone */
    struct hadb_slice huge = hadb_slice(&byte, (size_t)HADB_OBJECT_BYTES_MAX + 1);
    assert_int_equal(hadb_storage_create(&f->s, NULL, "huge", huge, NULL, &f->err), HADB_ETOOBIG);
    assert_absent(f, "huge");
}

static void key__can_have_the_longest_length(void **state)
{
    struct fixture *f = *state;
    char key[HADB_OBJECT_KEY_BYTES_MAX + 2];
    size_t len = HADB_OBJECT_KEY_BYTES_MAX - 32; /* room for what with_prefix adds, twice */
    memset(key, 'k', sizeof(key));
    for (size_t i = 200; i < len - 1; i += 201) { /* file systems limit a part to 255 bytes */
        key[i] = '/';
    }
    key[len] = '\0';
    assert_done(f, create(f, key, "long"));
    assert_holds(f, key, "long");
}

static void missing__object_is_absent_for_all_reads(void **state)
{
    struct fixture *f = *state;
    struct hadb_object_meta meta = {0};
    assert_done(f, create(f, "dir/there", "x"));
    static const char *const keys[] = {"nothing", "no/such/folder", "dir", "dir/there/below"};
    for (size_t i = 0; i < HADB_LEN(keys); i++) {
        assert_absent(f, keys[i]);
        assert_int_equal(hadb_storage_head(&f->s, NULL, keys[i], &meta, &f->err), HADB_ABSENT);
        assert_int_equal(hadb_storage_get_range(&f->s, NULL, keys[i], 0, 1, &f->got, &f->err),
                         HADB_ABSENT);
    }
}

static void get__replaces_the_buffer_and_leaves_it_alone_when_absent(void **state)
{
    struct fixture *f = *state;
    assert_done(f, create(f, "k", "new"));
    assert_int_equal(hadb_buf_append_str(&f->got, "something longer"), 0);
    assert_absent(f, "other");
    assert_int_equal(f->got.len, strlen("something longer"));
    assert_holds(f, "k", "new");
}

static void range__ends_where_the_object_ends(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint64_t offset;
        size_t len;
        const char *want;
    } cases[] = {
        {0, 10, "0123456789"}, {0, 3, "012"}, {7, 3, "789"},
        {7, 100, "789"},       {10, 5, ""},   {11, 1, ""},
        {UINT64_MAX, 10, ""},  {4, 0, ""},    {0, HADB_OBJECT_BYTES_MAX, "0123456789"},
    };
    assert_done(f, create(f, "k", "0123456789"));
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        assert_done(f, hadb_storage_get_range(&f->s, NULL, "k", cases[i].offset, cases[i].len,
                                              &f->got, &f->err));
        assert_true(hadb_slice_eq(hadb_buf_slice(&f->got), hadb_slice_str(cases[i].want)));
    }
}

static void head__tells_size_and_the_tag_of_get(void **state)
{
    struct fixture *f = *state;
    struct hadb_object_meta meta = {0};
    assert_done(f, create(f, "k", "12345"));
    struct hadb_tag tag = tag_of(f, "k");
    assert_done(f, hadb_storage_head(&f->s, NULL, "k", &meta, &f->err));
    assert_int_equal(meta.size_bytes, 5);
    assert_string_equal(meta.tag.s, tag.s);
}

static void replace__works_with_the_tag_of_now_only(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag first = {0}, second = {0};
    assert_done(f, hadb_storage_create(&f->s, NULL, "m", hadb_slice_str("one"), &first, &f->err));
    assert_done(
        f, hadb_storage_replace(&f->s, NULL, "m", hadb_slice_str("two"), &first, &second, &f->err));
    assert_holds(f, "m", "two");
    assert_string_not_equal(first.s, second.s);
    assert_string_equal(tag_of(f, "m").s, second.s);
    assert_int_equal(
        hadb_storage_replace(&f->s, NULL, "m", hadb_slice_str("three"), &first, NULL, &f->err),
        HADB_CAS_LOST);
    assert_holds(f, "m", "two");
    assert_done(f,
                hadb_storage_replace(&f->s, NULL, "m", hadb_slice_str(""), &second, NULL, &f->err));
    assert_holds(f, "m", "");
}

static void replace__of_an_absent_key_loses_and_makes_nothing(void **state)
{
    struct fixture *f = *state;
    assert_done(f, create(f, "other", "x"));
    struct hadb_tag tag = tag_of(f, "other");
    assert_int_equal(
        hadb_storage_replace(&f->s, NULL, "m", hadb_slice_str("x"), &tag, NULL, &f->err),
        HADB_CAS_LOST);
    assert_int_equal(
        hadb_storage_replace(&f->s, NULL, "no/folder", hadb_slice_str("x"), &tag, NULL, &f->err),
        HADB_CAS_LOST);
    assert_absent(f, "m");
}

static void replace__by_equal_bytes_leaves_a_tag_that_works(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag tag = {0};
    assert_done(f, create(f, "m", "same"));
    tag = tag_of(f, "m");
    assert_done(
        f, hadb_storage_replace(&f->s, NULL, "m", hadb_slice_str("same"), &tag, &tag, &f->err));
    assert_string_equal(tag_of(f, "m").s, tag.s);
    assert_done(
        f, hadb_storage_replace(&f->s, NULL, "m", hadb_slice_str("next"), &tag, NULL, &f->err));
}

static void replace__needs_a_tag(void **state)
{
    struct fixture *f = *state;
    struct hadb_tag empty = {0}, endless;
    memset(&endless, 'x', sizeof(endless));
    assert_done(f, create(f, "m", "x"));
    struct hadb_slice body = hadb_slice_str("y");
    assert_int_equal(hadb_storage_replace(&f->s, NULL, "m", body, NULL, NULL, &f->err),
                     HADB_EINVAL);
    assert_int_equal(hadb_storage_replace(&f->s, NULL, "m", body, &empty, NULL, &f->err),
                     HADB_EINVAL);
    assert_int_equal(hadb_storage_replace(&f->s, NULL, "m", body, &endless, NULL, &f->err),
                     HADB_EINVAL);
    assert_holds(f, "m", "x");
}

static void delete__removes_and_does_not_mind_what_is_absent(void **state)
{
    struct fixture *f = *state;
    static const char *const keys[] = {"a/1", "nothing", "b", "a/2", "no/such/folder", "a"};
    assert_done(f, create(f, "a/1", "1"));
    assert_done(f, create(f, "a/2", "2"));
    assert_done(f, create(f, "a/3", "3"));
    assert_done(f, create(f, "b", "4"));
    assert_done(f, hadb_storage_delete_many(&f->s, NULL, keys, HADB_LEN(keys), &f->err));
    assert_absent(f, "a/1");
    assert_absent(f, "a/2");
    assert_absent(f, "b");
    assert_holds(f, "a/3", "3");
    assert_done(f, hadb_storage_delete_many(&f->s, NULL, keys, HADB_LEN(keys), &f->err));
    assert_done(f, hadb_storage_delete_many(&f->s, NULL, NULL, 0, &f->err));
    assert_done(f, create(f, "a/1", "again"));
    assert_holds(f, "a/1", "again");
}

static void optional__arguments_may_be_null(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(hadb_storage_create(&f->s, NULL, "k", hadb_slice_str("x"), NULL, NULL), 0);
    assert_int_equal(hadb_storage_get(&f->s, NULL, "k", &f->got, NULL, NULL), 0);
    assert_int_equal(hadb_storage_get(&f->s, NULL, "..", &f->got, NULL, NULL), HADB_EINVAL);
    struct hadb_call late = {.deadline_ms = 1};
    assert_int_equal(hadb_storage_get(&f->s, &late, "k", &f->got, NULL, NULL), HADB_ETIMEDOUT);
}

/* --- arguments that must be refused ------------------------------------------------------------- */

static void bad_key__is_refused_by_every_operation(void **state)
{
    struct fixture *f = *state;
    char longest[HADB_OBJECT_KEY_BYTES_MAX + 2];
    memset(longest, 'k', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    const char *bad[] = {"",      "/",         "/a",   "a/",   "a//b",  "..",
                         "../a",  "a/../b",    "a/..", ".",    "a/./b", ".tmp/x",
                         ".lock", "a/.hidden", "a b",  "a\nb", "a%2f",  "a\\b",
                         "a:b",   "\xc3\xa4",  "a?b",  "a*",   longest};
    struct hadb_tag tag = {"x"};
    struct hadb_object_meta meta = {0};
    struct hadb_slice body = hadb_slice_str("x");
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        const char *k = bad[i];
        assert_int_equal(hadb_storage_get(&f->s, NULL, k, &f->got, NULL, &f->err), HADB_EINVAL);
        assert_string_not_equal(f->err.message, "");
        assert_int_equal(hadb_storage_get_range(&f->s, NULL, k, 0, 1, &f->got, &f->err),
                         HADB_EINVAL);
        assert_int_equal(hadb_storage_head(&f->s, NULL, k, &meta, &f->err), HADB_EINVAL);
        assert_int_equal(hadb_storage_create(&f->s, NULL, k, body, NULL, &f->err), HADB_EINVAL);
        assert_int_equal(hadb_storage_replace(&f->s, NULL, k, body, &tag, NULL, &f->err),
                         HADB_EINVAL);
        assert_int_equal(hadb_storage_delete_many(&f->s, NULL, &k, 1, &f->err), HADB_EINVAL);
    }
    struct hadb_object_list list = {0};
    assert_done(f, hadb_storage_list(&f->s, NULL, "", "", 10, &list, &f->err));
    assert_int_equal(list.len, 0);
    hadb_object_list_deinit(&list);
}

static void bad_listing__is_refused(void **state)
{
    struct fixture *f = *state;
    struct hadb_object_list list = {0};
    assert_int_equal(hadb_storage_list(&f->s, NULL, "", "", 0, &list, &f->err), HADB_EINVAL);
    assert_int_equal(hadb_storage_list(&f->s, NULL, "", "", HADB_LIST_LEN_MAX + 1, &list, &f->err),
                     HADB_EINVAL);
    assert_int_equal(hadb_storage_list(&f->s, NULL, "../", "", 1, &list, &f->err), HADB_EINVAL);
    assert_int_equal(hadb_storage_list(&f->s, NULL, "/", "", 1, &list, &f->err), HADB_EINVAL);
    assert_int_equal(hadb_storage_list(&f->s, NULL, "", "a b", 1, &list, &f->err), HADB_EINVAL);
    assert_int_equal(hadb_storage_list(&f->s, NULL, NULL, "", 1, &list, &f->err), HADB_EINVAL);
}

/* Every operation with @call; all must fail with the code given for reads and writes. */
static void assert_nothing_happens(struct fixture *f, const struct hadb_call *call, int read_code,
                                   int write_code)
{
    struct hadb_object_meta meta = {0};
    struct hadb_object_list list = {0};
    const char *key = "k";
    assert_done(f, create(f, "k", "old"));
    struct hadb_tag tag = tag_of(f, "k");
    struct hadb_slice body = hadb_slice_str("new");
    assert_int_equal(hadb_storage_create(&f->s, call, "fresh", body, NULL, &f->err), write_code);
    assert_int_equal(hadb_storage_replace(&f->s, call, "k", body, &tag, NULL, &f->err), write_code);
    assert_int_equal(hadb_storage_delete_many(&f->s, call, &key, 1, &f->err), write_code);
    assert_int_equal(hadb_storage_get(&f->s, call, "k", &f->got, NULL, &f->err), read_code);
    assert_int_equal(hadb_storage_get_range(&f->s, call, "k", 0, 1, &f->got, &f->err), read_code);
    assert_int_equal(hadb_storage_head(&f->s, call, "k", &meta, &f->err), read_code);
    assert_int_equal(hadb_storage_list(&f->s, call, "", "", 1, &list, &f->err), read_code);
    assert_absent(f, "fresh");
    assert_holds(f, "k", "old");
}

static void deadline__that_has_passed_means_nothing_is_written(void **state)
{
    struct fixture *f = *state;
    struct hadb_call late = {.deadline_ms = 1};
    /* Surely not written is not "unknown": the caller may rely on it. */
    assert_nothing_happens(f, &late, HADB_ETIMEDOUT, HADB_EUNAVAIL);
}

/* Snapshots are given an hour. */
static void deadline__that_is_far_away_is_as_good_as_none(void **state)
{
    struct fixture *f = *state;
    struct hadb_call call = hadb_call_within(NULL, 3600000);
    assert_done(f, hadb_storage_create(&f->s, &call, "far", hadb_slice_str("x"), NULL, &f->err));
    assert_done(f, hadb_storage_get(&f->s, &call, "far", &f->got, NULL, &f->err));
    assert_true(hadb_slice_eq(hadb_buf_slice(&f->got), hadb_slice_str("x")));
}

static void cancelled__call_does_nothing(void **state)
{
    struct fixture *f = *state;
    struct hadb_cancel cancel = {.flag = 1};
    struct hadb_call call = {.cancel = &cancel};
    assert_nothing_happens(f, &call, HADB_ECANCELED, HADB_ECANCELED);
}

/* --- listing ------------------------------------------------------------------------------------ */

static void list__of_an_empty_store_is_empty(void **state)
{
    struct fixture *f = *state;
    struct hadb_object_list list = {0};
    assert_done(f, hadb_storage_list(&f->s, NULL, "", "", 1000, &list, &f->err));
    assert_int_equal(list.len, 0);
    assert_false(list.truncated);
    assert_done(f, hadb_storage_list(&f->s, NULL, "no/such/", "", 1, &list, &f->err));
    assert_int_equal(list.len, 0);
    hadb_object_list_deinit(&list);
}

/* One page as "key,key,+" (+ = truncated). */
static const char *page(struct fixture *f, const char *prefix, const char *after, size_t max)
{
    struct hadb_object_list list = {0};
    assert_done(f, hadb_storage_list(&f->s, NULL, prefix, after, max, &list, &f->err));
    hadb_buf_clear(&f->got);
    for (size_t i = 0; i < list.len; i++) {
        hadb_buf_printf(&f->got, "%s,", list.items[i].key);
    }
    hadb_buf_append_str(&f->got, list.truncated ? "+" : "");
    hadb_object_list_deinit(&list);
    return hadb_buf_cstr(&f->got);
}

static void list__is_in_byte_order_of_whole_keys(void **state)
{
    struct fixture *f = *state;
    static const char *const keys[] = {"a0",    "a/b", "a-b", "a.b",  "a/B",
                                       "a/b-c", "Z",   "a_b", "a/c/d"};
    for (size_t i = 0; i < HADB_LEN(keys); i++) {
        assert_done(f, create(f, keys[i], "x"));
    }
    assert_string_equal(page(f, "", "", 100), "Z,a-b,a.b,a/B,a/b,a/b-c,a/c/d,a0,a_b,");
    assert_string_equal(page(f, "a/", "", 100), "a/B,a/b,a/b-c,a/c/d,");
    assert_string_equal(page(f, "a/b", "", 100), "a/b,a/b-c,");
    assert_string_equal(page(f, "a", "a/b", 100), "a/b-c,a/c/d,a0,a_b,");
    assert_string_equal(page(f, "a", "a/c", 100), "a/c/d,a0,a_b,");
    assert_string_equal(page(f, "a", "Z", 100), "a-b,a.b,a/B,a/b,a/b-c,a/c/d,a0,a_b,");
    assert_string_equal(page(f, "a/", "b", 100), "");
    assert_string_equal(page(f, "a/c/d", "", 100), "a/c/d,");
    assert_string_equal(page(f, "a/c/d/", "", 100), "");
    assert_string_equal(page(f, "", "", 3), "Z,a-b,a.b,+");
    assert_string_equal(page(f, "", "a.b", 3), "a/B,a/b,a/b-c,+");
    assert_string_equal(page(f, "", "a/b-c", 3), "a/c/d,a0,a_b,");
    assert_string_equal(page(f, "", "a_b", 3), "");
}

static void list__tells_sizes(void **state)
{
    struct fixture *f = *state;
    struct hadb_object_list list = {0};
    assert_done(f, create(f, "five", "12345"));
    assert_done(f, create(f, "none", ""));
    assert_done(f, hadb_storage_list(&f->s, NULL, "", "", 10, &list, &f->err));
    assert_int_equal(list.len, 2);
    assert_int_equal(list.items[0].size_bytes, 5);
    assert_int_equal(list.items[1].size_bytes, 0);
    hadb_object_list_deinit(&list);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Pages of any size, from any place, put together give exactly the keys of a model. */
static void list__agrees_with_a_sorted_model(void **state)
{
    enum { KEYS = 120, WALKS = 30 };
    struct fixture *f = *state;
    static const char *const parts[] = {"a", "b", "a-", "a.x", "B0", "zz"};
    char keys[KEYS][64];
    struct test_rng rng;
    test_rng_init(&rng, 11);
    for (size_t i = 0; i < KEYS; i++) { /* folders end in "d", so none is a key */
        size_t folders = test_rng_below(&rng, 3);
        int len = 0;
        for (size_t k = 0; k < folders; k++) {
            len += snprintf(keys[i] + len, 64 - (size_t)len, "%sd/",
                            parts[test_rng_below(&rng, HADB_LEN(parts))]);
        }
        snprintf(keys[i] + len, 64 - (size_t)len, "%s%03zu",
                 parts[test_rng_below(&rng, HADB_LEN(parts))], i);
        assert_done(f, create(f, keys[i], "x"));
    }
    qsort(keys, KEYS, sizeof(keys[0]), by_bytes);
    for (size_t walk = 0; walk < WALKS; walk++) {
        const char *from = keys[test_rng_below(&rng, KEYS)];
        char prefix[64] = "", after[HADB_OBJECT_KEY_BYTES_MAX + 1] = "";
        size_t prefix_len = test_rng_below(&rng, strlen(from));
        memcpy(prefix, from, prefix_len);
        prefix[prefix_len] = '\0';
        if (test_rng_chance(&rng, 50)) {
            strcpy(after, keys[test_rng_below(&rng, KEYS)]);
        }
        size_t max = 1 + test_rng_below(&rng, 40), at = 0;
        bool more = true;
        while (more) {
            struct hadb_object_list list = {0};
            assert_done(f, hadb_storage_list(&f->s, NULL, prefix, after, max, &list, &f->err));
            for (size_t i = 0; i < list.len; i++, at++) {
                while (at < KEYS && (strncmp(keys[at], prefix, prefix_len) != 0 ||
                                     strcmp(keys[at], after) <= 0)) {
                    at++;
                }
                assert_true(at < KEYS);
                assert_string_equal(list.items[i].key, keys[at]);
                strcpy(after, list.items[i].key);
            }
            more = list.truncated;
            assert_true(!more || list.len == max);
            hadb_object_list_deinit(&list);
        }
        for (; at < KEYS; at++) {
            assert_true(strncmp(keys[at], prefix, prefix_len) != 0 || strcmp(keys[at], after) <= 0);
        }
    }
}

/* --- memory ------------------------------------------------------------------------------------- */

/* Fails the n-th allocation of each operation, for every n: ENOMEM changes nothing. */
static void out_of_memory__changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct hadb_object_list list = {0};
    bool hit = true;
    assert_done(f, create(f, "m", "old"));
    struct hadb_tag tag = tag_of(f, "m");
    for (uint64_t n = 1; hit && n < 200; n++) {
        char key[32];
        snprintf(key, sizeof(key), "oom/%03u", (unsigned)n);
        test_alloc_fail_at(n);
        int r = create(f, key, "body");
        hit = test_alloc_hit();
        test_alloc_reset();
        assert_true(r == 0 || r == HADB_ENOMEM);
        r == 0 ? assert_holds(f, key, "body") : assert_absent(f, key);
    }
    assert_false(hit);
    hit = true;
    for (uint64_t n = 1; hit && n < 200; n++) {
        test_alloc_fail_at(n);
        int r = hadb_storage_replace(&f->s, NULL, "m", hadb_slice_str("new"), &tag, NULL, &f->err);
        hit = test_alloc_hit();
        test_alloc_reset();
        assert_true(r == 0 || r == HADB_ENOMEM);
        assert_holds(f, "m", r == 0 ? "new" : "old");
        if (r == 0) {
            break;
        }
    }
    hit = true;
    for (uint64_t n = 1; hit && n < 400; n++) {
        test_alloc_fail_at(n);
        int got = hadb_storage_get(&f->s, NULL, "m", &f->got, NULL, &f->err);
        int listed = got ? got : hadb_storage_list(&f->s, NULL, "", "", 1000, &list, &f->err);
        hit = test_alloc_hit();
        test_alloc_reset();
        assert_true((got == 0 || got == HADB_ENOMEM) && (listed == 0 || listed == HADB_ENOMEM));
        hadb_object_list_deinit(&list);
    }
    assert_false(hit);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        contract(create__stores_bytes_that_get_returns),
        contract(create__of_a_taken_key_says_exists_and_keeps_the_first_bytes),
        contract(create__takes_an_empty_body),
        contract(create__takes_a_large_body),
        contract(create__of_a_very_large_body_happens_once),
        contract(create__refuses_a_body_over_the_limit),
        contract(key__can_have_the_longest_length),
        contract(missing__object_is_absent_for_all_reads),
        contract(get__replaces_the_buffer_and_leaves_it_alone_when_absent),
        contract(range__ends_where_the_object_ends),
        contract(head__tells_size_and_the_tag_of_get),
        contract(replace__works_with_the_tag_of_now_only),
        contract(replace__of_an_absent_key_loses_and_makes_nothing),
        contract(replace__by_equal_bytes_leaves_a_tag_that_works),
        contract(replace__needs_a_tag),
        contract(delete__removes_and_does_not_mind_what_is_absent),
        contract(optional__arguments_may_be_null),
        contract(bad_key__is_refused_by_every_operation),
        contract(bad_listing__is_refused),
        contract(deadline__that_has_passed_means_nothing_is_written),
        contract(deadline__that_is_far_away_is_as_good_as_none),
        contract(cancelled__call_does_nothing),
        contract(list__of_an_empty_store_is_empty),
        contract(list__is_in_byte_order_of_whole_keys),
        contract(list__tells_sizes),
        contract(list__agrees_with_a_sorted_model),
        contract(out_of_memory__changes_nothing),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s SPEC\n", argv[0]);
        return 2;
    }
    spec = argv[1];
    int failed = cmocka_run_group_tests_name(spec, tests, NULL, NULL);
    return failed + contract_run_races(spec);
}
