/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for the backend "http://" in a build without it (option http).
 *
 * Thread: any. Failure modes: its only answer is HADB_ENOTSUP.
 */
#include "base/error.h"
#include "storage/storage_private.h"

int hadb__storage_http_open(const struct hadb_url *url, const struct hadb_env *env,
                            struct hadb_storage *out, struct hadb_error *err)
{
    (void)url, (void)env, (void)out;
    return hadb_fail(err, HADB_ENOTSUP, "not supported in this build: build with -Dhttp=enabled");
}
