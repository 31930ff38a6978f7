/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index: find, put, remove, and the shrinking of thin nodes.
 *
 * Thread: the one that owns the index. Happy path of a put: walk down making each node on the path the
 * caller's own, then set one slot of the leaf. When the leaf is full, everything that the splits need is
 * allocated before the first pointer moves, so running out of memory leaves the tree as it was.
 *
 * Invariants (hadb__index_check): keys ascend, separators divide, heights agree, counts agree. Nodes may be
 * thin, and empty between remove and shrink. Failure modes: HADB_ENOMEM.
 */
#include <string.h>

#include "base/alloc.h"
#include "engines/index/node_private.h"

/* The way from the root (step 0) to a leaf. */
struct path {
    size_t len;
    struct {
        struct hadb__inner *node;
        size_t slot;
    } steps[HADB__INDEX_HEIGHT_MAX];
    struct hadb__leaf *leaf;
};

void hadb__index_deinit(struct hadb__index *index)
{
    hadb__node_unref(index->root);
    *index = (struct hadb__index){0};
}

struct hadb__index hadb__index_share(const struct hadb__index *index)
{
    if (index->root) {
        hadb__node_ref(index->root);
    }
    return *index;
}

struct hadb__cell *hadb__index_find(const struct hadb__index *index, struct hadb_slice key)
{
    const struct hadb__node *node = index->root;
    if (!node) {
        return NULL;
    }
    while (node->height > 0) {
        const struct hadb__inner *inner = hadb__inner_of(node);
        node = inner->kids[hadb__inner_slot(inner, key)];
    }
    bool found;
    size_t slot = hadb__leaf_slot(hadb__leaf_of(node), key, &found);
    return found ? hadb__leaf_of(node)->cells[slot] : NULL;
}

/* Walks to the leaf of @key and owns every node on the way. */
static int own_path(struct hadb__index *index, struct hadb_slice key, struct path *path)
{
    path->len = 0;
    struct hadb__node **slot = &index->root;
    for (;;) {
        if (hadb__node_own(slot) < 0) {
            return HADB_ENOMEM;
        }
        if ((*slot)->height == 0) {
            path->leaf = hadb__leaf_of(*slot);
            return 0;
        }
        HADB_ASSERT(path->len < HADB__INDEX_HEIGHT_MAX - 1);
        struct hadb__inner *inner = hadb__inner_of(*slot);
        size_t i = hadb__inner_slot(inner, key);
        path->steps[path->len].node = inner;
        path->steps[path->len].slot = i;
        path->len++;
        slot = &inner->kids[i];
    }
}

static void leaf_insert(struct hadb__leaf *leaf, size_t slot, struct hadb__cell *take_cell)
{
    HADB_ASSERT(leaf->head.len < HADB__NODE_SLOTS_MAX && slot <= leaf->head.len);
    memmove(&leaf->cells[slot + 1], &leaf->cells[slot],
            (leaf->head.len - slot) * sizeof(leaf->cells[0]));
    leaf->cells[slot] = take_cell;
    leaf->head.len++;
}

/* Puts @take_kid behind child @slot, with @take_sep between them. */
static void inner_insert(struct hadb__inner *inner, size_t slot, struct hadb__cell *take_sep,
                         struct hadb__node *take_kid)
{
    size_t len = inner->head.len;
    HADB_ASSERT(len < HADB__NODE_SLOTS_MAX && slot < len);
    memmove(&inner->kids[slot + 2], &inner->kids[slot + 1],
            (len - slot - 1) * sizeof(inner->kids[0]));
    memmove(&inner->seps[slot + 1], &inner->seps[slot], (len - 1 - slot) * sizeof(inner->seps[0]));
    inner->kids[slot + 1] = take_kid;
    inner->seps[slot] = take_sep;
    inner->head.len++;
}

/* Everything that a put into a full leaf needs, allocated up front. */
struct split {
    struct hadb__node *leaf;
    struct hadb__cell *sep;
    size_t inners_len; /* full ancestors, from below */
    struct hadb__node *inners[HADB__INDEX_HEIGHT_MAX];
    struct hadb__node *root; /* when every ancestor is full */
    bool rightmost;          /* appending: leave the left nodes full instead of halving them */
};

static void split_deinit(struct split *split)
{
    hadb_free(split->leaf);
    hadb__cell_unref(split->sep);
    for (size_t i = 0; i < split->inners_len; i++) {
        hadb_free(split->inners[i]);
    }
    hadb_free(split->root);
}

/* The cell at @i of the leaf as it will be with @cell at @slot. */
static struct hadb__cell *cell_after(const struct hadb__leaf *leaf, size_t slot,
                                     struct hadb__cell *cell, size_t i)
{
    return i == slot ? cell : leaf->cells[i < slot ? i : i - 1];
}

/* The shortest key that is > @left and <= @right. */
static struct hadb__cell *sep_new(struct hadb_slice left, struct hadb_slice right)
{
    const uint8_t *a = left.data, *b = right.data;
    size_t same = 0;
    while (same < left.len && same < right.len && a[same] == b[same]) {
        same++;
    }
    HADB_ASSERT(same < right.len);
    return hadb__cell_new(hadb_slice(NULL, 0), hadb_slice(b, same + 1), hadb_slice(NULL, 0), false,
                          (struct hadb_version){0});
}

static int split_prepare(const struct path *path, size_t slot, struct hadb__cell *cell,
                         size_t left_len, struct split *out)
{
    struct split split = {.rightmost = slot == HADB__NODE_SLOTS_MAX};
    for (size_t i = 0; i < path->len; i++) {
        split.rightmost =
            split.rightmost && path->steps[i].slot + 1u == path->steps[i].node->head.len;
    }
    left_len = split.rightmost ? HADB__NODE_SLOTS_MAX : left_len;
    bool ok = true;
    split.leaf = hadb__node_new(0);
    split.sep = sep_new(hadb__cell_key(cell_after(path->leaf, slot, cell, left_len - 1)),
                        hadb__cell_key(cell_after(path->leaf, slot, cell, left_len)));
    ok = split.leaf && split.sep;
    size_t level = path->len;
    while (ok && level > 0 && path->steps[level - 1].node->head.len == HADB__NODE_SLOTS_MAX) {
        level--;
        split.inners[split.inners_len] = hadb__node_new(path->steps[level].node->head.height);
        ok = split.inners[split.inners_len] != NULL;
        split.inners_len += ok;
    }
    if (ok && level == 0) {
        size_t height = path->len + 1;
        HADB_ASSERT(height < HADB__INDEX_HEIGHT_MAX);
        split.root = hadb__node_new((uint16_t)height);
        ok = split.root != NULL;
    }
    if (!ok) {
        split_deinit(&split);
        return HADB_ENOMEM;
    }
    *out = split;
    return 0;
}

static void split_leaf(struct hadb__leaf *left, struct hadb__leaf *right, size_t left_len,
                       size_t slot, struct hadb__cell *take_cell)
{
    struct hadb__cell *all[HADB__NODE_SLOTS_MAX + 1];
    for (size_t i = 0; i < HADB__NODE_SLOTS_MAX + 1; i++) {
        all[i] = cell_after(left, slot, take_cell, i);
    }
    size_t right_len = HADB__NODE_SLOTS_MAX + 1 - left_len;
    memcpy(left->cells, all, left_len * sizeof(all[0]));
    memcpy(right->cells, all + left_len, right_len * sizeof(all[0]));
    left->head.len = (uint16_t)left_len;
    right->head.len = (uint16_t)right_len;
}

/* Splits full @left into itself and @right with (@sep, @kid) added behind child @slot. Returns the
 * separator that goes one level up. */
static struct hadb__cell *split_inner(struct hadb__inner *left, struct hadb__inner *right,
                                      size_t left_len, size_t slot, struct hadb__cell *take_sep,
                                      struct hadb__node *take_kid)
{
    struct hadb__node *kids[HADB__NODE_SLOTS_MAX + 1];
    struct hadb__cell *seps[HADB__NODE_SLOTS_MAX];
    for (size_t i = 0; i < HADB__NODE_SLOTS_MAX + 1; i++) {
        kids[i] = i == slot + 1 ? take_kid : left->kids[i <= slot ? i : i - 1];
    }
    for (size_t i = 0; i < HADB__NODE_SLOTS_MAX; i++) {
        seps[i] = i == slot ? take_sep : left->seps[i < slot ? i : i - 1];
    }
    size_t right_len = HADB__NODE_SLOTS_MAX + 1 - left_len;
    memcpy(left->kids, kids, left_len * sizeof(kids[0]));
    memcpy(left->seps, seps, (left_len - 1) * sizeof(seps[0]));
    memcpy(right->kids, kids + left_len, right_len * sizeof(kids[0]));
    memcpy(right->seps, seps + left_len, (right_len - 1) * sizeof(seps[0]));
    left->head.len = (uint16_t)left_len;
    right->head.len = (uint16_t)right_len;
    return seps[left_len - 1];
}

static int insert_with_split(struct hadb__index *index, struct path *path, size_t slot,
                             struct hadb__cell *cell)
{
    const size_t half = (HADB__NODE_SLOTS_MAX + 1) / 2;
    struct split split;
    if (split_prepare(path, slot, cell, half, &split) < 0) {
        return HADB_ENOMEM;
    }
    size_t left_len = split.rightmost ? HADB__NODE_SLOTS_MAX : half;
    split_leaf(path->leaf, hadb__leaf_of(split.leaf), left_len, slot, hadb__cell_ref(cell));
    struct hadb__node *kid = split.leaf;
    struct hadb__cell *sep = split.sep;
    size_t level = path->len;
    for (size_t i = 0; i < split.inners_len; i++) {
        level--;
        sep = split_inner(path->steps[level].node, hadb__inner_of(split.inners[i]), left_len,
                          path->steps[level].slot, sep, kid);
        kid = split.inners[i];
    }
    if (split.root) {
        struct hadb__inner *root = hadb__inner_of(split.root);
        root->kids[0] = index->root;
        root->kids[1] = kid;
        root->seps[0] = sep;
        root->head.len = 2;
        index->root = split.root;
    } else {
        inner_insert(path->steps[level - 1].node, path->steps[level - 1].slot, sep, kid);
    }
    return 0;
}

int hadb__index_put(struct hadb__index *index, struct hadb__cell *cell, struct hadb__cell **before)
{
    if (!index->root && !(index->root = hadb__node_new(0))) {
        return HADB_ENOMEM;
    }
    struct path path;
    if (own_path(index, hadb__cell_key(cell), &path) < 0) {
        return HADB_ENOMEM;
    }
    bool found;
    size_t slot = hadb__leaf_slot(path.leaf, hadb__cell_key(cell), &found);
    if (found) {
        *before = path.leaf->cells[slot];
        path.leaf->cells[slot] = hadb__cell_ref(cell);
        return 0;
    }
    if (path.leaf->head.len < HADB__NODE_SLOTS_MAX) {
        leaf_insert(path.leaf, slot, hadb__cell_ref(cell));
    } else if (insert_with_split(index, &path, slot, cell) < 0) {
        return HADB_ENOMEM;
    }
    index->len++;
    *before = NULL;
    return 0;
}

int hadb__index_remove(struct hadb__index *index, struct hadb_slice key, struct hadb__cell **before)
{
    if (!hadb__index_find(index, key)) {
        return HADB_ABSENT; /* before any node is copied for nothing */
    }
    struct path path;
    if (own_path(index, key, &path) < 0) {
        return HADB_ENOMEM;
    }
    bool found;
    size_t slot = hadb__leaf_slot(path.leaf, key, &found);
    HADB_ASSERT(found && index->len > 0);
    *before = path.leaf->cells[slot];
    path.leaf->head.len--;
    memmove(&path.leaf->cells[slot], &path.leaf->cells[slot + 1],
            (path.leaf->head.len - slot) * sizeof(path.leaf->cells[0]));
    index->len--;
    return 0;
}

/* Walks to the leaf of @key; false as soon as a node is shared. */
static bool owned_path(const struct hadb__index *index, struct hadb_slice key, struct path *path)
{
    path->len = 0;
    struct hadb__node *node = index->root;
    while (node && hadb__node_owned(node)) {
        if (node->height == 0) {
            path->leaf = hadb__leaf_of(node);
            return true;
        }
        HADB_ASSERT(path->len < HADB__INDEX_HEIGHT_MAX - 1);
        struct hadb__inner *inner = hadb__inner_of(node);
        path->steps[path->len].node = inner;
        path->steps[path->len].slot = hadb__inner_slot(inner, key);
        node = inner->kids[path->steps[path->len].slot];
        path->len++;
    }
    return false;
}

/* Takes child @slot and the separator beside it out of @inner; the child is the caller's now. */
static void inner_remove(struct hadb__inner *inner, size_t slot, size_t sep)
{
    size_t len = inner->head.len;
    memmove(&inner->kids[slot], &inner->kids[slot + 1], (len - 1 - slot) * sizeof(inner->kids[0]));
    if (len > 1) {
        hadb__cell_unref(inner->seps[sep]);
        memmove(&inner->seps[sep], &inner->seps[sep + 1], (len - 2 - sep) * sizeof(inner->seps[0]));
    }
    inner->head.len--;
}

/* Adds the cells of @from to @to, behind or before its own. */
static void leaf_absorb(struct hadb__leaf *to, const struct hadb__leaf *from, bool behind)
{
    size_t add = from->head.len, len = to->head.len;
    if (!behind) {
        memmove(&to->cells[add], to->cells, len * sizeof(to->cells[0]));
    }
    for (size_t i = 0; i < add; i++) {
        to->cells[(behind ? len : 0) + i] = hadb__cell_ref(from->cells[i]);
    }
    to->head.len = (uint16_t)(len + add);
}

static void inner_absorb(struct hadb__inner *to, const struct hadb__inner *from, bool behind,
                         struct hadb__cell *sep_between)
{
    size_t add = from->head.len, len = to->head.len;
    if (!behind) {
        memmove(&to->kids[add], to->kids, len * sizeof(to->kids[0]));
        memmove(&to->seps[add], to->seps, (len - 1) * sizeof(to->seps[0]));
    }
    size_t at = behind ? len : 0;
    for (size_t i = 0; i < add; i++) {
        to->kids[at + i] = hadb__node_ref(from->kids[i]);
        if (i + 1 < add) {
            to->seps[at + i] = hadb__cell_ref(from->seps[i]);
        }
    }
    to->seps[behind ? len - 1 : add - 1] = hadb__cell_ref(sep_between);
    to->head.len = (uint16_t)(len + add);
}

/* Merges thin child @slot of @parent with a sibling if both fit into one. The child is owned; the
 * sibling may be shared: its slots are taken over by reference, so nothing needs to be allocated. */
static void merge_child(struct hadb__inner *parent, size_t slot)
{
    struct hadb__node *kid = parent->kids[slot];
    for (int side = 0; side < 2; side++) {
        bool behind = side == 0; /* the sibling to the right first */
        if (behind ? slot + 1u >= parent->head.len : slot == 0) {
            continue;
        }
        size_t other = behind ? slot + 1 : slot - 1;
        struct hadb__node *sibling = parent->kids[other];
        if ((unsigned)kid->len + sibling->len > HADB__NODE_MERGE_MAX) {
            continue;
        }
        size_t sep = HADB_MIN(slot, other);
        if (kid->height == 0) {
            leaf_absorb(hadb__leaf_of(kid), hadb__leaf_of(sibling), behind);
        } else {
            inner_absorb(hadb__inner_of(kid), hadb__inner_of(sibling), behind, parent->seps[sep]);
        }
        inner_remove(parent, other, sep);
        hadb__node_unref(sibling);
        return;
    }
}

void hadb__index_shrink(struct hadb__index *index, struct hadb_slice key)
{
    struct path path;
    if (!owned_path(index, key, &path)) {
        return;
    }
    struct hadb__node *node = &path.leaf->head;
    for (size_t level = path.len; level > 0; level--) {
        struct hadb__inner *parent = path.steps[level - 1].node;
        size_t slot = path.steps[level - 1].slot;
        if (node->len == 0) {
            inner_remove(parent, slot, slot > 0 ? slot - 1 : 0);
            hadb__node_unref(node);
        } else if (node->len < HADB__NODE_SLOTS_MIN) {
            merge_child(parent, slot);
        }
        node = &parent->head;
    }
    while (index->root && index->root->height > 0 && index->root->len == 1) {
        struct hadb__node *top = index->root;
        index->root = hadb__node_ref(hadb__inner_of(top)->kids[0]);
        hadb__node_unref(top);
    }
    if (index->root && index->root->len == 0) {
        hadb__node_unref(index->root);
        index->root = NULL;
    }
}
