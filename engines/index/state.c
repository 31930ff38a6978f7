/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 2 and 8 of 8, in memory: the newest state of an engine and its tail.
 *
 * Threads: one writer, any readers; see state_private.h. mu is held for lookups and for the change itself,
 * never over I/O, and what a change sets free is freed after it.
 *
 * Invariants: last_txid >= mark.txid; the tail holds exactly the transactions above mark.txid, and its
 * changes, undone from the last to the first, turn the index into the one at the mark.
 * Happy path of a small batch: all operations in place under mu. Of a big one: prepare changed a private
 * copy, commit swaps it in. Failure modes: out of memory half-way through a small batch takes back what was
 * done, which needs no memory (hadb__index_put).
 */
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "engines/index/state_private.h"

void hadb__state_init(struct hadb__state *state)
{
    *state = (struct hadb__state){0};
    hadb_mutex_init(&state->mu, HADB__STATE_RANK);
}

static void free_changes(struct hadb__change *changes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        hadb__cell_unref(changes[i].before);
        hadb__cell_unref(changes[i].after);
    }
}

static void free_txns(struct hadb__tail_txn *txns, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        hadb__cell_unref(txns[i].place.copy);
    }
}

static struct hadb__change *first_change(const struct hadb__tail *tail)
{
    return tail->changes ? tail->changes + tail->changes_head : NULL;
}

static struct hadb__tail_txn *first_txn(const struct hadb__tail *tail)
{
    return tail->txns ? tail->txns + tail->txns_head : NULL;
}

static void tail_deinit(struct hadb__tail *tail)
{
    free_changes(first_change(tail), tail->changes_len);
    free_txns(first_txn(tail), tail->txns_len);
    hadb_free(tail->changes);
    hadb_free(tail->txns);
    *tail = (struct hadb__tail){0};
}

void hadb__state_deinit(struct hadb__state *state)
{
    hadb__index_deinit(&state->index);
    tail_deinit(&state->tail);
    hadb_mutex_deinit(&state->mu);
}

/* Makes room for @more elements behind the queue: moves it to the front or into a bigger array. */
static int queue_reserve(void **array, size_t *head, size_t len, size_t *cap, size_t more,
                         size_t size)
{
    if (*head + len + more <= *cap) {
        return 0;
    }
    if (len + more <= *cap / 2) { /* so that moving is paid for by as many pops */
        memmove(*array, (char *)*array + *head * size, len * size);
        *head = 0;
        return 0;
    }
    size_t new_cap = (len + more) * 2;
    void *new_array = hadb_malloc(new_cap * size);
    if (!new_array) {
        return HADB_ENOMEM;
    }
    if (len) {
        memcpy(new_array, (char *)*array + *head * size, len * size);
    }
    hadb_free(*array);
    *array = new_array;
    *head = 0;
    *cap = new_cap;
    return 0;
}

static int tail_reserve(struct hadb__state *state, size_t changes, size_t txns)
{
    struct hadb__tail *tail = &state->tail;
    hadb_mutex_lock(&state->mu);
    void *array = tail->changes;
    int r = queue_reserve(&array, &tail->changes_head, tail->changes_len, &tail->changes_cap,
                          changes, sizeof(tail->changes[0]));
    tail->changes = array;
    array = tail->txns;
    if (r == 0) {
        r = queue_reserve(&array, &tail->txns_head, tail->txns_len, &tail->txns_cap, txns,
                          sizeof(tail->txns[0]));
        tail->txns = array;
    }
    hadb_mutex_unlock(&state->mu);
    return r;
}

static uint64_t cell_bytes(const struct hadb__cell *cell)
{
    return cell ? (uint64_t)cell->key_len + cell->value_len : 0;
}

/* Sets the state of one key to @cell (NULL: absent). 0 or HADB_ENOMEM; *before is owned. */
static int set_key(struct hadb__index *index, struct hadb_slice key, struct hadb__cell *cell,
                   struct hadb__cell **before)
{
    *before = NULL;
    if (cell) {
        return hadb__index_put(index, cell, before);
    }
    int r = hadb__index_remove(index, key, before);
    return r == HADB_ABSENT ? 0 : r;
}

/* Takes back the first @len operations of @batch, done on @index just now. Needs no memory. */
static void undo_ops(struct hadb__index *index, struct hadb__batch *batch, size_t len)
{
    for (size_t i = len; i > 0; i--) {
        struct hadb__batch_op *op = &batch->ops[i - 1];
        struct hadb__cell *after;
        int r = set_key(index, op->key, op->before, &after);
        HADB_ASSERT(r == 0 && after == op->after);
        hadb__cell_unref(after); /* the index's reference */
        hadb__cell_unref(op->before);
        op->before = NULL;
    }
    for (size_t i = 0; i < len; i++) {
        hadb__index_shrink(index, batch->ops[i].key);
    }
}

static int do_ops(struct hadb__index *index, struct hadb__batch *batch)
{
    for (size_t i = 0; i < batch->ops_len; i++) {
        struct hadb__batch_op *op = &batch->ops[i];
        if (set_key(index, op->key, op->after, &op->before) < 0) {
            undo_ops(index, batch, i);
            return HADB_ENOMEM;
        }
    }
    for (size_t i = 0; i < batch->ops_len; i++) {
        if (!batch->ops[i].after) {
            hadb__index_shrink(index, batch->ops[i].key);
        }
    }
    return 0;
}

int hadb__state_check_mark(const struct hadb__state *state, const struct hadb_pos *mark,
                           hadb_txid last_txid, struct hadb_error *err)
{
    const struct hadb_pos *now = &state->mark;
    if (!mark) {
        return 0;
    }
    if (mark->txid > last_txid) {
        return hadb_fail(err, HADB_EINVAL, "mark %" PRIu64 " lies above transaction %" PRIu64,
                         mark->txid, last_txid);
    }
    if (mark->txid < now->txid || mark->slot < now->slot || mark->term < now->term) {
        return hadb_fail(err, HADB_EINVAL,
                         "mark goes back from term %" PRIu64 " slot %" PRIu64
                         " transaction %" PRIu64 " to %" PRIu64 " %" PRIu64 " %" PRIu64,
                         now->term, now->slot, now->txid, mark->term, mark->slot, mark->txid);
    }
    return 0;
}

hadb_txid hadb__state_mark_max(const struct hadb__state *state)
{
    return state->ingesting ? UINT64_MAX : state->last_txid;
}

static int check_batch(const struct hadb__state *state, const struct hadb__batch *batch,
                       const struct hadb_pos *mark, struct hadb_error *err)
{
    if (!batch->ingest && state->ingesting) {
        return hadb_fail(err, HADB_EINVAL, "an ingest is unfinished: mark or rewind first");
    }
    if (batch->ingest && !state->ingesting && (state->last_txid != 0 || state->index.len != 0)) {
        return hadb_fail(err, HADB_EINVAL, "ingest needs an empty engine, this one is at %" PRIu64,
                         state->last_txid);
    }
    return hadb__state_check_mark(state, mark, state->last_txid + batch->txns_len, err);
}

int hadb__state_prepare(struct hadb__state *state, struct hadb__batch *batch,
                        const struct hadb_pos *mark, struct hadb_error *err)
{
    int r = check_batch(state, batch, mark, err);
    if (r < 0) {
        return r;
    }
    if (!batch->ingest && tail_reserve(state, batch->ops_len, batch->txns_len) < 0) {
        return hadb_fail_nomem(err);
    }
    batch->in_place = batch->ops_len <= HADB__COMMIT_IN_PLACE_OPS_MAX;
    if (batch->in_place) {
        return 0;
    }
    hadb_mutex_lock(&state->mu);
    batch->work = hadb__index_share(&state->index);
    hadb_mutex_unlock(&state->mu);
    return do_ops(&batch->work, batch) < 0 ? hadb_fail_nomem(err) : 0;
}

/* Moves the transactions above the mark, and their changes, from @batch to the tail. */
static void move_to_tail(struct hadb__tail *tail, struct hadb__batch *batch, hadb_txid mark_txid)
{
    size_t op = 0;
    size_t first = 0;
    while (first < batch->txns_len && batch->txns[first].txn.txid <= mark_txid) {
        op += batch->txns[first].ops_len;
        first++;
    }
    batch->ops_kept = batch->ingest ? batch->ops_len : op;
    batch->txns_kept = first;
    for (size_t i = first; i < batch->txns_len; i++) {
        const struct hadb__batch_txn *txn = &batch->txns[i];
        uint32_t changes_len = 0;
        for (size_t end = op + txn->ops_len; op < end; op++) {
            const struct hadb__batch_op *from = &batch->ops[op];
            if (from->before || from->after) { /* else: a delete of nothing */
                tail->changes[tail->changes_head + tail->changes_len] =
                    (struct hadb__change){.before = from->before, .after = from->after};
                tail->changes_len++;
                changes_len++;
            }
        }
        tail->txns[tail->txns_head + tail->txns_len] = (struct hadb__tail_txn){
            .txid = txn->txn.txid,
            .term = txn->txn.term,
            .bytes_len = (uint32_t)txn->txn.bytes.len,
            .changes_len = changes_len,
            .place = txn->place,
        };
        tail->txns_len++;
    }
}

/* What pop_tail took off the tail; it stays in the arrays, out of every reader's sight, until the
 * writer frees it. */
struct popped {
    struct hadb__change *changes;
    size_t changes_len;
    struct hadb__tail_txn *txns;
    size_t txns_len;
    void *arrays[2]; /* to be freed as well */
};

static struct popped pop_tail(struct hadb__tail *tail, hadb_txid mark_txid)
{
    struct popped out = {.changes = first_change(tail), .txns = first_txn(tail)};
    while (out.txns_len < tail->txns_len && out.txns[out.txns_len].txid <= mark_txid) {
        out.changes_len += out.txns[out.txns_len].changes_len;
        out.txns_len++;
    }
    HADB_ASSERT(out.changes_len <= tail->changes_len);
    tail->changes_head += out.changes_len;
    tail->changes_len -= out.changes_len;
    tail->txns_head += out.txns_len;
    tail->txns_len -= out.txns_len;
    return out;
}

/* An idle engine does not keep the arrays of its longest tail. mu is held. */
static void trim_tail(struct hadb__tail *tail, struct popped *popped)
{
    if (tail->changes_len == 0 && tail->changes_cap > HADB__TAIL_KEEP_MAX) {
        popped->arrays[0] = tail->changes;
        tail->changes = NULL;
        tail->changes_head = tail->changes_cap = 0;
    }
    if (tail->txns_len == 0 && tail->txns_cap > HADB__TAIL_KEEP_MAX) {
        popped->arrays[1] = tail->txns;
        tail->txns = NULL;
        tail->txns_head = tail->txns_cap = 0;
    }
}

static void free_popped(struct popped *popped)
{
    free_changes(popped->changes, popped->changes_len);
    free_txns(popped->txns, popped->txns_len);
    hadb_free(popped->arrays[0]);
    hadb_free(popped->arrays[1]);
}

/* mu is held. */
static void set_position(struct hadb__state *state, const struct hadb__batch *batch,
                         const struct hadb_pos *mark)
{
    if (batch->txns_len > 0) {
        const struct hadb_txn *last = &batch->txns[batch->txns_len - 1].txn;
        state->last_txid = last->txid;
        state->last_term = last->term;
    }
    if (mark) {
        state->mark = *mark;
    }
    if (state->last_txid == state->mark.txid) {
        state->last_term = state->mark.term;
    }
    state->ingesting = state->ingesting || batch->ingest;
}

/* mu is held. */
static void count_bytes(struct hadb__state *state, const struct hadb__batch *batch)
{
    for (size_t i = 0; i < batch->ops_len; i++) {
        state->live_bytes += cell_bytes(batch->ops[i].after);
        state->live_bytes -= cell_bytes(batch->ops[i].before);
    }
}

int hadb__state_commit(struct hadb__state *state, struct hadb__batch *batch,
                       const struct hadb_pos *mark, struct hadb_error *err)
{
    hadb_mutex_lock(&state->mu);
    if (batch->in_place && do_ops(&state->index, batch) < 0) {
        hadb_mutex_unlock(&state->mu);
        return hadb_fail_nomem(err);
    }
    if (!batch->in_place) {
        struct hadb__index old = state->index;
        state->index = batch->work;
        batch->work = old; /* freed with the batch */
    }
    set_position(state, batch, mark);
    count_bytes(state, batch);
    struct popped popped = pop_tail(&state->tail, state->mark.txid);
    move_to_tail(&state->tail, batch, state->mark.txid);
    trim_tail(&state->tail, &popped);
    hadb_mutex_unlock(&state->mu);
    free_popped(&popped);
    return 0;
}

void hadb__state_mark(struct hadb__state *state, const struct hadb_pos *mark)
{
    hadb_mutex_lock(&state->mu);
    state->mark = *mark;
    if (state->ingesting) {
        state->last_txid = mark->txid;
        state->ingesting = false;
    }
    if (state->last_txid == mark->txid) {
        state->last_term = mark->term;
    }
    struct popped popped = pop_tail(&state->tail, mark->txid);
    trim_tail(&state->tail, &popped);
    hadb_mutex_unlock(&state->mu);
    free_popped(&popped);
}

int hadb__state_rewind_prepare(struct hadb__state *state, struct hadb__rewind *out,
                               struct hadb_error *err)
{
    if (state->ingesting) {
        *out = (struct hadb__rewind){0};
        return 0;
    }
    hadb_mutex_lock(&state->mu);
    struct hadb__rewind rewind = {.index = hadb__index_share(&state->index),
                                  .live_bytes = state->live_bytes};
    hadb_mutex_unlock(&state->mu);
    const struct hadb__tail *tail = &state->tail;
    for (size_t i = tail->changes_len; i > 0; i--) {
        const struct hadb__change *change = &tail->changes[tail->changes_head + i - 1];
        struct hadb_slice key = hadb__cell_key(change->after ? change->after : change->before);
        struct hadb__cell *after;
        if (set_key(&rewind.index, key, change->before, &after) < 0) {
            hadb__rewind_deinit(&rewind);
            return hadb_fail_nomem(err);
        }
        HADB_ASSERT(after == change->after);
        hadb__cell_unref(after);
        if (!change->before) {
            hadb__index_shrink(&rewind.index, key);
        }
        rewind.live_bytes += cell_bytes(change->before);
        rewind.live_bytes -= cell_bytes(change->after);
    }
    *out = rewind;
    return 0;
}

void hadb__state_rewind_commit(struct hadb__state *state, struct hadb__rewind *take_rewind)
{
    hadb_mutex_lock(&state->mu);
    struct hadb__index old = state->index;
    state->index = take_rewind->index;
    state->live_bytes = take_rewind->live_bytes;
    state->last_txid = state->mark.txid;
    state->last_term = state->mark.term;
    state->ingesting = false;
    struct popped popped = pop_tail(&state->tail, UINT64_MAX);
    trim_tail(&state->tail, &popped);
    hadb_mutex_unlock(&state->mu);
    *take_rewind = (struct hadb__rewind){0};
    free_popped(&popped);
    hadb__index_deinit(&old);
}

void hadb__rewind_deinit(struct hadb__rewind *rewind)
{
    hadb__index_deinit(&rewind->index);
    *rewind = (struct hadb__rewind){0};
}

void hadb__state_count(struct hadb__state *state, uint64_t *keys, uint64_t *live_bytes)
{
    hadb_mutex_lock(&state->mu);
    *keys = state->index.len;
    *live_bytes = state->live_bytes;
    hadb_mutex_unlock(&state->mu);
}

void hadb__state_position(struct hadb__state *state, struct hadb_engine_position *out)
{
    hadb_mutex_lock(&state->mu);
    *out = (struct hadb_engine_position){
        .mark = state->mark, .last_txid = state->last_txid, .last_term = state->last_term};
    hadb_mutex_unlock(&state->mu);
}

int hadb__state_tail(struct hadb__state *state, hadb_txid after, size_t bytes_max,
                     struct hadb__tail_txn **out, size_t *out_len, struct hadb_error *err)
{
    hadb_mutex_lock(&state->mu);
    const struct hadb__tail *tail = &state->tail;
    hadb_txid mark_txid = state->mark.txid;
    if (after < mark_txid || after - mark_txid >= tail->txns_len) {
        hadb_mutex_unlock(&state->mu);
        return after >= mark_txid
                   ? HADB_END
                   : hadb_fail(err, HADB_EINVAL,
                               "tail after %" PRIu64 " asked for, the mark is at %" PRIu64, after,
                               mark_txid);
    }
    const struct hadb__tail_txn *from = first_txn(tail) + (after - mark_txid);
    size_t left = tail->txns_len - (size_t)(after - mark_txid);
    HADB_ASSERT(from->txid == after + 1);
    size_t len = 1, bytes = from->bytes_len;
    while (len < left && bytes <= bytes_max && from[len].bytes_len <= bytes_max - bytes) {
        bytes += from[len].bytes_len;
        len++;
    }
    struct hadb__tail_txn *txns = hadb_malloc(len * sizeof(*txns));
    for (size_t i = 0; txns && i < len; i++) {
        txns[i] = from[i];
        if (txns[i].place.copy) {
            hadb__cell_ref(txns[i].place.copy);
        }
    }
    hadb_mutex_unlock(&state->mu);
    if (!txns) {
        return hadb_fail_nomem(err);
    }
    *out = txns;
    *out_len = len;
    return 0;
}

void hadb__state_tail_free(struct hadb__tail_txn *txns, size_t len)
{
    free_txns(txns, len);
    hadb_free(txns);
}
