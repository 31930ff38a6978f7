/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of writes, and writes against a model. Thread: one. */
#include "tests/unit/replicators/peer.h"

#define GROUP_MAX 64u

static int apply_calls;
static int apply_fail_at; /* 0 = never */
static int (*real_apply)(void *self, struct hadb_slice txns, const struct hadb_pos *mark,
                         struct hadb_error *err);

static int counted_apply(void *self, struct hadb_slice txns, const struct hadb_pos *mark,
                         struct hadb_error *err)
{
    if (++apply_calls == apply_fail_at) {
        return hadb_fail(err, HADB_ENOSPC, "no space");
    }
    return real_apply(self, txns, mark, err);
}

static void count_applies(struct peer *peer, int fail_at)
{
    struct hadb_engine_ops *ops = peer_hook(peer);
    real_apply = ops->apply;
    ops->apply = counted_apply;
    apply_calls = 0;
    apply_fail_at = fail_at;
}

static int run_group(struct peer *peer, uint64_t term, const struct hadb_request *requests,
                     size_t len, struct hadb_response *responses)
{
    const struct hadb_request *pointers[GROUP_MAX];
    assert_true(len <= GROUP_MAX);
    for (size_t i = 0; i < len; i++) {
        pointers[i] = &requests[i];
    }
    const struct hadb_execute_context context = {.term = term, .now_unix_ms = NOW};
    return hadb_executor_execute_many(&peer->executor, &context, pointers, len, responses, NULL);
}

static void assert_same(const struct peer *a, const struct peer *b)
{
    struct hadb_hash digest_a = peer_digest(a);
    struct hadb_hash digest_b = peer_digest(b);
    assert_true(hadb_hash_eq(&digest_a, &digest_b));
}

static void assert_version(struct hadb_version version, uint64_t term, hadb_txid txid)
{
    assert_int_equal(version.term, term);
    assert_int_equal(version.txid, txid);
}

static struct hadb_request batch_request(const struct hadb_kv_op *ops, size_t len)
{
    return (struct hadb_request){
        .type = HADB_REQUEST_BATCH, .id = next_id(), .ops = ops, .ops_len = len};
}

static void group__finds_refusals_recorded_in_it(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    put(&peer, 1, "a", "1");
    struct hadb_request requests[3] = {put_request("a", "2"), delete_request("a"), {0}};
    requests[0].if_absent = true;
    requests[0].repeated = true;
    requests[2] = requests[0];
    struct hadb_response responses[3];
    assert_int_equal(run_group(&peer, 1, requests, 3, responses), 0);
    assert_int_equal(responses[0].code, HADB_NOT_MET);
    assert_int_equal(responses[0].state_txid, 2);
    assert_int_equal(responses[1].code, 0);
    assert_int_equal(responses[2].code, HADB_NOT_MET);
    assert_true(responses[2].deduplicated);
    assert_null(value_of(&peer, "a"));
    /* A refusal that the engine does not take is no answer. */
    requests[0].id = next_id();
    requests[0].if_absent = false;
    requests[0].if_version = (struct hadb_version){9, 9};
    count_applies(&peer, 1);
    assert_int_equal(run_group(&peer, 1, requests, 1, responses), HADB_ENOSPC);
    assert_int_equal(responses[0].code, HADB_ENOSPC);
    peer_close(&peer);
}

static void group__is_one_write_of_the_engine(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    count_applies(&peer, 0);
    struct hadb_request requests[GROUP_MAX];
    struct hadb_response responses[GROUP_MAX];
    char keys[GROUP_MAX][8];
    for (unsigned i = 0; i < GROUP_MAX; i++) {
        snprintf(keys[i], sizeof(keys[i]), "%u", i % 16); /* same keys, no conditions */
        requests[i] = put_request(keys[i], "1");
    }
    requests[0].if_absent = true; /* its key is touched by nothing before it */
    assert_int_equal(run_group(&peer, 1, requests, GROUP_MAX, responses), 0);
    assert_int_equal(apply_calls, 1);
    for (unsigned i = 0; i < GROUP_MAX; i++) {
        assert_int_equal(responses[i].code, 0);
        assert_version(responses[i].version, 1, i + 1);
    }
    assert_int_equal(peer_position(&peer).last_txid, GROUP_MAX);
    peer_close(&peer);
}

static void group__conditions_see_the_requests_before(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request requests[5] = {put_request("a", "1"), put_request("a", "2"),
                                       put_request("a", "3"), delete_request("a"),
                                       put_request("a", "4")};
    requests[1].if_absent = true;
    requests[2].if_version = (struct hadb_version){1, 1};
    requests[4].if_absent = true;
    struct hadb_response responses[5];
    assert_int_equal(run_group(&peer, 1, requests, 5, responses), 0);
    assert_int_equal(responses[0].code, 0);
    assert_int_equal(responses[1].code, HADB_NOT_MET);
    assert_version(responses[1].version, 1, 1);
    assert_int_equal(responses[1].state_txid, 1);
    assert_int_equal(responses[2].code, 0);
    assert_version(responses[2].version, 1, 2);
    assert_int_equal(responses[3].code, 0);
    assert_int_equal(responses[4].code, 0);
    assert_version(responses[4].version, 1, 4);
    assert_string_equal(value_of(&peer, "a"), "4");
    peer_close(&peer);
}

static void group__runs_an_id_that_comes_twice_once(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request requests[3] = {put_request("a", "1"), put_request("b", "1"), {0}};
    requests[2] = requests[0];
    struct hadb_response responses[3];
    assert_int_equal(run_group(&peer, 1, requests, 3, responses), 0);
    assert_false(responses[0].deduplicated);
    assert_true(responses[2].deduplicated);
    assert_version(responses[2].version, 1, 1);
    assert_int_equal(peer_position(&peer).last_txid, 2);
    peer_close(&peer);
}

static void group__goes_on_behind_requests_that_are_refused(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request requests[4] = {put_request("a", "1"), batch_request(NULL, 3),
                                       put_request("a", "2"), put_request("b", "1")};
    requests[1].ops_len = HADB_BATCH_OPS_MAX + 1; /* malformed, in front of a search for "a" */
    requests[2].if_absent = true;
    requests[3].id.b[6] = 0;
    struct hadb_response responses[4];
    assert_int_equal(run_group(&peer, 1, requests, 4, responses), 0);
    assert_int_equal(responses[0].code, 0);
    assert_int_equal(responses[1].code, HADB_ETOOBIG);
    assert_int_equal(responses[2].code, HADB_NOT_MET);
    assert_int_equal(responses[3].code, HADB_EINVAL);
    assert_int_equal(peer_position(&peer).last_txid, 1);
    peer_close(&peer);
}

static void group__with_a_read_in_it_is_refused_whole(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request requests[2] = {put_request("a", "1"), {.type = HADB_REQUEST_GET}};
    struct hadb_response responses[2];
    assert_int_equal(run_group(&peer, 1, requests, 2, responses), HADB_EINVAL);
    assert_int_equal(responses[0].code, HADB_EINVAL);
    assert_int_equal(responses[1].code, HADB_EINVAL);
    assert_int_equal(peer_position(&peer).last_txid, 0);
    assert_int_equal(run_group(&peer, 1, requests, 0, NULL), 0);
    peer_close(&peer);
}

/* The engine refuses the second write: what was applied before stays answered, the rest failed. */
static void group__that_the_engine_refuses_fails_what_was_not_applied(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    struct hadb_request old = put_request("old", "1");
    assert_int_equal(run(&peer, 1, &old).code, 0);
    count_applies(&peer, 2);
    struct hadb_request requests[7] = {
        put_request("a", "1"), put_request("a", "2"),   put_request("b", "1"), old,
        put_request("", ""),   put_request("old", "2"), put_request("b", "2")};
    requests[1].if_absent = true; /* needs the first one applied */
    requests[5].if_absent = true;
    requests[6].if_absent = true; /* needs the third one applied: fails */
    struct hadb_response responses[7];
    assert_int_equal(run_group(&peer, 1, requests, 7, responses), HADB_ENOSPC);
    assert_int_equal(responses[0].code, 0);
    assert_int_equal(responses[1].code, HADB_NOT_MET);
    assert_int_equal(responses[2].code, HADB_ENOSPC);
    assert_int_equal(responses[3].code, 0);
    assert_true(responses[3].deduplicated);
    assert_int_equal(responses[4].code, HADB_EINVAL);
    assert_int_equal(responses[5].code, HADB_NOT_MET);
    assert_int_equal(responses[6].code, HADB_ENOSPC);
    assert_string_equal(responses[6].error.message, "no space");
    assert_int_equal(peer_position(&peer).last_txid, 2);
    /* The same requests again: those that ran are remembered, the others run now. */
    assert_int_equal(run_group(&peer, 1, requests, 7, responses), 0);
    assert_true(responses[0].deduplicated);
    assert_int_equal(responses[2].code, 0);
    assert_version(responses[2].version, 1, 3);
    assert_int_equal(responses[6].code, HADB_NOT_MET);
    peer_close(&peer);
}

/* ---- against a model, alone and in groups, leader and follower ---- */

#define KEYS 12u

struct model {
    struct hadb_version version[KEYS]; /* txid 0 = absent */
    unsigned value[KEYS];
    hadb_txid last_txid;
};

struct drawn {
    struct hadb_request request;
    struct hadb_kv_op ops[6];
    unsigned op_key[6];
    unsigned op_value[6];
    char values[6][12];
};

static const char *const key_names[KEYS] = {"a",  "b",  "c",  "d",   "e",    "f",
                                            "aa", "ab", "ba", "aaa", "\x01", "\xff"};

static void draw_op(struct test_rng *rng, const struct model *model, struct drawn *drawn, size_t i)
{
    struct hadb_kv_op *op = &drawn->ops[i];
    unsigned key = (unsigned)test_rng_below(rng, KEYS);
    drawn->op_key[i] = key;
    drawn->op_value[i] = (unsigned)test_rng_below(rng, 1000000);
    snprintf(drawn->values[i], sizeof(drawn->values[i]), "%u", drawn->op_value[i]);
    *op = (struct hadb_kv_op){.type = test_rng_chance(rng, 70) ? HADB_OP_PUT : HADB_OP_DELETE,
                              .key = hadb_slice_str(key_names[key])};
    if (op->type == HADB_OP_PUT) {
        op->value = hadb_slice_str(drawn->values[i]);
        op->if_absent = test_rng_chance(rng, 15);
    }
    if (!op->if_absent && test_rng_chance(rng, 15)) {
        /* Usually the version that was current when the group was drawn. */
        op->if_version = model->version[key];
        op->if_version.txid += test_rng_chance(rng, 20) ? 1 : 0;
    }
}

static void draw(struct test_rng *rng, const struct model *model, struct drawn *drawn)
{
    size_t len = test_rng_chance(rng, 30) ? 1 + test_rng_below(rng, 6) : 1;
    for (size_t i = 0; i < len; i++) {
        draw_op(rng, model, drawn, i);
    }
    drawn->request = batch_request(drawn->ops, len);
    if (len == 1 && test_rng_chance(rng, 80)) {
        const struct hadb_kv_op *op = &drawn->ops[0];
        drawn->request = (struct hadb_request){
            .type = op->type == HADB_OP_PUT ? HADB_REQUEST_PUT : HADB_REQUEST_DELETE,
            .id = next_id(),
            .key = op->key,
            .value = op->value,
            .if_absent = op->if_absent,
            .if_version = op->if_version};
    }
    drawn->request.repeated = test_rng_chance(rng, 30);
}

static int model_run(struct model *model, uint64_t term, const struct drawn *drawn)
{
    size_t len = drawn->request.type == HADB_REQUEST_BATCH ? drawn->request.ops_len : 1;
    for (size_t i = 0; i < len; i++) {
        const struct hadb_kv_op *op = &drawn->ops[i];
        struct hadb_version has = model->version[drawn->op_key[i]];
        if ((op->if_absent && has.txid != 0) ||
            (op->if_version.txid != 0 &&
             (has.txid != op->if_version.txid || has.term != op->if_version.term))) {
            model->last_txid += drawn->request.repeated ? 1 : 0; /* recorded */
            return HADB_NOT_MET;
        }
    }
    model->last_txid++;
    for (size_t i = 0; i < len; i++) {
        unsigned key = drawn->op_key[i];
        bool is_put = drawn->ops[i].type == HADB_OP_PUT;
        model->version[key] =
            is_put ? (struct hadb_version){term, model->last_txid} : (struct hadb_version){0};
        model->value[key] = drawn->op_value[i];
    }
    return 0;
}

static void assert_model(struct peer *peer, const struct model *model)
{
    for (unsigned key = 0; key < KEYS; key++) {
        const char *value = value_of(peer, key_names[key]);
        char expected[12];
        snprintf(expected, sizeof(expected), "%u", model->value[key]);
        if (model->version[key].txid == 0) {
            assert_null(value);
        } else {
            assert_non_null(value);
            assert_string_equal(value, expected);
        }
    }
    assert_int_equal(peer_position(peer).last_txid, model->last_txid);
}

static void writes__match_a_simple_model(void **state)
{
    struct test_rng rng;
    test_rng_init(&rng, 20261121);
    struct peer leader;
    struct peer follower;
    peer_open(&leader, *state);
    peer_open(&follower, *state);
    struct model model = {0};
    static struct drawn drawn[GROUP_MAX];
    struct hadb_request requests[GROUP_MAX];
    struct hadb_response responses[GROUP_MAX];
    for (unsigned round = 0; round < 400; round++) {
        uint64_t term = 1 + round / 100;
        size_t len = 1 + test_rng_below(&rng, test_rng_chance(&rng, 50) ? 1 : GROUP_MAX - 1);
        for (size_t i = 0; i < len; i++) {
            bool again = i > 0 && test_rng_chance(&rng, 5);
            if (!again) {
                draw(&rng, &model, &drawn[i]);
            }
            requests[i] = again ? requests[i - 1] : drawn[i].request;
            drawn[i] = again ? drawn[i - 1] : drawn[i];
            if (again && requests[i].type == HADB_REQUEST_BATCH) {
                requests[i].ops = drawn[i - 1].ops;
            }
        }
        assert_int_equal(run_group(&leader, term, requests, len, responses), 0);
        for (size_t i = 0; i < len; i++) {
            bool again = i > 0 && hadb_id_eq(&requests[i].id, &requests[i - 1].id);
            if (again && (responses[i - 1].code == 0 || requests[i].repeated)) {
                assert_true(responses[i].deduplicated);
                assert_int_equal(responses[i].code, responses[i - 1].code);
                assert_int_equal(responses[i].state_txid, responses[i - 1].state_txid);
                assert_memory_equal(&responses[i].version, &responses[i - 1].version,
                                    sizeof(responses[i].version));
                continue;
            }
            assert_int_equal(responses[i].code, model_run(&model, term, &drawn[i]));
            assert_false(responses[i].deduplicated);
            if (responses[i].code == 0) {
                assert_version(responses[i].version, term, model.last_txid);
            }
        }
        if (test_rng_chance(&rng, 20) &&
            peer_position(&leader).last_txid > peer_position(&leader).mark.txid) {
            assert_model(&leader, &model);
            ship(&leader, &follower);
            assert_same(&leader, &follower);
        }
    }
    assert_model(&leader, &model);
    peer_close(&leader);
    peer_close(&follower);
}

static void write__is_whole_or_refused_when_memory_runs_out(void **state)
{
    struct peer peer;
    peer_open(&peer, *state);
    put(&peer, 1, "there", "1");
    for (uint64_t n = 1;; n++) {
        struct hadb_request requests[3] = {put_request("a", "1"), put_request("there", "2"),
                                           put_request("b", "1")};
        requests[1].if_version = (struct hadb_version){1, 77};
        struct hadb_response responses[3];
        hadb_txid before = peer_position(&peer).last_txid;
        test_alloc_fail_at(n);
        int r = run_group(&peer, 1, requests, 3, responses);
        bool hit = test_alloc_hit();
        test_alloc_reset();
        assert_true(r == 0 || (hit && r == HADB_ENOMEM));
        hadb_txid done = 0;
        for (size_t i = 0; i < 3; i++) {
            int code = responses[i].code;
            assert_true(code == (i == 1 ? HADB_NOT_MET : 0) || (hit && code == HADB_ENOMEM));
            done += code == 0 ? 1 : 0;
        }
        assert_int_equal(peer_position(&peer).last_txid, before + done);
        /* Once there is memory again, each runs exactly once. */
        struct hadb_response again[3];
        assert_int_equal(run_group(&peer, 1, requests, 3, again), 0);
        for (size_t i = 0; i < 3; i += 2) {
            assert_int_equal(again[i].code, 0);
            assert_int_equal(again[i].deduplicated, responses[i].code == 0);
        }
        if (!hit) {
            break;
        }
    }
    assert_string_equal(value_of(&peer, "there"), "1");
    peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_ENGINES(group__finds_refusals_recorded_in_it),
        ON_ENGINES(group__is_one_write_of_the_engine),
        ON_ENGINES(group__conditions_see_the_requests_before),
        ON_ENGINES(group__runs_an_id_that_comes_twice_once),
        ON_ENGINES(group__goes_on_behind_requests_that_are_refused),
        ON_ENGINES(group__with_a_read_in_it_is_refused_whole),
        ON_ENGINES(group__that_the_engine_refuses_fails_what_was_not_applied),
        ON_ENGINES(writes__match_a_simple_model),
        ON_ENGINES(write__is_whole_or_refused_when_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
