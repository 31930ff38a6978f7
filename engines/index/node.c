/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cells and nodes of the index: making, counting, copying, search within one node.
 *
 * Threads: see index_private.h. Invariant: a node holds one reference on each of its children, separators
 * and cells. Freeing a node frees what only it held; the recursion is as deep as the tree is high.
 * Failure modes: out of memory, answered by NULL or HADB_ENOMEM with nothing changed.
 */
#include "base/alloc.h"
#include "engines/index/node_private.h"

struct hadb__cell *hadb__cell_new(struct hadb_slice lead, struct hadb_slice key,
                                  struct hadb_slice value, bool value_inline,
                                  struct hadb_version version)
{
    HADB_ASSERT(key.len <= UINT32_MAX && value.len <= UINT32_MAX && lead.len <= 64);
    size_t value_bytes = value_inline ? value.len : 0;
    struct hadb__cell *cell = hadb_malloc(sizeof(*cell) + lead.len + key.len + value_bytes);
    if (!cell) {
        return NULL;
    }
    atomic_init(&cell->refs, 1);
    cell->key_len = (uint32_t)key.len;
    cell->value_len = (uint32_t)value.len;
    cell->lead_len = (uint32_t)lead.len;
    cell->term = version.term;
    cell->txid = version.txid;
    uint8_t *at = cell->bytes;
    if (lead.len) {
        memcpy(at, lead.data, lead.len);
    }
    if (key.len) {
        memcpy(at + lead.len, key.data, key.len);
    }
    if (value_bytes) {
        memcpy(at + lead.len + key.len, value.data, value_bytes);
    }
    return cell;
}

struct hadb__cell *hadb__cell_ref(struct hadb__cell *cell)
{
    atomic_fetch_add_explicit(&cell->refs, 1, memory_order_relaxed);
    return cell;
}

void hadb__cell_unref(struct hadb__cell *cell)
{
    if (cell && atomic_fetch_sub_explicit(&cell->refs, 1, memory_order_acq_rel) == 1) {
        hadb_free(cell);
    }
}

struct hadb__node *hadb__node_new(uint16_t height)
{
    struct hadb__node *node =
        hadb_malloc(height ? sizeof(struct hadb__inner) : sizeof(struct hadb__leaf));
    if (node) {
        atomic_init(&node->refs, 1);
        node->len = 0;
        node->height = height;
    }
    return node;
}

struct hadb__node *hadb__node_ref(struct hadb__node *node)
{
    atomic_fetch_add_explicit(&node->refs, 1, memory_order_relaxed);
    return node;
}

void hadb__node_unref(struct hadb__node *node)
{
    if (!node || atomic_fetch_sub_explicit(&node->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (node->height == 0) {
        struct hadb__leaf *leaf = hadb__leaf_of(node);
        for (size_t i = 0; i < node->len; i++) {
            hadb__cell_unref(leaf->cells[i]);
        }
    } else {
        struct hadb__inner *inner = hadb__inner_of(node);
        for (size_t i = 0; i < node->len; i++) {
            hadb__node_unref(inner->kids[i]);
            hadb__cell_unref(i + 1 < node->len ? inner->seps[i] : NULL);
        }
    }
    hadb_free(node);
}

bool hadb__node_owned(const struct hadb__node *node)
{
    return atomic_load_explicit(&node->refs, memory_order_acquire) == 1;
}

static void copy_leaf(const struct hadb__leaf *from, struct hadb__leaf *to)
{
    for (size_t i = 0; i < from->head.len; i++) {
        to->cells[i] = hadb__cell_ref(from->cells[i]);
    }
}

static void copy_inner(const struct hadb__inner *from, struct hadb__inner *to)
{
    for (size_t i = 0; i < from->head.len; i++) {
        to->kids[i] = hadb__node_ref(from->kids[i]);
        if (i + 1u < from->head.len) {
            to->seps[i] = hadb__cell_ref(from->seps[i]);
        }
    }
}

int hadb__node_own(struct hadb__node **slot)
{
    struct hadb__node *shared = *slot;
    if (hadb__node_owned(shared)) {
        return 0;
    }
    struct hadb__node *own = hadb__node_new(shared->height);
    if (!own) {
        return HADB_ENOMEM;
    }
    if (shared->height == 0) {
        copy_leaf(hadb__leaf_of(shared), hadb__leaf_of(own));
    } else {
        copy_inner(hadb__inner_of(shared), hadb__inner_of(own));
    }
    own->len = shared->len;
    *slot = own;
    hadb__node_unref(shared);
    return 0;
}

size_t hadb__inner_slot(const struct hadb__inner *inner, struct hadb_slice key)
{
    size_t lo = 0, hi = inner->head.len - 1u;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (hadb_slice_cmp(key, hadb__cell_key(inner->seps[mid])) < 0) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return lo;
}

size_t hadb__leaf_slot(const struct hadb__leaf *leaf, struct hadb_slice key, bool *found)
{
    size_t lo = 0, hi = leaf->head.len;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = hadb_slice_cmp(hadb__cell_key(leaf->cells[mid]), key);
        if (c == 0) {
            *found = true;
            return mid;
        }
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    *found = false;
    return lo;
}
