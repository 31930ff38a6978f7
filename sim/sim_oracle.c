/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulator: the oracles. They see everything at once and remember what was promised.
 *
 * Always on  positions and transactions that are durable or applied anywhere agree everywhere (I1, I4, I6, I8);
 *            one process per term opens its gate (I2); a manifest covers exactly a prefix (I5); every handle
 *            that a machine holds is one that it still names.
 * At the end every acknowledged write is in the history exactly once (I3), no refused one is (I10), all
 *            nodes are equal, an idle database sent no request, reads and writes of each key are linearizable
 *            (I7), no read misses what was acknowledged or shown before it began on any key (I7), and what
 *            was read is what the history says.
 *
 * Thread: one.
 */
#include "base/util.h"
#include "sim/sim_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LIN_STEPS_MAX 4000000u

/* ---- while it runs ---- */

static void check_transactions(struct sim *s, uint8_t n, uint64_t upto)
{
    const struct sim_engine *e = &s->node[n].engine;
    uint64_t len = HADB_MIN(upto, e->len);
    if (upto > e->len) {
        sim_fail(s, "I8: n%d takes transaction %" PRIu64 " for durable and holds only %u", n, upto,
                 e->len);
    }
    for (uint64_t i = 0; i < len && !s->over; i++) {
        if (i >= s->truth_len) {
            s->truth_at[s->truth_len] = s->now;
            s->truth_tx[s->truth_len++] = e->txs[i];
        } else if (s->truth_tx[i] != e->txs[i]) {
            sim_fail(s, "I4: transaction %" PRIu64 " is request %u on n%d and %u elsewhere", i + 1,
                     e->txs[i], n, s->truth_tx[i]);
        }
    }
}

void sim_oracle_durable(struct sim *s, uint8_t n, const struct hadb_pos *pos)
{
    uint32_t id = sim_entry_of(&pos->hash);
    uint32_t known =
        pos->term == 0 && pos->slot == 0 ? 0 : sim_map_get(&s->truth, pos->term, pos->slot);
    if (known != 0 && known != id) {
        sim_fail(s, "I1: n%d has entry #%u at term %" PRIu64 " slot %" PRIu64 ", others have #%u",
                 n, id, pos->term, pos->slot, known);
        return;
    }
    if (id != 0 && !s->entries[id].was_stored) {
        sim_fail(s, "I3: n%d takes entry #%u for durable, the store has never had it", n, id);
        return;
    }
    if (known == 0 && id != 0) {
        sim_map_set(&s->truth, pos->term, pos->slot, id);
    }
    check_transactions(s, n, pos->txid);
}

void sim_oracle_gate(struct sim *s, uint8_t n, uint64_t term)
{
    uint32_t code = (uint32_t)n << 24 | (s->node[n].life & 0xffffff);
    uint32_t known = sim_map_get(&s->owners, term, 1);
    if (known != 0 && known != code) {
        sim_fail(s, "I2: n%d.%u and n%d.%u opened their gates for term %" PRIu64, n,
                 s->node[n].life, (int)(known >> 24), known & 0xffffff, term);
    }
    sim_map_set(&s->owners, term, 1, code);
}

void sim_oracle_manifest(struct sim *s, uint32_t manifest)
{
    const struct sim_manifest *new = &s->manifests[manifest];
    const struct sim_manifest *old = &s->manifests[s->manifest];
    const struct sim_snapshot *snapshot = &s->snapshots[new->snapshot];
    if (new->info.boundary_slot < old->info.boundary_slot) {
        sim_fail(s, "I5: the boundary goes back from %" PRIu64 " to %" PRIu64,
                 old->info.boundary_slot, new->info.boundary_slot);
    }
    if (snapshot->pos.slot != new->info.boundary_slot ||
        snapshot->pos.term != new->info.boundary_term || snapshot->pos.txid != snapshot->txs.len) {
        sim_fail(s, "I5: the boundary does not say what its snapshot holds");
    }
    uint32_t known = sim_map_get(&s->truth, snapshot->pos.term, snapshot->pos.slot);
    if (known != 0 && known != sim_entry_of(&snapshot->pos.hash)) {
        sim_fail(s, "I5: the snapshot ends with another entry than the history");
    }
    for (uint32_t i = 0; i < snapshot->txs.len; i++) {
        if (i >= s->truth_len || s->truth_tx[i] != s->lists[snapshot->txs.at + i]) {
            sim_fail(s, "I5: the snapshot of slot %" PRIu64 " is not a prefix of the history",
                     snapshot->pos.slot);
            return;
        }
    }
}

void sim_oracle_handles(struct sim *s, uint8_t n)
{
    const struct hadb_core *core = &s->node[n].core;
    if (!s->node[n].up) {
        return;
    }
    uint32_t named =
        (core->pending_handle != 0) + (core->snap_view != 0) + (core->snap_handle != 0);
    for (unsigned i = 0; i < HADB_WINDOW_MAX; i++) {
        named += core->window[i].handle != 0;
    }
    for (unsigned i = 0; i < HADB_STREAM_BUFFER_MAX; i++) {
        named += core->stream[i].handle != 0;
    }
    const struct sim_op *snap = &s->node[n].ops[HADB_OP_SNAP];
    named += snap->busy && snap->type == HADB_ACT_UPLOAD; /* the view is with the upload */
    if (named != sim_handles_open(&s->node[n])) {
        sim_fail(s, "n%d holds %u handles and its machine names %u", n,
                 sim_handles_open(&s->node[n]), named);
    }
}

/* ---- at the end ---- */

static void check_history(struct sim *s, const uint32_t *history, uint32_t len)
{
    if (len < s->truth_len) {
        sim_fail(s, "I3: the store's history has %u transactions, %u were durable", len,
                 s->truth_len);
    }
    for (uint32_t i = 0; i < len && i < s->truth_len; i++) {
        if (history[i] != s->truth_tx[i]) {
            sim_fail(s, "I3: transaction %u is request %u in the store and was request %u", i + 1,
                     history[i], s->truth_tx[i]);
            return;
        }
    }
}

static void check_promises(struct sim *s, const uint32_t *txid_of)
{
    for (uint32_t r = 1; r <= s->reqs_len && !s->over; r++) {
        const struct sim_req *req = &s->reqs[r];
        if (req->kind > SIM_SWAP || req->local) {
            continue;
        }
        if (req->acked && txid_of[r] != req->txid) {
            sim_fail(s, "I3: request %u was acknowledged as transaction %" PRIu64 ", it is %u", r,
                     req->txid, txid_of[r]);
        }
        bool surely_not = req->outcome == SIM_REFUSED || req->outcome == SIM_NOT_MET;
        if (surely_not && txid_of[r] != 0) {
            sim_fail(s, "I10: request %u was answered: surely not done, it is transaction %u", r,
                     txid_of[r]);
        }
    }
}

/* Value of @key in the state that the first @txid transactions make. */
static uint64_t value_at(const struct sim *s, const uint32_t *history, uint64_t txid, uint8_t key)
{
    uint64_t value = 0;
    for (uint64_t i = 0; i < txid; i++) {
        if (s->reqs[history[i]].key == key) {
            value = s->reqs[history[i]].value;
        }
    }
    return value;
}

/*
 * A bounded read runs on what it saw: everything that was durable so long before it came to this node. The bound is in
 * the node's own time, whose rate may be any here.
 */
void sim_oracle_bounded(struct sim *s, uint8_t n, const struct sim_wait *w)
{
    uint64_t lag_us =
        (uint64_t)s->reqs[w->req].max_lag_ms * SIM_MS * 1000 / s->node[n].rate_permille;
    bool lacks = w->txid < s->truth_len && s->truth_at[w->txid] + lag_us + SIM_MS < w->at;
    if (lacks) {
        sim_fail(s,
                 "bounded: request %u reads transaction %" PRIu64
                 " on n%d; the next one was durable %" PRIu64 " ms before, %" PRIu64 " are allowed",
                 w->req, w->txid, n, (w->at - s->truth_at[w->txid]) / SIM_MS, lag_us / SIM_MS);
    }
}

static void check_reads(struct sim *s, const uint32_t *history, uint32_t len)
{
    for (uint32_t r = 1; r <= s->reqs_len && !s->over; r++) {
        const struct sim_req *req = &s->reqs[r];
        if (req->kind <= SIM_SWAP || req->outcome != SIM_OK) {
            continue;
        }
        if (req->kind == SIM_READ_ANY) {
            if (req->value != 0 && s->reqs[req->value].key != req->key) {
                sim_fail(s, "request %u read a value that nobody wrote to its key", r);
            }
        } else if (req->txid > len || value_at(s, history, req->txid, req->key) != req->value) {
            sim_fail(s,
                     "I7: request %u read %" PRIu64 " at transaction %" PRIu64
                     ", the history says %" PRIu64,
                     r, req->value, req->txid,
                     req->txid > len ? 0 : value_at(s, history, req->txid, req->key));
        }
    }
}

struct seen { /* from @at on everybody must see transaction @txid */
    uint64_t at, txid;
};

static int by_time(const void *a, const void *b)
{
    const struct seen *x = a;
    const struct seen *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* What a request that was answered has shown to its client, or done for it. */
static bool tells(const struct sim_req *req)
{
    bool definite =
        req->outcome == SIM_OK || (req->kind == SIM_SWAP && req->outcome == SIM_NOT_MET);
    return definite && req->kind != SIM_READ_ANY && !req->local;
}

/* The latest that anybody was told before @at. */
static uint64_t told_before(const struct seen *told, size_t len, uint64_t at)
{
    size_t low = 0;
    while (len > 0) {
        size_t half = len / 2;
        if (told[low + half].at < at) {
            low += half + 1;
            len -= half + 1;
        } else {
            len = half;
        }
    }
    return low == 0 ? 0 : told[low - 1].txid;
}

/* I7 as it is written: a read sees whatever was acknowledged or shown before it began, of all keys. */
static void check_recent(struct sim *s)
{
    struct seen *told = sim_must(calloc(s->reqs_len + 1, sizeof *told));
    size_t len = 0;
    for (uint32_t r = 1; r <= s->reqs_len; r++) {
        if (tells(&s->reqs[r])) {
            told[len++] = (struct seen){s->reqs[r].ret, s->reqs[r].txid};
        }
    }
    qsort(told, len, sizeof *told, by_time);
    for (size_t i = 1; i < len; i++) {
        told[i].txid = HADB_MAX(told[i].txid, told[i - 1].txid);
    }
    for (uint32_t r = 1; r <= s->reqs_len && !s->over; r++) {
        const struct sim_req *req = &s->reqs[r];
        bool strong =
            req->kind == SIM_READ_LINEAR || (req->kind == SIM_SWAP && req->outcome == SIM_NOT_MET);
        uint64_t must = strong && tells(req) ? told_before(told, len, req->call) : 0;
        if (must > req->txid && strong) {
            sim_fail(s,
                     "I7: request %u saw transaction %" PRIu64 ", but %" PRIu64
                     " had been acknowledged or shown before it began",
                     r, req->txid, must);
        }
    }
    free(told);
}

static bool to_lin(const struct sim_req *req, uint32_t txid, struct lin_op *op)
{
    *op = (struct lin_op){.call = req->call,
                          .ret = req->ret,
                          .value = req->value,
                          .expect = req->expect,
                          .met = req->outcome == SIM_OK};
    switch ((enum sim_req_kind)req->kind) {
    case SIM_WRITE:
        op->kind = LIN_WRITE;
        return txid != 0; /* never took effect: as if it had not been asked for */
    case SIM_SWAP:
        op->kind = LIN_SWAP;
        return txid != 0 || req->outcome == SIM_NOT_MET;
    case SIM_READ_LINEAR:
        op->kind = LIN_READ;
        return req->outcome == SIM_OK;
    default:
        return false;
    }
}

static void check_linearizable(struct sim *s, const uint32_t *txid_of)
{
    static struct lin_op ops[LIN_OPS_MAX + 1];
    for (uint8_t key = 0; key < SIM_KEYS - SIM_LOCAL_KEYS && !s->over; key++) {
        size_t len = 0;
        for (uint32_t r = 1; r <= s->reqs_len && len <= LIN_OPS_MAX; r++) {
            if (s->reqs[r].key == key && to_lin(&s->reqs[r], txid_of[r], &ops[len])) {
                len++;
            }
        }
        enum lin_verdict verdict = lin_check(ops, len, LIN_STEPS_MAX);
        if (verdict != LIN_OK) {
            sim_fail(s, "I7: the history of key %d is %s", key,
                     verdict == LIN_VIOLATED ? "not linearizable" : "too long to be judged");
        }
    }
}

static void check_nodes(struct sim *s, uint32_t len)
{
    uint8_t leaders = 0;
    for (uint8_t n = 0; n < s->draw.nodes && !s->over; n++) {
        const struct sim_node *node = &s->node[n];
        const struct sim_node *first = &s->node[0];
        leaders += node->up && hadb_core_leads(&node->core);
        if (!node->up) {
            sim_fail(s, "liveness: n%d is down", n);
        } else if (memcmp(&node->core.view, &first->core.view, sizeof node->core.view) != 0 ||
                   node->engine.len != len || node->engine.mark.txid != len) {
            sim_fail(s,
                     "liveness: n%d is at term %" PRIu64 " slot %" PRIu64 ", n0 at %" PRIu64
                     "/%" PRIu64 ", it holds %u of %u transactions",
                     n, node->core.view.term, node->core.view.slot, first->core.view.term,
                     first->core.view.slot, node->engine.len, len);
        } else if (memcmp(node->engine.kv, first->engine.kv, sizeof node->engine.kv) != 0) {
            sim_fail(s, "n%d and n0 hold different values", n);
        }
    }
    if (leaders != 1 && !s->over) {
        sim_fail(s, "liveness: %d leaders at the end", leaders);
    }
}

void sim_oracle_end(struct sim *s)
{
    uint32_t *history = sim_must(calloc(SIM_REQS_MAX + 1, sizeof *history));
    uint32_t *txid_of = sim_must(calloc(SIM_REQS_MAX + 1, sizeof *txid_of));
    uint32_t len = sim_store_history(s, history, SIM_REQS_MAX);
    for (uint32_t i = 0; i < len; i++) {
        if (txid_of[history[i]] != 0) {
            sim_fail(s, "exactly once: request %u is transaction %u and %u", history[i],
                     txid_of[history[i]], i + 1);
        }
        txid_of[history[i]] = i + 1;
    }
    check_history(s, history, len);
    check_promises(s, txid_of);
    check_reads(s, history, len);
    check_recent(s);
    check_linearizable(s, txid_of);
    if (!s->over) {
        check_nodes(s, len);
    }
    if (!s->over && s->store_requests != s->idle_requests) {
        sim_fail(s, "an idle database sent %" PRIu64 " store requests",
                 s->store_requests - s->idle_requests);
    }
    free(history);
    free(txid_of);
}
