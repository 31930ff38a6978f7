/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a state: single keys, views, scans.
 *
 * Threads: any. A view shares the index, O(1), and needs no lock afterwards; a scan borrows its view. A read
 * of the newest state looks up under mu and leaves with a reference on the cell, so that it never makes the
 * writer copy nodes. Failure modes: out of memory.
 */
#include "base/alloc.h"
#include "base/error.h"
#include "engines/index/state_private.h"

struct hadb__view *hadb__view_open(struct hadb__state *state)
{
    struct hadb__view *view = hadb_malloc(sizeof(*view));
    if (!view) {
        return NULL;
    }
    hadb_mutex_lock(&state->mu);
    view->index = hadb__index_share(&state->index);
    view->txid = state->last_txid;
    hadb_mutex_unlock(&state->mu);
    return view;
}

void hadb__view_close(struct hadb__view *view)
{
    hadb__index_deinit(&view->index);
    hadb_free(view);
}

struct hadb__cell *hadb__state_get(struct hadb__state *state, const struct hadb__view *view,
                                   struct hadb_slice key)
{
    if (view) {
        struct hadb__cell *cell = hadb__index_find(&view->index, key);
        return cell ? hadb__cell_ref(cell) : NULL;
    }
    hadb_mutex_lock(&state->mu);
    struct hadb__cell *cell = hadb__index_find(&state->index, key);
    if (cell) {
        hadb__cell_ref(cell);
    }
    hadb_mutex_unlock(&state->mu);
    return cell;
}

/* The smallest key above all keys that start with @prefix, into @out; empty when there is none. */
static int prefix_end(struct hadb_slice prefix, struct hadb_buf *out)
{
    const uint8_t *bytes = prefix.data;
    size_t len = prefix.len;
    while (len > 0 && bytes[len - 1] == 0xff) {
        len--;
    }
    if (hadb_buf_append(out, bytes, len) < 0) {
        return HADB_ENOMEM;
    }
    if (len > 0) {
        out->data[len - 1]++;
    }
    return 0;
}

static int set_bounds(struct hadb__scan *scan, const struct hadb_range *range)
{
    struct hadb_slice low =
        hadb_slice_cmp(range->start, range->prefix) > 0 ? range->start : range->prefix;
    if (hadb_buf_append(&scan->low, low.data, low.len) < 0 ||
        prefix_end(range->prefix, &scan->high) < 0) {
        return HADB_ENOMEM;
    }
    if (range->end.len > 0 &&
        (scan->high.len == 0 || hadb_slice_cmp(range->end, hadb_buf_slice(&scan->high)) < 0)) {
        hadb_buf_clear(&scan->high);
        if (hadb_buf_append(&scan->high, range->end.data, range->end.len) < 0) {
            return HADB_ENOMEM;
        }
    }
    scan->nothing = scan->high.len > 0 &&
                    hadb_slice_cmp(hadb_buf_slice(&scan->low), hadb_buf_slice(&scan->high)) >= 0;
    return 0;
}

int hadb__scan_open(const struct hadb__view *view, const struct hadb_range *range,
                    struct hadb__scan **out, struct hadb_error *err)
{
    struct hadb__scan *scan = hadb_calloc(1, sizeof(*scan));
    if (!scan) {
        return hadb_fail_nomem(err);
    }
    if (set_bounds(scan, range) < 0) {
        hadb__scan_close(scan);
        return hadb_fail_nomem(err);
    }
    scan->reverse = range->reverse;
    scan->keys_only = range->keys_only;
    const struct hadb_slice low = hadb_buf_slice(&scan->low), high = hadb_buf_slice(&scan->high);
    const struct hadb_slice *bound = range->reverse ? &high : &low;
    hadb__cursor_init(&scan->cursor, &view->index, bound->len ? bound : NULL, range->reverse);
    *out = scan;
    return 0;
}

struct hadb__cell *hadb__scan_next(struct hadb__scan *scan)
{
    struct hadb__cell *cell = scan->nothing ? NULL : hadb__cursor_next(&scan->cursor);
    if (!cell) {
        return NULL;
    }
    struct hadb_slice key = hadb__cell_key(cell);
    bool past = scan->reverse
                    ? hadb_slice_cmp(key, hadb_buf_slice(&scan->low)) < 0
                    : scan->high.len > 0 && hadb_slice_cmp(key, hadb_buf_slice(&scan->high)) >= 0;
    if (past) {
        scan->nothing = true;
        return NULL;
    }
    return cell;
}

void hadb__scan_close(struct hadb__scan *scan)
{
    hadb_buf_deinit(&scan->low);
    hadb_buf_deinit(&scan->high);
    hadb_buf_deinit(&scan->value);
    hadb_free(scan);
}
