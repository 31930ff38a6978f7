/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 2 of 8: what a write asks for. Checks against the limits of the data model, and the digest that
 * tells a retry from another request under the same id.
 *
 * Thread: the digest the one writer (it owns the context), the rest any. Invariants: nothing that
 * passes here can fail hadb_txn_encode() but for the size of the whole.
 * Failure modes: HADB_EINVAL, HADB_ETOOBIG.
 */
#include "base/buf.h"
#include "base/error.h"
#include "base/id.h"
#include "replicators/kv_private.h"

size_t hadb__kv_ops_len(const struct hadb_request *request)
{
    return request->type == HADB_REQUEST_BATCH ? request->ops_len : 1;
}

struct hadb_kv_op hadb__kv_op(const struct hadb_request *request, size_t index)
{
    HADB_ASSERT(index < hadb__kv_ops_len(request));
    if (request->type == HADB_REQUEST_BATCH) {
        return request->ops[index];
    }
    bool is_put = request->type == HADB_REQUEST_PUT;
    return (struct hadb_kv_op){
        .type = is_put ? HADB_OP_PUT : HADB_OP_DELETE,
        .key = request->key,
        .value = is_put ? request->value : (struct hadb_slice){0},
        .if_absent = request->if_absent,
        .if_version = request->if_version,
    };
}

bool hadb__kv_has_condition(const struct hadb_kv_op *op)
{
    return op->if_absent || op->if_version.txid != 0;
}

static int check_op(const struct hadb_kv_op *op, size_t index, struct hadb_error *err)
{
    if (op->type != HADB_OP_PUT && op->type != HADB_OP_DELETE) {
        return hadb_fail(err, HADB_EINVAL, "operation %zu is neither put nor delete", index);
    }
    if (op->key.len == 0) {
        return hadb_fail(err, HADB_EINVAL, "operation %zu has an empty key", index);
    }
    if (op->key.len > HADB_KEY_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "key has %zu bytes, at most %u", op->key.len,
                         HADB_KEY_BYTES_MAX);
    }
    if (op->type == HADB_OP_PUT && op->value.len > HADB_VALUE_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "value has %zu bytes, at most %u", op->value.len,
                         HADB_VALUE_BYTES_MAX);
    }
    if (op->type == HADB_OP_DELETE && (op->if_absent || op->value.len != 0)) {
        return hadb_fail(err, HADB_EINVAL, "operation %zu deletes, and %s", index,
                         op->if_absent ? "only if the key is absent" : "has a value");
    }
    if (op->if_absent && op->if_version.txid != 0) {
        return hadb_fail(err, HADB_EINVAL, "operation %zu wants the key absent and at a version",
                         index);
    }
    return 0;
}

int hadb__kv_check_mutation(const struct hadb_request *request, struct hadb_error *err)
{
    size_t len = hadb__kv_ops_len(request);
    if (len == 0 || len > HADB_BATCH_OPS_MAX) {
        return hadb_fail(err, len ? HADB_ETOOBIG : HADB_EINVAL,
                         "a batch of %zu operations, 1 to %u are possible", len,
                         HADB_BATCH_OPS_MAX);
    }
    if (!hadb_id_is_v7(&request->id)) {
        return hadb_fail(err, HADB_EINVAL, "the request id is no UUIDv7");
    }
    for (size_t i = 0; i < len; i++) {
        struct hadb_kv_op op = hadb__kv_op(request, i);
        int r = check_op(&op, i, err);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

uint64_t hadb__kv_request_digest(struct hadb_sha256_stream *sha, const struct hadb_request *request)
{
    uint8_t head[32];
    size_t len = hadb__kv_ops_len(request);
    head[0] = (uint8_t)request->type;
    hadb_put_u32(head + 1, (uint32_t)len);
    hadb_sha256_update(sha, head, 5);
    for (size_t i = 0; i < len; i++) {
        struct hadb_kv_op op = hadb__kv_op(request, i);
        head[0] = (uint8_t)op.type;
        head[1] = op.if_absent ? 1 : 0;
        hadb_put_u64(head + 2, op.if_version.txid ? op.if_version.term : 0);
        hadb_put_u64(head + 10, op.if_version.txid);
        hadb_put_u32(head + 18, (uint32_t)op.key.len);
        hadb_put_u32(head + 22, (uint32_t)op.value.len);
        hadb_sha256_update(sha, head, 26);
        hadb_sha256_update(sha, op.key.data, op.key.len);
        hadb_sha256_update(sha, op.value.data, op.value.len);
    }
    struct hadb_hash hash;
    hadb_sha256_final(sha, &hash);
    return hadb_get_u64(hash.b);
}
