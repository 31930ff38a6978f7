/* SPDX-License-Identifier: Apache-2.0 */
/* Hop 1 of 8: any bytes as a forwarded write and as the leader's answer. What decodes as a write encodes to the same
 * bytes and stays inside them; an answer says only what an answer can say, and means the same after one more trip. */
#include "fuzz/input.h"
#include "fuzz/memory.h"
#include "hadb/kv.h"
#include "node/req.h"
#include "replicators/kv_private.h"

static void inside(struct hadb_slice part, struct hadb_slice whole)
{
    const uint8_t *p = part.data, *w = whole.data;
    HADB_ASSERT(part.len == 0 ||
                (p >= w && part.len <= whole.len && p + part.len <= w + whole.len));
}

static void try_request(struct hadb_slice bytes)
{
    struct hadb_req req = {0};
    struct hadb_kv_op *ops = NULL;
    struct hadb_error err = {0};
    uint32_t left_ms = 0;
    fuzz_memory_start();
    int r = hadb__wire_decode_request(bytes, &req, &ops, &left_ms, &err);
    if (r != 0) {
        HADB_ASSERT(r == HADB_EPROTO && err.code == r && ops == NULL);
        fuzz_memory_end(HADB_BATCH_OPS_MAX * sizeof(*ops), 4 * bytes.len + 256);
        return;
    }
    for (size_t i = 0; i < hadb__kv_ops_len(&req.request); i++) {
        struct hadb_kv_op op = hadb__kv_op(&req.request, i);
        inside(op.key, bytes);
        inside(op.value, bytes);
    }
    (void)hadb__kv_check_mutation(&req.request, NULL);
    struct hadb_buf again = {0};
    req.sent_term = req.forwarded_term;
    req.own_id = !req.request.repeated; /* what the sender's flag is made of */
    HADB_ASSERT(hadb__wire_encode_request(&req, left_ms, &again, NULL) == 0);
    HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(&again), bytes));
    hadb_buf_deinit(&again);
    hadb_free(ops);
    fuzz_memory_end(HADB_MAX(4 * bytes.len, 256u), 8 * bytes.len + 1024);
}

static void try_answer(struct hadb_slice bytes)
{
    struct hadb_req req = {0}, back = {0};
    struct hadb_error err = {0};
    struct hadb_buf again = {0};
    fuzz_memory_start();
    int r = hadb__wire_decode_answer(bytes, &req, &err);
    HADB_ASSERT(fuzz_memory.peak == 0);
    if (r != 0) {
        HADB_ASSERT(r == HADB_EPROTO && err.code == r);
        return;
    }
    HADB_ASSERT(req.r == 0 || req.r == HADB_NOT_MET ||
                (req.r < 0 && strcmp(hadb_code_name(req.r), "unknown") != 0));
    HADB_ASSERT(req.response.code == req.r && req.err.code == HADB_MIN(req.r, 0));
    HADB_ASSERT(strchr(req.err.message, '\n') == NULL);
    HADB_ASSERT(hadb__wire_encode_answer(&req, &again, NULL) == 0);
    HADB_ASSERT(hadb__wire_decode_answer(hadb_buf_slice(&again), &back, NULL) == 0);
    HADB_ASSERT(back.r == req.r && strcmp(back.err.message, req.err.message) == 0);
    HADB_ASSERT(back.response.deduplicated == req.response.deduplicated);
    HADB_ASSERT(back.response.version.term == req.response.version.term);
    HADB_ASSERT(back.response.version.txid == req.response.version.txid);
    HADB_ASSERT(back.response.failed_op == req.response.failed_op);
    HADB_ASSERT(back.response.usable_unix_ms == req.response.usable_unix_ms);
    HADB_ASSERT(back.position.term == req.position.term);
    HADB_ASSERT(back.position.txid == req.position.txid);
    hadb_buf_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    try_request(hadb_slice(data, len));
    try_answer(hadb_slice(data, len));
    return 0;
}
