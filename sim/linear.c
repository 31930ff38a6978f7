/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linearizability of one register's history (see linear.h).
 *
 * Owns       the search: a list of call and return events in real time; the first call that fits is
 *            taken out (with its return), until a return stands in the way (go back) or none is left.
 * Thread     any. Memory: the memo, at most STEPS entries, freed at the end.
 * Invariant  an operation without an answer has a call event and no return event: it may be taken out
 *            at any time, or never.
 */
#include "sim/linear.h"
#include "base/util.h"

#include <stdlib.h>
#include <string.h>

#define WORDS (LIN_OPS_MAX / 64)
#define NONE UINT32_MAX

struct event { /* in real time order; a doubly linked list */
    uint32_t op;
    bool is_return;
    uint32_t next, prev, match; /* match: the return of a call */
    uint64_t at;
};

struct taken {
    uint32_t event;
    uint64_t state;
};

struct memo {
    uint64_t *keys; /* WORDS + 1 words each */
    uint32_t *table;
    size_t len, cap, table_len, words;
};

struct search {
    const struct lin_op *ops;
    size_t len;
    struct event *events; /* [0] is the head */
    struct taken *stack;
    size_t depth;
    size_t open; /* answered operations that are not taken out yet */
    uint64_t done[WORDS];
    uint64_t state;
    struct memo memo;
};

/* ---- memo of situations that led nowhere or are being tried ---- */

static uint64_t hash_words(const uint64_t *words, size_t len)
{
    uint64_t h = 0x9e3779b97f4a7c15ull;
    for (size_t i = 0; i < len; i++) {
        h = (h ^ words[i]) * 0x9fb21c651e98df25ull;
        h ^= h >> 29;
    }
    return h;
}

static bool memo_grow(struct memo *memo)
{
    size_t table_len = memo->table_len ? memo->table_len * 2 : 1024;
    size_t cap = table_len / 2;
    uint64_t *keys = realloc(memo->keys, cap * memo->words * sizeof *keys);
    if (keys != NULL) {
        memo->keys = keys;
    }
    uint32_t *table = calloc(table_len, sizeof *table);
    if (keys == NULL || table == NULL) {
        free(table);
        return false;
    }
    for (size_t i = 0; i < memo->len; i++) {
        size_t at = hash_words(keys + i * memo->words, memo->words) & (table_len - 1);
        while (table[at] != 0) {
            at = (at + 1) & (table_len - 1);
        }
        table[at] = (uint32_t)i + 1;
    }
    free(memo->table);
    memo->table = table;
    memo->table_len = table_len;
    memo->cap = cap;
    return true;
}

/* 1 = new, 0 = seen before, -1 = out of memory. */
static int memo_add(struct memo *memo, const uint64_t *done, uint64_t state)
{
    if (memo->len == memo->cap && !memo_grow(memo)) {
        return -1;
    }
    uint64_t *key = memo->keys + memo->len * memo->words;
    memcpy(key, done, (memo->words - 1) * sizeof *key);
    key[memo->words - 1] = state;
    size_t at = hash_words(key, memo->words) & (memo->table_len - 1);
    for (; memo->table[at] != 0; at = (at + 1) & (memo->table_len - 1)) {
        const uint64_t *other = memo->keys + (memo->table[at] - 1) * memo->words;
        if (memcmp(other, key, memo->words * sizeof *key) == 0) {
            return 0;
        }
    }
    memo->table[at] = (uint32_t)++memo->len;
    return 1;
}

/* ---- the register ---- */

/* Could @op happen in @state? Then @state becomes the one after it. */
static bool fits(const struct lin_op *op, uint64_t *state)
{
    switch (op->kind) {
    case LIN_READ:
        return op->ret == LIN_UNKNOWN || op->value == *state;
    case LIN_WRITE:
        *state = op->value;
        return true;
    case LIN_SWAP:
        if (op->ret != LIN_UNKNOWN && op->met != (*state == op->expect)) {
            return false;
        }
        *state = *state == op->expect ? op->value : *state;
        return true;
    }
    return false;
}

/* ---- the search ---- */

static int by_time(const void *a, const void *b)
{
    const struct event *x = a;
    const struct event *y = b;
    if (x->at != y->at) {
        return x->at < y->at ? -1 : 1;
    }
    if (x->is_return != y->is_return) { /* at the same moment: both orders are possible */
        return x->is_return ? 1 : -1;
    }
    return x->op < y->op ? -1 : x->op > y->op;
}

static void list_events(struct search *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->len; i++) {
        s->events[n++] = (struct event){.op = (uint32_t)i, .at = s->ops[i].call};
        if (s->ops[i].ret != LIN_UNKNOWN) {
            s->events[n++] =
                (struct event){.op = (uint32_t)i, .at = s->ops[i].ret, .is_return = true};
            s->open++;
        }
    }
    qsort(s->events, n, sizeof *s->events, by_time);
    memmove(s->events + 1, s->events, n * sizeof *s->events);
    s->events[0] = (struct event){.op = NONE, .prev = NONE};
    uint32_t call_of[LIN_OPS_MAX];
    for (uint32_t i = 0; i <= n; i++) {
        struct event *e = &s->events[i];
        e->prev = i == 0 ? NONE : i - 1;
        e->next = i == n ? NONE : i + 1;
        e->match = NONE;
        if (i > 0 && !e->is_return) {
            call_of[e->op] = i;
        } else if (i > 0) {
            s->events[call_of[e->op]].match = i;
        }
    }
}

static void unlink_event(struct search *s, uint32_t i)
{
    struct event *e = &s->events[i];
    s->events[e->prev].next = e->next;
    if (e->next != NONE) {
        s->events[e->next].prev = e->prev;
    }
}

static void relink_event(struct search *s, uint32_t i)
{
    struct event *e = &s->events[i];
    s->events[e->prev].next = i;
    if (e->next != NONE) {
        s->events[e->next].prev = i;
    }
}

static void take(struct search *s, uint32_t i, uint64_t state)
{
    struct event *e = &s->events[i];
    s->stack[s->depth++] = (struct taken){i, s->state};
    s->state = state;
    s->done[e->op / 64] |= 1ull << (e->op % 64);
    unlink_event(s, i);
    if (e->match != NONE) {
        unlink_event(s, e->match);
        s->open--;
    }
}

/* Puts back what was taken last; returns where to go on. */
static uint32_t put_back(struct search *s)
{
    struct taken last = s->stack[--s->depth];
    struct event *e = &s->events[last.event];
    s->state = last.state;
    s->done[e->op / 64] &= ~(1ull << (e->op % 64));
    if (e->match != NONE) {
        relink_event(s, e->match);
        s->open++;
    }
    relink_event(s, last.event);
    return e->next;
}

static enum lin_verdict run(struct search *s, uint64_t steps_max)
{
    uint32_t at = s->events[0].next;
    for (uint64_t steps = 0; steps < steps_max; steps++) {
        if (s->open == 0) {
            return LIN_OK;
        }
        if (at == NONE || s->events[at].is_return) {
            if (s->depth == 0) {
                return LIN_VIOLATED;
            }
            at = put_back(s);
            continue;
        }
        uint64_t state = s->state;
        uint32_t op = s->events[at].op;
        if (!fits(&s->ops[op], &state)) {
            at = s->events[at].next;
            continue;
        }
        uint64_t done[WORDS];
        memcpy(done, s->done, sizeof done);
        done[op / 64] |= 1ull << (op % 64);
        int fresh = memo_add(&s->memo, done, state);
        if (fresh < 0) {
            return LIN_INCONCLUSIVE;
        }
        if (fresh == 0) {
            at = s->events[at].next;
            continue;
        }
        take(s, at, state);
        at = s->events[0].next;
    }
    return LIN_INCONCLUSIVE;
}

enum lin_verdict lin_check(const struct lin_op *ops, size_t len, uint64_t steps_max)
{
    if (len > LIN_OPS_MAX) {
        return LIN_INCONCLUSIVE;
    }
    struct search *s = calloc(1, sizeof *s);
    enum lin_verdict verdict = LIN_INCONCLUSIVE;
    if (s == NULL) {
        return verdict;
    }
    s->ops = ops;
    s->len = len;
    s->memo.words = (len + 63) / 64 + 1;
    s->events = calloc(2 * len + 2, sizeof *s->events);
    s->stack = calloc(len + 1, sizeof *s->stack);
    if (s->events != NULL && s->stack != NULL) {
        list_events(s);
        verdict = run(s, steps_max);
    }
    free(s->memo.keys);
    free(s->memo.table);
    free(s->events);
    free(s->stack);
    free(s);
    return verdict;
}
