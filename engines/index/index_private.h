/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ordered index that all our key-value engines share: a copy-on-write B+tree of cells.
 *
 * A cell is one version of one key, immutable, counted. Nodes are counted too: one whose count is 1, with
 * all above it, belongs to the caller alone and is changed in place; any other is copied first. So sharing
 * a whole tree costs O(1), and a writer beside a shared tree copies only the paths that it touches.
 *
 * Threads: an index is changed by one thread at a time; different indexes that share nodes may be used and
 * released by different threads, which is why the counts are atomic: an increment needs no order (the
 * caller holds a reference already), a decrement releases, the last one acquires, and "count is 1" acquires.
 */
#ifndef HADB_ENGINES_INDEX_PRIVATE_H
#define HADB_ENGINES_INDEX_PRIVATE_H
#include <stdatomic.h>

#include "base/buf.h"
#include "hadb/engine.h"

/* One allocation per key: head, engine's own lead (where the value lies), key, value if kept inline. */
struct hadb__cell {
    _Atomic uint32_t refs;
    uint32_t key_len;
    uint32_t value_len;
    uint32_t lead_len; /* bytes before the key; a multiple of 8 when a struct lies there */
    uint64_t term;
    hadb_txid txid;
    uint8_t bytes[];
};

/* Copies @lead and @key; @value is copied when @value_inline, else only its length is kept.
 * NULL when out of memory. The caller owns one reference. */
struct hadb__cell *hadb__cell_new(struct hadb_slice lead, struct hadb_slice key,
                                  struct hadb_slice value, bool value_inline,
                                  struct hadb_version version);
struct hadb__cell *hadb__cell_ref(struct hadb__cell *cell); /* returns @cell */
void hadb__cell_unref(struct hadb__cell *cell);             /* NULL is fine */

static inline struct hadb_slice hadb__cell_key(const struct hadb__cell *cell)
{
    return hadb_slice(cell->bytes + cell->lead_len, cell->key_len);
}
/* Only for cells whose value is inline. */
static inline struct hadb_slice hadb__cell_value(const struct hadb__cell *cell)
{
    return hadb_slice(cell->bytes + cell->lead_len + cell->key_len, cell->value_len);
}

#define HADB__NODE_SLOTS_MAX 64u /* cells of a leaf, children of an inner node */
#define HADB__NODE_SLOTS_MIN 16u /* below it, shrink looks for a sibling to merge with */
#define HADB__NODE_MERGE_MAX \
    48u /* a merged node holds at most this many: room for what comes next */
#define HADB__INDEX_HEIGHT_MAX 16u /* nodes merge to 16 or more slots on average: 2^60 keys */

struct hadb__node;

/* Owns one reference on @root. Two words, moved; the zero value is empty. */
struct hadb__index {
    struct hadb__node *root;
    uint64_t len; /* keys */
};

void hadb__index_deinit(struct hadb__index *index);
/* A second owner of the same picture, O(1). */
struct hadb__index hadb__index_share(const struct hadb__index *index);
/* The cell of @key, borrowed from @index; NULL when absent. */
struct hadb__cell *hadb__index_find(const struct hadb__index *index, struct hadb_slice key);
/*
 * Puts @cell (takes a reference of its own) and moves what was there before, or NULL, to *@before.
 * Returns 0 or HADB_ENOMEM; on failure the index holds what it held.
 *
 * On a path that the caller owns alone, taking back the puts and removes made since it became so,
 * in reverse order, needs no memory as long as hadb__index_shrink() was not called: undo cannot fail.
 */
int hadb__index_put(struct hadb__index *index, struct hadb__cell *cell, struct hadb__cell **before);
/* Takes @key out; 0 with the cell in *@before, HADB_ABSENT, HADB_ENOMEM. Leaves thin nodes behind. */
int hadb__index_remove(struct hadb__index *index, struct hadb_slice key,
                       struct hadb__cell **before);
/* Merges thin and drops empty nodes on the path of @key, as far as it is owned alone. Cannot fail. */
void hadb__index_shrink(struct hadb__index *index, struct hadb_slice key);
/* Walks the whole tree. NULL when all invariants hold, else which does not. For tests and checks. */
const char *hadb__index_check(const struct hadb__index *index);

/* Walks one picture in either direction. Borrows the index, which must not change meanwhile. */
struct hadb__cursor {
    bool reverse;
    size_t depth; /* levels of path in use; 0 = at the end */
    struct {
        const struct hadb__node *node;
        size_t slot; /* the slot to visit next (leaf) or being visited (inner) */
    } path[HADB__INDEX_HEIGHT_MAX];
};

/* Forward: at the first key >= @bound. Reverse: at the last key < @bound. NULL: at the outermost key. */
void hadb__cursor_init(struct hadb__cursor *cursor, const struct hadb__index *index,
                       const struct hadb_slice *bound, bool reverse);
/* The next cell, borrowed; NULL at the end. */
struct hadb__cell *hadb__cursor_next(struct hadb__cursor *cursor);

#endif
