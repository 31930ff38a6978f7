/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 2 and 8 of 8: the volatile engine. Keys and values live in cells of the shared index, the encoded
 * transactions of the tail beside it until the mark passes them.
 *
 * Threads: one writer, any readers (engines/index/state_private.h). Invariants: those of the state. Nothing
 * outlives close; sync has nothing to do. Failure modes: bad arguments, out of memory; then nothing changed.
 */
#include "base/alloc.h"
#include "base/error.h"
#include "engines/engine_private.h"
#include "engines/index/state_private.h"

struct memory {
    struct hadb__state state;
    bool read_only; /* const after open */
};

static int memory_open(const char *path, const struct hadb_engine_options *options,
                       const struct hadb_env *env, void **self, struct hadb_error *err)
{
    (void)path;
    (void)env;
    struct memory *memory = hadb_calloc(1, sizeof(*memory));
    if (!memory) {
        return hadb_fail_nomem(err);
    }
    hadb__state_init(&memory->state);
    memory->read_only = options->read_only;
    *self = memory;
    return 0;
}

static void memory_close(void *self)
{
    struct memory *memory = self;
    hadb__state_deinit(&memory->state);
    hadb_free(memory);
}

static int check_writable(const struct memory *memory, struct hadb_error *err)
{
    return memory->read_only
               ? hadb_fail(err, HADB_ENOTSUP, "the engine was opened for reading only")
               : 0;
}

static struct hadb__cell *make_cell(void *arg, struct hadb_slice key, struct hadb_slice value,
                                    struct hadb_version version)
{
    (void)arg;
    return hadb__cell_new(hadb_slice(NULL, 0), key, value, true, version);
}

/* Keeps the encoded form of what will be above the mark. */
static int keep_encoded(struct hadb__batch *batch, hadb_txid mark_txid, struct hadb_error *err)
{
    const struct hadb_slice nothing = {0};
    for (size_t i = 0; i < batch->txns_len; i++) {
        struct hadb__batch_txn *txn = &batch->txns[i];
        if (txn->txn.txid > mark_txid) {
            txn->place.copy =
                hadb__cell_new(nothing, nothing, txn->txn.bytes, true, (struct hadb_version){0});
            if (!txn->place.copy) {
                return hadb_fail_nomem(err);
            }
        }
    }
    return 0;
}

static int apply_batch(struct memory *memory, struct hadb__batch *batch,
                       const struct hadb_pos *mark, struct hadb_error *err)
{
    int r = keep_encoded(batch, mark ? mark->txid : memory->state.mark.txid, err);
    if (r == 0) {
        r = hadb__state_prepare(&memory->state, batch, mark, err);
    }
    return r < 0 ? r : hadb__state_commit(&memory->state, batch, mark, err);
}

static int memory_apply(void *self, struct hadb_slice txns, const struct hadb_pos *mark,
                        struct hadb_error *err)
{
    struct memory *memory = self;
    int r = check_writable(memory, err);
    if (r < 0) {
        return r;
    }
    if (txns.len > HADB_ENGINE_APPLY_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "%zu bytes of transactions at once, at most %u",
                         txns.len, HADB_ENGINE_APPLY_BYTES_MAX);
    }
    struct hadb__batch batch = {0};
    r = hadb__batch_read(&batch, txns, memory->state.last_txid, make_cell, NULL, err);
    if (r == 0) {
        r = apply_batch(memory, &batch, mark, err);
    }
    hadb__batch_deinit(&batch);
    return r;
}

static int memory_mark(void *self, const struct hadb_pos *mark, struct hadb_error *err)
{
    struct memory *memory = self;
    int r = check_writable(memory, err);
    if (r == 0) {
        r = hadb__state_check_mark(&memory->state, mark, hadb__state_mark_max(&memory->state), err);
    }
    if (r == 0) {
        hadb__state_mark(&memory->state, mark);
    }
    return r;
}

static int memory_sync(void *self, struct hadb_error *err)
{
    (void)self;
    (void)err;
    return 0;
}

static int memory_get(void *self, void *view, struct hadb_slice key, struct hadb_buf *value,
                      struct hadb_version *version, struct hadb_error *err)
{
    struct memory *memory = self;
    struct hadb__cell *cell = hadb__state_get(&memory->state, view, key);
    if (!cell) {
        return HADB_ABSENT;
    }
    if (value) {
        struct hadb_slice bytes = hadb__cell_value(cell);
        hadb_buf_clear(value);
        if (hadb_buf_append(value, bytes.data, bytes.len) < 0) {
            hadb__cell_unref(cell);
            return hadb_fail_nomem(err);
        }
    }
    if (version) {
        *version = (struct hadb_version){.term = cell->term, .txid = cell->txid};
    }
    hadb__cell_unref(cell);
    return 0;
}

static int memory_view_open(void *self, void **view, hadb_txid *txid, struct hadb_error *err)
{
    struct memory *memory = self;
    struct hadb__view *v = hadb__view_open(&memory->state);
    if (!v) {
        return hadb_fail_nomem(err);
    }
    *view = v;
    if (txid) {
        *txid = v->txid;
    }
    return 0;
}

static void memory_view_close(void *self, void *view)
{
    (void)self;
    hadb__view_close(view);
}

static int memory_scan_open(void *self, void *view, const struct hadb_range *range, void **scan,
                            struct hadb_error *err)
{
    (void)self;
    struct hadb__scan *s = NULL;
    int r = hadb__scan_open(view, range, &s, err);
    *scan = s;
    return r;
}

static int memory_scan_next(void *self, void *scan, struct hadb_item *out, struct hadb_error *err)
{
    (void)self;
    (void)err;
    struct hadb__scan *s = scan;
    const struct hadb__cell *cell = hadb__scan_next(s);
    if (!cell) {
        return HADB_END;
    }
    *out = (struct hadb_item){
        .key = hadb__cell_key(cell),
        .value = s->keys_only ? hadb_slice(NULL, 0) : hadb__cell_value(cell),
        .version = {.term = cell->term, .txid = cell->txid},
    };
    return 0;
}

static void memory_scan_close(void *self, void *scan)
{
    (void)self;
    hadb__scan_close(scan);
}

static void memory_position(void *self, struct hadb_engine_position *out)
{
    struct memory *memory = self;
    hadb__state_position(&memory->state, out);
}

static int memory_tail(void *self, hadb_txid after, size_t bytes_max, struct hadb_buf *out,
                       struct hadb_error *err)
{
    struct memory *memory = self;
    struct hadb__tail_txn *txns = NULL;
    size_t txns_len = 0, out_len = out->len;
    int r = hadb__state_tail(&memory->state, after, bytes_max, &txns, &txns_len, err);
    for (size_t i = 0; r == 0 && i < txns_len; i++) {
        struct hadb_slice bytes = hadb__cell_value(txns[i].place.copy);
        if (hadb_buf_append(out, bytes.data, bytes.len) < 0) {
            out->len = out_len;
            r = hadb_fail_nomem(err);
        }
    }
    hadb__state_tail_free(txns, txns_len);
    return r;
}

static int memory_rewind(void *self, struct hadb_error *err)
{
    struct memory *memory = self;
    struct hadb__rewind rewind = {0};
    int r = check_writable(memory, err);
    if (r == 0) {
        r = hadb__state_rewind_prepare(&memory->state, &rewind, err);
    }
    if (r == 0) {
        hadb__state_rewind_commit(&memory->state, &rewind);
    }
    return r;
}

static int memory_ingest(void *self, const struct hadb_item *items, size_t items_len,
                         struct hadb_error *err)
{
    struct memory *memory = self;
    struct hadb__batch batch = {.ingest = true};
    int r = check_writable(memory, err);
    for (size_t i = 0; r == 0 && i < items_len; i++) {
        r = hadb__batch_item(&batch, &items[i], make_cell, NULL, err);
    }
    if (r == 0) {
        r = hadb__state_prepare(&memory->state, &batch, NULL, err);
    }
    if (r == 0) {
        r = hadb__state_commit(&memory->state, &batch, NULL, err);
    }
    hadb__batch_deinit(&batch);
    return r;
}

static void memory_stats(void *self, struct hadb_engine_stats *out)
{
    struct memory *memory = self;
    *out = (struct hadb_engine_stats){0};
    hadb__state_count(&memory->state, &out->keys, &out->live_bytes);
}

const struct hadb_engine_ops hadb__engine_memory_ops = {
    .abi = HADB_ENGINE_ABI,
    .name = "memory",
    .open = memory_open,
    .close = memory_close,
    .apply = memory_apply,
    .mark = memory_mark,
    .sync = memory_sync,
    .get = memory_get,
    .view_open = memory_view_open,
    .view_close = memory_view_close,
    .scan_open = memory_scan_open,
    .scan_next = memory_scan_next,
    .scan_close = memory_scan_close,
    .position = memory_position,
    .tail = memory_tail,
    .rewind = memory_rewind,
    .ingest = memory_ingest,
    .stats = memory_stats,
};
