/* SPDX-License-Identifier: Apache-2.0 */
/* One database with its replicator and executor. Thread: one. Failure modes: the test fails. */
#include "tests/unit/replicators/peer.h"

static int64_t fixed_now(void *arg)
{
    (void)arg;
    return NOW;
}

static void no_log(void *arg, enum hadb_log_level level, const char *component,
                   const char *database, const char *text)
{
    (void)arg;
    (void)level;
    (void)component;
    (void)database;
    (void)text;
}

struct hadb_id peer_db(void)
{
    struct hadb_id id;
    memset(id.b, 0xdb, sizeof(id.b));
    return id;
}

static void open_engine(struct peer *peer)
{
    struct hadb_error err = {0};
    int r =
        hadb_engine_open(peer->engine_name, "/db/engine", NULL, &peer->env, &peer->engine, &err);
    if (r != 0) {
        fail_msg("open %s: %s", peer->engine_name, err.message);
    }
    const struct hadb_replicator_options options = {
        .env = &peer->env, .database = "test", .db = peer_db(), .incarnation = make_id(NOW, 77)};
    assert_int_equal(
        hadb_replicator_add("journal", &peer->engine, &options, &peer->replicator, &err), 0);
    assert_int_equal(hadb_executor_open("kv", &peer->engine, &peer->executor, &err), 0);
}

static void close_engine(struct peer *peer)
{
    hadb_executor_close(&peer->executor);
    hadb_replicator_remove(&peer->replicator);
    hadb_engine_close(&peer->engine);
}

void peer_open(struct peer *peer, const char *engine_name)
{
    *peer = (struct peer){.engine_name = engine_name, .disk = test_memfs_new(1)};
    peer->env = *hadb_env_host();
    peer->env.fs = test_memfs_fs(peer->disk);
    peer->env.now_unix_ms = fixed_now;
    peer->env.log = no_log;
    assert_int_equal(hadb_fs_mkdir_all(&peer->env.fs, "/db/engine", NULL), 0);
    open_engine(peer);
}

void peer_close(struct peer *peer)
{
    close_engine(peer);
    if (peer->disk) {
        test_memfs_free(peer->disk);
    }
    *peer = (struct peer){0};
}

void peer_reopen(struct peer *peer)
{
    assert_string_equal(peer->engine_name, "kv");
    close_engine(peer);
    open_engine(peer);
}

struct hadb_engine_ops *peer_hook(struct peer *peer)
{
    peer->hooked = *peer->engine.ops;
    peer->engine.ops = &peer->hooked;
    return &peer->hooked;
}

struct hadb_engine_position peer_position(const struct peer *peer)
{
    struct hadb_engine_position position;
    hadb_engine_position(&peer->engine, &position);
    return position;
}

struct hadb_hash peer_digest(const struct peer *peer)
{
    struct hadb_hash digest;
    assert_int_equal(hadb_engine_digest(&peer->engine, NULL, (struct hadb_slice){0}, &digest, NULL),
                     0);
    return digest;
}

struct hadb_id make_id(int64_t unix_ms, uint32_t n)
{
    struct hadb_id id = {{0}};
    for (int i = 0; i < 6; i++) {
        id.b[i] = (uint8_t)(unix_ms >> (40 - 8 * i));
    }
    id.b[6] = 0x70;
    id.b[8] = 0x80;
    for (int i = 0; i < 4; i++) {
        id.b[12 + i] = (uint8_t)(n >> (24 - 8 * i));
    }
    assert_true(hadb_id_is_v7(&id));
    assert_int_equal(hadb_id_v7_unix_ms(&id), unix_ms);
    return id;
}

struct hadb_id next_id(void)
{
    static uint32_t n;
    return make_id(NOW, ++n);
}

struct hadb_request put_request(const char *key, const char *value)
{
    return (struct hadb_request){.type = HADB_REQUEST_PUT,
                                 .id = next_id(),
                                 .key = hadb_slice_str(key),
                                 .value = hadb_slice_str(value)};
}

struct hadb_request delete_request(const char *key)
{
    return (struct hadb_request){
        .type = HADB_REQUEST_DELETE, .id = next_id(), .key = hadb_slice_str(key)};
}

struct hadb_response run_at(struct peer *peer, uint64_t term, int64_t now_unix_ms,
                            const struct hadb_request *request)
{
    return run_clocks(peer, term, now_unix_ms, (uint64_t)now_unix_ms, request);
}

struct hadb_response run_clocks(struct peer *peer, uint64_t term, int64_t now_unix_ms,
                                uint64_t now_ms, const struct hadb_request *request)
{
    const struct hadb_execute_context context = {
        .term = term, .now_unix_ms = now_unix_ms, .now_ms = now_ms};
    struct hadb_response response;
    int r = hadb_executor_execute(&peer->executor, &context, request, &response, NULL);
    assert_int_equal(r, response.code);
    return response;
}

struct hadb_response run(struct peer *peer, uint64_t term, const struct hadb_request *request)
{
    return run_at(peer, term, NOW, request);
}

void put(struct peer *peer, uint64_t term, const char *key, const char *value)
{
    struct hadb_request request = put_request(key, value);
    struct hadb_response response = run(peer, term, &request);
    if (response.code != 0) {
        fail_msg("put %s: %s", key, response.error.message);
    }
}

void put_bytes(struct peer *peer, uint64_t term, const char *key, size_t len)
{
    struct hadb_buf value = {0};
    struct test_rng rng;
    assert_int_equal(hadb_buf_reserve(&value, len), 0);
    test_rng_seed(&rng, len + strlen(key));
    test_rng_fill(&rng, value.data, len);
    value.len = len;
    struct hadb_request request = put_request(key, "");
    request.value = hadb_buf_slice(&value);
    struct hadb_response response = run(peer, term, &request);
    assert_int_equal(response.code, 0);
    hadb_buf_deinit(&value);
}

const char *value_of(struct peer *peer, const char *key)
{
    static char text[256];
    const struct hadb_request request = {.type = HADB_REQUEST_GET, .key = hadb_slice_str(key)};
    struct hadb_response response;
    int r = hadb_executor_execute(&peer->executor, NULL, &request, &response, NULL);
    assert_true(r == 0 || r == HADB_ABSENT);
    assert_true(response.value.len < sizeof(text));
    if (r == 0 && response.value.len != 0) {
        memcpy(text, response.value.data, response.value.len);
    }
    text[response.value.len] = '\0';
    hadb_response_deinit(&response);
    return r == 0 ? text : NULL;
}

struct hadb_pos make_pos(uint64_t term, uint64_t slot, hadb_txid txid)
{
    struct hadb_pos pos = {.term = term, .slot = slot, .txid = txid};
    const uint64_t seed[3] = {term, slot, txid};
    hadb_sha256(seed, sizeof(seed), &pos.hash);
    return pos;
}

void capture_all(struct peer *peer, hadb_txid after, struct hadb_buf *body)
{
    struct hadb_capture capture = {0};
    struct hadb_error err = {0};
    int r = hadb_replicator_capture(&peer->replicator, after, SIZE_MAX, false, &capture, &err);
    if (r != 0) {
        fail_msg("capture: %d %s", r, err.message);
    }
    assert_int_equal(capture.last_txid, peer_position(peer).last_txid);
    *body = hadb_buf_take(&capture.body);
    hadb_replicator_capture_deinit(&peer->replicator, &capture);
}

void ship(struct peer *from, struct peer *to)
{
    struct hadb_engine_position position = peer_position(from);
    struct hadb_buf body = {0};
    struct hadb_error err = {0};
    capture_all(from, position.mark.txid, &body);
    struct hadb_pos pos = make_pos(position.last_term, position.mark.slot + 1, position.last_txid);
    int r = hadb_replicator_apply(&to->replicator, hadb_buf_slice(&body), &pos, &err);
    if (r != 0) {
        fail_msg("apply: %d %s", r, err.message);
    }
    assert_int_equal(hadb_replicator_mark(&from->replicator, &pos, &err), 0);
    hadb_buf_deinit(&body);
}
