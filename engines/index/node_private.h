/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes of the index: layout, counting, search within one node. Used by engines/index alone. */
#ifndef HADB_ENGINES_NODE_PRIVATE_H
#define HADB_ENGINES_NODE_PRIVATE_H
#include "engines/index/index_private.h"

struct hadb__node {
    _Atomic uint32_t refs;
    uint16_t len;    /* leaf: cells; inner: children, at least 1 */
    uint16_t height; /* 0 = leaf */
};

struct hadb__leaf {
    struct hadb__node head;
    struct hadb__cell *cells[HADB__NODE_SLOTS_MAX]; /* by key */
};

/* All keys below kids[i] are < seps[i], all keys below kids[i + 1] are >= seps[i]. */
struct hadb__inner {
    struct hadb__node head;
    struct hadb__node *kids[HADB__NODE_SLOTS_MAX];
    struct hadb__cell *seps[HADB__NODE_SLOTS_MAX - 1]; /* cells that have a key and nothing else */
};

static inline struct hadb__leaf *hadb__leaf_of(const struct hadb__node *node)
{
    HADB_ASSERT(node->height == 0);
    return (struct hadb__leaf *)(uintptr_t)node;
}
static inline struct hadb__inner *hadb__inner_of(const struct hadb__node *node)
{
    HADB_ASSERT(node->height > 0);
    return (struct hadb__inner *)(uintptr_t)node;
}

struct hadb__node *hadb__node_new(uint16_t height); /* empty; NULL when out of memory */
struct hadb__node *hadb__node_ref(struct hadb__node *node);
void hadb__node_unref(struct hadb__node *node); /* NULL is fine */
/* Makes *@slot the caller's own, by a copy if it is shared. 0 or HADB_ENOMEM. */
int hadb__node_own(struct hadb__node **slot);
bool hadb__node_owned(const struct hadb__node *node);

/* The child of @inner that covers @key. */
size_t hadb__inner_slot(const struct hadb__inner *inner, struct hadb_slice key);
/* The first cell >= @key; *@found tells whether it is equal. */
size_t hadb__leaf_slot(const struct hadb__leaf *leaf, struct hadb_slice key, bool *found);

#endif
