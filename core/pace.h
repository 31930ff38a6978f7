/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: whose turn is it to seal? A node that hosts thousands of databases of a node that has
 * vanished does not send thousands of creates at once: each seal takes a token (4.12).
 *
 * One struct hadb_pace per process, a machine like those of core/core.h: no clock, no I/O, no allocation. The
 * host gives it memory for one item per database.
 */
#ifndef HADB_PACE_H
#define HADB_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HADB_SEALS_PER_S_MAX 1000u /* seals that one node starts per second, */
#define HADB_SEALS_BURST_MAX 64u   /* … of which so many at once after a rest */

struct hadb_pace_item {
    uint64_t who;     /* chosen by the host */
    uint64_t recency; /* higher goes first: when it was last written */
    uint64_t order;   /* of asking, among equals */
};

struct hadb_pace {
    struct hadb_pace_item *items; /* a heap; the host's memory */
    size_t len, cap;
    uint64_t asked;     /* counts asks */
    uint64_t filled_ms; /* up to when tokens have been counted */
    uint32_t tokens;    /* thousandths */
};

void hadb_pace_init(struct hadb_pace *pace, uint64_t now_ms);
/* Memory for @cap items, which holds what the old one held. */
void hadb_pace_room(struct hadb_pace *pace, struct hadb_pace_item *items, size_t cap);
/* @who wants to seal; it does not ask again before it has had its turn. */
void hadb_pace_ask(struct hadb_pace *pace, uint64_t who, uint64_t recency);
/* It wants nothing any more. */
void hadb_pace_cancel(struct hadb_pace *pace, uint64_t who);
/* True: it is @who's turn. The host asks until it is nobody's. */
bool hadb_pace_next(struct hadb_pace *pace, uint64_t now_ms, uint64_t *who);
/* When to ask again; UINT64_MAX = nobody waits. */
uint64_t hadb_pace_deadline(const struct hadb_pace *pace);
#endif
