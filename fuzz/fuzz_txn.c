/* SPDX-License-Identifier: Apache-2.0 */
/* Hops 2 and 8 of 8: any bytes as encoded transactions. What is accepted encodes again to the same bytes. */
#include <stdlib.h>

#include "fuzz/input.h"
#include "hadb/engine.h"

static void encode_again(const struct hadb_txn *txn)
{
    struct hadb_op *ops = calloc(txn->ops_len ? txn->ops_len : 1, sizeof(*ops));
    struct hadb_buf again = {0};
    size_t cursor = 0;
    size_t ops_len = 0;
    HADB_ASSERT(ops != NULL);
    while (ops_len < txn->ops_len) {
        HADB_ASSERT(hadb_txn_op(txn, &cursor, &ops[ops_len]) == 0);
        ops_len++;
    }
    struct hadb_op none;
    HADB_ASSERT(hadb_txn_op(txn, &cursor, &none) == HADB_END);
    HADB_ASSERT(
        hadb_txn_encode(txn->term, txn->txid, txn->time_unix_ms, ops, ops_len, &again, NULL) == 0);
    HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(&again), txn->bytes));
    hadb_buf_deinit(&again);
    free(ops);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hadb_slice rest = hadb_slice(data, len);
    struct hadb_error err = {0};
    struct hadb_txn txn;
    int r = 0;
    while ((r = hadb_txn_next(&rest, &txn, &err)) == 0) {
        encode_again(&txn);
    }
    HADB_ASSERT(r == HADB_END || (r == HADB_ECORRUPT && err.code == r));
    return 0;
}
