/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: a token bucket for seals, the database that was written last first (4.12).
 *
 * Owns       the heap of those who wait and the tokens.
 * Invariants never more than BURST + elapsed * RATE turns; the longest rest fills no more than BURST tokens.
 * Happy path ask -> next says yes at once, as long as there are tokens.
 * Failure    more ask than there are tokens: the others wait, most recently written first.
 */
#include "core/pace.h"

#include <string.h>

#include "base/util.h"

#define TOKEN 1000u /* one seal */
#define TOKENS_PER_MS (HADB_SEALS_PER_S_MAX * TOKEN / 1000u)
#define TOKENS_MAX (HADB_SEALS_BURST_MAX * TOKEN)

void hadb_pace_init(struct hadb_pace *pace, uint64_t now_ms)
{
    memset(pace, 0, sizeof *pace);
    pace->filled_ms = now_ms;
    pace->tokens = TOKENS_MAX;
}

void hadb_pace_room(struct hadb_pace *pace, struct hadb_pace_item *items, size_t cap)
{
    HADB_ASSERT(cap >= pace->len);
    pace->items = items;
    pace->cap = cap;
}

static bool before(const struct hadb_pace_item *a, const struct hadb_pace_item *b)
{
    return a->recency != b->recency ? a->recency > b->recency : a->order < b->order;
}

static void swap(struct hadb_pace_item *a, struct hadb_pace_item *b)
{
    struct hadb_pace_item old = *a;
    *a = *b;
    *b = old;
}

static void rise(struct hadb_pace *pace, size_t i)
{
    while (i > 0 && before(&pace->items[i], &pace->items[(i - 1) / 2])) {
        swap(&pace->items[i], &pace->items[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
}

static void sink(struct hadb_pace *pace, size_t i)
{
    for (;;) {
        size_t first = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < pace->len; child++) {
            first = before(&pace->items[child], &pace->items[first]) ? child : first;
        }
        if (first == i) {
            return;
        }
        swap(&pace->items[i], &pace->items[first]);
        i = first;
    }
}

static void take_out(struct hadb_pace *pace, size_t i)
{
    pace->items[i] = pace->items[--pace->len];
    if (i < pace->len) {
        rise(pace, i);
        sink(pace, i);
    }
}

void hadb_pace_ask(struct hadb_pace *pace, uint64_t who, uint64_t recency)
{
    HADB_ASSERT(pace->len < pace->cap);
    pace->items[pace->len] =
        (struct hadb_pace_item){.who = who, .recency = recency, .order = pace->asked++};
    rise(pace, pace->len++);
}

void hadb_pace_cancel(struct hadb_pace *pace, uint64_t who)
{
    for (size_t i = 0; i < pace->len; i++) {
        if (pace->items[i].who == who) {
            take_out(pace, i);
            return;
        }
    }
}

bool hadb_pace_next(struct hadb_pace *pace, uint64_t now_ms, uint64_t *who)
{
    HADB_ASSERT(now_ms >= pace->filled_ms);
    uint64_t more = HADB_MIN(now_ms - pace->filled_ms, TOKENS_MAX) * TOKENS_PER_MS;
    pace->tokens = (uint32_t)HADB_MIN(pace->tokens + more, TOKENS_MAX);
    pace->filled_ms = now_ms;
    if (pace->len == 0 || pace->tokens < TOKEN) {
        return false;
    }
    pace->tokens -= TOKEN;
    *who = pace->items[0].who;
    take_out(pace, 0);
    return true;
}

uint64_t hadb_pace_deadline(const struct hadb_pace *pace)
{
    if (pace->len == 0) {
        return UINT64_MAX;
    }
    uint32_t lacking = pace->tokens < TOKEN ? TOKEN - pace->tokens : 0;
    return pace->filled_ms + (lacking + TOKENS_PER_MS - 1) / TOKENS_PER_MS;
}
