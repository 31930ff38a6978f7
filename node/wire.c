/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 1 of 8: a write on its way from a follower to the leader, and the answer. All integers little-endian.
 *
 *   request  0  1  version, 1                answer  0  1  version, 1
 *            1  1  type (hadb_request_type)          1  1  1 = stored answer of an earlier attempt
 *            2  1  ack (hadb_ack_mode)               2  2  length of the message
 *            3  1  1 = another copy may exist        4  4  code (signed)
 *            4 16  request id                        8  8  version of the write: term
 *           20  4  milliseconds left                16  8  … txid
 *           24  8  term that the receiver leads     24  8  durable position: term, 0 = none
 *           32  4  number of operations             32  8  … txid
 *           36  …  operations                       40  8  index of the operation that failed
 *                                                   48  8  Unix ms that an id would be taken with, or 0
 *                                                   56  …  message
 *   operation: type 1, flags 1 (bit 0 if_absent), zero 2, key length 4, value length 4,
 *              if_version term 8, txid 8, key, value
 *
 * Thread: any; pure. Foreign bytes: every length is checked before it is used.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "node/req.h"

#include <stdio.h>

#define WIRE_VERSION 1u
#define REQUEST_BYTES 36u
#define OP_BYTES 28u
#define ANSWER_BYTES 56u

static int put_op(const struct hadb_kv_op *op, struct hadb_buf *out)
{
    uint8_t head[OP_BYTES] = {(uint8_t)op->type, op->if_absent ? 1 : 0};
    hadb_put_u32(head + 4, (uint32_t)op->key.len);
    hadb_put_u32(head + 8, (uint32_t)op->value.len);
    hadb_put_u64(head + 12, op->if_version.term);
    hadb_put_u64(head + 20, op->if_version.txid);
    int r = hadb_buf_append(out, head, sizeof head);
    if (r == 0) {
        r = hadb_buf_append(out, op->key.data, op->key.len);
    }
    if (r == 0) {
        r = hadb_buf_append(out, op->value.data, op->value.len);
    }
    return r;
}

int hadb__wire_encode_request(const struct hadb_req *req, uint32_t left_ms, struct hadb_buf *out,
                              struct hadb_error *err)
{
    const struct hadb_request *request = &req->request;
    struct hadb_kv_op one = {.type = request->type == HADB_REQUEST_DELETE ? HADB_OP_DELETE
                                                                          : HADB_OP_PUT,
                             .key = request->key,
                             .value = request->value,
                             .if_absent = request->if_absent,
                             .if_version = request->if_version};
    bool batch = request->type == HADB_REQUEST_BATCH;
    const struct hadb_kv_op *ops = batch ? request->ops : &one;
    size_t ops_len = batch ? request->ops_len : 1;
    uint8_t head[REQUEST_BYTES] = {WIRE_VERSION, (uint8_t)request->type, (uint8_t)req->ack,
                                   hadb__req_repeated(req)};
    memcpy(head + 4, request->id.b, 16);
    hadb_put_u32(head + 20, left_ms);
    hadb_put_u64(head + 24, req->sent_term);
    hadb_put_u32(head + 32, (uint32_t)ops_len);
    size_t bytes = REQUEST_BYTES + ops_len * OP_BYTES + hadb__req_bytes(request);
    int r = hadb_buf_reserve(out, bytes);
    if (r == 0) {
        r = hadb_buf_append(out, head, sizeof head);
    }
    for (size_t i = 0; r == 0 && i < ops_len; i++) {
        r = put_op(&ops[i], out);
    }
    return r < 0 ? hadb_fail_nomem(err) : 0;
}

static bool take_op(struct hadb_slice *rest, struct hadb_kv_op *out)
{
    const uint8_t *p = rest->data;
    if (rest->len < OP_BYTES) {
        return false;
    }
    size_t key_len = hadb_get_u32(p + 4), value_len = hadb_get_u32(p + 8);
    size_t left = rest->len - OP_BYTES;
    bool put = p[0] == HADB_OP_PUT;
    bool ok = (put || (p[0] == HADB_OP_DELETE && p[1] == 0 && value_len == 0)) && p[1] <= 1 &&
              p[2] == 0 && p[3] == 0 && key_len <= left && value_len <= left - key_len;
    if (!ok) {
        return false;
    }
    *out = (struct hadb_kv_op){.type = (enum hadb_op_type)p[0],
                               .key = hadb_slice(p + OP_BYTES, key_len),
                               .value = hadb_slice(p + OP_BYTES + key_len, value_len),
                               .if_absent = p[1] == 1,
                               .if_version = {hadb_get_u64(p + 12), hadb_get_u64(p + 20)}};
    *rest = hadb_slice(p + OP_BYTES + key_len + value_len, left - key_len - value_len);
    return true;
}

static int bad(struct hadb_error *err)
{
    return hadb_fail(err, HADB_EPROTO, "malformed request from another node");
}

static int take_ops(struct hadb_slice rest, size_t len, struct hadb_kv_op *ops,
                    struct hadb_error *err)
{
    for (size_t i = 0; i < len; i++) {
        if (!take_op(&rest, &ops[i])) {
            return bad(err);
        }
    }
    return rest.len == 0 ? 0 : bad(err);
}

int hadb__wire_decode_request(struct hadb_slice bytes, struct hadb_req *req,
                              struct hadb_kv_op **ops, uint32_t *left_ms, struct hadb_error *err)
{
    const uint8_t *p = bytes.data;
    *ops = NULL;
    if (bytes.len < REQUEST_BYTES || p[0] != WIRE_VERSION || p[3] > 1 || p[1] < HADB_REQUEST_PUT ||
        p[1] > HADB_REQUEST_BATCH || p[2] < HADB_ACK_ASYNC || p[2] > HADB_ACK_BOTH) {
        return bad(err);
    }
    size_t len = hadb_get_u32(p + 32);
    struct hadb_slice rest = hadb_slice(p + REQUEST_BYTES, bytes.len - REQUEST_BYTES);
    bool batch = p[1] == HADB_REQUEST_BATCH;
    if (len == 0 || len > HADB_BATCH_OPS_MAX || (!batch && len != 1) || len > rest.len / OP_BYTES) {
        return bad(err);
    }
    struct hadb_kv_op one;
    struct hadb_kv_op *list = batch ? hadb_calloc(len, sizeof *list) : &one;
    if (!list) {
        return hadb_fail_nomem(err);
    }
    int r = take_ops(rest, len, list, err);
    if (r == 0 && !batch && (one.type == HADB_OP_PUT) != (p[1] == HADB_REQUEST_PUT)) {
        r = bad(err);
    }
    if (r < 0) {
        if (batch) {
            hadb_free(list);
        }
        return r;
    }
    req->kind = HADB_REQ_WRITE;
    req->ack = (enum hadb_ack_mode)p[2];
    req->forwarded = true;
    req->forwarded_term = hadb_get_u64(p + 24);
    *left_ms = hadb_get_u32(p + 20);
    req->request =
        (struct hadb_request){.type = (enum hadb_request_type)p[1], .repeated = p[3] == 1};
    memcpy(req->request.id.b, p + 4, 16);
    if (batch) {
        *ops = list;
        req->request.ops = list;
        req->request.ops_len = len;
    } else {
        req->request.key = one.key;
        req->request.value = one.value;
        req->request.if_absent = one.if_absent;
        req->request.if_version = one.if_version;
    }
    return 0;
}

int hadb__wire_encode_answer(const struct hadb_req *req, struct hadb_buf *out,
                             struct hadb_error *err)
{
    const char *message = req->r < 0 ? req->err.message : "";
    uint8_t head[ANSWER_BYTES] = {WIRE_VERSION, req->response.deduplicated ? 1 : 0};
    hadb_put_u16(head + 2, (uint16_t)strlen(message));
    hadb_put_u32(head + 4, (uint32_t)req->r);
    hadb_put_u64(head + 8, req->response.version.term);
    hadb_put_u64(head + 16, req->response.version.txid);
    hadb_put_u64(head + 24, req->position.term);
    hadb_put_u64(head + 32, req->position.txid);
    hadb_put_u64(head + 40, req->response.failed_op);
    hadb_put_u64(head + 48, (uint64_t)req->response.usable_unix_ms);
    if (hadb_buf_append(out, head, sizeof head) < 0 || hadb_buf_append_str(out, message) < 0) {
        return hadb_fail_nomem(err);
    }
    return 0;
}

/* What can become of a write. */
static bool is_outcome(int code)
{
    static const int codes[] = {
#define HADB_X(name, value, text, retry) value,
        HADB_CODES(HADB_X)
#undef HADB_X
    };
    bool known = code == 0 || code == HADB_NOT_MET;
    for (size_t i = 0; i < HADB_LEN(codes); i++) {
        known = known || code == codes[i];
    }
    return known;
}

int hadb__wire_decode_answer(struct hadb_slice bytes, struct hadb_req *req, struct hadb_error *err)
{
    const uint8_t *p = bytes.data;
    if (bytes.len < ANSWER_BYTES || p[0] != WIRE_VERSION || p[1] > 1 ||
        bytes.len != ANSWER_BYTES + hadb_get_u16(p + 2) ||
        !is_outcome((int)(int32_t)hadb_get_u32(p + 4))) {
        return hadb_fail(err, HADB_EPROTO, "malformed answer from the leader");
    }
    req->r = (int)(int32_t)hadb_get_u32(p + 4);
    req->response = (struct hadb_response){.code = req->r,
                                           .deduplicated = p[1] == 1,
                                           .version = {hadb_get_u64(p + 8), hadb_get_u64(p + 16)},
                                           .failed_op = (size_t)hadb_get_u64(p + 40),
                                           .usable_unix_ms = (int64_t)hadb_get_u64(p + 48)};
    req->position = (struct hadb_version){hadb_get_u64(p + 24), hadb_get_u64(p + 32)};
    req->err = (struct hadb_error){0};
    if (req->r < 0) {
        hadb_fail(&req->err, req->r, "%.*s", (int)hadb_get_u16(p + 2),
                  (const char *)p + ANSWER_BYTES);
    }
    return 0;
}
