/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the URL factory of storage: the only file that names its siblings.
 *
 * Thread: any; no state. Happy path: parse the URL, let the backend of the scheme read the rest, check its
 * method table. Failure modes, with the URL, its secrets hidden: HADB_EINVAL for a bad URL, HADB_ENOTSUP for an unknown scheme, else
 * what the backend says.
 */
#include <string.h>

#include "base/env.h"
#include "base/error.h"
#include "base/url.h"
#include "base/util.h"
#include "storage/storage_private.h"

static const struct {
    const char *scheme;
    int (*open)(const struct hadb_url *url, const struct hadb_env *env, struct hadb_storage *out,
                struct hadb_error *err);
} backends[] = {
    {"mem", hadb__storage_mem_open},    {"file", hadb__storage_local_open},
    {"s3", hadb__storage_s3_open},      {"http", hadb__storage_http_open},
    {"https", hadb__storage_http_open},
};

int hadb_storage_open(const char *url, const struct hadb_env *env, struct hadb_storage *out,
                      struct hadb_error *err)
{
    if (!out) {
        return hadb_fail_misuse(err, __func__);
    }
    if (!url) {
        return hadb_fail(err, HADB_EINVAL, "storage url is missing");
    }
    char shown[HADB_URL_SHOWN_BYTES];
    hadb_url_redact(url, shown, sizeof shown);
    HADB_CLEANUP(hadb_url_deinit) struct hadb_url parsed = {0};
    int r = hadb_url_parse(url, &parsed, err);
    if (r) {
        return hadb_wrap(err, r, "storage %s", shown);
    }
    for (size_t i = 0; i < HADB_LEN(backends); i++) {
        if (strcmp(parsed.scheme, backends[i].scheme) != 0) {
            continue;
        }
        struct hadb_storage storage = {0};
        r = backends[i].open(&parsed, hadb_env_or_host(env), &storage, err);
        if (r) {
            return hadb_wrap(err, r, "storage %s", shown);
        }
        HADB_ASSERT(hadb_storage_check(&storage, NULL) == 0);
        *out = storage;
        return 0;
    }
    return hadb_fail(err, HADB_ENOTSUP,
                     "storage %s: scheme %s is not supported, use mem, file, s3 or http", shown,
                     parsed.scheme);
}
