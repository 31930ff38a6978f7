/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 2 of 8: writes. A request becomes one transaction: its effects, its result under the request id,
 * the results that leave, the horizon.
 *
 * Thread: the one writer of the engine.
 * Invariants:
 *   - An id is executed at most once: its result is looked up first, and an id that is older than the
 *     horizon, whose result may have left, is refused.
 *   - A judgement (condition, stored result) is made on the engine alone. When it could depend on
 *     transactions of the group that are not there yet, they are applied before.
 *   - Everything that goes into a transaction follows from the request, the engine and the context; followers
 *     copy the outcome and decide nothing.
 * Happy path: check, look up, encode behind the others of the group; one apply for the whole group.
 * Failure modes: a request's own (its response says it, the group goes on); the engine's (all that were not
 *   applied yet carry the same code, and the group ends).
 */
#include <inttypes.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/id.h"
#include "replicators/kv_private.h"
#include "replicators/space.h"

/* Above so many operations that wait to be applied, they are applied rather than searched. */
#define SEARCH_OPS_MAX 1024u
#define OPS_EXTRA (HADB_PRUNE_LEN_MAX + 2u) /* result, horizon, results that leave */

struct horizon {
    int64_t oldest_unix_ms;
    uint64_t results;
};

struct group {
    struct hadb__kv_executor *kv;
    const struct hadb_execute_context *context;
    const struct hadb_request *const *requests;
    struct hadb_response *responses;
    size_t waiting; /* index of the first request that may have a transaction in .txns */
    size_t at;      /* index of the request being executed */
    size_t ops_waiting;
    hadb_txid applied_txid; /* last one in the engine */
    hadb_txid last_txid;    /* last one that was encoded */
    struct horizon horizon; /* as after last_txid */
    struct hadb_buf txns;   /* encoded, not applied */
    struct hadb_buf keys;   /* of the transaction being encoded */
    struct hadb_buf record; /* a result being looked up */
    struct hadb_op *ops;    /* of the transaction being encoded */
    size_t ops_cap;
    /* Results that may leave, oldest first: those of the engine when the group began. */
    void *view;
    void *scan;
    struct hadb_id oldest; /* next one that may leave … */
    bool has_oldest;       /* … if there is one */
    hadb_txid oldest_txid; /* … and the transaction that brought it */
    hadb_txid kept_txid;   /* results of transactions <= it have been kept for long enough */
};

/* ---- horizon and results that leave ---- */

static int horizon_load(struct group *group, struct hadb_error *err)
{
    static const uint8_t key[1] = {HADB_SPACE_HORIZON};
    int r = hadb_engine_get(group->kv->engine, NULL, hadb_slice(key, 1), &group->record, NULL, err);
    if (r != 0) {
        return r == HADB_ABSENT ? 0 : r;
    }
    const struct hadb_buf *record = &group->record;
    if (record->len != HADB__HORIZON_BYTES || record->data[0] != HADB__HORIZON_VERSION) {
        return hadb_fail(
            err,
            record->len && record->data[0] > HADB__HORIZON_VERSION ? HADB_EVERSION : HADB_ECORRUPT,
            "the horizon record has %zu bytes and is of no known version", record->len);
    }
    group->horizon.oldest_unix_ms = (int64_t)hadb_get_u64(record->data + HADB__HORIZON_TIME_AT);
    group->horizon.results = hadb_get_u64(record->data + HADB__HORIZON_LEN_AT);
    return 0;
}

static int oldest_next(struct group *group, struct hadb_error *err)
{
    struct hadb_item item = {0};
    int r = hadb_engine_scan_next(group->kv->engine, group->scan, &item, err);
    group->has_oldest = r == 0;
    group->oldest_txid = item.version.txid;
    if (r == 0 && !hadb__result_key_id(item.key, &group->oldest)) {
        return hadb_fail(err, HADB_ECORRUPT, "a result key of %zu bytes", item.key.len);
    }
    return r == HADB_END ? 0 : r;
}

static int oldest_open(struct group *group, struct hadb_error *err)
{
    static const uint8_t prefix[1] = {HADB_SPACE_RESULT};
    const struct hadb_range range = {.prefix = {.data = prefix, .len = 1}, .keys_only = true};
    int r = hadb_engine_view_open(group->kv->engine, &group->view, NULL, err);
    r = r != 0 ? r
               : hadb_engine_scan_open(group->kv->engine, group->view, &range, &group->scan, err);
    return r != 0 ? r : oldest_next(group, err);
}

/*
 * A result leaves when it was kept for long enough, which no wall clock can tell, and its id is so old that
 * clients with the right time do not meet the horizon above it.
 */
static bool may_leave(const struct group *group, const struct horizon *horizon)
{
    if (!group->has_oldest) {
        return false;
    }
    int64_t old_unix_ms = group->context->now_unix_ms - HADB_REQUEST_AGE_MS_MAX;
    bool old =
        group->oldest_txid <= group->kept_txid && hadb_id_v7_unix_ms(&group->oldest) < old_unix_ms;
    return old || horizon->results > HADB_REQUEST_IDS_MAX;
}

/* ---- the group ---- */

static int group_init(struct group *group, struct hadb_error *err)
{
    struct hadb_engine_position position;
    hadb_engine_position(group->kv->engine, &position);
    if (group->context->term < position.last_term) {
        return hadb_fail(err, HADB_EINVAL,
                         "term %" PRIu64 " is below term %" PRIu64 " of transaction %" PRIu64,
                         group->context->term, position.last_term, position.last_txid);
    }
    group->applied_txid = position.last_txid;
    group->last_txid = position.last_txid;
    group->kept_txid = hadb__kv_ages_note(&group->kv->ages, group->context, position.last_txid);
    int r = horizon_load(group, err);
    return r != 0 ? r : oldest_open(group, err);
}

static void group_deinit(struct group *group)
{
    hadb_engine_scan_close(group->kv->engine, group->scan);
    hadb_engine_view_close(group->kv->engine, group->view);
    hadb_buf_deinit(&group->txns);
    hadb_buf_deinit(&group->keys);
    hadb_buf_deinit(&group->record);
    hadb_free(group->ops);
}

/* Applies what waits. */
static int group_flush(struct group *group, struct hadb_error *err)
{
    if (group->txns.len != 0) {
        int r = hadb_engine_apply(group->kv->engine, hadb_buf_slice(&group->txns), NULL, err);
        if (r != 0) {
            return r;
        }
        hadb_buf_clear(&group->txns);
    }
    group->applied_txid = group->last_txid;
    group->waiting = group->at;
    group->ops_waiting = 0;
    return 0;
}

/* Every request that has not reached the engine failed for the same reason. */
static void group_fail(struct group *group, size_t len, int code, const struct hadb_error *why)
{
    for (size_t i = group->waiting; i < len; i++) {
        struct hadb_response *response = &group->responses[i];
        if (i < group->at && response->state_txid <= group->applied_txid) {
            continue; /* it rests on the engine, or on nothing */
        }
        hadb_response_deinit(response);
        response->code = code;
        response->error = *why;
    }
}

/* Does request @i have a transaction that waits? */
static bool waits(const struct group *group, size_t i)
{
    const struct hadb_response *response = &group->responses[i];
    return response->code >= 0 && response->state_txid > group->applied_txid;
}

/* Do transactions that wait touch @key? When there are many: perhaps. */
static bool waiting_touches(const struct group *group, struct hadb_slice key)
{
    if (group->ops_waiting > SEARCH_OPS_MAX) {
        return true;
    }
    for (size_t i = group->waiting; i < group->at; i++) {
        size_t len = waits(group, i) ? hadb__kv_ops_len(group->requests[i]) : 0;
        for (size_t k = 0; k < len; k++) {
            if (hadb_slice_eq(hadb__kv_op(group->requests[i], k).key, key)) {
                return true;
            }
        }
    }
    return false;
}

static bool waiting_has_id(const struct group *group, const struct hadb_id *id)
{
    for (size_t i = group->waiting; i < group->at; i++) {
        if (waits(group, i) && hadb_id_eq(&group->requests[i]->id, id)) {
            return true;
        }
    }
    return false;
}

/* ---- judging one request ---- */

/* What the engine's newest state has under user key @key. 0 with *version (txid 0 = absent). */
static int current_version(struct group *group, struct hadb_slice key, struct hadb_version *version,
                           struct hadb_error *err)
{
    hadb_buf_clear(&group->keys);
    uint8_t space = HADB_SPACE_USER;
    if (hadb_buf_append(&group->keys, &space, 1) != 0 ||
        hadb_buf_append(&group->keys, key.data, key.len) != 0) {
        return hadb_fail_nomem(err);
    }
    *version = (struct hadb_version){0};
    int r =
        hadb_engine_get(group->kv->engine, NULL, hadb_buf_slice(&group->keys), NULL, version, err);
    if (r == HADB_ABSENT) {
        *version = (struct hadb_version){0};
        return 0;
    }
    return r;
}

enum judgement { RUN, ANSWERED }; /* ANSWERED: the response is complete */

/* Turns the stored result into the answer. @version is that of the record. */
static int read_result(const struct hadb_buf *record, uint64_t digest, struct hadb_version version,
                       struct hadb_response *response, struct hadb_error *err)
{
    if (record->len < HADB_RESULT_BYTES || record->data[0] == 0) {
        return hadb_fail(err, HADB_ECORRUPT, "a stored result has %zu bytes", record->len);
    }
    if (record->data[0] != HADB__RESULT_VERSION) {
        return hadb_fail(err, HADB_EVERSION, "a stored result is of version %u", record->data[0]);
    }
    if (hadb_get_u64(record->data + HADB__RESULT_DIGEST_AT) != digest) {
        return hadb_fail(err, HADB_EINVAL, "the request id was used for another request");
    }
    uint32_t outcome = hadb_get_u32(record->data + HADB__RESULT_OUTCOME_AT);
    if (outcome != 0 && (outcome != HADB_NOT_MET || record->len != HADB_RESULT_REFUSED_BYTES)) {
        return hadb_fail(err, HADB_ECORRUPT, "a stored result has outcome %" PRIu32, outcome);
    }
    response->deduplicated = true;
    response->version = version;
    if (outcome == HADB_NOT_MET) {
        response->code = HADB_NOT_MET;
        response->version.term = hadb_get_u64(record->data + HADB__RESULT_TERM_AT);
        response->version.txid = hadb_get_u64(record->data + HADB__RESULT_TXID_AT);
        response->failed_op = (size_t)hadb_get_u64(record->data + HADB__RESULT_OP_AT);
    }
    return 0;
}

/* An unknown id must be inside the window, whose middle is the leader's clock, or the horizon if that is later. */
static int judge_age(const struct group *group, int64_t unix_ms, struct hadb_response *response,
                     struct hadb_error *err)
{
    int64_t oldest = group->horizon.oldest_unix_ms;
    int64_t now = HADB_MAX(group->context->now_unix_ms, oldest);
    if (unix_ms >= oldest && unix_ms <= now + HADB_REQUEST_AHEAD_MS_MAX) {
        return 0;
    }
    response->state_txid = group->last_txid;
    response->usable_unix_ms = now;
    if (unix_ms < oldest) {
        return hadb_fail(err, HADB_EEXPIRED,
                         "the request id is %" PRId64
                         " ms too old to tell whether it ran before: check the clocks, "
                         "read, and write with a new id, or with none",
                         oldest - unix_ms);
    }
    return hadb_fail(err, HADB_EEXPIRED,
                     "the request id is %" PRId64
                     " ms ahead of the leader's clock: check the clocks, or write without "
                     "an id",
                     unix_ms - now);
}

/* A stored result answers; otherwise the id must be inside the window. */
static int judge_id(struct group *group, const struct hadb_request *request, uint64_t digest,
                    struct hadb_response *response, enum judgement *out, struct hadb_error *err)
{
    uint8_t key[HADB__RESULT_KEY_BYTES];
    hadb__result_key(&request->id, key);
    struct hadb_version version;
    int r = hadb_engine_get(group->kv->engine, NULL, hadb_slice(key, sizeof(key)), &group->record,
                            &version, err);
    if (r < 0) {
        return r;
    }
    if (r == 0) {
        response->state_txid = version.txid;
        r = read_result(&group->record, digest, version, response, err);
        *out = ANSWERED;
        return r;
    }
    *out = RUN;
    return judge_age(group, hadb_id_v7_unix_ms(&request->id), response, err);
}

/* All conditions, on the state before the request. 0 with response->code set. */
static int judge_conditions(struct group *group, const struct hadb_request *request,
                            struct hadb_response *response, struct hadb_error *err)
{
    size_t len = hadb__kv_ops_len(request);
    for (size_t i = 0; i < len; i++) {
        struct hadb_kv_op op = hadb__kv_op(request, i);
        if (!hadb__kv_has_condition(&op)) {
            continue;
        }
        struct hadb_version version;
        int r = current_version(group, op.key, &version, err);
        if (r != 0) {
            return r;
        }
        bool met = op.if_absent
                       ? version.txid == 0
                       : version.txid == op.if_version.txid && version.term == op.if_version.term;
        if (!met) {
            response->code = HADB_NOT_MET;
            response->version = version;
            response->failed_op = i;
            response->state_txid = group->applied_txid;
            return 0;
        }
    }
    return 0;
}

/* Does judging @request on the engine alone need the others of the group in it first? */
static bool needs_flush(const struct group *group, const struct hadb_request *request)
{
    if (group->txns.len == 0) {
        return false;
    }
    if (group->txns.len > HADB_GROUP_BYTES_MAX || waiting_has_id(group, &request->id)) {
        return true;
    }
    size_t len = hadb__kv_ops_len(request);
    for (size_t i = 0; i < len; i++) {
        struct hadb_kv_op op = hadb__kv_op(request, i);
        if (hadb__kv_has_condition(&op) && waiting_touches(group, op.key)) {
            return true;
        }
    }
    return false;
}

/* ---- writing one request ---- */

static int reserve(struct group *group, const struct hadb_request *request)
{
    size_t len = hadb__kv_ops_len(request);
    size_t bytes = (HADB_PRUNE_LEN_MAX + 1) * HADB__RESULT_KEY_BYTES;
    for (size_t i = 0; i < len; i++) {
        bytes += 1 + hadb__kv_op(request, i).key.len;
    }
    hadb_buf_clear(&group->keys);
    if (hadb_buf_reserve(&group->keys, bytes) != 0) {
        return HADB_ENOMEM;
    }
    if (len + OPS_EXTRA > group->ops_cap) {
        struct hadb_op *ops = hadb_realloc(group->ops, (len + OPS_EXTRA) * sizeof(*ops));
        if (!ops) {
            return HADB_ENOMEM;
        }
        group->ops = ops;
        group->ops_cap = len + OPS_EXTRA;
    }
    return 0;
}

/* @key behind its space byte, in group->keys, where reserve() made room. */
static struct hadb_slice spaced(struct group *group, uint8_t space, struct hadb_slice key)
{
    HADB_ASSERT(group->keys.cap - group->keys.len >= 1 + key.len);
    uint8_t *at = group->keys.data + group->keys.len;
    at[0] = space;
    memcpy(at + 1, key.data, key.len);
    group->keys.len += 1 + key.len;
    return hadb_slice(at, 1 + key.len);
}

static size_t add_user_ops(struct group *group, const struct hadb_request *request)
{
    size_t len = hadb__kv_ops_len(request);
    for (size_t i = 0; i < len; i++) {
        struct hadb_kv_op op = hadb__kv_op(request, i);
        group->ops[i] = (struct hadb_op){
            .type = op.type,
            .key = spaced(group, HADB_SPACE_USER, op.key),
            .value = op.value,
        };
    }
    return len;
}

/* Adds what leaves. The scan moves on, so a request that fails after this only leaves results behind that
 * the next group finds again. */
static int add_leaving(struct group *group, struct horizon *horizon, size_t *ops_len,
                       struct hadb_error *err)
{
    for (size_t i = 0; i < HADB_PRUNE_LEN_MAX && may_leave(group, horizon); i++) {
        group->ops[(*ops_len)++] = (struct hadb_op){
            .type = HADB_OP_DELETE,
            .key = spaced(group, HADB_SPACE_RESULT, hadb_slice(group->oldest.b, 16)),
        };
        int64_t above = hadb_id_v7_unix_ms(&group->oldest) + 1;
        horizon->oldest_unix_ms = HADB_MAX(horizon->oldest_unix_ms, above);
        horizon->results -= horizon->results > 0 ? 1 : 0;
        int r = oldest_next(group, err);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

/* The result as it will answer a retry; returns its length. */
static size_t make_result(const struct hadb_request *request, uint64_t digest,
                          const struct hadb_response *response,
                          uint8_t out[HADB_RESULT_REFUSED_BYTES])
{
    memset(out, 0, HADB_RESULT_REFUSED_BYTES);
    out[0] = HADB__RESULT_VERSION;
    out[HADB__RESULT_TYPE_AT] = (uint8_t)request->type;
    hadb_put_u32(out + HADB__RESULT_OUTCOME_AT, (uint32_t)response->code);
    hadb_put_u64(out + HADB__RESULT_DIGEST_AT, digest);
    if (response->code == 0) {
        return HADB_RESULT_BYTES;
    }
    hadb_put_u64(out + HADB__RESULT_TERM_AT, response->version.term);
    hadb_put_u64(out + HADB__RESULT_TXID_AT, response->version.txid);
    hadb_put_u64(out + HADB__RESULT_OP_AT, response->failed_op);
    return HADB_RESULT_REFUSED_BYTES;
}

/* One transaction: the effects, unless a condition refuses them, and the result. */
static int write_request(struct group *group, const struct hadb_request *request, uint64_t digest,
                         struct hadb_response *response, struct hadb_error *err)
{
    static const uint8_t horizon_key[1] = {HADB_SPACE_HORIZON};
    if (reserve(group, request) != 0) {
        return hadb_fail_nomem(err);
    }
    size_t len = response->code == 0 ? add_user_ops(group, request) : 0;
    uint8_t result[HADB_RESULT_REFUSED_BYTES];
    size_t result_len = make_result(request, digest, response, result);
    group->ops[len++] = (struct hadb_op){
        .type = HADB_OP_PUT,
        .key = spaced(group, HADB_SPACE_RESULT, hadb_slice(request->id.b, 16)),
        .value = hadb_slice(result, result_len),
    };
    struct horizon horizon = group->horizon;
    horizon.results++;
    int r = add_leaving(group, &horizon, &len, err);
    if (r != 0) {
        return r;
    }
    uint8_t record[HADB__HORIZON_BYTES] = {HADB__HORIZON_VERSION};
    hadb_put_u64(record + HADB__HORIZON_TIME_AT, (uint64_t)horizon.oldest_unix_ms);
    hadb_put_u64(record + HADB__HORIZON_LEN_AT, horizon.results);
    group->ops[len++] = (struct hadb_op){
        .type = HADB_OP_PUT,
        .key = hadb_slice(horizon_key, 1),
        .value = hadb_slice(record, sizeof(record)),
    };
    struct hadb_version version = {.term = group->context->term, .txid = group->last_txid + 1};
    r = hadb_txn_encode(version.term, version.txid, group->context->now_unix_ms, group->ops, len,
                        &group->txns, err);
    if (r != 0) {
        return r;
    }
    group->horizon = horizon;
    group->last_txid = version.txid;
    group->ops_waiting += hadb__kv_ops_len(request);
    if (response->code == 0) {
        response->version = version;
    }
    response->state_txid = version.txid;
    return 0;
}

/* A failure of the request's own; the group goes on. */
static int run_request(struct group *group, const struct hadb_request *request,
                       struct hadb_response *response, struct hadb_error *err)
{
    uint64_t digest = hadb__kv_request_digest(group->kv->sha, request);
    enum judgement judgement = RUN;
    int r = judge_id(group, request, digest, response, &judgement, err);
    if (r != 0 || judgement == ANSWERED) {
        return r;
    }
    r = judge_conditions(group, request, response, err);
    if (r != 0 || (response->code == HADB_NOT_MET && !request->repeated)) {
        return r;
    }
    return write_request(group, request, digest, response, err);
}

static int group_run(struct group *group, size_t len, struct hadb_error *err)
{
    for (; group->at < len; group->at++) {
        const struct hadb_request *request = group->requests[group->at];
        struct hadb_response *response = &group->responses[group->at];
        int r = hadb__kv_check_mutation(request, &response->error);
        if (r == 0 && needs_flush(group, request)) {
            int flushed = group_flush(group, err);
            if (flushed != 0) {
                return flushed;
            }
        }
        r = r != 0 ? r : run_request(group, request, response, &response->error);
        if (r < 0) {
            response->code = r;
        }
    }
    return group_flush(group, err);
}

int hadb__kv_execute_many(void *self, const struct hadb_execute_context *context,
                          const struct hadb_request *const *requests, size_t len,
                          struct hadb_response *responses, struct hadb_error *err)
{
    struct hadb_error own = {0};
    struct group group = {
        .kv = self, .context = context, .requests = requests, .responses = responses};
    int r = 0;
    for (size_t i = 0; i < len && r == 0; i++) {
        if (!hadb__kv_executor_ops.is_mutation(self, requests[i])) {
            r = hadb_fail(&own, HADB_EINVAL, "request %zu of the group is no write", i);
        }
    }
    r = r != 0 ? r : group_init(&group, &own);
    r = r != 0 ? r : group_run(&group, len, &own);
    if (r != 0) {
        group_fail(&group, len, r, &own);
        if (err) {
            *err = own;
        }
    }
    group_deinit(&group);
    return r;
}
