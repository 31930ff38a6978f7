/* SPDX-License-Identifier: Apache-2.0 */
/* The replicator of key-value engines. For the factory and its own files only. */
#ifndef HADB_REPLICATORS_JOURNAL_H
#define HADB_REPLICATORS_JOURNAL_H
#include "hadb/replicator.h"

struct hadb__journal {
    const struct hadb_engine *engine; /* const after add */
    const struct hadb_env *env;       /* const after add */
    char *database;                   /* const after add; may be NULL */
    struct hadb_id db;                /* const after add */
    struct hadb_id incarnation;       /* const after add */
};

extern const struct hadb_replicator_ops hadb__journal_ops;

/* What a run of encoded transactions holds. */
struct hadb__txn_span {
    hadb_txid first_txid, last_txid;
    uint64_t last_term;
    int64_t time_unix_ms; /* of the last one */
    uint64_t transactions;
};
/* Reads @body to its end: whole transactions, consecutive, terms never falling. HADB_ECORRUPT. */
int hadb__txn_span(struct hadb_slice body, struct hadb__txn_span *out, struct hadb_error *err);

/* journal_lost.c, journal_snapshot.c */
int hadb__journal_tail_save(void *self, const struct hadb_tail_save *save,
                            struct hadb_tail_saved *out, struct hadb_error *err);
int hadb__journal_snapshot(void *self, void *view, const struct hadb_pos *pos,
                           const struct hadb_snapshot_io *io, struct hadb_snapshot_ref *out,
                           struct hadb_error *err);
int hadb__journal_restore(void *self, const struct hadb_snapshot_ref *ref,
                          const struct hadb_snapshot_io *io, struct hadb_error *err);
#endif
