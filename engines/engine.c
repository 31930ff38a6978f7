/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 2 and 8 of 8: dispatch over struct hadb_engine, and what is the same for every engine: the digest.
 *
 * This is the only file that calls ops->x. It refuses what callers owe (an open engine, one place for each
 * required output) with HADB_EINVAL, and asserts that a method answers with a result that the contract allows: a positive outcome
 * that a caller does not expect must not travel on.
 *
 * Threads: those of the method. Failure modes: those of the method; the digest adds HADB_ENOMEM.
 */
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "engines/engine_private.h"

/* A closed engine is empty. */
static void zero(void *out, size_t bytes)
{
    if (out) {
        memset(out, 0, bytes);
    }
}

static bool is_open(const struct hadb_engine *engine)
{
    return engine && engine->ops;
}

bool hadb__engine_ops_complete(const struct hadb_engine_ops *ops)
{
    return ops->abi >= 1 && ops->name && ops->open && ops->close && ops->apply && ops->mark &&
           ops->sync && ops->get && ops->view_open && ops->view_close && ops->scan_open &&
           ops->scan_next && ops->scan_close && ops->position && ops->tail && ops->rewind &&
           ops->ingest && ops->stats;
}

void hadb_engine_close(struct hadb_engine *engine)
{
    if (!engine) {
        return;
    }
    if (engine->ops) {
        engine->ops->close(engine->self);
    }
    *engine = (struct hadb_engine){0};
}

int hadb_engine_apply(const struct hadb_engine *engine, struct hadb_slice txns,
                      const struct hadb_pos *mark, struct hadb_error *err)
{
    if (!is_open(engine) || (!txns.data && txns.len > 0)) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = engine->ops->apply(engine->self, txns, mark, err);
    HADB_ASSERT(r <= 0);
    return r;
}

int hadb_engine_mark(const struct hadb_engine *engine, const struct hadb_pos *mark,
                     struct hadb_error *err)
{
    if (!is_open(engine) || !mark) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = engine->ops->mark(engine->self, mark, err);
    HADB_ASSERT(r <= 0);
    return r;
}

int hadb_engine_sync(const struct hadb_engine *engine, struct hadb_error *err)
{
    if (!is_open(engine)) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = engine->ops->sync(engine->self, err);
    HADB_ASSERT(r <= 0);
    return r;
}

int hadb_engine_get(const struct hadb_engine *engine, void *view, struct hadb_slice key,
                    struct hadb_buf *value, struct hadb_version *version, struct hadb_error *err)
{
    if (!is_open(engine) || (!key.data && key.len > 0)) {
        return hadb_fail_misuse(err, __func__);
    }
    if (key.len == 0 || key.len > HADB_ENGINE_KEY_BYTES_MAX) {
        return HADB_ABSENT;
    }
    int r = engine->ops->get(engine->self, view, key, value, version, err);
    HADB_ASSERT(r <= 0 || r == HADB_ABSENT);
    return r;
}

int hadb_engine_view_open(const struct hadb_engine *engine, void **view, hadb_txid *txid,
                          struct hadb_error *err)
{
    if (!is_open(engine) || !view) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = engine->ops->view_open(engine->self, view, txid, err);
    HADB_ASSERT(r <= 0);
    return r;
}

void hadb_engine_view_close(const struct hadb_engine *engine, void *view)
{
    if (view && is_open(engine)) {
        engine->ops->view_close(engine->self, view);
    }
}

int hadb_engine_scan_open(const struct hadb_engine *engine, void *view,
                          const struct hadb_range *range, void **scan, struct hadb_error *err)
{
    if (!is_open(engine) || !view || !range || !scan) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = engine->ops->scan_open(engine->self, view, range, scan, err);
    HADB_ASSERT(r <= 0);
    return r;
}

int hadb_engine_scan_next(const struct hadb_engine *engine, void *scan, struct hadb_item *out,
                          struct hadb_error *err)
{
    if (!is_open(engine) || !scan || !out) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = engine->ops->scan_next(engine->self, scan, out, err);
    HADB_ASSERT(r <= 0 || r == HADB_END);
    return r;
}

void hadb_engine_scan_close(const struct hadb_engine *engine, void *scan)
{
    if (scan && is_open(engine)) {
        engine->ops->scan_close(engine->self, scan);
    }
}

void hadb_engine_position(const struct hadb_engine *engine, struct hadb_engine_position *out)
{
    if (!out || !is_open(engine)) {
        zero(out, sizeof *out);
        return;
    }
    engine->ops->position(engine->self, out);
    HADB_ASSERT(out->last_txid >= out->mark.txid);
}

int hadb_engine_tail(const struct hadb_engine *engine, hadb_txid after, size_t bytes_max,
                     struct hadb_buf *out, struct hadb_error *err)
{
    if (!is_open(engine) || !out) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = engine->ops->tail(engine->self, after, bytes_max, out, err);
    HADB_ASSERT(r <= 0 || r == HADB_END);
    return r;
}

int hadb_engine_rewind(const struct hadb_engine *engine, struct hadb_error *err)
{
    if (!is_open(engine)) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = engine->ops->rewind(engine->self, err);
    HADB_ASSERT(r <= 0);
    return r;
}

int hadb_engine_ingest(const struct hadb_engine *engine, const struct hadb_item *items,
                       size_t items_len, struct hadb_error *err)
{
    if (!is_open(engine) || (!items && items_len > 0)) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = engine->ops->ingest(engine->self, items, items_len, err);
    HADB_ASSERT(r <= 0);
    return r;
}

void hadb_engine_stats(const struct hadb_engine *engine, struct hadb_engine_stats *out)
{
    if (!out || !is_open(engine)) {
        zero(out, sizeof *out);
        return;
    }
    engine->ops->stats(engine->self, out);
}

static void digest_item(struct hadb_sha256_stream *sha, const struct hadb_item *item)
{
    uint8_t len[4];
    hadb_put_u32(len, (uint32_t)item->key.len);
    hadb_sha256_update(sha, len, sizeof(len));
    hadb_sha256_update(sha, item->key.data, item->key.len);
    hadb_put_u32(len, (uint32_t)item->value.len);
    hadb_sha256_update(sha, len, sizeof(len));
    hadb_sha256_update(sha, item->value.data, item->value.len);
    uint8_t version[16];
    hadb_put_u64(version, item->version.term);
    hadb_put_u64(version + 8, item->version.txid);
    hadb_sha256_update(sha, version, sizeof(version));
}

static int digest_view(const struct hadb_engine *engine, void *view, struct hadb_slice prefix,
                       struct hadb_sha256_stream *sha, struct hadb_error *err)
{
    const struct hadb_range range = {.prefix = prefix};
    void *scan = NULL;
    int r = hadb_engine_scan_open(engine, view, &range, &scan, err);
    struct hadb_item item;
    while (r == 0 && (r = hadb_engine_scan_next(engine, scan, &item, err)) == 0) {
        digest_item(sha, &item);
    }
    hadb_engine_scan_close(engine, scan);
    return r == HADB_END ? 0 : r;
}

int hadb_engine_digest(const struct hadb_engine *engine, void *view, struct hadb_slice prefix,
                       struct hadb_hash *out, struct hadb_error *err)
{
    if (!is_open(engine) || !out) {
        return hadb_fail_misuse(err, __func__);
    }
    struct hadb_sha256_stream *sha = hadb_sha256_new();
    if (!sha) {
        return hadb_fail_nomem(err);
    }
    void *own = NULL;
    int r = view ? 0 : hadb_engine_view_open(engine, &own, NULL, err);
    if (r == 0) {
        r = digest_view(engine, view ? view : own, prefix, sha, err);
    }
    hadb_engine_view_close(engine, own);
    if (r == 0) {
        hadb_sha256_final(sha, out);
    }
    hadb_sha256_free(sha);
    return r;
}
