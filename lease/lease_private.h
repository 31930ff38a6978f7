/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of lease/ share: constructors for the factory, write checks, watching by polling. */
#ifndef HADB_LEASE_PRIVATE_H
#define HADB_LEASE_PRIVATE_H
#include "base/url.h"
#include "hadb/lease.h"
#include "hadb/storage.h"

/* Constructors, one per scheme. @env is already resolved and outlives the store. */
int hadb__lease_mem_open(const struct hadb_url *url, const struct hadb_env *env,
                         struct hadb_lease *out, struct hadb_error *err);
int hadb__lease_file_open(const struct hadb_url *url, const struct hadb_env *env,
                          struct hadb_lease *out, struct hadb_error *err);
int hadb__lease_redis_open(const struct hadb_url *url, const struct hadb_env *env,
                           struct hadb_lease *out, struct hadb_error *err);
int hadb__lease_etcd_open(const struct hadb_url *url, const struct hadb_env *env,
                          struct hadb_lease *out, struct hadb_error *err);
int hadb__lease_nats_open(const struct hadb_url *url, const struct hadb_env *env,
                          struct hadb_lease *out, struct hadb_error *err);
int hadb__lease_http_open(const struct hadb_url *url, const struct hadb_env *env,
                          struct hadb_lease *out, struct hadb_error *err);
/* Of a URL that names a storage backend; its messages name the URL already. */
int hadb__lease_storage_open(const char *url, const struct hadb_env *env, struct hadb_lease *out,
                             struct hadb_error *err);
/* Takes @take_storage over when it returns 0: HADB_ENOTSUP when it cannot replace, HADB_ENOMEM. */
int hadb__lease_over_storage(struct hadb_storage *take_storage, const struct hadb_env *env,
                             struct hadb_lease *out, struct hadb_error *err);

/*
 * May a write still start? 0, HADB_ECANCELED, or HADB_EUNAVAIL when the deadline has passed:
 * not HADB_ETIMEDOUT, because here it is certain that nothing was written.
 */
int hadb__lease_write_check(const struct hadb_env *env, const struct hadb_call *call,
                            struct hadb_error *err);

/* Watching by looking again and again, for stores that tell nobody. */
struct hadb__lease_poll {
    const struct hadb_env *env;
    void *self;
    /* 0 with the tag of @key, or HADB_ABSENT. */
    int (*look)(void *self, const struct hadb_call *call, const char *key, struct hadb_tag *tag,
                struct hadb_error *err);
    uint32_t every_ms;
};
/* The method watch of struct hadb_lease_ops. A look that fails because the call is over is no failure. */
int hadb__lease_poll(const struct hadb__lease_poll *poll, const struct hadb_call *call,
                     const char *key, const struct hadb_tag *seen, struct hadb_error *err);
#endif
