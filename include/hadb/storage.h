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
#define HADB_STORAGE_CAP_REPLACE 1u /* compare-and-swap on one key */
#define HADB_STORAGE_CAP_DURABLE 2u /* survives the process */
#define HADB_STORAGE_CAP_SHARED 4u  /* seen by other processes */

struct hadb_object_meta {
    uint64_t size_bytes;
    struct hadb_tag tag;
};

/** One page of a listing; hadb_object_list_deinit() frees it. */
struct hadb_object_list {
    struct hadb_object_info {
        char *key;
        uint64_t size_bytes;
    } *items; /* ascending byte order of key */
    size_t len;
    bool truncated; /* there may be more: list again after the last key */
};

enum hadb_storage_io_type {
    HADB_IO_GET = 1,
    HADB_IO_GET_RANGE,
    HADB_IO_HEAD,
    HADB_IO_CREATE,
    HADB_IO_REPLACE,
};

/**
 * One asynchronous request: the arguments of the method of that name, and its result. Embedded by its
 * owner, who leaves it and all it points to alone from submit until done. Zero value + what is needed.
 */
struct hadb_storage_io {
    enum hadb_storage_io_type type;
    const struct hadb_call *call; /* may be NULL */
    const char *key;
    uint64_t offset;                 /* get_range */
    size_t len;                      /* get_range */
    struct hadb_slice body;          /* create, replace */
    const struct hadb_tag *expected; /* replace */
    struct hadb_buf *out;            /* get, get_range */
    struct hadb_tag *tag;            /* get, create, replace; may be NULL */
    struct hadb_object_meta *meta;   /* head */
    /* From hadb_storage_drive() or hadb_storage_close(), once; may submit more, and @io again. */
    void (*done)(struct hadb_storage_io *io);
    void *arg;
    int result; /* as of the blocking method; its outputs are written on 0 only */
    struct hadb_error err;
};

#define HADB_PRICE_PUT_NUSD 5000u /* PUT, POST, LIST: 0.005 dollars per 1000 */
#define HADB_PRICE_GET_NUSD 400u  /* GET, HEAD: 0.0004 dollars per 1000 */

/** What a backend has sent over the network since it was opened, by what providers charge for. */
struct hadb_storage_usage {
    uint64_t puts;                       /* PUT, POST, LIST: one price */
    uint64_t gets;                       /* GET, HEAD */
    uint64_t deletes;                    /* free of charge */
    uint64_t sent_bytes, received_bytes; /* bodies */
    bool clock_known;                    /* some answer had a Date */
    int64_t clock_offset_s; /* the server's clock minus ours, as of the last one; to 1 s or so */
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
    const char *scheme; /* "mem", "file", "s3", "http": for logs */
    /* 0 and the whole object in @out (replaced), or HADB_ABSENT. @tag may be NULL. An empty @out lends its
     * memory, so large objects that are read one after the other need not be placed anew each time. */
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
    /* The asynchronous path, all three or none: hadb_storage_submit, _fd, _drive. Optional. */
    int (*submit)(void *self, struct hadb_storage_io *io, struct hadb_error *err);
    int (*fd)(void *self);
    size_t (*drive)(void *self);
    /* Optional; without it nothing is counted. */
    void (*usage)(void *self, struct hadb_storage_usage *out);
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
 * (docs/storage-s3.md), "http://host" or "https://host" (docs/storage-http.md). The last three send nothing yet, so a
 * wrong bucket or address shows with the first request.
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

/**
 * Start a request that does not block: it runs while hadb_storage_drive() is called, which a loop does whenever
 * hadb_storage_fd() is readable. The three are called on one thread; blocking methods may run beside them.
 *
 * Returns    0: done will be called, never from inside of this call
 * Errors     HADB_ENOTSUP (the backend has no such path), HADB_EBUSY (too many run, or credentials must be asked for,
 *            which blocks: use the blocking method on another thread now; done may report the same later), HADB_EINVAL, HADB_ETOOBIG, HADB_ECANCELED, HADB_EUNAVAIL, HADB_ETIMEDOUT (a read), HADB_EIO, HADB_ENOMEM;
 *            nothing was sent and done is not called
 * Threads    one thread at a time
 */
HADB_API int hadb_storage_submit(struct hadb_storage *storage, struct hadb_storage_io *io,
                                 struct hadb_error *err);
/** A descriptor to watch: readable when there is something to drive. Returns it, or -1. Errors none. Threads as submit. */
HADB_API int hadb_storage_fd(struct hadb_storage *storage);
/** Do what is to do and report what is done, without blocking. Returns how many requests run. Errors none. Threads as submit. */
HADB_API size_t hadb_storage_drive(struct hadb_storage *storage);

/** Requests that were sent so far; zero from a backend that sends none. Returns nothing. Errors none. Threads any. */
HADB_API void hadb_storage_usage(const struct hadb_storage *storage,
                                 struct hadb_storage_usage *out);
/**
 * What the requests of @usage cost, in 10^-9 US dollars, at the list prices of S3 Standard in us-east-1: HADB_PRICE_PUT_NUSD,
 * HADB_PRICE_GET_NUSD. Neither storage itself nor traffic out of the provider's network is in it.
 *
 * Returns    the sum; Errors none; Threads any
 */
HADB_API uint64_t hadb_storage_cost_nusd(const struct hadb_storage_usage *usage);

/** What the backend can do. Returns HADB_STORAGE_CAP_* bits. Errors none. Threads any. */
HADB_API uint32_t hadb_storage_caps(const struct hadb_storage *storage);
/** Free a listing; accepts the zero value. Returns nothing. Errors none. Threads any. */
HADB_API void hadb_object_list_deinit(struct hadb_object_list *list);

HADB_END_DECLS
#endif
