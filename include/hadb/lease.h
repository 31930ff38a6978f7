/* SPDX-License-Identifier: Apache-2.0 */
/**
 * LeaseStore: small records that say which node is alive and where. A hint for liveness only:
 * a store that forgets, rolls back or lies costs time, never an acknowledged write.
 */
#ifndef HADB_LEASE_H
#define HADB_LEASE_H

#include "hadb/env.h"

HADB_BEGIN_DECLS

#define HADB_LEASE_ABI 1u
#define HADB_LEASE_KEY_BYTES_MAX 512u
#define HADB_LEASE_RECORD_BYTES_MAX 65536u

/**
 * Methods of a lease store. Nothing is ever written unconditionally and nothing is deleted.
 * All methods may block until call->deadline_ms and are safe from any thread. Writes follow
 * the outcome rule of struct hadb_storage_ops.
 */
struct hadb_lease_ops {
    uint32_t abi;
    const char *scheme;
    /* 0 with record and tag, or HADB_ABSENT. */
    int (*read)(void *self, const struct hadb_call *call, const char *key, struct hadb_buf *out,
                struct hadb_tag *tag, struct hadb_error *err);
    /* Writes if the tag is still @expected (NULL: if absent): 0 with the new tag, or HADB_CAS_LOST. */
    int (*write_if_match)(void *self, const struct hadb_call *call, const char *key,
                          struct hadb_slice record, const struct hadb_tag *expected,
                          struct hadb_tag *tag, struct hadb_error *err);
    /* Blocks until the tag of the key is not @seen any more (0) or the deadline (HADB_END). Optional. */
    int (*watch)(void *self, const struct hadb_call *call, const char *key,
                 const struct hadb_tag *seen, struct hadb_error *err);
    void (*close)(void *self); /* required; frees self */
    /* 0: the server tells a watch of the change; else the watch looks so often, at the price of a request each time. */
    uint32_t watch_every_ms;
    /* abi 2 starts here: append only, never reorder */
};

/** Two words; moved, never shared by copy. The zero value is closed. */
struct hadb_lease {
    const struct hadb_lease_ops *ops;
    void *self;
};

/**
 * Open a lease store by URL (docs/lease-stores.md): "mem:" or "mem:NAME", "file:///dir" (created by the
 * first write; one host only), "s3://bucket/prefix", "redis://host", "etcd://host/prefix",
 * "nats://host/bucket", "http(s)://host". One over the network sends nothing yet.
 *
 * @env       kept until close; NULL = hadb_env_host()
 * Returns    0
 * Errors     HADB_EINVAL, HADB_ENOTSUP, HADB_EIO, HADB_EAUTH, HADB_ENOMEM
 * Threads    any thread
 */
HADB_API int hadb_lease_open(const char *url, const struct hadb_env *env, struct hadb_lease *out,
                             struct hadb_error *err);
/** Close a lease store; accepts the zero value. Returns nothing. Errors none. Threads any, once no call is running. */
HADB_API void hadb_lease_close(struct hadb_lease *lease);
/** Check a method table. Returns 0 or HADB_EINVAL. Errors HADB_EINVAL. Threads any. */
HADB_API int hadb_lease_check(const struct hadb_lease *lease, struct hadb_error *err);

/**
 * The methods, through dispatch; contracts as at struct hadb_lease_ops.
 *
 * Returns    0; read: HADB_ABSENT; write_if_match: HADB_CAS_LOST; watch: HADB_END; <0 failed
 * Errors     HADB_EINVAL (key), HADB_ETOOBIG, HADB_ENOTSUP, HADB_ECANCELED, HADB_ETIMEDOUT (a write:
 *            state unknown), HADB_EIO, HADB_EAUTH, HADB_ENOSPC, HADB_ENOMEM
 * Threads    any thread; may block until call->deadline_ms
 */
HADB_API int hadb_lease_read(struct hadb_lease *lease, const struct hadb_call *call,
                             const char *key, struct hadb_buf *out, struct hadb_tag *tag,
                             struct hadb_error *err);
HADB_API int hadb_lease_write_if_match(struct hadb_lease *lease, const struct hadb_call *call,
                                       const char *key, struct hadb_slice record,
                                       const struct hadb_tag *expected, struct hadb_tag *tag,
                                       struct hadb_error *err);
HADB_API int hadb_lease_watch(struct hadb_lease *lease, const struct hadb_call *call,
                              const char *key, const struct hadb_tag *seen, struct hadb_error *err);

/**
 * Is a watch told of a change, rather than to look again and again? A node without a stream from a leader waits for
 * news of its record then, in one thread for all leaders; otherwise it reads the record every third of the TTL.
 *
 * Returns    true or false
 * Errors     none
 * Threads    any thread; does not block
 */
HADB_API bool hadb_lease_tells(const struct hadb_lease *lease);

HADB_END_DECLS
#endif
