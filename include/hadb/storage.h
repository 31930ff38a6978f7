/* SPDX-License-Identifier: Apache-2.0 */
/**
 * StorageBackend: where changesets live (hop 6 of 8). Objects are created once or replaced by
 * compare-and-swap; there is no unconditional put.
 */
#ifndef HADB_STORAGE_H
#define HADB_STORAGE_H

#include "hadb/env.h"

HADB_BEGIN_DECLS

#define HADB_STORAGE_ABI 1u
#define HADB_OBJECT_KEY_BYTES_MAX 1024u
#define HADB_OBJECT_BYTES_MAX (64u << 20) /* one create or replace; larger things are split */
#define HADB_LIST_LEN_MAX 1000u

/* What a backend can do beyond the required methods (caps). */
#define HADB_STORAGE_CAP_REPLACE 1u  /* compare-and-swap on one key */
#define HADB_STORAGE_CAP_DURABLE 2u  /* survives the process */
#define HADB_STORAGE_CAP_SHARED 4u   /* seen by other processes */

struct hadb_object_meta {
    uint64_t size_bytes;
    struct hadb_tag tag;
};

/** One page of a listing; hadb_object_list_deinit() frees it. */
struct hadb_object_list {
    struct hadb_object_info {
        char *key;
        uint64_t size_bytes;
    } *items;       /* ascending byte order of key */
    size_t len;
    bool truncated; /* there may be more: list again after the last key */
};

/**
 * Methods of a backend. Keys are 1..1024 bytes of [A-Za-z0-9._/-], with no leading or trailing slash,
 * no "//" and no part that starts with a dot. All methods may block until call->deadline_ms and are
 * safe from any thread; none runs on the event loop.
 *
 * Outcome rule for create and replace: 0, HADB_EXISTS or HADB_CAS_LOST are definite; HADB_ETIMEDOUT
 * means that the state is unknown (the caller sends the same bytes again or reads back); any other
 * failure means that nothing was and nothing will be written.
 */
struct hadb_storage_ops {
    uint32_t abi;       /* HADB_STORAGE_ABI the implementation was written for */
    const char *scheme; /* "mem", "file", "s3": for logs */
    /* 0 and the whole object in @out (replaced), or HADB_ABSENT. @tag may be NULL. */
    int (*get)(void *self, const struct hadb_call *call, const char *key, struct hadb_buf *out,
               struct hadb_tag *tag, struct hadb_error *err);
    /* Exactly @len bytes from @offset, or fewer only where the object ends. Optional. */
    int (*get_range)(void *self, const struct hadb_call *call, const char *key, uint64_t offset,
                     size_t len, struct hadb_buf *out, struct hadb_error *err);
    /* 0 or HADB_ABSENT. Optional; default: get. */
    int (*head)(void *self, const struct hadb_call *call, const char *key,
                struct hadb_object_meta *out, struct hadb_error *err);
    /* Creates the object if the key is absent: 0 or HADB_EXISTS. All or nothing, durable when 0. */
    int (*create)(void *self, const struct hadb_call *call, const char *key, struct hadb_slice body,
                  struct hadb_tag *tag, struct hadb_error *err);
    /* Replaces the object if its tag is still @expected: 0 or HADB_CAS_LOST (also when absent). */
    int (*replace)(void *self, const struct hadb_call *call, const char *key,
                   struct hadb_slice body, const struct hadb_tag *expected, struct hadb_tag *tag,
                   struct hadb_error *err);
    /* Up to @max (1..1000) keys that start with @prefix and sort after @after ("" = from the start).
     * Maintenance only: a listing may lag behind. */
    int (*list)(void *self, const struct hadb_call *call, const char *prefix, const char *after,
                size_t max, struct hadb_object_list *out, struct hadb_error *err);
    /* Deletes the objects; absent ones are fine. Maintenance only; idempotent. */
    int (*delete_many)(void *self, const struct hadb_call *call, const char *const *keys,
                       size_t len, struct hadb_error *err);
    uint32_t (*caps)(void *self);
    void (*close)(void *self); /* required; frees self */
    /* abi 2 starts here: append only, never reorder */
};

/** Two words; moved, never shared by copy. The zero value is closed. */
struct hadb_storage {
    const struct hadb_storage_ops *ops;
    void *self;
};

/**
 * Open a backend by URL: "mem:" (this process; "mem:NAME" shares one store among the opens of a name,
 * "?latency_ms=N" delays every request), "file:///dir" (created by the first write), "s3://bucket/prefix"
 * (docs/storage-s3.md; sends nothing yet, so a wrong bucket shows with the first request).
 *
 * @env       kept until close; NULL = hadb_env_host()
 * Returns    0
 * Errors     HADB_EINVAL (bad URL), HADB_ENOTSUP (scheme), HADB_EIO, HADB_EAUTH, HADB_ENOMEM
 * Threads    any thread
 */
HADB_API int hadb_storage_open(const char *url, const struct hadb_env *env,
                               struct hadb_storage *out, struct hadb_error *err);

/**
 * Close a backend. Accepts the zero value and may be called twice.
 *
 * Returns    nothing
 * Errors     none
 * Threads    any thread, once no call is running
 */
HADB_API void hadb_storage_close(struct hadb_storage *storage);

/** Check a method table when it is attached: abi, required methods. Returns 0 or HADB_EINVAL. Errors HADB_EINVAL. Threads any. */
HADB_API int hadb_storage_check(const struct hadb_storage *storage, struct hadb_error *err);

/**
 * The methods, through dispatch: preconditions are checked, defaults supplied, and the result is
 * asserted to be one that the contract allows. Contracts as at struct hadb_storage_ops.
 *
 * Returns    0; get, get_range, head: HADB_ABSENT; create: HADB_EXISTS; replace: HADB_CAS_LOST; <0 failed
 * Errors     HADB_EINVAL (key), HADB_ETOOBIG, HADB_ENOTSUP, HADB_ECANCELED, HADB_ETIMEDOUT (a write:
 *            state unknown), HADB_EUNAVAIL, HADB_EIO, HADB_EAUTH, HADB_ENOSPC, HADB_ECORRUPT, HADB_ENOMEM
 * Threads    any thread; may block until call->deadline_ms
 */
HADB_API int hadb_storage_get(struct hadb_storage *storage, const struct hadb_call *call,
                              const char *key, struct hadb_buf *out, struct hadb_tag *tag,
                              struct hadb_error *err);
HADB_API int hadb_storage_get_range(struct hadb_storage *storage, const struct hadb_call *call,
                                    const char *key, uint64_t offset, size_t len,
                                    struct hadb_buf *out, struct hadb_error *err);
HADB_API int hadb_storage_head(struct hadb_storage *storage, const struct hadb_call *call,
                               const char *key, struct hadb_object_meta *out,
                               struct hadb_error *err);
HADB_API int hadb_storage_create(struct hadb_storage *storage, const struct hadb_call *call,
                                 const char *key, struct hadb_slice body, struct hadb_tag *tag,
                                 struct hadb_error *err);
HADB_API int hadb_storage_replace(struct hadb_storage *storage, const struct hadb_call *call,
                                  const char *key, struct hadb_slice body,
                                  const struct hadb_tag *expected, struct hadb_tag *tag,
                                  struct hadb_error *err);
HADB_API int hadb_storage_list(struct hadb_storage *storage, const struct hadb_call *call,
                               const char *prefix, const char *after, size_t max,
                               struct hadb_object_list *out, struct hadb_error *err);
HADB_API int hadb_storage_delete_many(struct hadb_storage *storage, const struct hadb_call *call,
                                      const char *const *keys, size_t len, struct hadb_error *err);

/** What the backend can do. Returns HADB_STORAGE_CAP_* bits. Errors none. Threads any. */
HADB_API uint32_t hadb_storage_caps(const struct hadb_storage *storage);
/** Free a listing; accepts the zero value. Returns nothing. Errors none. Threads any. */
HADB_API void hadb_object_list_deinit(struct hadb_object_list *list);

HADB_END_DECLS
#endif
