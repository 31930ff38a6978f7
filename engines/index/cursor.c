/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking the index in key order, forward or backward, and the check of its invariants.
 *
 * Any thread; the index must be held (shared or own) and unchanged meanwhile. Nothing is allocated and
 * nothing fails: a cursor is the path to its place.
 */
#include "engines/index/node_private.h"

/* Goes from @node down to its outermost leaf in the direction of the walk. */
static void descend(struct hadb__cursor *cursor, const struct hadb__node *node)
{
    for (;;) {
        HADB_ASSERT(cursor->depth < HADB__INDEX_HEIGHT_MAX);
        size_t slot = cursor->reverse ? (size_t)node->len - 1 : 0; /* len 0: wraps, no slot */
        cursor->path[cursor->depth].node = node;
        cursor->path[cursor->depth].slot = slot;
        cursor->depth++;
        if (node->height == 0) {
            return;
        }
        node = hadb__inner_of(node)->kids[slot];
    }
}

void hadb__cursor_init(struct hadb__cursor *cursor, const struct hadb__index *index,
                       const struct hadb_slice *bound, bool reverse)
{
    cursor->reverse = reverse;
    cursor->depth = 0;
    const struct hadb__node *node = index->root;
    if (!node) {
        return;
    }
    if (!bound) {
        descend(cursor, node);
        return;
    }
    for (; node->height > 0; cursor->depth++) {
        HADB_ASSERT(cursor->depth < HADB__INDEX_HEIGHT_MAX - 1);
        size_t slot = hadb__inner_slot(hadb__inner_of(node), *bound);
        cursor->path[cursor->depth].node = node;
        cursor->path[cursor->depth].slot = slot;
        node = hadb__inner_of(node)->kids[slot];
    }
    bool found;
    size_t slot = hadb__leaf_slot(hadb__leaf_of(node), *bound, &found);
    cursor->path[cursor->depth].node = node;
    cursor->path[cursor->depth].slot = reverse ? slot - 1 : slot; /* may wrap: then no slot */
    cursor->depth++;
}

struct hadb__cell *hadb__cursor_next(struct hadb__cursor *cursor)
{
    size_t step = cursor->reverse ? SIZE_MAX : 1; /* adding SIZE_MAX subtracts 1 */
    while (cursor->depth > 0) {
        const struct hadb__node *node = cursor->path[cursor->depth - 1].node;
        size_t slot = cursor->path[cursor->depth - 1].slot;
        if (node->height == 0 && slot < node->len) {
            cursor->path[cursor->depth - 1].slot = slot + step;
            return hadb__leaf_of(node)->cells[slot];
        }
        if (node->height > 0 && slot + step < node->len) {
            cursor->path[cursor->depth - 1].slot = slot + step;
            descend(cursor, hadb__inner_of(node)->kids[slot + step]);
        } else {
            cursor->depth--;
        }
    }
    return NULL;
}

struct bounds {
    const struct hadb__cell *low;  /* inclusive */
    const struct hadb__cell *high; /* exclusive */
};

static const char *check_leaf(const struct hadb__leaf *leaf, struct bounds bounds, uint64_t *len)
{
    for (size_t i = 0; i < leaf->head.len; i++) {
        struct hadb_slice key = hadb__cell_key(leaf->cells[i]);
        if (i > 0 && hadb_slice_cmp(hadb__cell_key(leaf->cells[i - 1]), key) >= 0) {
            return "keys of a leaf do not ascend";
        }
        if (bounds.low && hadb_slice_cmp(hadb__cell_key(bounds.low), key) > 0) {
            return "a key lies below its separator";
        }
        if (bounds.high && hadb_slice_cmp(key, hadb__cell_key(bounds.high)) >= 0) {
            return "a key lies above its separator";
        }
        if (atomic_load(&leaf->cells[i]->refs) == 0) {
            return "a cell has no owner";
        }
    }
    *len += leaf->head.len;
    return NULL;
}

static const char *check_node(const struct hadb__node *node, struct bounds bounds, uint64_t *len)
{
    if (atomic_load(&node->refs) == 0) {
        return "a node has no owner";
    }
    if (node->len > HADB__NODE_SLOTS_MAX) {
        return "a node is too long";
    }
    if (node->height == 0) {
        return check_leaf(hadb__leaf_of(node), bounds, len);
    }
    const struct hadb__inner *inner = hadb__inner_of(node);
    if (node->len == 0) {
        return "an inner node has no child";
    }
    for (size_t i = 0; i < node->len; i++) {
        struct bounds below = {
            .low = i > 0 ? inner->seps[i - 1] : bounds.low,
            .high = i + 1u < node->len ? inner->seps[i] : bounds.high,
        };
        if (inner->kids[i]->height + 1 != node->height) {
            return "heights do not agree";
        }
        const char *wrong = check_node(inner->kids[i], below, len);
        if (wrong) {
            return wrong;
        }
    }
    return NULL;
}

const char *hadb__index_check(const struct hadb__index *index)
{
    uint64_t len = 0;
    const char *wrong = index->root ? check_node(index->root, (struct bounds){0}, &len) : NULL;
    if (!wrong && len != index->len) {
        return "the number of keys is wrong";
    }
    return wrong;
}
