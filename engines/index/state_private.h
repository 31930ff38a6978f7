/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every engine keeps in memory: the newest index, the positions, the tail with its undo list, views
 * and scans. An engine adds where values and encoded transactions lie (memory: here, kv: in segments).
 *
 * Writing takes three steps, so that a log can be written in between and memory runs out early:
 *   read     decode into a batch: one cell per put                       may fail, nothing changed
 *   prepare  check positions, reserve, and for big batches build the new index beside the old one
 *   commit   make all of it the newest state at once
 *
 * Threads: batches, prepare, commit, mark and rewind belong to the one writer; the rest is for any thread.
 * mu guards the fields marked so; the writer may read them without it, since only it changes them.
 */
#ifndef HADB_ENGINES_STATE_PRIVATE_H
#define HADB_ENGINES_STATE_PRIVATE_H
#include "base/thread.h"
#include "engines/index/index_private.h"

/* Batches up to this many operations change the newest index in place, under mu; bigger ones change a
 * private copy of the touched paths, so that readers never wait long. */
#define HADB__COMMIT_IN_PLACE_OPS_MAX 1024u

#define HADB__TAIL_KEEP_MAX 128u /* elements of an empty tail's arrays that are kept for later */

#define HADB__STATE_RANK 800u /* rank of the lock; taken last but for the log's */

/* Where an encoded transaction of the tail lies. */
struct hadb__place {
    uint64_t segment;        /* kv */
    uint64_t offset;         /* kv */
    uint32_t crc;            /* kv: of the encoded transaction */
    struct hadb__cell *copy; /* memory: the encoded transaction as value of a cell; else NULL */
};

/* One change of one key; either may be NULL, not both. Owns a reference on each. */
struct hadb__change {
    struct hadb__cell *before, *after;
};

struct hadb__tail_txn {
    hadb_txid txid;
    uint64_t term;
    uint32_t bytes_len;
    uint32_t changes_len;
    struct hadb__place place; /* owns copy */
};

/* A queue in one array: [head, head + len) is in use. */
struct hadb__tail {
    struct hadb__change *changes;
    size_t changes_head, changes_len, changes_cap;
    struct hadb__tail_txn *txns;
    size_t txns_head, txns_len, txns_cap;
};

struct hadb__state {
    struct hadb_mutex mu;
    struct hadb__index index; /* mu */
    struct hadb_pos mark;     /* mu */
    hadb_txid last_txid;      /* mu */
    uint64_t last_term;       /* mu */
    uint64_t live_bytes;      /* mu */
    bool ingesting;           /* mu; items were ingested, the mark has not come yet */
    struct hadb__tail tail;   /* mu */
};

/* One operation of a batch. @after is NULL for a delete; @before is filled in by commit. */
struct hadb__batch_op {
    struct hadb_slice key; /* borrowed from what was read */
    struct hadb__cell *before, *after;
};

struct hadb__batch_txn {
    struct hadb_txn txn; /* borrowed from what was read */
    size_t ops_len;
    struct hadb__place place; /* set by the engine before commit; the batch owns copy */
};

struct hadb__batch {
    struct hadb__batch_op *ops;
    size_t ops_len, ops_cap;
    struct hadb__batch_txn *txns;
    size_t txns_len, txns_cap;
    bool ingest;
    size_t ops_kept;  /* the first so many own their cells, the rest moved to the tail */
    size_t txns_kept; /* likewise */
    bool in_place;
    struct hadb__index work; /* the new index, when not in place */
};

/* Makes the cell of one put; NULL when out of memory. */
typedef struct hadb__cell *(*hadb__cell_make_fn)(void *arg, struct hadb_slice key,
                                                 struct hadb_slice value,
                                                 struct hadb_version version);

void hadb__state_init(struct hadb__state *state);
void hadb__state_deinit(struct hadb__state *state);

/* Decodes @txns, which start at last_txid + 1. HADB_ECORRUPT, HADB_EINVAL, HADB_ENOMEM. */
int hadb__batch_read(struct hadb__batch *batch, struct hadb_slice txns, hadb_txid last_txid,
                     hadb__cell_make_fn make, void *arg, struct hadb_error *err);
/* Adds one item to a batch whose ingest is set. Its key is borrowed. HADB_EINVAL, HADB_ETOOBIG, HADB_ENOMEM. */
int hadb__batch_item(struct hadb__batch *batch, const struct hadb_item *item,
                     hadb__cell_make_fn make, void *arg, struct hadb_error *err);
void hadb__batch_deinit(struct hadb__batch *batch);

/* Checks @mark (NULL: none) against the position as it will be at @last_txid. HADB_EINVAL. */
int hadb__state_check_mark(const struct hadb__state *state, const struct hadb_pos *mark,
                           hadb_txid last_txid, struct hadb_error *err);
/* The highest transaction that a mark may name now: an ingest may end at any. */
hadb_txid hadb__state_mark_max(const struct hadb__state *state);
/* HADB_EINVAL (wrong time for this batch, bad mark), HADB_ENOMEM. */
int hadb__state_prepare(struct hadb__state *state, struct hadb__batch *batch,
                        const struct hadb_pos *mark, struct hadb_error *err);
/* 0, or HADB_ENOMEM with the state as it was. Fills in before of every operation. */
int hadb__state_commit(struct hadb__state *state, struct hadb__batch *batch,
                       const struct hadb_pos *mark, struct hadb_error *err);
/* Moves the mark, ends an ingest. The mark was checked. */
void hadb__state_mark(struct hadb__state *state, const struct hadb_pos *mark);

/* The state without its tail (or without what was ingested). Zero value: nothing prepared. */
struct hadb__rewind {
    struct hadb__index index;
    uint64_t live_bytes;
};
int hadb__state_rewind_prepare(struct hadb__state *state, struct hadb__rewind *out,
                               struct hadb_error *err); /* HADB_ENOMEM */
void hadb__state_rewind_commit(struct hadb__state *state, struct hadb__rewind *take_rewind);
void hadb__rewind_deinit(struct hadb__rewind *rewind);

void hadb__state_count(struct hadb__state *state, uint64_t *keys, uint64_t *live_bytes);
void hadb__state_position(struct hadb__state *state, struct hadb_engine_position *out);

/* Transactions after @after, for hadb_engine_ops.tail: at least one, then while the sum of their bytes stays
 * <= @bytes_max. HADB_END, HADB_EINVAL (below the mark), HADB_ENOMEM. */
int hadb__state_tail(struct hadb__state *state, hadb_txid after, size_t bytes_max,
                     struct hadb__tail_txn **out, size_t *out_len, struct hadb_error *err);
void hadb__state_tail_free(struct hadb__tail_txn *txns, size_t len);

struct hadb__view {
    struct hadb__index index;
    hadb_txid txid;
};
/* The picture of now; NULL when out of memory. */
struct hadb__view *hadb__view_open(struct hadb__state *state);
void hadb__view_close(struct hadb__view *view);
/* The cell of @key with a reference for the caller, NULL when absent. @view NULL: newest state. */
struct hadb__cell *hadb__state_get(struct hadb__state *state, const struct hadb__view *view,
                                   struct hadb_slice key);

/* A scan over a view: the cursor and where it ends. */
struct hadb__scan {
    struct hadb__cursor cursor;
    struct hadb_buf low;  /* inclusive; empty = none */
    struct hadb_buf high; /* exclusive; empty = none */
    bool reverse, keys_only;
    bool nothing;          /* the range is empty */
    struct hadb_buf value; /* for engines that load values */
};
int hadb__scan_open(const struct hadb__view *view, const struct hadb_range *range,
                    struct hadb__scan **out, struct hadb_error *err);
struct hadb__cell *hadb__scan_next(struct hadb__scan *scan); /* borrowed; NULL at the end */
void hadb__scan_close(struct hadb__scan *scan);

#endif
