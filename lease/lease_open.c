/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the URL factory of lease stores: the only file that names its siblings.
 *
 * Thread: any; no state. Happy path: parse the URL, let the store of the scheme read the rest, check its
 * method table. Failure modes, with the URL, its secrets hidden: HADB_EINVAL for a bad URL, HADB_ENOTSUP for an unknown scheme, else
 * what the store says.
 */
#include <string.h>

#include "base/env.h"
#include "base/error.h"
#include "base/url.h"
#include "base/util.h"
#include "lease/lease_private.h"

static const struct {
    const char *scheme;
    int (*open)(const struct hadb_url *url, const struct hadb_env *env, struct hadb_lease *out,
                struct hadb_error *err);
} stores[] = {
    {"mem", hadb__lease_mem_open},      {"file", hadb__lease_file_open},
    {"etcd", hadb__lease_etcd_open},    {"etcds", hadb__lease_etcd_open},
    {"http", hadb__lease_http_open},    {"https", hadb__lease_http_open},
    {"nats", hadb__lease_nats_open},    {"redis", hadb__lease_redis_open},
    {"rediss", hadb__lease_redis_open},
};

int hadb_lease_open(const char *url, const struct hadb_env *env, struct hadb_lease *out,
                    struct hadb_error *err)
{
    if (!out) {
        return hadb_fail_misuse(err, __func__);
    }
    if (!url) {
        return hadb_fail(err, HADB_EINVAL, "lease url is missing");
    }
    char shown[HADB_URL_SHOWN_BYTES];
    hadb_url_redact(url, shown, sizeof shown);
    HADB_CLEANUP(hadb_url_deinit) struct hadb_url parsed = {0};
    int r = hadb_url_parse(url, &parsed, err);
    if (r) {
        return hadb_wrap(err, r, "lease %s", shown);
    }
    if (strcmp(parsed.scheme, "s3") == 0) {
        return hadb__lease_storage_open(url, hadb_env_or_host(env), out, err);
    }
    for (size_t i = 0; i < HADB_LEN(stores); i++) {
        if (strcmp(parsed.scheme, stores[i].scheme) != 0) {
            continue;
        }
        struct hadb_lease lease = {0};
        r = stores[i].open(&parsed, hadb_env_or_host(env), &lease, err);
        if (r) {
            return hadb_wrap(err, r, "lease %s", shown);
        }
        HADB_ASSERT(hadb_lease_check(&lease, NULL) == 0);
        *out = lease;
        return 0;
    }
    return hadb_fail(
        err, HADB_ENOTSUP,
        "lease %s: scheme %s is not supported, use mem, file, s3, redis, etcd, nats or http", shown,
        parsed.scheme);
}
