/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 2 and 8 of 8: the log-structured engine. Keys, versions and places of values in memory (the shared
 * index), everything on disk in one log of checksummed records.
 *
 * Threads: one writer, any readers (engines/index/state_private.h, engines/kv/log_private.h).
 * Happy path of apply: one record with all transactions and the mark is written, then the state changes,
 * then the record counts as part of the log. A read finds the cell in memory and reads the value from its
 * segment, checked against the checksum that the cell carries.
 * Invariants: replaying the log gives the state; a cell's place never changes and is never overwritten.
 * Failure modes: see log.c; out of memory after the write takes the record back.
 */
#include "base/alloc.h"
#include "base/env.h"
#include "base/error.h"
#include "base/hash.h"
#include "engines/engine_private.h"
#include "engines/kv/kv_private.h"

/* Where the payload lies whose operations become cells. */
struct origin {
    const uint8_t *payload;
    uint64_t offset; /* of the payload in the file */
    uint32_t segment;
};

static uint64_t place_of(const struct origin *origin, const void *bytes)
{
    return origin->offset + (uint64_t)((const uint8_t *)bytes - origin->payload);
}

static struct hadb__cell *make_cell(void *arg, struct hadb_slice key, struct hadb_slice value,
                                    struct hadb_version version)
{
    const struct origin *origin = arg;
    const struct hadb__kv_ref ref = {
        .offset = place_of(origin, value.data),
        .segment = origin->segment,
        .crc = hadb_crc32c(0, value.data, value.len),
    };
    return hadb__cell_new(hadb_slice(&ref, sizeof(ref)), key, value, false, version);
}

static const struct hadb__kv_ref *cell_ref(const struct hadb__cell *cell)
{
    HADB_ASSERT(cell->lead_len == sizeof(struct hadb__kv_ref));
    return (const struct hadb__kv_ref *)(const void *)cell->bytes;
}

/* Live counts per segment: what compaction will go by. */
static void count_cell(struct kv *kv, const struct hadb__cell *cell, bool add)
{
    if (!cell) {
        return;
    }
    /* The writer may look without the lock: only it adds segments, and they have no gaps. */
    size_t slot = cell_ref(cell)->segment - kv->log.segments[0]->number;
    HADB_ASSERT(slot < kv->log.segments_len);
    struct hadb__kv_segment *segment = kv->log.segments[slot];
    uint64_t bytes = (uint64_t)cell->key_len + cell->value_len;
    segment->live_records += add ? 1 : UINT64_MAX;
    segment->live_bytes += add ? bytes : 0 - bytes;
}

static void count_batch(struct kv *kv, const struct hadb__batch *batch)
{
    for (size_t i = 0; i < batch->ops_len; i++) {
        count_cell(kv, batch->ops[i].after, true);
        count_cell(kv, batch->ops[i].before, false);
    }
}

static void count_rewind(struct kv *kv)
{
    const struct hadb__tail *tail = &kv->state.tail;
    for (size_t i = tail->changes_len; i > 0; i--) {
        const struct hadb__change *change = &tail->changes[tail->changes_head + i - 1];
        count_cell(kv, change->before, true);
        count_cell(kv, change->after, false);
    }
    if (kv->state.ingesting) {
        for (size_t i = 0; i < kv->log.segments_len; i++) {
            kv->log.segments[i]->live_records = kv->log.segments[i]->live_bytes = 0;
        }
    }
}

/* Decodes the transactions at @txns of a payload and notes where each lies. */
static int read_batch(struct kv *kv, struct hadb_slice txns, struct origin *origin,
                      struct hadb__batch *batch, struct hadb_error *err)
{
    int r = hadb__batch_read(batch, txns, kv->state.last_txid, make_cell, origin, err);
    for (size_t i = 0; r == 0 && i < batch->txns_len; i++) {
        struct hadb_slice bytes = batch->txns[i].txn.bytes;
        batch->txns[i].place = (struct hadb__place){
            .segment = origin->segment,
            .offset = place_of(origin, bytes.data),
            .crc = hadb_crc32c(0, bytes.data, bytes.len),
        };
    }
    return r;
}

static int commit(struct kv *kv, struct hadb__batch *batch, const struct hadb_pos *mark,
                  struct hadb_error *err)
{
    int r = hadb__state_commit(&kv->state, batch, mark, err);
    if (r == 0) {
        count_batch(kv, batch);
    }
    return r;
}

static int commit_rewind(struct kv *kv, struct hadb_error *err)
{
    struct hadb__rewind rewind = {0};
    int r = hadb__state_rewind_prepare(&kv->state, &rewind, err);
    if (r == 0) {
        count_rewind(kv);
        hadb__state_rewind_commit(&kv->state, &rewind);
    }
    return r;
}

/* Replay */

static int replay_apply(struct kv *kv, const struct hadb__kv_record *record,
                        struct hadb_slice payload, struct origin *origin, struct hadb_error *err)
{
    struct hadb_pos mark;
    const struct hadb_pos *mark_given = NULL;
    if (record->flags & HADB__KV_FLAG_MARK) {
        if (payload.len < HADB__KV_MARK_BYTES) {
            return hadb_fail(err, HADB_ECORRUPT, "record has no room for its mark");
        }
        hadb__kv_mark_decode(payload.data, &mark);
        mark_given = &mark;
        payload = hadb_slice((const uint8_t *)payload.data + HADB__KV_MARK_BYTES,
                             payload.len - HADB__KV_MARK_BYTES);
    }
    struct hadb__batch batch = {0};
    int r = read_batch(kv, payload, origin, &batch, err);
    if (r == 0) {
        r = hadb__state_prepare(&kv->state, &batch, mark_given, err);
    }
    if (r == 0) {
        r = commit(kv, &batch, mark_given, err);
    }
    hadb__batch_deinit(&batch);
    return r;
}

static int replay_mark(struct kv *kv, struct hadb_slice payload, struct hadb_error *err)
{
    struct hadb_pos mark;
    if (payload.len != HADB__KV_MARK_BYTES) {
        return hadb_fail(err, HADB_ECORRUPT, "mark of %zu bytes", payload.len);
    }
    hadb__kv_mark_decode(payload.data, &mark);
    int r = hadb__state_check_mark(&kv->state, &mark, hadb__state_mark_max(&kv->state), err);
    if (r == 0) {
        hadb__state_mark(&kv->state, &mark);
    }
    return r;
}

static int replay_ingest(struct kv *kv, struct hadb_slice payload, struct origin *origin,
                         struct hadb_error *err)
{
    struct hadb__batch batch = {.ingest = true};
    int r = 0;
    while (r == 0 && payload.len > 0) {
        struct hadb_item item;
        r = hadb__kv_item_next(&payload, &item)
                ? hadb__batch_item(&batch, &item, make_cell, origin, err)
                : hadb_fail(err, HADB_ECORRUPT, "ingested item is malformed");
    }
    if (r == 0) {
        r = hadb__state_prepare(&kv->state, &batch, NULL, err);
    }
    if (r == 0) {
        r = commit(kv, &batch, NULL, err);
    }
    hadb__batch_deinit(&batch);
    return r;
}

static int replay_record(void *arg, const struct hadb__kv_segment *segment,
                         const struct hadb__kv_record *record, uint64_t payload_offset,
                         struct hadb_slice payload, struct hadb_error *err)
{
    struct kv *kv = arg;
    struct origin origin = {
        .payload = payload.data, .offset = payload_offset, .segment = (uint32_t)segment->number};
    int r = 0;
    switch (record->type) {
    case HADB__KV_APPLY:
        r = replay_apply(kv, record, payload, &origin, err);
        break;
    case HADB__KV_MARK:
        r = replay_mark(kv, payload, err);
        break;
    case HADB__KV_REWIND:
        r = commit_rewind(kv, err);
        break;
    case HADB__KV_INGEST:
        r = replay_ingest(kv, payload, &origin, err);
        break;
    case HADB__KV_CLEAN:
        break;
    }
    if (r == HADB_EINVAL && err) {
        err->code = HADB_ECORRUPT; /* the checksum holds but the log contradicts itself */
    }
    return r == HADB_EINVAL ? HADB_ECORRUPT : r;
}

/* Appending */

/* Writes a record that changes nothing but what its type says, with an optional mark as payload. */
static int append_small(struct kv *kv, enum hadb__kv_type type, const struct hadb_pos *mark,
                        struct hadb_error *err)
{
    struct hadb__kv_append append;
    int r = hadb__kv_log_begin(&kv->log, type, 0, mark ? HADB__KV_MARK_BYTES : 0, &append, err);
    if (r < 0) {
        return r;
    }
    if (mark) {
        hadb__kv_mark_encode(mark, append.payload);
    }
    r = hadb__kv_log_write(&kv->log, &append, err);
    if (r == 0) {
        hadb__kv_log_publish(&kv->log, &append);
    }
    return r;
}

/* Writes a filled record and commits its batch: both or neither. */
static int append_batch(struct kv *kv, const struct hadb__kv_append *append,
                        struct hadb__batch *batch, const struct hadb_pos *mark,
                        struct hadb_error *err)
{
    int r = hadb__state_prepare(&kv->state, batch, mark, err);
    if (r == 0) {
        r = hadb__kv_log_write(&kv->log, append, err);
    }
    if (r < 0) {
        return r;
    }
    r = commit(kv, batch, mark, err);
    if (r < 0) {
        return hadb__kv_log_take_back(&kv->log, append, r, err);
    }
    hadb__kv_log_publish(&kv->log, append);
    return 0;
}

/* The fsync cadence. A failure poisons and shows at the next write: this one has been applied. */
static void sync_if_due(struct kv *kv)
{
    if (kv->sync_every_ms == 0) {
        return;
    }
    uint64_t now_ms = hadb_now_ms(&kv->log.env);
    hadb_mutex_lock(&kv->log.mu);
    bool due = now_ms - kv->log.last_sync_ms >= kv->sync_every_ms;
    hadb_mutex_unlock(&kv->log.mu);
    if (due) {
        hadb__kv_log_sync(&kv->log, NULL);
    }
}

static int kv_apply(void *self, struct hadb_slice txns, const struct hadb_pos *mark,
                    struct hadb_error *err)
{
    struct kv *kv = self;
    int r = hadb__kv_log_check(&kv->log, err);
    if (r < 0 || (txns.len == 0 && !mark)) {
        return r;
    }
    if (txns.len > HADB_ENGINE_APPLY_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "%zu bytes of transactions at once, at most %u",
                         txns.len, HADB_ENGINE_APPLY_BYTES_MAX);
    }
    struct hadb__kv_append append;
    size_t mark_len = mark ? HADB__KV_MARK_BYTES : 0;
    r = hadb__kv_log_begin(&kv->log, HADB__KV_APPLY, mark ? HADB__KV_FLAG_MARK : 0,
                           mark_len + txns.len, &append, err);
    if (r < 0) {
        return r;
    }
    if (mark) {
        hadb__kv_mark_encode(mark, append.payload);
    }
    if (txns.len) {
        memcpy(append.payload + mark_len, txns.data, txns.len);
    }
    struct origin origin = {.payload = append.payload,
                            .offset = append.payload_offset,
                            .segment = (uint32_t)append.segment->number};
    struct hadb__batch batch = {0};
    r = read_batch(kv, hadb_slice(append.payload + mark_len, txns.len), &origin, &batch, err);
    if (r == 0) {
        r = append_batch(kv, &append, &batch, mark, err);
    }
    hadb__batch_deinit(&batch);
    if (r == 0) {
        sync_if_due(kv);
    }
    return r;
}

static int kv_mark(void *self, const struct hadb_pos *mark, struct hadb_error *err)
{
    struct kv *kv = self;
    int r = hadb__kv_log_check(&kv->log, err);
    if (r == 0) {
        r = hadb__state_check_mark(&kv->state, mark, hadb__state_mark_max(&kv->state), err);
    }
    if (r == 0) {
        r = append_small(kv, HADB__KV_MARK, mark, err);
    }
    if (r == 0) {
        hadb__state_mark(&kv->state, mark);
        sync_if_due(kv);
    }
    return r;
}

static int kv_sync(void *self, struct hadb_error *err)
{
    struct kv *kv = self;
    return kv->log.read_only ? 0 : hadb__kv_log_sync(&kv->log, err);
}

static int kv_rewind(void *self, struct hadb_error *err)
{
    struct kv *kv = self;
    int r = hadb__kv_log_check(&kv->log, err);
    if (r < 0 || (kv->state.last_txid == kv->state.mark.txid && !kv->state.ingesting)) {
        return r;
    }
    struct hadb__rewind rewind = {0};
    r = hadb__state_rewind_prepare(&kv->state, &rewind, err);
    if (r == 0) {
        r = append_small(kv, HADB__KV_REWIND, NULL, err);
    }
    if (r == 0) {
        r = hadb__kv_log_sync(&kv->log, err);
    }
    if (r < 0) {
        hadb__rewind_deinit(&rewind);
        return r;
    }
    count_rewind(kv);
    hadb__state_rewind_commit(&kv->state, &rewind);
    return 0;
}

static uint64_t items_bytes(const struct hadb_item *items, size_t items_len)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < items_len; i++) {
        bytes += HADB__KV_ITEM_BYTES + (uint64_t)items[i].key.len + items[i].value.len;
    }
    return bytes;
}

static int kv_ingest(void *self, const struct hadb_item *items, size_t items_len,
                     struct hadb_error *err)
{
    struct kv *kv = self;
    struct hadb__kv_append append;
    uint64_t bytes = items_bytes(items, items_len);
    int r = hadb__kv_log_begin(&kv->log, HADB__KV_INGEST, 0, bytes, &append, err);
    if (r < 0) {
        return r;
    }
    struct origin origin = {.payload = append.payload,
                            .offset = append.payload_offset,
                            .segment = (uint32_t)append.segment->number};
    struct hadb__batch batch = {.ingest = true};
    uint8_t *at = append.payload;
    for (size_t i = 0; r == 0 && i < items_len; i++) {
        struct hadb_item copy = items[i];
        at = hadb__kv_item_encode(&items[i], at);
        copy.value = hadb_slice(at - items[i].value.len, items[i].value.len);
        r = hadb__batch_item(&batch, &copy, make_cell, &origin, err);
    }
    HADB_ASSERT(r < 0 || at == append.payload + bytes);
    if (r == 0) {
        r = append_batch(kv, &append, &batch, NULL, err);
    }
    hadb__batch_deinit(&batch);
    return r;
}

/* Reading */

static int load_value(struct kv *kv, const struct hadb__cell *cell, struct hadb_buf *out,
                      struct hadb_error *err)
{
    hadb_buf_clear(out);
    if (cell->value_len == 0) {
        return 0;
    }
    if (hadb_buf_reserve(out, cell->value_len) < 0) {
        return hadb_fail_nomem(err);
    }
    const struct hadb__kv_ref *ref = cell_ref(cell);
    int r = hadb__kv_log_read(&kv->log, ref->segment, ref->offset, cell->value_len, ref->crc,
                              out->data, err);
    if (r == 0) {
        out->len = cell->value_len;
    }
    return r;
}

static int kv_get(void *self, void *view, struct hadb_slice key, struct hadb_buf *value,
                  struct hadb_version *version, struct hadb_error *err)
{
    struct kv *kv = self;
    struct hadb__cell *cell = hadb__state_get(&kv->state, view, key);
    if (!cell) {
        return HADB_ABSENT;
    }
    int r = value ? load_value(kv, cell, value, err) : 0;
    if (r == 0 && version) {
        *version = (struct hadb_version){.term = cell->term, .txid = cell->txid};
    }
    hadb__cell_unref(cell);
    return r;
}

static int kv_view_open(void *self, void **view, hadb_txid *txid, struct hadb_error *err)
{
    struct kv *kv = self;
    struct hadb__view *v = hadb__view_open(&kv->state);
    if (!v) {
        return hadb_fail_nomem(err);
    }
    *view = v;
    if (txid) {
        *txid = v->txid;
    }
    return 0;
}

static void kv_view_close(void *self, void *view)
{
    (void)self;
    hadb__view_close(view);
}

static int kv_scan_open(void *self, void *view, const struct hadb_range *range, void **scan,
                        struct hadb_error *err)
{
    (void)self;
    struct hadb__scan *s = NULL;
    int r = hadb__scan_open(view, range, &s, err);
    *scan = s;
    return r;
}

static int kv_scan_next(void *self, void *scan, struct hadb_item *out, struct hadb_error *err)
{
    struct hadb__scan *s = scan;
    const struct hadb__cell *cell = hadb__scan_next(s);
    if (!cell) {
        return HADB_END;
    }
    hadb_buf_clear(&s->value);
    int r = s->keys_only ? 0 : load_value(self, cell, &s->value, err);
    if (r < 0) {
        return r;
    }
    *out = (struct hadb_item){
        .key = hadb__cell_key(cell),
        .value = hadb_buf_slice(&s->value),
        .version = {.term = cell->term, .txid = cell->txid},
    };
    return 0;
}

static void kv_scan_close(void *self, void *scan)
{
    (void)self;
    hadb__scan_close(scan);
}

static void kv_position(void *self, struct hadb_engine_position *out)
{
    struct kv *kv = self;
    hadb__state_position(&kv->state, out);
}

static int kv_tail(void *self, hadb_txid after, size_t bytes_max, struct hadb_buf *out,
                   struct hadb_error *err)
{
    struct kv *kv = self;
    struct hadb__tail_txn *txns = NULL;
    size_t txns_len = 0, out_len = out->len;
    int r = hadb__state_tail(&kv->state, after, bytes_max, &txns, &txns_len, err);
    for (size_t i = 0; r == 0 && i < txns_len; i++) {
        const struct hadb__tail_txn *txn = &txns[i];
        if (hadb_buf_reserve(out, txn->bytes_len) < 0) {
            r = hadb_fail_nomem(err);
            break;
        }
        r = hadb__kv_log_read(&kv->log, txn->place.segment, txn->place.offset, txn->bytes_len,
                              txn->place.crc, out->data + out->len, err);
        out->len += r == 0 ? txn->bytes_len : 0;
    }
    if (r < 0) {
        out->len = out_len;
    }
    hadb__state_tail_free(txns, txns_len);
    return r;
}

static void kv_stats(void *self, struct hadb_engine_stats *out)
{
    struct kv *kv = self;
    struct hadb__kv_log *log = &kv->log;
    *out = (struct hadb_engine_stats){0};
    hadb__state_count(&kv->state, &out->keys, &out->live_bytes);
    hadb_mutex_lock(&log->mu);
    out->segments = log->segments_len;
    for (size_t i = 0; i < log->segments_len; i++) {
        out->disk_bytes += log->segments[i]->size;
    }
    out->syncs = log->syncs;
    out->bytes_written = log->bytes_written;
    hadb_mutex_unlock(&log->mu);
    out->cut_bytes = log->cut_bytes;
    memcpy(out->recovery, log->recovery, sizeof(out->recovery));
}

/* Opening and closing */

static void kv_free(struct kv *kv)
{
    hadb__state_deinit(&kv->state);
    hadb__kv_log_close(&kv->log);
    hadb_free(kv);
}

/* An ingest that its mark never finished leaves an empty database. */
static int drop_unfinished_ingest(struct kv *kv, struct hadb_error *err)
{
    if (!kv->state.ingesting) {
        return 0;
    }
    return kv->log.read_only ? commit_rewind(kv, err) : kv_rewind(kv, err);
}

static int kv_open(const char *path, const struct hadb_engine_options *options,
                   const struct hadb_env *env, void **self, struct hadb_error *err)
{
    if (!path || !*path) {
        return hadb_fail(err, HADB_EINVAL, "the kv engine needs a folder");
    }
    struct kv *kv = hadb_calloc(1, sizeof(*kv));
    if (!kv) {
        return hadb_fail_nomem(err);
    }
    hadb__state_init(&kv->state);
    kv->sync_every_ms = options->sync_every_ms;
    int r = hadb__kv_log_open(path, options, env, &kv->log, err);
    if (r == 0) {
        r = hadb__kv_log_replay(&kv->log, replay_record, kv, err);
    }
    if (r == 0) {
        r = drop_unfinished_ingest(kv, err);
    }
    if (r < 0) {
        kv_free(kv);
        return r;
    }
    *self = kv;
    return 0;
}

/* An orderly end says so, so that the next open knows that all before it was on disk. Best effort: what
 * the caller wanted durable it has synced. */
static void kv_close(void *self)
{
    struct kv *kv = self;
    if (kv->log.appended > 0 && hadb__kv_log_check(&kv->log, NULL) == 0 &&
        hadb__kv_log_sync(&kv->log, NULL) == 0) {
        append_small(kv, HADB__KV_CLEAN, NULL, NULL);
    }
    kv_free(kv);
}

const struct hadb_engine_ops hadb__engine_kv_ops = {
    .abi = HADB_ENGINE_ABI,
    .name = "kv",
    .open = kv_open,
    .close = kv_close,
    .apply = kv_apply,
    .mark = kv_mark,
    .sync = kv_sync,
    .get = kv_get,
    .view_open = kv_view_open,
    .view_close = kv_view_close,
    .scan_open = kv_scan_open,
    .scan_next = kv_scan_next,
    .scan_close = kv_scan_close,
    .position = kv_position,
    .tail = kv_tail,
    .rewind = kv_rewind,
    .ingest = kv_ingest,
    .stats = kv_stats,
};
