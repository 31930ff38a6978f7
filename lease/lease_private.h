/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of lease/ share: constructors for the factory and write checks. */
#ifndef HADB_LEASE_PRIVATE_H
#define HADB_LEASE_PRIVATE_H
#include "base/url.h"
#include "hadb/lease.h"

/* Constructors, one per scheme. @env is already resolved and outlives the store. */
int hadb__lease_mem_open(const struct hadb_url *url, const struct hadb_env *env,
                         struct hadb_lease *out, struct hadb_error *err);
int hadb__lease_file_open(const struct hadb_url *url, const struct hadb_env *env,
                          struct hadb_lease *out, struct hadb_error *err);

/*
 * May a write still start? 0, HADB_ECANCELED, or HADB_EUNAVAIL when the deadline has passed:
 * not HADB_ETIMEDOUT, because here it is certain that nothing was written.
 */
int hadb__lease_write_check(const struct hadb_env *env, const struct hadb_call *call,
                            struct hadb_error *err);
#endif
