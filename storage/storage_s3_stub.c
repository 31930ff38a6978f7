/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for the backend "s3://" in a build without it (option s3, library expat).
 *
 * Thread: any. Failure modes: its only answer is HADB_ENOTSUP.
 */
#include "base/error.h"
#include "storage/storage_private.h"

int hadb__storage_s3_open(const struct hadb_url *url, const struct hadb_env *env,
                          struct hadb_storage *out, struct hadb_error *err)
{
    (void)url, (void)env, (void)out;
    return hadb_fail(err, HADB_ENOTSUP,
                     "this build has no s3 backend: build with libexpat and -Ds3=enabled");
}
