/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 2 of 8, the other way: reads. Each answer is of one picture, given or taken for it.
 *
 * Thread: any. Invariants: user keys only; an answer never holds more than it was asked for and never
 *   less than one item if there is one. Happy path: get, or scan until limit or size.
 * Failure modes: malformed requests, engine, memory; the response is empty then.
 */
#include "base/alloc.h"
#include "base/error.h"
#include "replicators/kv_private.h"
#include "replicators/space.h"

/* A picture: the caller's, or one of our own that lives for the call. */
struct picture {
    void *view;
    void *own;
    hadb_txid txid;
};

static int picture_take(const struct hadb_engine *engine, const struct hadb_request *request,
                        struct picture *out, struct hadb_error *err)
{
    *out = (struct picture){.view = request->view, .txid = request->view_txid};
    if (request->view) {
        return 0;
    }
    int r = hadb_engine_view_open(engine, &out->own, &out->txid, err);
    out->view = out->own;
    return r;
}

static int read_get(const struct hadb_engine *engine, const struct hadb_request *request,
                    const struct picture *picture, struct hadb_response *response,
                    struct hadb_error *err)
{
    uint8_t space = HADB_SPACE_USER;
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf key = {0};
    if (hadb_buf_append(&key, &space, 1) != 0 ||
        hadb_buf_append(&key, request->key.data, request->key.len) != 0) {
        return hadb_fail_nomem(err);
    }
    struct hadb_version version = {0};
    int r = hadb_engine_get(engine, picture->view, hadb_buf_slice(&key), &response->value, &version,
                            err);
    if (r == 0) {
        response->version = version;
    }
    return r;
}

/* @bound behind the space byte; an empty one stays empty: the prefix keeps to the space. */
static struct hadb_slice add_bound(struct hadb_buf *memory, struct hadb_slice bound)
{
    if (bound.len == 0) {
        return (struct hadb_slice){0};
    }
    uint8_t *at = memory->data + memory->len;
    at[0] = HADB_SPACE_USER;
    memcpy(at + 1, bound.data, bound.len);
    memory->len += 1 + bound.len;
    return hadb_slice(at, 1 + bound.len);
}

static int spaced_range(const struct hadb_range *range, struct hadb_buf *memory,
                        struct hadb_range *out, struct hadb_error *err)
{
    static const uint8_t space[1] = {HADB_SPACE_USER};
    /* One byte more than a key: the start of a next page. */
    size_t bound_max = HADB_KEY_BYTES_MAX + 1;
    if (range->start.len > bound_max || range->end.len > bound_max ||
        range->prefix.len > bound_max) {
        return hadb_fail(err, HADB_ETOOBIG, "a bound of the range has more than %zu bytes",
                         bound_max);
    }
    if (hadb_buf_reserve(memory, 3 + range->start.len + range->end.len + range->prefix.len) != 0) {
        return hadb_fail_nomem(err);
    }
    *out = *range;
    out->start = add_bound(memory, range->start);
    out->end = add_bound(memory, range->end);
    out->prefix = add_bound(memory, range->prefix);
    if (out->prefix.len == 0) {
        out->prefix = hadb_slice(space, 1);
    }
    return 0;
}

struct page {
    struct hadb_kv_items *items; /* slices hold lengths alone until the page is complete */
    size_t cap;
    size_t limit;
    size_t bytes_max;
};

/* HADB_END when @item does not fit any more. */
static int page_add(struct page *page, const struct hadb_item *item, struct hadb_error *err)
{
    struct hadb_kv_items *items = page->items;
    size_t bytes = item->key.len - 1 + item->value.len;
    if (items->len == page->limit ||
        (items->len != 0 &&
         (bytes > page->bytes_max || items->memory.len > page->bytes_max - bytes))) {
        items->more = true;
        return HADB_END;
    }
    if (items->len == page->cap) {
        size_t cap = HADB_MIN(page->limit, page->cap == 0 ? 16 : 2 * page->cap);
        struct hadb_item *grown = hadb_realloc(items->items, cap * sizeof(*grown));
        if (!grown) {
            return hadb_fail_nomem(err);
        }
        items->items = grown;
        page->cap = cap;
    }
    if (hadb_buf_append(&items->memory, (const uint8_t *)item->key.data + 1, item->key.len - 1) !=
            0 ||
        hadb_buf_append(&items->memory, item->value.data, item->value.len) != 0) {
        return hadb_fail_nomem(err);
    }
    items->items[items->len++] = (struct hadb_item){
        .key = {.len = item->key.len - 1},
        .value = {.len = item->value.len},
        .version = item->version,
    };
    return 0;
}

/* Memory does not move any more: turn lengths into slices. */
static void page_finish(struct hadb_kv_items *items)
{
    const uint8_t *at = items->memory.data;
    for (size_t i = 0; i < items->len; i++) {
        struct hadb_item *item = &items->items[i];
        item->key.data = at;
        item->value.data = at + item->key.len;
        at += item->key.len + item->value.len;
    }
    HADB_ASSERT(items->len == 0 || at == items->memory.data + items->memory.len);
}

static int set_next(const struct hadb_request *request, struct hadb_response *response,
                    struct hadb_error *err)
{
    const struct hadb_kv_items *items = &response->items;
    if (!items->more) {
        return 0;
    }
    HADB_ASSERT(items->len != 0);
    struct hadb_slice key = items->items[items->len - 1].key;
    if (hadb_buf_append(&response->next, key.data, key.len) != 0 ||
        (!request->range.reverse && hadb_buf_append(&response->next, "", 1) != 0)) {
        return hadb_fail_nomem(err);
    }
    return 0;
}

static int read_scan(const struct hadb_engine *engine, const struct hadb_request *request,
                     const struct picture *picture, struct hadb_response *response,
                     struct hadb_error *err)
{
    struct page page = {
        .items = &response->items,
        .limit = request->limit ? request->limit : HADB_SCAN_LIMIT_DEFAULT,
        .bytes_max = request->bytes_max ? request->bytes_max : HADB_SCAN_BYTES_MAX,
    };
    if (page.limit > HADB_SCAN_LIMIT_MAX || page.bytes_max > HADB_SCAN_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "a scan answers at most %u items and %u bytes",
                         HADB_SCAN_LIMIT_MAX, HADB_SCAN_BYTES_MAX);
    }
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf memory = {0};
    struct hadb_range range;
    void *scan = NULL;
    int r = spaced_range(&request->range, &memory, &range, err);
    r = r != 0 ? r : hadb_engine_scan_open(engine, picture->view, &range, &scan, err);
    struct hadb_item item;
    while (r == 0 && (r = hadb_engine_scan_next(engine, scan, &item, err)) == 0) {
        r = page_add(&page, &item, err);
    }
    hadb_engine_scan_close(engine, scan);
    if (r != HADB_END) {
        return r;
    }
    page_finish(&response->items);
    return set_next(request, response, err);
}

int hadb__kv_read(void *self, const struct hadb_request *request, struct hadb_response *response,
                  struct hadb_error *err)
{
    const struct hadb__kv_executor *kv = self;
    bool is_get = request->type == HADB_REQUEST_GET;
    if (!is_get && request->type != HADB_REQUEST_SCAN) {
        return hadb_fail(err, HADB_EINVAL, "unknown request type %d", (int)request->type);
    }
    if (is_get && request->key.len == 0) {
        return hadb_fail(err, HADB_EINVAL, "the key is empty");
    }
    if (is_get && request->key.len > HADB_KEY_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "key has %zu bytes, at most %u", request->key.len,
                         HADB_KEY_BYTES_MAX);
    }
    struct picture picture;
    int r = picture_take(kv->engine, request, &picture, err);
    if (r == 0) {
        r = is_get ? read_get(kv->engine, request, &picture, response, err)
                   : read_scan(kv->engine, request, &picture, response, err);
    }
    hadb_engine_view_close(kv->engine, picture.own);
    if (r < 0) {
        struct hadb_error error = response->error;
        hadb_response_deinit(response);
        response->error = error;
    } else {
        response->state_txid = picture.txid;
    }
    return r;
}
