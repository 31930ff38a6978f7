/* SPDX-License-Identifier: Apache-2.0 */
/* Reads through the key-value executor, the canonical export, positions as text. Thread: one. */
#include "tests/unit/replicators/peer.h"

static struct hadb_response scan(struct peer *peer, const struct hadb_request *request)
{
    struct hadb_request copy = *request;
    copy.type = HADB_REQUEST_SCAN;
    struct hadb_response response;
    int r = hadb_executor_execute(&peer->executor, NULL, &copy, &response, NULL);
    assert_int_equal(r, response.code);
    return response;
}

/* "key=value key=value", and " …" when there is more. Frees @response. */
static const char *list(struct hadb_response *response)
{
    static char text[512];
    assert_int_equal(response->code, 0);
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < response->items.len; i++) {
        const struct hadb_item *item = &response->items.items[i];
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%.*s=%.*s", i ? " " : "",
                               (int)item->key.len, (const char *)item->key.data,
                               (int)item->value.len, (const char *)item->value.data);
        assert_true(at < sizeof(text));
    }
    if (response->items.more) {
        snprintf(text + at, sizeof(text) - at, " …");
    }
    hadb_response_deinit(response);
    return text;
}

static void open_filled(struct peer *peer, void **state)
{
    peer_open(peer, *state);
    const char *keys[] = {"b", "a", "ab", "c", "aa", "d"};
    for (size_t i = 0; i < HADB_LEN(keys); i++) {
        char value[4] = {(char)('1' + i)};
        put(peer, 1, keys[i], value);
    }
}

static void scan__shows_user_keys_in_order(void **state)
{
    struct peer peer;
    open_filled(&peer, state);
    struct hadb_request request = {0};
    struct hadb_response response = scan(&peer, &request);
    assert_int_equal(response.state_txid, 6);
    assert_int_equal(response.items.items[0].version.txid, 2);
    assert_int_equal(response.items.items[0].version.term, 1);
    assert_string_equal(list(&response), "a=2 aa=5 ab=3 b=1 c=4 d=6");
    request.range.reverse = true;
    response = scan(&peer, &request);
    assert_string_equal(list(&response), "d=6 c=4 b=1 ab=3 aa=5 a=2");
    request = (struct hadb_request){.range = {.prefix = hadb_slice_str("a"), .keys_only = true}};
    response = scan(&peer, &request);
    assert_string_equal(list(&response), "a= aa= ab=");
    request.range = (struct hadb_range){.start = hadb_slice_str("aa"), .end = hadb_slice_str("c")};
    response = scan(&peer, &request);
    assert_string_equal(list(&response), "aa=5 ab=3 b=1");
    request.range.prefix = hadb_slice_str("a");
    response = scan(&peer, &request);
    assert_string_equal(list(&response), "aa=5 ab=3");
    request.range = (struct hadb_range){.prefix = hadb_slice_str("zz")};
    response = scan(&peer, &request);
    assert_string_equal(list(&response), "");
    peer_close(&peer);
}

/* Every page size, forward and back: the pages together are the whole. */
static void scan__pages_join_without_gap_or_repeat(void **state)
{
    struct peer peer;
    open_filled(&peer, state);
    for (size_t limit = 1; limit <= 7; limit++) {
        for (int reverse = 0; reverse < 2; reverse++) {
            HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf seen = {0};
            HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf next = {0};
            struct hadb_request request = {.limit = limit, .range = {.reverse = reverse != 0}};
            bool more = true;
            for (unsigned page = 0; more; page++) {
                assert_true(page < 7);
                struct hadb_response response = scan(&peer, &request);
                assert_true(response.items.len <= limit);
                for (size_t i = 0; i < response.items.len; i++) {
                    struct hadb_slice key = response.items.items[i].key;
                    assert_int_equal(hadb_buf_append(&seen, key.data, key.len), 0);
                    assert_int_equal(hadb_buf_append(&seen, " ", 1), 0);
                }
                more = response.items.more;
                assert_int_equal(more, response.next.len != 0);
                hadb_buf_deinit(&next);
                next = hadb_buf_take(&response.next);
                request.range.start = reverse ? (struct hadb_slice){0} : hadb_buf_slice(&next);
                request.range.end = reverse ? hadb_buf_slice(&next) : (struct hadb_slice){0};
                hadb_response_deinit(&response);
            }
            assert_string_equal(hadb_buf_cstr(&seen),
                                reverse ? "d c b ab aa a " : "a aa ab b c d ");
        }
    }
    peer_close(&peer);
}

static void scan__stops_at_its_size_but_gives_one_item(void **state)
{
    struct peer peer;
    open_filled(&peer, state);
    struct hadb_request request = {.bytes_max = 5}; /* a=2 is 2 bytes, aa=5 is 3 */
    struct hadb_response response = scan(&peer, &request);
    assert_string_equal(list(&response), "a=2 aa=5 …");
    request.bytes_max = 4;
    response = scan(&peer, &request);
    assert_string_equal(list(&response), "a=2 …");
    request.bytes_max = 1;
    response = scan(&peer, &request);
    assert_string_equal(list(&response), "a=2 …");
    request.bytes_max = 14;
    response = scan(&peer, &request);
    assert_string_equal(list(&response), "a=2 aa=5 ab=3 b=1 c=4 d=6");
    peer_close(&peer);
}

static void scan__refuses_what_is_over_its_bounds(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    static char bound[HADB_KEY_BYTES_MAX + 2];
    struct hadb_request request = {.limit = HADB_SCAN_LIMIT_MAX + 1};
    assert_int_equal(scan(&peer, &request).code, HADB_EINVAL);
    request = (struct hadb_request){.bytes_max = HADB_SCAN_BYTES_MAX + 1};
    assert_int_equal(scan(&peer, &request).code, HADB_EINVAL);
    request = (struct hadb_request){.range = {.start = {bound, sizeof(bound)}}};
    assert_int_equal(scan(&peer, &request).code, HADB_ETOOBIG);
    request.range.start.len--; /* the start of a page behind the longest key */
    assert_int_equal(scan(&peer, &request).code, 0);
    peer_close(&peer);
}

static void read__of_a_view_sees_nothing_later(void **state)
{
    struct peer peer;
    open_filled(&peer, state);
    struct hadb_request request = {.type = HADB_REQUEST_GET, .key = hadb_slice_str("a")};
    assert_int_equal(hadb_engine_view_open(&peer.engine, &request.view, &request.view_txid, NULL),
                     0);
    put(&peer, 1, "a", "later");
    put(&peer, 1, "z", "later");
    struct hadb_response response;
    assert_int_equal(hadb_executor_execute(&peer.executor, NULL, &request, &response, NULL), 0);
    assert_true(hadb_slice_eq(hadb_buf_slice(&response.value), hadb_slice_str("2")));
    assert_int_equal(response.version.txid, 2);
    assert_int_equal(response.state_txid, 6);
    hadb_response_deinit(&response);
    response = scan(&peer, &request);
    assert_string_equal(list(&response), "a=2 aa=5 ab=3 b=1 c=4 d=6");
    request.key = hadb_slice_str("z");
    assert_int_equal(hadb_executor_execute(&peer.executor, NULL, &request, &response, NULL),
                     HADB_ABSENT);
    assert_int_equal(response.state_txid, 6);
    hadb_response_deinit(&response);
    hadb_engine_view_close(&peer.engine, request.view);
    assert_string_equal(value_of(&peer, "a"), "later");
    peer_close(&peer);
}

static void get__refuses_keys_that_cannot_be(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    static char key[HADB_KEY_BYTES_MAX + 1];
    struct hadb_request request = {.type = HADB_REQUEST_GET};
    struct hadb_error err = {0};
    struct hadb_response response;
    assert_int_equal(hadb_executor_execute(&peer.executor, NULL, &request, &response, &err),
                     HADB_EINVAL);
    assert_int_equal(err.code, HADB_EINVAL);
    assert_string_equal(err.message, response.error.message);
    request.key = hadb_slice(key, sizeof(key));
    assert_int_equal(hadb_executor_execute(&peer.executor, NULL, &request, &response, &err),
                     HADB_ETOOBIG);
    request.type = (enum hadb_request_type)99;
    assert_int_equal(hadb_executor_execute(&peer.executor, NULL, &request, &response, &err),
                     HADB_EINVAL);
    peer_close(&peer);
}

static void read__is_whole_or_refused_when_memory_runs_out(void **state)
{
    struct peer peer;
    open_filled(&peer, state);
    struct hadb_request requests[2] = {{.type = HADB_REQUEST_GET, .key = hadb_slice_str("a")},
                                       {.type = HADB_REQUEST_SCAN, .limit = 4}};
    for (size_t i = 0; i < 2; i++) {
        int r = HADB_ENOMEM;
        for (uint64_t n = 1; r != 0; n++) {
            struct hadb_response response;
            test_alloc_fail_at(n);
            r = hadb_executor_execute(&peer.executor, NULL, &requests[i], &response, NULL);
            bool hit = test_alloc_hit();
            test_alloc_reset();
            assert_int_equal(r, hit ? HADB_ENOMEM : 0);
            assert_true(r == 0 || (response.items.len == 0 && response.value.len == 0));
            hadb_response_deinit(&response);
        }
    }
    peer_close(&peer);
}

/* ---- export ---- */

static int collect(void *arg, struct hadb_slice bytes, struct hadb_error *err)
{
    return hadb_buf_append(arg, bytes.data, bytes.len) != 0 ? hadb_fail_nomem(err) : 0;
}

static void export__is_the_user_data_in_its_documented_form(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    put(&peer, 7, "b", "");
    put(&peer, 8, "a", "xy");
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    uint64_t items = 0;
    assert_int_equal(hadb_export(&peer.engine, NULL, collect, &bytes, &items, NULL), 0);
    const uint8_t expected[] = {1, 0, 0, 0, 'a', 2, 0, 0, 0, 'x', 'y', 8, 0, 0,   0, 0, 0, 0,
                                0, 2, 0, 0, 0,   0, 0, 0, 0, 1,   0,   0, 0, 'b', 0, 0, 0, 0,
                                7, 0, 0, 0, 0,   0, 0, 0, 1, 0,   0,   0, 0, 0,   0, 0};
    assert_int_equal(items, 2);
    assert_int_equal(bytes.len, sizeof(expected));
    assert_memory_equal(bytes.data, expected, sizeof(expected));
    struct hadb_hash digest;
    struct hadb_hash hash;
    assert_int_equal(hadb_export_digest(&peer.engine, NULL, &digest, NULL, NULL), 0);
    hadb_sha256(expected, sizeof(expected), &hash);
    assert_true(hadb_hash_eq(&digest, &hash));
    peer_close(&peer);
}

static int refuse(void *arg, struct hadb_slice bytes, struct hadb_error *err)
{
    (void)bytes;
    ++*(int *)arg;
    return hadb_fail(err, HADB_ENOSPC, "full");
}

static void export__comes_in_pieces_and_stops_when_told(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    for (unsigned i = 0; i < 4; i++) {
        char key[2] = {(char)('a' + i)};
        put_bytes(&peer, 1, key, 700000);
    }
    int calls = 0;
    assert_int_equal(hadb_export(&peer.engine, NULL, refuse, &calls, NULL, NULL), HADB_ENOSPC);
    assert_int_equal(calls, 1);
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    assert_int_equal(hadb_export(&peer.engine, NULL, collect, &bytes, NULL, NULL), 0);
    assert_int_equal(bytes.len, 4 * (700000 + 1 + 24));
    peer_close(&peer);
}

/* ---- text ---- */

static void version__text_is_exact(void **state)
{
    (void)state;
    char text[HADB_VERSION_TEXT_BYTES];
    struct hadb_version version = {UINT64_MAX, UINT64_MAX};
    hadb_version_format(&version, text);
    assert_string_equal(text, "18446744073709551615.18446744073709551615");
    struct hadb_version parsed;
    assert_true(hadb_version_parse(text, &parsed));
    assert_int_equal(parsed.term, UINT64_MAX);
    assert_int_equal(parsed.txid, UINT64_MAX);
    assert_true(hadb_version_parse("0.17", &parsed));
    assert_int_equal(parsed.term, 0);
    assert_int_equal(parsed.txid, 17);
    const char *bad[] = {"",
                         ".",
                         "1.",
                         ".1",
                         "1",
                         "1.2.3",
                         "01.2",
                         "1.02",
                         "1. 2",
                         " 1.2",
                         "1.2 ",
                         "-1.2",
                         "+1.2",
                         "1.0x2",
                         "a.b",
                         "1,2",
                         "18446744073709551616.1",
                         "1.18446744073709551616",
                         "1.111111111111111111111111111111"};
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        if (hadb_version_parse(bad[i], &parsed)) {
            fail_msg("\"%s\" parses", bad[i]);
        }
    }
    assert_false(hadb_version_parse(NULL, &parsed));
}

static void bookmark__text_is_exact(void **state)
{
    (void)state;
    struct hadb_id db = peer_db();
    struct hadb_version version = {3, 12345};
    struct hadb_bookmark bookmark;
    hadb_bookmark_format(&db, &version, &bookmark);
    assert_string_equal(bookmark.s, "dbdbdbdb-dbdb-dbdb-dbdb-dbdbdbdbdbdb.3.12345");
    struct hadb_id parsed_db;
    struct hadb_version parsed;
    assert_true(hadb_bookmark_parse(bookmark.s, &parsed_db, &parsed));
    assert_true(hadb_id_eq(&db, &parsed_db));
    assert_int_equal(parsed.term, 3);
    assert_int_equal(parsed.txid, 12345);
    const char *bad[] = {"",
                         "dbdbdbdb",
                         "dbdbdbdb-dbdb-dbdb-dbdb-dbdbdbdbdbdb",
                         "dbdbdbdb-dbdb-dbdb-dbdb-dbdbdbdbdbdb.3",
                         "dbdbdbdb-dbdb-dbdb-dbdb-dbdbdbdbdbdb.3.",
                         "dbdbdbdb-dbdb-dbdb-dbdb-dbdbdbdbdbdb.3.1.",
                         "dbdbdbdb-dbdb-dbdb-dbdb-dbdbdbdbdbd.3.1",
                         "gbdbdbdb-dbdb-dbdb-dbdb-dbdbdbdbdbdb.3.1",
                         "dbdbdbdb-dbdb-dbdb-dbdb-dbdbdbdbdbdb.03.1"};
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        if (hadb_bookmark_parse(bad[i], &parsed_db, &parsed)) {
            fail_msg("\"%s\" parses", bad[i]);
        }
    }
    version = (struct hadb_version){UINT64_MAX, UINT64_MAX};
    hadb_bookmark_format(&db, &version, &bookmark);
    assert_true(hadb_bookmark_parse(bookmark.s, &parsed_db, &parsed));
    assert_false(hadb_bookmark_parse(NULL, &parsed_db, &parsed));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_ENGINES(scan__shows_user_keys_in_order),
        ON_ENGINES(scan__pages_join_without_gap_or_repeat),
        ON_ENGINES(scan__stops_at_its_size_but_gives_one_item),
        ON_ENGINES(scan__refuses_what_is_over_its_bounds),
        ON_ENGINES(read__of_a_view_sees_nothing_later),
        ON_ENGINES(get__refuses_keys_that_cannot_be),
        ON_ENGINES(read__is_whole_or_refused_when_memory_runs_out),
        ON_ENGINES(export__is_the_user_data_in_its_documented_form),
        ON_ENGINES(export__comes_in_pieces_and_stops_when_told),
        cmocka_unit_test(version__text_is_exact),
        cmocka_unit_test(bookmark__text_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
