/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What users and the rest of the node are told about a database: its role, its leader, hand-offs.
 *
 * Thread: the loop. Invariant: role changes are logged here and nowhere else, in one fixed form.
 */
#include "node/node_private.h"

#include <inttypes.h>
#include <stdio.h>

static_assert((int)HADB_ROLE_FOLLOWER == (int)HADB_CORE_FOLLOWER &&
                  (int)HADB_ROLE_CANDIDATE == (int)HADB_CORE_CANDIDATE &&
                  (int)HADB_ROLE_LEADER == (int)HADB_CORE_OWNER &&
                  (int)HADB_ROLE_DRAINING == (int)HADB_CORE_DRAINING &&
                  (int)HADB_ROLE_FENCED == (int)HADB_CORE_FENCED &&
                  (int)HADB_ROLE_HALTED == (int)HADB_CORE_HALTED,
              "the public roles are the machine's");

static void tell(struct hadb_db *db, enum hadb_event_kind kind, enum hadb_role role, uint64_t term,
                 const char *text)
{
    struct hadb_db_info info;
    hadb__db_info(db, &info);
    struct hadb_node_event event = {.kind = kind,
                                    .database = db->name,
                                    .role = role,
                                    .term = term,
                                    .leader = info.leader,
                                    .leader_address = info.leader_address,
                                    .text = text};
    hadb__node_tell(db->node, &event);
}

void hadb__db_role(struct hadb_db *db, const struct hadb_action *act)
{
    struct hadb_node *node = db->node;
    char text[sizeof db->why.message + 64];
    bool halted = act->role == HADB_CORE_HALTED;
    if (halted) {
        hadb__db_explain(db, act->halt);
    }
    snprintf(text, sizeof text, "role %s term %" PRIu64 "%s%s", hadb_core_role_name(act->role),
             act->term, halted ? ": " : "", db->why.message);
    int before = __atomic_load_n(&db->role, __ATOMIC_RELAXED);
    bool led = before == HADB_ROLE_LEADER || before == HADB_ROLE_DRAINING;
    bool bad = halted && act->halt != HADB_HALT_STOPPED;
    hadb_log(node->env, bad ? HADB_LOG_ERROR : HADB_LOG_INFO, "role", db->name, "%s", text);
    __atomic_store_n(&db->role, (int)act->role, __ATOMIC_RELEASE); /* behind it: the uuid */
    if (act->role == HADB_CORE_OWNER) {
        HADB_COUNT(&node->counters, elections_won);
    } else if (act->role == HADB_CORE_FENCED) {
        HADB_COUNT(&node->counters, fenced);
    }
    if (led && act->role != HADB_CORE_OWNER && act->role != HADB_CORE_DRAINING) {
        /* This process lives on, so its heartbeats do; only this tells its followers to look. */
        hadb__stream_send_poke(db);
    }
    tell(db, HADB_EVENT_ROLE, (enum hadb_role)act->role, act->term, text);
    if (act->role == HADB_CORE_OWNER) {
        tell(db, HADB_EVENT_LEADER, HADB_ROLE_LEADER, act->term, text);
    }
    if (act->role == HADB_CORE_FENCED) {
        tell(db, HADB_EVENT_FENCED, HADB_ROLE_FENCED, act->term, text);
    }
    if (halted) {
        hadb__writes_reroute(db);
        tell(db, HADB_EVENT_HALTED, HADB_ROLE_HALTED, act->term, text);
    }
    hadb__covers_check(db);
}

/* Name and address stand in the seal that the term table has learnt last. Returns the name. */
static const char *watch_owner(struct hadb_db *db)
{
    const struct hadb_terms *terms = &db->terms;
    uint64_t term = db->owner_term;
    const struct hadb_term *last = term > 0 ? hadb_terms_find(terms, term - 1) : NULL;
    bool newest = last && last == &terms->items[terms->len - 1];
    bool self = hadb_id_eq(&db->owner.incarnation, &db->node->self.incarnation);
    hadb__peers_assign(db, self ? &(struct hadb_owner){0} : &db->owner,
                       newest ? terms->next_name : "", newest ? terms->next_address : "");
    return newest ? terms->next_name : "";
}

void hadb__db_watch_again(struct hadb_db *db)
{
    watch_owner(db);
    hadb__writes_reroute(db);
}

void hadb__db_owner(struct hadb_db *db, const struct hadb_owner *owner, uint64_t term)
{
    struct hadb_node *node = db->node;
    db->owner = *owner;
    db->owner_term = term;
    bool self = hadb_id_eq(&owner->incarnation, &node->self.incarnation);
    const char *name = watch_owner(db);
    if (db->state != HADB_DB_OPEN) {
        return;
    }
    hadb__forwards_cancel(db);
    hadb__writes_reroute(db);
    if (!self) {
        hadb__stream_send_poke(db); /* whoever still follows this node here misses the seal */
    }
    char text[160];
    snprintf(text, sizeof text, "leader %s term %" PRIu64, name[0] ? name : "unknown", term);
    hadb_log(node->env, HADB_LOG_INFO, "role", db->name, "%s", text);
    if (!self) { /* this node says so itself once it leads */
        tell(db, HADB_EVENT_LEADER, (enum hadb_role)db->role, term, text);
    }
    hadb__covers_check(db);
}

void hadb__db_handoff_done(struct hadb_db *db, enum hadb_result result)
{
    if (result == HADB_R_OK) {
        HADB_COUNT(&db->node->counters, handoffs_done);
    }
    struct hadb_req *req = db->handoffs.first;
    if (!req) {
        return;
    }
    if (result == HADB_R_OK) {
        hadb__req_finish(req, 0, NULL);
    } else {
        hadb__req_fail(req, HADB_EUNAVAIL,
                       "not handed over: this node does not lead, or the successor is not ready");
    }
}
