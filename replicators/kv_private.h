/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the key-value executor share. */
#ifndef HADB_REPLICATORS_KV_PRIVATE_H
#define HADB_REPLICATORS_KV_PRIVATE_H
#include "base/hash.h"
#include "hadb/executor.h"

/* kv_ages.c */
#define HADB__KV_AGES_LEN 16u
struct hadb__kv_ages {
    uint64_t term;
    struct {
        uint64_t at_ms;
        hadb_txid txid;
    } notes[HADB__KV_AGES_LEN]; /* oldest first */
    unsigned len;
};

struct hadb__kv_executor {
    const struct hadb_engine *engine; /* const after open */
    struct hadb_sha256_stream *sha;   /* the one writer */
    struct hadb__kv_ages ages;        /* the one writer */
};

extern const struct hadb_executor_ops hadb__kv_executor_ops;

/* kv_request.c: is it well formed and within limits? HADB_EINVAL, HADB_ETOOBIG. */
int hadb__kv_check_mutation(const struct hadb_request *request, struct hadb_error *err);
/* … and what it asks for, in 8 bytes: the same request has the same digest. */
uint64_t hadb__kv_request_digest(struct hadb_sha256_stream *sha,
                                 const struct hadb_request *request);
/* Operation @index (a PUT or DELETE is a batch of one). */
size_t hadb__kv_ops_len(const struct hadb_request *request);
struct hadb_kv_op hadb__kv_op(const struct hadb_request *request, size_t index);
bool hadb__kv_has_condition(const struct hadb_kv_op *op);

/* Notes that all results up to @last_txid are there; returns up to where they have been kept for long enough. */
hadb_txid hadb__kv_ages_note(struct hadb__kv_ages *ages, const struct hadb_execute_context *context,
                             hadb_txid last_txid);

/* kv_write.c */
int hadb__kv_execute_many(void *self, const struct hadb_execute_context *context,
                          const struct hadb_request *const *requests, size_t len,
                          struct hadb_response *responses, struct hadb_error *err);
/* kv_read.c */
int hadb__kv_read(void *self, const struct hadb_request *request, struct hadb_response *response,
                  struct hadb_error *err);
#endif
