/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 2 of 8: the executor of key-value engines, its table. Requests are checked in kv_request.c, written
 * in kv_write.c, read in kv_read.c.
 *
 * Thread: any; see the methods. Invariants: no state but a hashing context of the writer, so a
 * rewind, a restore or another leader's entries need no notice. Failure modes: memory.
 */
#include "base/alloc.h"
#include "base/error.h"
#include "replicators/kv_private.h"

static int kv_open(const struct hadb_engine *engine, void **self, struct hadb_error *err)
{
    struct hadb__kv_executor *kv = hadb_calloc(1, sizeof(*kv));
    struct hadb_sha256_stream *sha = hadb_sha256_new();
    if (!kv || !sha) {
        hadb_free(kv);
        hadb_sha256_free(sha);
        return hadb_fail_nomem(err);
    }
    *kv = (struct hadb__kv_executor){.engine = engine, .sha = sha};
    *self = kv;
    return 0;
}

static void kv_close(void *self)
{
    struct hadb__kv_executor *kv = self;
    hadb_sha256_free(kv->sha);
    hadb_free(kv);
}

static bool kv_is_mutation(void *self, const struct hadb_request *request)
{
    (void)self;
    return request->type == HADB_REQUEST_PUT || request->type == HADB_REQUEST_DELETE ||
           request->type == HADB_REQUEST_BATCH;
}

const struct hadb_executor_ops hadb__kv_executor_ops = {
    .abi = HADB_EXECUTOR_ABI,
    .name = "kv",
    .open = kv_open,
    .close = kv_close,
    .is_mutation = kv_is_mutation,
    .execute_many = hadb__kv_execute_many,
    .read = hadb__kv_read,
};
