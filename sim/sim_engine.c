/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulator: the database of one node. A list of transactions, the keys' values, the table of request
 * ids, the durable mark; and a journal of what is not on disk yet, so that a crash can undo any suffix.
 *
 * Thread: one. Invariants: changes are undone in reverse order only; a rewind or a restore is on disk
 * when it is answered.
 */
#include "base/util.h"
#include "sim/sim_private.h"

#include <stdlib.h>
#include <string.h>

void sim_engine_init(struct sim_engine *e)
{
    memset(e, 0, sizeof *e);
    e->txid_of = sim_must(calloc(SIM_REQS_MAX + 1, sizeof *e->txid_of));
}

void sim_engine_free(struct sim_engine *e)
{
    free(e->txs);
    free(e->txid_of);
    memset(e, 0, sizeof *e);
}

/* Notes how to undo the change that follows; a full journal means that the disk caught up. */
static void journal(struct sim_engine *e)
{
    if (e->journal_len == SIM_JOURNAL_MAX) {
        e->journal_len = 0;
    }
    e->journal[e->journal_len++] = (struct sim_undo){e->len, e->tail_term, e->mark, e->owner};
}

static void append(struct sim *s, struct sim_engine *e, uint32_t req)
{
    if (e->len == e->cap) {
        e->cap = e->cap ? e->cap * 2 : 64;
        e->txs = sim_must(realloc(e->txs, e->cap * sizeof *e->txs));
    }
    if (e->txid_of[req] != 0) {
        sim_fail(s, "exactly once: request %u is transaction %u and again %u", req, e->txid_of[req],
                 e->len + 1);
        return;
    }
    e->txs[e->len++] = req;
    e->txid_of[req] = e->len;
    e->kv[s->reqs[req].key] = s->reqs[req].value;
}

static void truncate_to(struct sim *s, struct sim_engine *e, uint32_t len)
{
    if (len >= e->len) {
        return;
    }
    for (uint32_t i = len; i < e->len; i++) {
        e->txid_of[e->txs[i]] = 0;
    }
    e->len = len;
    memset(e->kv, 0, sizeof e->kv);
    for (uint32_t i = 0; i < len; i++) {
        e->kv[s->reqs[e->txs[i]].key] = s->reqs[e->txs[i]].value;
    }
}

static void fix_tail(struct sim_engine *e)
{
    if (e->len <= e->mark.txid) {
        e->tail_term = 0;
    }
}

void sim_engine_commit(struct sim *s, struct sim_engine *e, uint32_t req, uint64_t term)
{
    journal(e);
    append(s, e, req);
    e->tail_term = term;
}

enum hadb_result sim_engine_apply(struct sim *s, struct sim_engine *e, uint32_t entry,
                                  const struct hadb_pos *pos)
{
    const struct sim_entry *en = &s->entries[entry];
    uint64_t first = en->info.last_txid - en->txs.len + 1;
    if (en->info.kind == HADB_CORE_DATA) {
        if (first > (uint64_t)e->len + 1) {
            sim_fail(s, "I8: an entry was applied over a gap");
            return HADB_R_FAILED;
        }
        for (uint32_t i = 0; i < en->txs.len && first + i <= e->len; i++) {
            if (e->txs[first + i - 1] != s->lists[en->txs.at + i]) {
                return HADB_R_DIVERGED;
            }
        }
    }
    journal(e);
    for (uint32_t i = 0; i < en->txs.len; i++) {
        if (first + i > e->len) {
            append(s, e, s->lists[en->txs.at + i]);
        }
    }
    if (en->info.kind == HADB_CORE_SEAL) {
        e->owner = en->info.next;
    }
    e->mark = *pos;
    fix_tail(e);
    return HADB_R_OK;
}

void sim_engine_mark(struct sim_engine *e, const struct hadb_pos *pos)
{
    journal(e);
    e->mark = *pos;
    fix_tail(e);
}

void sim_engine_rewind(struct sim *s, struct sim_engine *e, uint64_t txid)
{
    truncate_to(s, e, (uint32_t)txid);
    fix_tail(e);
    sim_engine_sync(e);
}

void sim_engine_restore(struct sim *s, struct sim_engine *e, const struct sim_snapshot *snapshot)
{
    truncate_to(s, e, 0);
    for (uint32_t i = 0; i < snapshot->txs.len; i++) {
        append(s, e, s->lists[snapshot->txs.at + i]);
    }
    e->mark = snapshot->pos;
    e->owner = snapshot->owner;
    e->tail_term = 0;
    sim_engine_sync(e);
}

void sim_engine_sync(struct sim_engine *e)
{
    e->journal_len = 0;
    e->lied_len = 0;
}

void sim_engine_flush(struct sim *s, struct sim_engine *e)
{
    if (sim_fault(s, SIM_F_BIT_SYNC_LIE)) {
        e->lied_len = e->len;
    } else {
        sim_engine_sync(e);
    }
}

void sim_engine_crash(struct sim *s, struct sim_engine *e, bool keep_all)
{
    uint64_t undo = keep_all ? 0 : sim_below(s, e->journal_len + 1);
    uint32_t len = e->len;
    for (; undo > 0; undo--) {
        const struct sim_undo *u = &e->journal[--e->journal_len];
        truncate_to(s, e, u->txs_len);
        e->tail_term = u->tail_term;
        e->mark = u->mark;
        e->owner = u->owner;
    }
    if (e->len < len) {
        sim_saw(s, SIM_S_restart_undid_commits);
    }
    if (e->len < e->lied_len) {
        sim_saw(s, SIM_S_synced_and_lost);
    }
    sim_engine_sync(e);
}

void sim_engine_clear(struct sim *s, struct sim_engine *e)
{
    truncate_to(s, e, 0);
    memset(&e->mark, 0, sizeof e->mark);
    memset(&e->owner, 0, sizeof e->owner);
    e->tail_term = 0;
    sim_engine_sync(e);
}
