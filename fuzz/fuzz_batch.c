/* SPDX-License-Identifier: Apache-2.0 */
/* Hop 1 of 8: any bytes as the JSON body of a batch, and of a hand-off. A batch that is taken has operations within the
 * limits and means the same when it is written down and read again; every refusal says why in one line. */
#include <stdlib.h>

#include "base/error.h"
#include "fuzz/input.h"
#include "fuzz/memory.h"
#include "node/api_private.h"

static void drop(struct hadb_api_op *op)
{
    for (size_t i = 0; i < op->op_bytes_len; i++) {
        hadb_buf_deinit(&op->op_bytes[i]);
    }
    hadb_free(op->op_bytes);
    hadb_free(op->ops);
    json_decref(op->json);
    *op = (struct hadb_api_op){0};
}

static json_t *op_json(const struct hadb_kv_op *op)
{
    json_t *item = json_object();
    char version[HADB_VERSION_TEXT_BYTES];
    bool put = op->type == HADB_OP_PUT;
    HADB_ASSERT(item && (put || op->type == HADB_OP_DELETE));
    HADB_ASSERT(json_object_set_new(item, "op", json_string(put ? "put" : "delete")) == 0);
    HADB_ASSERT(hadb__json_set_bytes(item, "key", op->key) == 0);
    HADB_ASSERT(put ? hadb__json_set_bytes(item, "value", op->value) == 0 : op->value.len == 0);
    HADB_ASSERT(!op->if_absent || (put && op->if_version.txid == 0));
    HADB_ASSERT(json_object_set_new(item, "if_absent", json_boolean(op->if_absent)) == 0);
    if (op->if_version.txid > 0) {
        hadb_version_format(&op->if_version, version);
        HADB_ASSERT(json_object_set_new(item, "if_version", json_string(version)) == 0);
    }
    return item;
}

static char *write_down(const struct hadb_api_op *op)
{
    json_t *root = json_object(), *list = json_array();
    HADB_ASSERT(root && list && json_object_set_new(root, "ops", list) == 0);
    for (size_t i = 0; i < op->req.request.ops_len; i++) {
        HADB_ASSERT(json_array_append_new(list, op_json(&op->ops[i])) == 0);
    }
    char *text = json_dumps(root, JSON_COMPACT);
    HADB_ASSERT(text);
    json_decref(root);
    return text;
}

static void same(const struct hadb_api_op *a, const struct hadb_api_op *b)
{
    HADB_ASSERT(a->req.request.ops_len == b->req.request.ops_len);
    for (size_t i = 0; i < a->req.request.ops_len; i++) {
        const struct hadb_kv_op *x = &a->ops[i], *y = &b->ops[i];
        HADB_ASSERT(x->type == y->type && x->if_absent == y->if_absent);
        HADB_ASSERT(hadb_slice_eq(x->key, y->key) && hadb_slice_eq(x->value, y->value));
        HADB_ASSERT(x->if_version.term == y->if_version.term);
        HADB_ASSERT(x->if_version.txid == y->if_version.txid);
    }
}

static void try_batch(struct hadb_slice body)
{
    struct hadb_api_op op = {0}, back = {0};
    struct hadb_error err = {0};
    int r = hadb__api_batch_parse(&op, body, &err);
    if (r != 0) {
        HADB_ASSERT((r == HADB_EINVAL || r == HADB_ETOOBIG) && err.code == r && err.message[0]);
        HADB_ASSERT(strchr(err.message, '\n') == NULL);
    } else {
        HADB_ASSERT(op.req.request.ops_len > 0 && op.req.request.ops_len <= HADB_BATCH_OPS_MAX);
        char *text = write_down(&op);
        HADB_ASSERT(hadb__api_batch_parse(&back, hadb_slice_str(text), &err) == 0);
        same(&op, &back);
        hadb_free(text);
        drop(&back);
    }
    drop(&op);
}

static void *json_alloc(size_t size)
{
    return hadb_malloc(HADB_MAX(size, 1u));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const char *const names[] = {"to", NULL};
    json_t *json = NULL;
    fuzz_memory_start();
    json_set_alloc_funcs(json_alloc, hadb_free);
    json_object_seed(1);
    try_batch(hadb_slice(data, len));
    if (hadb__api_json_object(hadb_slice(data, len), names, "{\"to\":\"NAME\"}", &json, NULL) ==
        0) {
        HADB_ASSERT(json_is_object(json) && json_object_size(json) <= 1);
        json_decref(json);
    }
    /* An empty object takes two bytes of text and some 250 of memory; the text may be kept three times. */
    fuzz_memory_end(16 * len + 4096, 200 * len + 16384);
    return 0;
}
