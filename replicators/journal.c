/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 3 and 8 of 8: capture and apply for every engine that logs encoded transactions.
 *
 * Thread: capture and sync any; apply and mark the one writer of the engine.
 * Invariants: a body is a run of whole transactions with consecutive txids, so the tail of an engine
 *   and a body can be compared as plain bytes. The mark only moves to the end of an entry whose
 *   transactions were compared or applied, never over transactions that nobody looked at.
 * Happy path: capture = the engine's tail as it is. Apply = check, compare with the tail (usually none),
 *   one engine write with the mark in it.
 * Failure modes: the tail differs (HADB_DIVERGED, nothing changed), a gap, a body that does not hold together,
 *   whatever the engine reports.
 */
#include <inttypes.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/hash.h"
#include "changeset/changeset.h"
#include "replicators/journal.h"

#define COMPARE_BYTES_MAX (4u << 20) /* of the tail in memory at a time; one transaction at least */

int hadb__txn_span(struct hadb_slice body, struct hadb__txn_span *out, struct hadb_error *err)
{
    struct hadb__txn_span span = {0};
    struct hadb_txn txn;
    int r;
    while ((r = hadb_txn_next(&body, &txn, err)) == 0) {
        if (span.transactions != 0 && txn.txid != span.last_txid + 1) {
            return hadb_fail(err, HADB_ECORRUPT,
                             "transaction %" PRIu64 " follows transaction %" PRIu64, txn.txid,
                             span.last_txid);
        }
        if (txn.term < span.last_term) {
            return hadb_fail(err, HADB_ECORRUPT,
                             "transaction %" PRIu64 " is of term %" PRIu64
                             ", the one before of %" PRIu64,
                             txn.txid, txn.term, span.last_term);
        }
        span.first_txid = span.transactions == 0 ? txn.txid : span.first_txid;
        span.last_txid = txn.txid;
        span.last_term = txn.term;
        span.time_unix_ms = txn.time_unix_ms;
        span.transactions++;
    }
    if (r == HADB_END) {
        *out = span;
        return 0;
    }
    return r;
}

static int journal_add(const struct hadb_engine *engine,
                       const struct hadb_replicator_options *options, void **self,
                       struct hadb_error *err)
{
    struct hadb__journal *journal = hadb_calloc(1, sizeof(*journal));
    if (!journal) {
        return hadb_fail_nomem(err);
    }
    journal->engine = engine;
    journal->env = hadb_env_or_host(options->env);
    journal->db = options->db;
    journal->incarnation = options->incarnation;
    if (options->database && !(journal->database = hadb_strdup(options->database))) {
        hadb_free(journal);
        return hadb_fail_nomem(err);
    }
    *self = journal;
    return 0;
}

static void journal_remove(void *self)
{
    struct hadb__journal *journal = self;
    hadb_free(journal->database);
    hadb_free(journal);
}

static void trace(const struct hadb__journal *journal, unsigned hop, const char *what,
                  const struct hadb_pos *pos, hadb_txid txid, size_t bytes, uint64_t since_ns)
{
    if (!journal->env->trace) {
        return;
    }
    hadb_trace(journal->env, &(struct hadb_trace_event){
                                 .hop = hop,
                                 .what = what,
                                 .database = journal->database,
                                 .term = pos ? pos->term : 0,
                                 .slot = pos ? pos->slot : 0,
                                 .txid = txid,
                                 .bytes = bytes,
                                 .took_us = (hadb_now_ns(journal->env) - since_ns) / 1000,
                             });
}

/* Drops transactions above @last from the end of @body. @body has been read before. */
static void cut_above(struct hadb_buf *body, hadb_txid last)
{
    struct hadb_slice rest = hadb_buf_slice(body);
    struct hadb_txn txn;
    size_t keep = 0;
    while (hadb_txn_next(&rest, &txn, NULL) == 0 && txn.txid <= last) {
        keep = body->len - rest.len;
    }
    body->len = keep;
}

static int take_tail(const struct hadb__journal *journal, hadb_txid after, size_t bytes_max,
                     hadb_txid view_txid, struct hadb_capture *out, struct hadb_error *err)
{
    int r = hadb_engine_tail(journal->engine, after, bytes_max, &out->body, err);
    if (r != 0) {
        return r;
    }
    struct hadb__txn_span span;
    r = hadb__txn_span(hadb_buf_slice(&out->body), &span, err);
    if (r == 0 && view_txid > after && view_txid < span.last_txid) {
        /* Commits went on after the view was opened: stop where it stops. */
        cut_above(&out->body, view_txid);
        r = hadb__txn_span(hadb_buf_slice(&out->body), &span, err);
    }
    if (r != 0) {
        return hadb_wrap(err, r, "tail after transaction %" PRIu64, after);
    }
    if (span.transactions == 0 || span.first_txid != after + 1) {
        return hadb_fail(err, HADB_ECORRUPT,
                         "tail after transaction %" PRIu64 " starts with %" PRIu64, after,
                         span.first_txid);
    }
    out->first_txid = span.first_txid;
    out->last_txid = span.last_txid;
    out->time_unix_ms = span.time_unix_ms;
    return 0;
}

static int journal_capture(void *self, hadb_txid after, size_t bytes_max, bool want_view,
                           struct hadb_capture *out, struct hadb_error *err)
{
    const struct hadb__journal *journal = self;
    uint64_t since_ns = journal->env->trace ? hadb_now_ns(journal->env) : 0;
    struct hadb_capture capture = {0};
    hadb_txid view_txid = 0;
    int r = 0;
    if (want_view) {
        r = hadb_engine_view_open(journal->engine, &capture.view, &view_txid, err);
    }
    if (r == 0) {
        r = take_tail(journal, after, bytes_max, view_txid, &capture, err);
    }
    if (r != 0 || view_txid != capture.last_txid) {
        hadb_engine_view_close(journal->engine, capture.view);
        capture.view = NULL;
    }
    if (r != 0) {
        hadb_buf_deinit(&capture.body);
        return r;
    }
    trace(journal, 3, "capture", NULL, capture.last_txid, capture.body.len, since_ns);
    *out = capture;
    return 0;
}

enum place { PLACE_AHEAD, PLACE_COVERED };

/* Where @pos lies, seen from @mark. HADB_EFORKED when both can't be on one history. */
static int find_place(const struct hadb_pos *mark, const struct hadb_pos *pos, enum place *out,
                      struct hadb_error *err)
{
    bool below = pos->term <= mark->term && pos->slot <= mark->slot && pos->txid <= mark->txid;
    bool above = pos->term >= mark->term && pos->slot >= mark->slot && pos->txid >= mark->txid;
    bool same = below && above;
    if ((!below && !above) || (same && !hadb_hash_eq(&pos->hash, &mark->hash))) {
        return hadb_fail(err, HADB_EFORKED,
                         "term %" PRIu64 " slot %" PRIu64 " transaction %" PRIu64
                         " is not on the history of the mark, term %" PRIu64 " slot %" PRIu64
                         " transaction %" PRIu64,
                         pos->term, pos->slot, pos->txid, mark->term, mark->slot, mark->txid);
    }
    *out = below ? PLACE_COVERED : PLACE_AHEAD;
    return 0;
}

/*
 * Compares the start of @body with the tail above @after, chunk by chunk. Both begin with the same
 * txid. *equal is how many bytes of @body lie in the tail.
 */
static int compare_tail(const struct hadb__journal *journal, hadb_txid after,
                        struct hadb_slice body, size_t *equal, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf chunk = {0};
    size_t done = 0;
    while (done < body.len) {
        hadb_buf_clear(&chunk);
        int r = hadb_engine_tail(journal->engine, after, COMPARE_BYTES_MAX, &chunk, err);
        if (r == HADB_END) {
            break;
        }
        struct hadb__txn_span span = {0};
        r = r != 0 ? r : hadb__txn_span(hadb_buf_slice(&chunk), &span, err);
        if (r != 0) {
            return hadb_wrap(err, r, "tail after transaction %" PRIu64, after);
        }
        HADB_ASSERT(span.first_txid == after + 1);
        size_t len = HADB_MIN(chunk.len, body.len - done);
        if (memcmp(chunk.data, (const uint8_t *)body.data + done, len) != 0) {
            return HADB_DIVERGED;
        }
        done += len;
        after = span.last_txid;
    }
    *equal = done;
    return 0;
}

static int check_body(const struct hadb__txn_span *span, const struct hadb_pos *mark,
                      const struct hadb_pos *pos, struct hadb_error *err)
{
    hadb_txid last = span->transactions == 0 ? mark->txid : span->last_txid;
    if (span->transactions == 0 && pos->txid != mark->txid) {
        return hadb_fail(err, HADB_EGAP,
                         "an entry without transactions stands at transaction %" PRIu64
                         ", the mark at %" PRIu64,
                         pos->txid, mark->txid);
    }
    if (last != pos->txid || span->last_term > pos->term) {
        return hadb_fail(err, HADB_ECORRUPT,
                         "body ends at transaction %" PRIu64 " of term %" PRIu64
                         ", its entry at transaction %" PRIu64 " of term %" PRIu64,
                         last, span->last_term, pos->txid, pos->term);
    }
    if (span->transactions == 0 || span->first_txid == mark->txid + 1) {
        return 0;
    }
    return hadb_fail(err, span->first_txid > mark->txid ? HADB_EGAP : HADB_EFORKED,
                     "body starts at transaction %" PRIu64 ", the mark stands at %" PRIu64,
                     span->first_txid, mark->txid);
}

static int apply_ahead(const struct hadb__journal *journal, struct hadb_slice body,
                       const struct hadb_pos *mark, const struct hadb_pos *pos,
                       struct hadb_error *err)
{
    size_t equal = 0;
    int r = compare_tail(journal, mark->txid, body, &equal, err);
    if (r != 0) {
        return r;
    }
    struct hadb_slice rest = {.len = body.len - equal};
    if (rest.len == 0) {
        return hadb_engine_mark(journal->engine, pos, err);
    }
    rest.data = (const uint8_t *)body.data + equal;
    return hadb_engine_apply(journal->engine, rest, pos, err);
}

static int journal_apply(void *self, struct hadb_slice body, const struct hadb_pos *pos,
                         struct hadb_error *err)
{
    const struct hadb__journal *journal = self;
    uint64_t since_ns = journal->env->trace ? hadb_now_ns(journal->env) : 0;
    if (body.len > HADB_ENTRY_RAW_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "body has %zu bytes, at most %u", body.len,
                         HADB_ENTRY_RAW_BYTES_MAX);
    }
    struct hadb__txn_span span;
    int r = hadb__txn_span(body, &span, err);
    if (r != 0) {
        return r;
    }
    struct hadb_engine_position position;
    hadb_engine_position(journal->engine, &position);
    enum place place = PLACE_AHEAD;
    r = find_place(&position.mark, pos, &place, err);
    if (r != 0 || place == PLACE_COVERED) {
        return r;
    }
    r = check_body(&span, &position.mark, pos, err);
    r = r != 0 ? r : apply_ahead(journal, body, &position.mark, pos, err);
    if (r == 0) {
        trace(journal, 8, "apply", pos, pos->txid, body.len, since_ns);
    }
    return r;
}

static int journal_mark(void *self, const struct hadb_pos *pos, struct hadb_error *err)
{
    const struct hadb__journal *journal = self;
    struct hadb_engine_position position;
    hadb_engine_position(journal->engine, &position);
    enum place place = PLACE_AHEAD;
    int r = find_place(&position.mark, pos, &place, err);
    if (r != 0 || place == PLACE_COVERED) {
        return r;
    }
    if (pos->txid > position.last_txid) {
        return hadb_fail(err, HADB_EGAP,
                         "mark at transaction %" PRIu64 ", the last one here is %" PRIu64,
                         pos->txid, position.last_txid);
    }
    return hadb_engine_mark(journal->engine, pos, err);
}

static int journal_sync(void *self, struct hadb_error *err)
{
    const struct hadb__journal *journal = self;
    return hadb_engine_sync(journal->engine, err);
}

static void journal_view_close(void *self, void *view)
{
    const struct hadb__journal *journal = self;
    hadb_engine_view_close(journal->engine, view);
}

const struct hadb_replicator_ops hadb__journal_ops = {
    .abi = HADB_REPLICATOR_ABI,
    .name = "journal",
    .add = journal_add,
    .remove = journal_remove,
    .capture = journal_capture,
    .apply = journal_apply,
    .mark = journal_mark,
    .tail_save = hadb__journal_tail_save,
    .snapshot = hadb__journal_snapshot,
    .restore = hadb__journal_restore,
    .sync = journal_sync,
    .view_close = journal_view_close,
};
