/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches: encoded transactions, or the items of an ingest, decoded into cells before anything changes.
 *
 * Thread: the one writer. Invariant: a batch owns its cells until commit moves those of the tail there.
 * Failure modes: bytes that do not decode, numbers out of order, out of memory; the state is untouched.
 */
#include <inttypes.h>

#include "base/alloc.h"
#include "base/error.h"
#include "engines/index/state_private.h"

static int reserve_ops(struct hadb__batch *batch, size_t more)
{
    if (more <= batch->ops_cap - batch->ops_len) {
        return 0;
    }
    size_t cap = HADB_MAX(batch->ops_cap * 2, batch->ops_len + more);
    struct hadb__batch_op *ops = hadb_realloc(batch->ops, cap * sizeof(*ops));
    if (!ops) {
        return HADB_ENOMEM;
    }
    batch->ops = ops;
    batch->ops_cap = cap;
    return 0;
}

static int add_op(struct hadb__batch *batch, struct hadb_slice key, struct hadb__cell *take_after)
{
    if (reserve_ops(batch, 1) < 0) {
        hadb__cell_unref(take_after);
        return HADB_ENOMEM;
    }
    batch->ops[batch->ops_len] = (struct hadb__batch_op){.key = key, .after = take_after};
    batch->ops_len++;
    batch->ops_kept = batch->ops_len;
    return 0;
}

static int add_txn(struct hadb__batch *batch, const struct hadb_txn *txn, size_t ops_len)
{
    if (batch->txns_len == batch->txns_cap) {
        size_t cap = HADB_MAX(batch->txns_cap * 2, 4u);
        struct hadb__batch_txn *txns = hadb_realloc(batch->txns, cap * sizeof(*txns));
        if (!txns) {
            return HADB_ENOMEM;
        }
        batch->txns = txns;
        batch->txns_cap = cap;
    }
    batch->txns[batch->txns_len] = (struct hadb__batch_txn){.txn = *txn, .ops_len = ops_len};
    batch->txns_len++;
    batch->txns_kept = batch->txns_len;
    return 0;
}

static int read_ops(struct hadb__batch *batch, const struct hadb_txn *txn, hadb__cell_make_fn make,
                    void *arg)
{
    const struct hadb_version version = {.term = txn->term, .txid = txn->txid};
    if (reserve_ops(batch, txn->ops_len) < 0) {
        return HADB_ENOMEM;
    }
    size_t cursor = 0;
    struct hadb_op op;
    while (hadb_txn_op(txn, &cursor, &op) == 0) {
        struct hadb__cell *cell = NULL;
        if (op.type == HADB_OP_PUT && !(cell = make(arg, op.key, op.value, version))) {
            return HADB_ENOMEM;
        }
        if (add_op(batch, op.key, cell) < 0) {
            return HADB_ENOMEM;
        }
    }
    return 0;
}

int hadb__batch_read(struct hadb__batch *batch, struct hadb_slice txns, hadb_txid last_txid,
                     hadb__cell_make_fn make, void *arg, struct hadb_error *err)
{
    struct hadb_txn txn;
    int r;
    while ((r = hadb_txn_next(&txns, &txn, err)) == 0) {
        if (txn.txid != last_txid + 1) {
            return hadb_fail(err, HADB_EINVAL, "transaction %" PRIu64 " does not follow %" PRIu64,
                             txn.txid, last_txid);
        }
        last_txid++;
        size_t ops_before = batch->ops_len;
        if (read_ops(batch, &txn, make, arg) < 0 ||
            add_txn(batch, &txn, batch->ops_len - ops_before) < 0) {
            return hadb_fail_nomem(err);
        }
    }
    return r == HADB_END ? 0 : r;
}

int hadb__batch_item(struct hadb__batch *batch, const struct hadb_item *item,
                     hadb__cell_make_fn make, void *arg, struct hadb_error *err)
{
    HADB_ASSERT(batch->ingest && batch->txns_len == 0);
    if (item->key.len == 0) {
        return hadb_fail(err, HADB_EINVAL, "an item to ingest has an empty key");
    }
    if (item->key.len > HADB_ENGINE_KEY_BYTES_MAX || item->value.len > HADB_VALUE_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "an item to ingest has %zu + %zu bytes", item->key.len,
                         item->value.len);
    }
    struct hadb__cell *cell = make(arg, item->key, item->value, item->version);
    if (!cell || add_op(batch, item->key, cell) < 0) {
        return hadb_fail_nomem(err);
    }
    return 0;
}

void hadb__batch_deinit(struct hadb__batch *batch)
{
    for (size_t i = 0; i < batch->ops_kept; i++) {
        hadb__cell_unref(batch->ops[i].before);
        hadb__cell_unref(batch->ops[i].after);
    }
    for (size_t i = 0; i < batch->txns_kept; i++) {
        hadb__cell_unref(batch->txns[i].place.copy);
    }
    hadb__index_deinit(&batch->work);
    hadb_free(batch->ops);
    hadb_free(batch->txns);
    *batch = (struct hadb__batch){0};
}
