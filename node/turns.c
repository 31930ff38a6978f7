/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: gives databases their turn to seal. Runs the machine of core/pace.h.
 *
 * Thread: the loop.
 * Invariants: every database has a place in the heap from the moment it is in the node's table, so asking needs
 * no memory; a turn is given outside of any step.
 * Happy path: a machine asks -> the timer fires in the next turn of the loop -> EV_SEAL_TURN.
 * Failure modes: thousands ask at once: the timer fires each millisecond, most recently written first.
 */
#include "node/node_private.h"

static void give(void *arg)
{
    struct hadb_node *node = arg;
    uint64_t who;
    while (hadb_pace_next(&node->pace, hadb__now(node), &who)) {
        struct hadb_db *db = (struct hadb_db *)(uintptr_t)who;
        hadb__db_event(db, &(struct hadb_event){.type = HADB_EV_SEAL_TURN}, NULL);
    }
    uint64_t at = hadb_pace_deadline(&node->pace);
    if (at != UINT64_MAX) {
        hadb_timer_start(&node->turn_timer, at);
    }
}

int hadb__turns_start(struct hadb_node *node, struct hadb_error *err)
{
    struct hadb_pace_item *items = node->pace.items; /* databases may be there already */
    size_t cap = node->pace.cap;
    hadb_pace_init(&node->pace, hadb__now(node));
    hadb_pace_room(&node->pace, items, cap);
    return hadb_timer_init(&node->turn_timer, node->loop, give, node, err);
}

void hadb__turns_stop(struct hadb_node *node)
{
    hadb_timer_deinit(&node->turn_timer);
    node->turn_timer.loop = NULL;
}

void hadb__turns_deinit(struct hadb_node *node)
{
    hadb_free(node->pace.items);
    hadb_pace_room(&node->pace, NULL, 0);
}

int hadb__turns_reserve(struct hadb_node *node, struct hadb_error *err)
{
    if (node->dbs_len < node->pace.cap) {
        return 0;
    }
    size_t cap = HADB_MAX(2 * node->pace.cap, (size_t)16);
    struct hadb_pace_item *items = hadb_realloc(node->pace.items, cap * sizeof *items);
    if (!items) {
        return hadb_fail_nomem(err);
    }
    hadb_pace_room(&node->pace, items, cap);
    return 0;
}

void hadb__turn_ask(struct hadb_db *db)
{
    struct hadb_node *node = db->node;
    if (node->turn_timer.loop) { /* else the node is closing */
        hadb_pace_ask(&node->pace, (uint64_t)(uintptr_t)db, db->written_ms);
        hadb_timer_start(&node->turn_timer, hadb_pace_deadline(&node->pace));
    }
}

void hadb__turn_cancel(struct hadb_db *db)
{
    hadb_pace_cancel(&db->node->pace, (uint64_t)(uintptr_t)db);
}
