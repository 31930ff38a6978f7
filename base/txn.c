/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 2, 3 and 8 of 8: the encoded transaction (byte table in hadb/engine.h), the unit that engines
 * log, tails return and changesets carry.
 *
 * Thread: any; pure functions on bytes.
 * Invariants: what hadb_txn_encode() accepts is what hadb_txn_next() accepts, so nothing can be written
 *   that a follower would refuse. A transaction, its header included, is at most HADB_BATCH_BYTES_MAX.
 * Happy path: measure and check every operation, reserve once, write.
 * Failure modes: limits (HADB_ETOOBIG), bad operations (HADB_EINVAL), memory; foreign bytes that do not
 *   hold together (HADB_ECORRUPT). Nothing is appended and nothing is moved on failure.
 */
#include <assert.h>
#include <inttypes.h>

#include "base/buf.h"
#include "base/error.h"
#include "hadb/engine.h"

enum {
    TXN_LENGTH = 0,
    TXN_TERM = 4,
    TXN_TXID = 12,
    TXN_TIME = 20,
    TXN_OPS_LEN = 28,
    OP_TYPE = 0,
    OP_KEY_LEN = 1,
    OP_VALUE_LEN = 5,
};
static_assert(TXN_OPS_LEN + 4 == HADB_TXN_HEADER_BYTES, "transaction header");
static_assert(OP_VALUE_LEN + 4 == HADB_TXN_OP_BYTES, "operation header");
static_assert(HADB_BATCH_BYTES_MAX < UINT32_MAX, "lengths are 32 bits");

static int check_op(const struct hadb_op *op, size_t index, struct hadb_error *err)
{
    if (op->type != HADB_OP_PUT && op->type != HADB_OP_DELETE) {
        return hadb_fail(err, HADB_EINVAL, "operation %zu has the unknown type %d", index,
                         (int)op->type);
    }
    if ((!op->key.data && op->key.len > 0) || (!op->value.data && op->value.len > 0)) {
        return hadb_fail(err, HADB_EINVAL, "operation %zu has a key or value without bytes", index);
    }
    if (op->key.len == 0) {
        return hadb_fail(err, HADB_EINVAL, "operation %zu has an empty key", index);
    }
    if (op->key.len > HADB_ENGINE_KEY_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "key of operation %zu has %zu bytes, at most %u", index,
                         op->key.len, HADB_ENGINE_KEY_BYTES_MAX);
    }
    if (op->type == HADB_OP_DELETE && op->value.len != 0) {
        return hadb_fail(err, HADB_EINVAL, "operation %zu deletes and has a value", index);
    }
    if (op->value.len > HADB_VALUE_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "value of operation %zu has %zu bytes, at most %u",
                         index, op->value.len, HADB_VALUE_BYTES_MAX);
    }
    return 0;
}

static uint8_t *write_op(uint8_t *at, const struct hadb_op *op)
{
    at[OP_TYPE] = (uint8_t)op->type;
    hadb_put_u32(at + OP_KEY_LEN, (uint32_t)op->key.len);
    hadb_put_u32(at + OP_VALUE_LEN, (uint32_t)op->value.len);
    at += HADB_TXN_OP_BYTES;
    memcpy(at, op->key.data, op->key.len);
    at += op->key.len;
    if (op->value.len != 0) {
        memcpy(at, op->value.data, op->value.len);
    }
    return at + op->value.len;
}

int hadb_txn_encode(uint64_t term, hadb_txid txid, int64_t time_unix_ms, const struct hadb_op *ops,
                    size_t ops_len, struct hadb_buf *out, struct hadb_error *err)
{
    if (!out || (!ops && ops_len > 0)) {
        return hadb_fail_misuse(err, __func__);
    }
    size_t len = HADB_TXN_HEADER_BYTES;
    if (txid == 0) {
        return hadb_fail(err, HADB_EINVAL, "transaction number 0 is reserved");
    }
    for (size_t i = 0; i < ops_len; i++) {
        int r = check_op(&ops[i], i, err);
        if (r != 0) {
            return r;
        }
        /* Never wraps: each step adds less than 65 MiB to a sum that is at most 256 MiB. */
        len += HADB_TXN_OP_BYTES + ops[i].key.len + ops[i].value.len;
        if (len > HADB_BATCH_BYTES_MAX) {
            return hadb_fail(err, HADB_ETOOBIG, "transaction has more than %u bytes",
                             HADB_BATCH_BYTES_MAX);
        }
    }
    if (hadb_buf_reserve(out, len) != 0) {
        return hadb_fail_nomem(err);
    }
    uint8_t *at = out->data + out->len;
    hadb_put_u32(at + TXN_LENGTH, (uint32_t)len);
    hadb_put_u64(at + TXN_TERM, term);
    hadb_put_u64(at + TXN_TXID, txid);
    hadb_put_u64(at + TXN_TIME, (uint64_t)time_unix_ms);
    hadb_put_u32(at + TXN_OPS_LEN, (uint32_t)ops_len);
    at += HADB_TXN_HEADER_BYTES;
    for (size_t i = 0; i < ops_len; i++) {
        at = write_op(at, &ops[i]);
    }
    out->len += len;
    HADB_ASSERT(at == out->data + out->len);
    return 0;
}

/* Reads the operation at @offset of @bytes. Returns its whole size, 0 if it does not hold together. */
static size_t read_op(struct hadb_slice bytes, size_t offset, struct hadb_op *out)
{
    size_t left = bytes.len - offset;
    const uint8_t *at = (const uint8_t *)bytes.data + offset;
    if (left < HADB_TXN_OP_BYTES) {
        return 0;
    }
    left -= HADB_TXN_OP_BYTES;
    size_t key_len = hadb_get_u32(at + OP_KEY_LEN);
    size_t value_len = hadb_get_u32(at + OP_VALUE_LEN);
    bool is_put = at[OP_TYPE] == HADB_OP_PUT;
    bool is_delete = at[OP_TYPE] == HADB_OP_DELETE;
    if ((!is_put && !is_delete) || (is_delete && value_len != 0)) {
        return 0;
    }
    if (key_len == 0 || key_len > HADB_ENGINE_KEY_BYTES_MAX || key_len > left) {
        return 0;
    }
    left -= key_len;
    if (value_len > HADB_VALUE_BYTES_MAX || value_len > left) {
        return 0;
    }
    at += HADB_TXN_OP_BYTES;
    *out = (struct hadb_op){
        .type = is_put ? HADB_OP_PUT : HADB_OP_DELETE,
        .key = hadb_slice(at, key_len),
        .value = hadb_slice(at + key_len, value_len),
    };
    return HADB_TXN_OP_BYTES + key_len + value_len;
}

static int check_ops(const struct hadb_txn *txn, struct hadb_error *err)
{
    size_t offset = HADB_TXN_HEADER_BYTES;
    struct hadb_op op;
    for (uint32_t i = 0; i < txn->ops_len; i++) {
        size_t op_bytes = read_op(txn->bytes, offset, &op);
        if (op_bytes == 0) {
            return hadb_fail(err, HADB_ECORRUPT,
                             "operation %" PRIu32 " of transaction %" PRIu64 " is malformed", i,
                             txn->txid);
        }
        offset += op_bytes;
    }
    if (offset != txn->bytes.len) {
        return hadb_fail(err, HADB_ECORRUPT,
                         "transaction %" PRIu64 " has %zu bytes after its last operation",
                         txn->txid, txn->bytes.len - offset);
    }
    return 0;
}

int hadb_txn_next(struct hadb_slice *rest, struct hadb_txn *out, struct hadb_error *err)
{
    if (!rest || !out || (!rest->data && rest->len > 0)) {
        return hadb_fail_misuse(err, __func__);
    }
    if (rest->len == 0) {
        return HADB_END;
    }
    if (rest->len < HADB_TXN_HEADER_BYTES) {
        return hadb_fail(err, HADB_ECORRUPT, "transaction header cut off after %zu bytes",
                         rest->len);
    }
    const uint8_t *at = rest->data;
    size_t len = hadb_get_u32(at + TXN_LENGTH);
    if (len < HADB_TXN_HEADER_BYTES || len > HADB_BATCH_BYTES_MAX || len > rest->len) {
        return hadb_fail(err, HADB_ECORRUPT, "transaction of %zu bytes where %zu are left", len,
                         rest->len);
    }
    struct hadb_txn txn = {
        .term = hadb_get_u64(at + TXN_TERM),
        .txid = hadb_get_u64(at + TXN_TXID),
        .time_unix_ms = (int64_t)hadb_get_u64(at + TXN_TIME),
        .ops_len = hadb_get_u32(at + TXN_OPS_LEN),
        .bytes = hadb_slice(at, len),
    };
    if (txn.txid == 0) {
        return hadb_fail(err, HADB_ECORRUPT, "transaction with the reserved number 0");
    }
    int r = check_ops(&txn, err);
    if (r != 0) {
        return r;
    }
    *out = txn;
    *rest = hadb_slice(at + len, rest->len - len);
    return 0;
}

int hadb_txn_op(const struct hadb_txn *txn, size_t *cursor, struct hadb_op *out)
{
    /* The cursor is a byte offset; 0 stands for the first operation. */
    if (!txn || !cursor || !out) {
        return HADB_EINVAL;
    }
    size_t offset = *cursor == 0 ? HADB_TXN_HEADER_BYTES : *cursor;
    if (offset > txn->bytes.len) {
        return HADB_EINVAL;
    }
    if (offset == txn->bytes.len) {
        return HADB_END;
    }
    size_t op_bytes = read_op(txn->bytes, offset, out);
    if (op_bytes == 0) { /* hadb_txn_next() checked its own: not a cursor of this transaction */
        return HADB_EINVAL;
    }
    *cursor = offset + op_bytes;
    return 0;
}
