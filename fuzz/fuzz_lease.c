/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lease records, tags, and URLs of lease servers (opening one sends nothing). The first byte chooses: 'r' record,
 * 't' tag, 'R' redis, 'E' etcd, 'N' nats, 'H' http URL.
 */
#include <stdio.h>

#include "base/buf.h"
#include "base/env.h"
#include "fuzz/input.h"
#include "hadb/lease.h"
#include "lease/record.h"

static void try_record(struct hadb_slice bytes)
{
    struct hadb__lease_record record = {0};
    struct hadb_buf plain = {0};
    if (hadb_buf_append(&record.bytes, bytes.data, bytes.len) == 0 &&
        hadb__lease_record_decode(&record)) {
        hadb__lease_record_take(&record, &plain);
        HADB_ASSERT(plain.len + HADB_LEASE_HEADER_BYTES == bytes.len);
    }
    hadb_buf_deinit(&record.bytes);
    hadb_buf_deinit(&plain);
}

static void try_tag(struct hadb_slice text)
{
    struct hadb_tag tag = {0}, again = {0};
    uint64_t version = 0, version_again = 0;
    uint8_t nonce[16], nonce_again[16];
    memcpy(tag.s, text.data, HADB_MIN(text.len, (size_t)HADB_TAG_MAX));
    if (hadb__lease_record_tag_read(&tag, &version, nonce)) {
        hadb__lease_record_tag(version, nonce, &again);
        HADB_ASSERT(hadb__lease_record_tag_read(&again, &version_again, nonce_again));
        HADB_ASSERT(version == version_again && memcmp(nonce, nonce_again, 16) == 0);
    }
}

static void try_url(const char *scheme, struct hadb_slice rest)
{
    char url[512];
    struct hadb_lease lease = {0};
    struct hadb_error err = {0};
    struct hadb_env env = *hadb_env_host();
    env.log_level = HADB_LOG_ERROR;
    int len = snprintf(url, sizeof url, "%s://%.*s", scheme, (int)HADB_MIN(rest.len, (size_t)400),
                       (const char *)rest.data);
    HADB_ASSERT(len > 0 && (size_t)len < sizeof url);
    if (strstr(url, "password")) {
        return; /* it may name any file, and one of a device never ends */
    }
    int r = hadb_lease_open(url, &env, &lease, &err);
    HADB_ASSERT(r == 0 ? lease.ops != NULL : r == HADB_EINVAL || r == HADB_ENOTSUP);
    HADB_ASSERT(r == 0 || err.message[0] != '\0');
    hadb_lease_close(&lease);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2) {
        return 0;
    }
    struct hadb_slice rest = hadb_slice(data + 1, len - 1);
    switch (data[0]) {
    case 'r':
        try_record(rest);
        break;
    case 't':
        try_tag(rest);
        break;
    case 'R':
        try_url("redis", rest);
        break;
    case 'E':
        try_url("etcds", rest);
        break;
    case 'N':
        try_url("nats", rest);
        break;
    case 'H':
        try_url("https", rest);
        break;
    default:
        break;
    }
    return 0;
}
