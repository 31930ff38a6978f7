/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The canonical export (byte table at hadb_export(), hadb/executor.h): what two copies of a database are
 * compared by.
 *
 * Thread: any. Invariants: the same user data gives the same bytes on every node and engine. Happy path:
 *   one scan, pieces of about 1 MiB. Failure modes: engine, memory, the receiver's own.
 */
#include "base/error.h"
#include "base/hash.h"
#include "replicators/space.h"

#define PIECE_BYTES (1u << 20)

static int append_item(struct hadb_buf *piece, const struct hadb_item *item)
{
    uint8_t head[4];
    uint8_t version[16];
    hadb_put_u32(head, (uint32_t)(item->key.len - 1));
    int r = hadb_buf_append(piece, head, sizeof(head));
    r = r != 0 ? r : hadb_buf_append(piece, (const uint8_t *)item->key.data + 1, item->key.len - 1);
    hadb_put_u32(head, (uint32_t)item->value.len);
    r = r != 0 ? r : hadb_buf_append(piece, head, sizeof(head));
    r = r != 0 ? r : hadb_buf_append(piece, item->value.data, item->value.len);
    hadb_put_u64(version, item->version.term);
    hadb_put_u64(version + 8, item->version.txid);
    return r != 0 ? r : hadb_buf_append(piece, version, sizeof(version));
}

static int send_piece(struct hadb_buf *piece, size_t keep_max, hadb_export_fn fn, void *arg,
                      struct hadb_error *err)
{
    if (piece->len <= keep_max) {
        return 0;
    }
    int r = fn(arg, hadb_buf_slice(piece), err);
    hadb_buf_clear(piece);
    return r;
}

static int export_view(const struct hadb_engine *engine, void *view, hadb_export_fn fn, void *arg,
                       uint64_t *items, struct hadb_error *err)
{
    static const uint8_t space[1] = {HADB_SPACE_USER};
    const struct hadb_range range = {.prefix = {.data = space, .len = 1}};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf piece = {0};
    void *scan = NULL;
    int r = hadb_engine_scan_open(engine, view, &range, &scan, err);
    int sent = 0;
    struct hadb_item item;
    while (r == 0 && sent == 0 && (r = hadb_engine_scan_next(engine, scan, &item, err)) == 0) {
        sent = append_item(&piece, &item) != 0 ? hadb_fail_nomem(err)
                                               : send_piece(&piece, PIECE_BYTES, fn, arg, err);
        ++*items;
    }
    hadb_engine_scan_close(engine, scan);
    if (r == HADB_END) {
        sent = send_piece(&piece, 0, fn, arg, err);
    }
    return r < 0 ? r : sent;
}

int hadb_export(const struct hadb_engine *engine, void *view, hadb_export_fn fn, void *arg,
                uint64_t *items, struct hadb_error *err)
{
    if (!engine || !engine->ops || !fn) {
        return hadb_fail_misuse(err, __func__);
    }
    uint64_t len = 0;
    void *own = NULL;
    int r = view ? 0 : hadb_engine_view_open(engine, &own, NULL, err);
    r = r != 0 ? r : export_view(engine, view ? view : own, fn, arg, &len, err);
    hadb_engine_view_close(engine, own);
    if (r == 0 && items) {
        *items = len;
    }
    return r;
}

static int hash_piece(void *arg, struct hadb_slice bytes, struct hadb_error *err)
{
    (void)err;
    hadb_sha256_update(arg, bytes.data, bytes.len);
    return 0;
}

int hadb_export_digest(const struct hadb_engine *engine, void *view, struct hadb_hash *out,
                       uint64_t *items, struct hadb_error *err)
{
    if (!out) {
        return hadb_fail_misuse(err, __func__);
    }
    struct hadb_sha256_stream *sha = hadb_sha256_new();
    if (!sha) {
        return hadb_fail_nomem(err);
    }
    int r = hadb_export(engine, view, hash_piece, sha, items, err);
    if (r == 0) {
        hadb_sha256_final(sha, out);
    }
    hadb_sha256_free(sha);
    return r;
}
