/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the lease store over any storage backend that can compare and swap: "s3://bucket/prefix?…" today. Each
 * record is one object (bytes: lease/record.h), and the tag is the backend's own.
 *
 * Thread: any; constant after open, all state is the backend's.
 * Invariants: every write carries a fresh nonce, so that equal records have different tags also where the tag
 * is a hash of the bytes. One write is one request: no retry here, so an unknown outcome stays unknown.
 * Happy path: read = get and strip the header; write = create or replace; watch = head, again and again.
 * Failure modes: the backend's, by the same outcome rule; HADB_ECORRUPT names an object that is no lease record.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "lease/lease_private.h"
#include "lease/record.h"

#define STORAGE_WATCH_EVERY_MS 500u /* requests cost money there */

struct storage_leases {
    const struct hadb_env *env;
    struct hadb_storage storage;
};

static int storage_read(void *self, const struct hadb_call *call, const char *key,
                        struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    struct storage_leases *l = self;
    struct hadb__lease_record record = {0};
    struct hadb_tag now = {0};
    int r = hadb_storage_get(&l->storage, call, key, &record.bytes, &now, err);
    if (r == 0 && (record.bytes.len > HADB_LEASE_HEADER_BYTES + HADB_LEASE_RECORD_BYTES_MAX ||
                   !hadb__lease_record_decode(&record))) {
        r = hadb_fail(err, HADB_ECORRUPT,
                      "object %.120s is no lease record: use another prefix, or remove it", key);
    }
    if (r == 0) {
        hadb__lease_record_take(&record, out);
        *tag = now;
    }
    hadb_buf_deinit(&record.bytes);
    return r;
}

static int storage_write(void *self, const struct hadb_call *call, const char *key,
                         struct hadb_slice record, const struct hadb_tag *expected,
                         struct hadb_tag *tag, struct hadb_error *err)
{
    struct storage_leases *l = self;
    struct hadb__lease_record fresh = {0};
    int r = hadb__lease_write_check(l->env, call, err);
    if (r) {
        return r;
    }
    r = hadb__lease_record_encode(l->env, record, &fresh);
    if (r) {
        hadb_buf_deinit(&fresh.bytes);
        return hadb_fail_nomem(err);
    }
    struct hadb_slice body = hadb_buf_slice(&fresh.bytes);
    r = expected ? hadb_storage_replace(&l->storage, call, key, body, expected, tag, err)
                 : hadb_storage_create(&l->storage, call, key, body, tag, err);
    hadb_buf_deinit(&fresh.bytes);
    return r == HADB_EXISTS ? HADB_CAS_LOST : r;
}

static int storage_look(void *self, const struct hadb_call *call, const char *key,
                        struct hadb_tag *tag, struct hadb_error *err)
{
    struct storage_leases *l = self;
    struct hadb_object_meta meta = {0};
    int r = hadb_storage_head(&l->storage, call, key, &meta, err);
    *tag = meta.tag;
    return r;
}

static int storage_watch(void *self, const struct hadb_call *call, const char *key,
                         const struct hadb_tag *seen, struct hadb_error *err)
{
    struct storage_leases *l = self;
    const struct hadb__lease_poll poll = {
        .env = l->env, .self = l, .look = storage_look, .every_ms = STORAGE_WATCH_EVERY_MS};
    return hadb__lease_poll(&poll, call, key, seen, err);
}

static void storage_close(void *self)
{
    struct storage_leases *l = self;
    hadb_storage_close(&l->storage);
    hadb_free(l);
}

static const struct hadb_lease_ops storage_ops = {
    .abi = HADB_LEASE_ABI,
    .scheme = "storage",
    .read = storage_read,
    .write_if_match = storage_write,
    .watch = storage_watch,
    .close = storage_close,
    .watch_every_ms = STORAGE_WATCH_EVERY_MS,
};

int hadb__lease_over_storage(struct hadb_storage *take_storage, const struct hadb_env *env,
                             struct hadb_lease *out, struct hadb_error *err)
{
    if (!(hadb_storage_caps(take_storage) & HADB_STORAGE_CAP_REPLACE)) {
        return hadb_fail(err, HADB_ENOTSUP,
                         "storage %s cannot compare and swap, so it cannot hold leases",
                         take_storage->ops->scheme);
    }
    struct storage_leases *l = hadb_calloc(1, sizeof(*l));
    if (!l) {
        return hadb_fail_nomem(err);
    }
    *l = (struct storage_leases){.env = env, .storage = *take_storage};
    *take_storage = (struct hadb_storage){0};
    *out = (struct hadb_lease){.ops = &storage_ops, .self = l};
    return 0;
}

int hadb__lease_storage_open(const char *url, const struct hadb_env *env, struct hadb_lease *out,
                             struct hadb_error *err)
{
    struct hadb_storage storage = {0};
    int r = hadb_storage_open(url, env, &storage, err);
    r = r ? r : hadb__lease_over_storage(&storage, env, out, err);
    hadb_storage_close(&storage);
    return r;
}
