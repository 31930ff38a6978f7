/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of storage/ share: constructors for the factory, list building, write checks. */
#ifndef HADB_STORAGE_PRIVATE_H
#define HADB_STORAGE_PRIVATE_H
#include "base/url.h"
#include "hadb/storage.h"

/* Constructors, one per scheme. @env is already resolved and outlives the backend. */
int hadb__storage_mem_open(const struct hadb_url *url, const struct hadb_env *env,
                           struct hadb_storage *out, struct hadb_error *err);
int hadb__storage_local_open(const struct hadb_url *url, const struct hadb_env *env,
                             struct hadb_storage *out, struct hadb_error *err);
int hadb__storage_s3_open(const struct hadb_url *url, const struct hadb_env *env,
                          struct hadb_storage *out, struct hadb_error *err);
int hadb__storage_http_open(const struct hadb_url *url, const struct hadb_env *env,
                            struct hadb_storage *out, struct hadb_error *err);

/* Appends a copy of @key. Returns 0 or HADB_ENOMEM. Pages are bounded by HADB_LIST_LEN_MAX. */
int hadb__object_list_add(struct hadb_object_list *list, struct hadb_slice key, uint64_t size_bytes,
                          struct hadb_error *err);

/* Every end of an asynchronous request passes here: the result is asserted, then reported. */
void hadb__storage_io_done(struct hadb_storage_io *io, int r);

/*
 * May a write still start? 0, HADB_ECANCELED, or HADB_EUNAVAIL when the deadline has passed:
 * not HADB_ETIMEDOUT, because here it is certain that nothing was written.
 */
int hadb__write_check(const struct hadb_env *env, const struct hadb_call *call,
                      struct hadb_error *err);
#endif
