/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: who is alive, as far as this node can tell. Runs the machines of core/hint.h.
 *
 * Thread: the loop; reads and writes of the lease store on a worker.
 * Invariants: a record is written on top of the tag that was read or returned; one request per record at a
 * time, and one that waits for its change; verdicts are the watcher's alone, this file only carries them to the databases.
 * Happy path: own record every ttl/3; a peer's record only while no stream brings heartbeats, and then as soon as it
 * changes where the lease store tells of that.
 * Failure modes: a lease store that is slow, wrong or gone costs time, never a write.
 */
#include "node/node_private.h"

#include <stdio.h>

#define CONNECT_TIMEOUT_MS 500u

static void key_of(const char *name, char out[HADB_LEASE_KEY_BYTES_MAX])
{
    snprintf(out, HADB_LEASE_KEY_BYTES_MAX, "node/%s", name);
}

/* ---- what is known of nodes ---- */

const struct hadb_known *hadb__peers_known(struct hadb_node *node, const struct hadb_id *id)
{
    const struct hadb_known *known = node->peers.known;
    while (known && !hadb_id_eq(&known->node, id)) {
        known = known->next;
    }
    return known;
}

void hadb__peers_remember(struct hadb_node *node, const struct hadb_id *id, const char *name,
                          const char *address)
{
    if (hadb_id_is_zero(id) || !name[0]) {
        return;
    }
    struct hadb_known *known = (struct hadb_known *)hadb__peers_known(node, id);
    if (!known) {
        known = node->peers.known_len < HADB_NODES_MAX ? hadb_calloc(1, sizeof *known) : NULL;
        if (!known) {
            return;
        }
        known->node = *id;
        known->next = node->peers.known;
        node->peers.known = known;
        node->peers.known_len++;
    }
    snprintf(known->name, sizeof known->name, "%s", name);
    if (address[0]) {
        snprintf(known->address, sizeof known->address, "%s", address);
    }
}

/* ---- own record ---- */

static void hint_step(struct hadb_node *node);

static int own_record(struct hadb_node *node, struct hadb_buf *out)
{
    struct hadb_peers *peers = &node->peers;
    struct hadb_node_record record = {.state = (enum hadb_hint_state)peers->hint.state,
                                      .ttl_ms = node->ttl_ms,
                                      .owner = node->self,
                                      .counter = peers->hint.counter};
    snprintf(record.name, sizeof record.name, "%s", node->name);
    snprintf(record.address, sizeof record.address, "%s", node->address);
    size_t cap = 0;
    for (struct hadb_db *db = node->dbs; db; db = db->next) {
        cap += db->given_up;
    }
    cap = HADB_MIN(cap, (size_t)HADB_GIVEN_UP_MAX);
    if (cap > 0) {
        record.given_up = hadb_calloc(cap, sizeof *record.given_up);
        if (!record.given_up) {
            return HADB_ENOMEM;
        }
    }
    for (struct hadb_db *db = node->dbs; db && record.given_up_len < cap; db = db->next) {
        if (db->given_up) {
            record.given_up[record.given_up_len++] = db->uuid;
        }
    }
    hadb_buf_clear(out);
    int r = hadb_node_record_encode(&record, out, NULL);
    hadb_node_record_deinit(&record);
    return r;
}

static void hint_run(void *arg)
{
    struct hadb_node *node = arg;
    struct hadb_peers *peers = &node->peers;
    struct hadb_call call = hadb_call_within(node->env, peers->hint.config.request_max_ms);
    char key[HADB_LEASE_KEY_BYTES_MAX];
    struct hadb_tag tag;
    key_of(node->name, key);
    if (peers->hint_writes) {
        HADB_COUNT(&node->counters, lease_renewals);
        peers->hint_r = hadb_lease_write_if_match(
            &node->lease, &call, key, hadb_buf_slice(&peers->hint_record),
            peers->hint_tag_valid ? &peers->hint_tag : NULL, &tag, &peers->hint_err);
    } else {
        HADB_COUNT(&node->counters, lease_reads);
        peers->hint_r =
            hadb_lease_read(&node->lease, &call, key, &peers->hint_record, &tag, &peers->hint_err);
    }
    if (peers->hint_r == 0) {
        peers->hint_tag = tag;
    }
}

static void tell_namesake(struct hadb_node *node, const struct hadb_node_record *record,
                          bool yielded, bool known)
{
    struct hadb_peers *peers = &node->peers;
    bool yields = peers->hint.yields;
    /* A record that was left behind is none; the rest is said once, when the verdict is in. */
    if (yields && known && !peers->namesake.code) {
        hadb_fail(
            &peers->namesake, HADB_EBUSY,
            "the node name %s is in use by a live node at %s: names must be unique, start one "
            "of the two under another name",
            node->name, record->address);
        hadb_log(node->env, HADB_LOG_ERROR, "lease", NULL, "%s", peers->namesake.message);
    } else if (!yields && yielded && peers->namesake.code) {
        peers->namesake = (struct hadb_error){0};
        hadb_log(node->env, HADB_LOG_INFO, "lease", NULL, "the node name %s is free again",
                 node->name);
    }
}

/* Whose record stands under this node's name? */
static void check_namesake(struct hadb_node *node)
{
    struct hadb_peers *peers = &node->peers;
    struct hadb_node_record record = {0};
    bool yielded = peers->hint.yields;
    if (hadb_node_record_decode(hadb_buf_slice(&peers->hint_record), &record, NULL) == 0) {
        struct hadb_hint_found found = {.self = node->self,
                                        .owner = record.owner,
                                        .counter = record.counter,
                                        .ttl_ms = record.ttl_ms,
                                        .state = record.state};
        bool renewed = hadb_id_eq(&peers->hint.rival, &record.owner.incarnation) &&
                       peers->hint.rival_counter != record.counter;
        hadb_hint_found(&peers->hint, &found, hadb__now(node));
        tell_namesake(node, &record, yielded, renewed);
    }
    hadb_node_record_deinit(&record);
}

/* @late: others may have replaced this node while its record was silent. A proof of each term brings that to light, also
 * where nobody reads or writes. */
static void lease_back(struct hadb_node *node, bool late)
{
    for (struct hadb_db *db = node->dbs, *next; db; db = next) {
        next = db->next;
        if (!hadb_core_leads(&db->core)) {
            continue;
        }
        if (late) {
            hadb__prove(db);
        } else {
            hadb__lease_back(db);
        }
    }
}

static void hint_done(void *arg, int r)
{
    struct hadb_node *node = arg;
    struct hadb_peers *peers = &node->peers;
    uint64_t now = hadb__now(node);
    uint64_t before_ms = peers->hint.renewed_at_ms;
    peers->hint_busy = false;
    int got = r < 0 ? HADB_ETIMEDOUT : peers->hint_r;
    hadb__lease_said(node, r < 0 ? r : got, &peers->hint_err);
    if (peers->hint_writes) {
        peers->hint_tag_valid = got == 0;
        enum hadb_result result = got == 0               ? HADB_R_OK
                                  : got == HADB_CAS_LOST ? HADB_R_LOST
                                                         : HADB_R_UNKNOWN;
        bool freed = got == 0 && peers->hint.state == HADB_HINT_FREE;
        bool held = hadb__peers_local_ok(node);
        hadb_hint_write_done(&peers->hint, result, now);
        bool late = before_ms != 0 && peers->hint.renewed_at_ms > before_ms + node->ttl_ms;
        if (late || (!held && hadb__peers_local_ok(node))) {
            lease_back(node, late);
        }
        if (freed && peers->on_free) {
            void (*on_free)(void *) = peers->on_free;
            peers->on_free = NULL;
            on_free(peers->on_free_arg);
        }
    } else {
        peers->hint_tag_valid = got == 0;
        if (got == 0) {
            check_namesake(node);
        }
        hadb_hint_read_done(&peers->hint,
                            got == 0             ? HADB_R_OK
                            : got == HADB_ABSENT ? HADB_R_ABSENT
                                                 : HADB_R_UNKNOWN,
                            now);
    }
    hint_step(node);
}

static void hint_step(struct hadb_node *node)
{
    struct hadb_peers *peers = &node->peers;
    if (peers->stopped || peers->hint_busy) {
        return;
    }
    enum hadb_hint_do what = hadb_hint_step(&peers->hint, hadb__now(node));
    if (what != HADB_HINT_NOTHING) {
        peers->hint_busy = true;
        peers->hint_writes = what == HADB_HINT_WRITE;
        peers->hint_job = (struct hadb_job){.run = hint_run, .done = hint_done, .arg = node};
        struct hadb_error err;
        int r = peers->hint_writes ? own_record(node, &peers->hint_record) : 0;
        if (r < 0 || hadb_pool_submit(node->lease_pool, NULL, &peers->hint_job, &err) < 0) {
            hint_done(node, HADB_ECANCELED);
        }
        return;
    }
    uint64_t at = hadb_hint_deadline(&peers->hint);
    if (at != UINT64_MAX) {
        hadb_timer_start(&peers->hint_timer, at);
    }
}

/* As often as the own record is renewed. */
static void watch_again(struct hadb_node *node)
{
    node->peers.unwatched = false;
    for (struct hadb_db *db = node->dbs; db; db = db->next) {
        if (db->unwatched) {
            hadb__db_watch_again(db);
        }
    }
}

static void on_hint_timer(void *arg)
{
    struct hadb_node *node = arg;
    if (node->peers.unwatched) {
        watch_again(node);
    }
    hint_step(node);
}

void hadb__peers_free_hint(struct hadb_node *node, void (*on_free)(void *arg), void *arg)
{
    struct hadb_peers *peers = &node->peers;
    peers->on_free = on_free;
    peers->on_free_arg = arg;
    hadb_hint_close(&peers->hint, hadb__now(node));
    if (peers->hint.yields) { /* another node's record: nothing to free */
        peers->on_free = NULL;
        on_free(arg);
    }
    hint_step(node);
}

void hadb__peer_token(struct hadb_peer *peer, bool refused)
{
    if (refused && !peer->refuses_token) {
        hadb_log(peer->node->env, HADB_LOG_WARN, "peer", NULL,
                 "node %s refuses this node's token: give all nodes the same one", peer->name);
    }
    peer->refuses_token = refused;
}

void hadb__peers_storage(struct hadb_node *node, bool ok)
{
    hadb_hint_storage(&node->peers.hint, ok, hadb__now(node));
}

bool hadb__peers_local_ok(struct hadb_node *node)
{
    return hadb_hint_local_ok(&node->peers.hint, hadb__now(node));
}

/* ---- another process ---- */

static bool gave_up(const struct hadb_peer *peer, const struct hadb_id *uuid)
{
    for (size_t i = 0; i < peer->given_up_len; i++) {
        if (hadb_id_eq(&peer->given_up[i], uuid)) {
            return true;
        }
    }
    return false;
}

static void tell_db(struct hadb_peer *peer, struct hadb_db *db)
{
    enum hadb_liveness verdict = hadb_watch_liveness(&peer->watch);
    if (verdict == HADB_LIVE_ALIVE && (db->owner_gave_up || gave_up(peer, &db->uuid))) {
        verdict = HADB_LIVE_FREE;
    }
    struct hadb_event ev = {.type = HADB_EV_OWNER, .liveness = verdict, .owner = peer->owner};
    hadb__db_event(db, &ev, NULL);
}

void hadb__peers_tell(struct hadb_db *db)
{
    if (db->peer) {
        tell_db(db->peer, db);
    }
}

/* Telling a database may take it away from this peer: start over until all have heard. */
static void tell_all(struct hadb_peer *peer)
{
    struct hadb_owner owner = peer->owner;
    struct hadb_node *node = peer->node;
    for (struct hadb_db *db = node->dbs, *next; db; db = next) {
        next = db->next;
        if (db->peer && hadb_id_eq(&db->peer->owner.incarnation, &owner.incarnation)) {
            tell_db(db->peer, db);
        }
    }
}

static void record_run(void *arg)
{
    struct hadb_peer *peer = arg;
    struct hadb_node *node = peer->node;
    struct hadb_call call = hadb_call_within(node->env, node->peers.hint.config.request_max_ms);
    char key[HADB_LEASE_KEY_BYTES_MAX];
    key_of(peer->name, key);
    HADB_COUNT(&node->counters, lease_reads);
    peer->read_r =
        hadb_lease_read(&node->lease, &call, key, &peer->read_bytes, &peer->read_tag, NULL);
}

static void await_run(void *arg)
{
    struct hadb_peer *peer = arg;
    struct hadb_node *node = peer->node;
    /* Longer than a renewal takes to come; others wait for the thread. */
    struct hadb_call call = hadb_call_within(node->env, node->ttl_ms / 2);
    char key[HADB_LEASE_KEY_BYTES_MAX];
    call.cancel = &peer->await_cancel;
    key_of(peer->name, key);
    HADB_COUNT(&node->counters, lease_waits);
    peer->await_r = hadb_lease_watch(&node->lease, &call, key, &peer->await_tag, &peer->await_err);
}

static void await_end(struct hadb_peer *peer)
{
    __atomic_store_n(&peer->await_cancel.flag, 1, __ATOMIC_RELEASE);
}

/* Of a doomed peer, when something ended that was under way. */
static void peer_free(struct hadb_peer *peer)
{
    if (peer->busy || peer->awaiting) {
        return;
    }
    struct hadb_peer **at = &peer->node->peers.list;
    while (*at != peer) {
        at = &(*at)->next;
    }
    *at = peer->next;
    HADB_ASSERT(!peer->link);
    hadb_timer_deinit(&peer->timer);
    hadb_buf_deinit(&peer->read_bytes);
    hadb_free(peer->given_up);
    hadb_free(peer);
}

/* Its record says where it is now, and what it has given up. */
static void learn(struct hadb_peer *peer, struct hadb_node_record *record)
{
    hadb__peers_remember(peer->node, &record->owner.node, record->name, record->address);
    if (!hadb_id_eq(&record->owner.incarnation, &peer->owner.incarnation)) {
        return;
    }
    bool changed =
        record->given_up_len != peer->given_up_len ||
        (record->given_up_len > 0 && memcmp(record->given_up, peer->given_up,
                                            record->given_up_len * sizeof *record->given_up) != 0);
    hadb_free(peer->given_up);
    peer->given_up = record->given_up;
    peer->given_up_len = record->given_up_len;
    record->given_up = NULL;
    if (record->address[0] && strcmp(peer->address, record->address) != 0) {
        snprintf(peer->address, sizeof peer->address, "%s", record->address);
        hadb__link_update(peer);
    }
    if (changed) {
        tell_all(peer);
    }
}

static bool still_there(struct hadb_node *node, const struct hadb_peer *peer)
{
    const struct hadb_peer *p = node->peers.list;
    while (p && p != peer) {
        p = p->next;
    }
    return p != NULL;
}

static void record_done(void *arg, int r)
{
    struct hadb_peer *peer = arg;
    peer->busy = false;
    if (peer->doomed) {
        peer_free(peer);
        return;
    }
    struct hadb_node *node = peer->node;
    struct hadb_node_record record = {0};
    int got = r < 0 ? r : peer->read_r;
    if (got == 0) {
        got = hadb_node_record_decode(hadb_buf_slice(&peer->read_bytes), &record, NULL);
    }
    /* Another node under that name says nothing about this one. */
    bool same = got == 0 && hadb_id_eq(&record.owner.node, &peer->owner.node);
    hadb_watch_record(&peer->watch, same ? HADB_R_OK : HADB_R_UNKNOWN, &record.owner.incarnation,
                      record.counter, record.state, hadb__now(node));
    if (same) {
        learn(peer, &record);
    }
    hadb_node_record_deinit(&record);
    if (still_there(node, peer)) {
        hadb__peer_step(peer);
    }
}

static void connect_done(void *arg, enum hadb_http_failure failure)
{
    struct hadb_peer *peer = arg;
    peer->busy = false;
    if (peer->doomed) {
        peer_free(peer);
        return;
    }
    enum hadb_watch_link link = failure == HADB_HTTP_NO_FAILURE ? HADB_LINK_CONNECTED
                                : failure == HADB_HTTP_REFUSED  ? HADB_LINK_REFUSED
                                                                : HADB_LINK_NO_ANSWER;
    hadb_watch_connect(&peer->watch, link, hadb__now(peer->node));
    hadb__peer_step(peer);
}

static void start_read(struct hadb_peer *peer)
{
    peer->job = (struct hadb_job){.run = record_run, .done = record_done, .arg = peer};
    if (!peer->name[0] || hadb_pool_submit(peer->node->lease_pool, NULL, &peer->job, NULL) < 0) {
        peer->busy = false;
        hadb_watch_record(&peer->watch, HADB_R_UNKNOWN, &peer->owner.incarnation, 0, HADB_HINT_LIVE,
                          hadb__now(peer->node));
    }
}

static void await_done(void *arg, int r)
{
    struct hadb_peer *peer = arg;
    struct hadb_peers *peers = &peer->node->peers;
    peer->awaiting = false;
    if (peer->doomed) {
        peer_free(peer);
        return;
    }
    int got = r < 0 ? r : peer->await_r;
    /* Once per outage, not at every try. */
    if (got < 0 && got != HADB_ECANCELED && !peers->await_failing) {
        hadb_log(peer->node->env, HADB_LOG_INFO, "lease", NULL,
                 "%s: reading records every third of the ttl meanwhile", peer->await_err.message);
    }
    peers->await_failing = got < 0;
    hadb_watch_changed(&peer->watch,
                       got == 0  ? HADB_R_OK
                       : got < 0 ? HADB_R_UNKNOWN
                                 : HADB_R_ABSENT,
                       hadb__now(peer->node));
    hadb__peer_step(peer);
}

static void start_await(struct hadb_peer *peer)
{
    peer->await_job = (struct hadb_job){.run = await_run, .done = await_done, .arg = peer};
    peer->await_tag = peer->read_tag;
    peer->awaiting = true;
    if (hadb_pool_submit(peer->node->peers.await_pool, NULL, &peer->await_job, NULL) < 0) {
        peer->awaiting = false;
        hadb_watch_changed(&peer->watch, HADB_R_UNKNOWN, hadb__now(peer->node));
    }
}

static void start_connect(struct hadb_peer *peer)
{
    if (hadb_http_connect_check(peer->node->client, peer->address, CONNECT_TIMEOUT_MS, connect_done,
                                peer, NULL) < 0) {
        peer->busy = false;
        hadb_watch_connect(&peer->watch, HADB_LINK_NO_ANSWER, hadb__now(peer->node));
    }
}

void hadb__peer_step(struct hadb_peer *peer)
{
    struct hadb_node *node = peer->node;
    if (node->peers.stopped || peer->doomed) {
        return;
    }
    enum hadb_watch_do what;
    while ((what = hadb_watch_step(&peer->watch, hadb__now(node))) != HADB_WATCH_NOTHING) {
        if (what == HADB_WATCH_AWAIT) {
            start_await(peer);
            continue;
        }
        peer->busy = true;
        if (what == HADB_WATCH_READ) {
            start_read(peer);
        } else {
            start_connect(peer);
        }
    }
    uint64_t at = hadb_watch_deadline(&peer->watch);
    if (at != UINT64_MAX) {
        hadb_timer_start(&peer->timer, HADB_MAX(at, hadb__now(node) + 1));
    }
    enum hadb_liveness verdict = hadb_watch_liveness(&peer->watch);
    if (verdict != peer->told) {
        peer->told = verdict;
        static const char *const names[] = {"alive", "silent", "gone", "free"};
        hadb_log(node->env, HADB_LOG_INFO, "peers", NULL, "node %s looks %s", peer->name,
                 names[verdict]);
        tell_all(peer);
    }
}

static void on_peer_timer(void *arg)
{
    hadb__peer_step(arg);
}

static struct hadb_peer *peer_of(struct hadb_node *node, const struct hadb_owner *owner)
{
    struct hadb_peer *peer = node->peers.list;
    while (peer && (peer->doomed || memcmp(&peer->owner, owner, sizeof *owner) != 0)) {
        peer = peer->next;
    }
    if (peer) {
        return peer;
    }
    peer = hadb_calloc(1, sizeof *peer);
    if (!peer || hadb_timer_init(&peer->timer, node->loop, on_peer_timer, peer, NULL) < 0) {
        hadb_free(peer);
        return NULL;
    }
    peer->node = node;
    peer->owner = *owner;
    peer->told = HADB_LIVE_ALIVE;
    hadb_watch_init(&peer->watch, &node->peers.hint.config, &owner->incarnation, hadb__now(node));
    peer->next = node->peers.list;
    node->peers.list = peer;
    return peer;
}

static void unassign(struct hadb_db *db)
{
    struct hadb_peer *peer = db->peer;
    if (!peer) {
        return;
    }
    struct hadb_db **at = &peer->dbs;
    while (*at != db) {
        at = &(*at)->peer_next;
    }
    *at = db->peer_next;
    db->peer_next = NULL;
    db->peer = NULL;
    peer->dbs_len--;
    if (peer->dbs_len > 0) {
        hadb__link_update(peer);
        return;
    }
    hadb__link_close(peer);
    hadb_timer_stop(&peer->timer);
    peer->doomed = true;
    await_end(peer);
    peer_free(peer);
}

void hadb__peers_assign(struct hadb_db *db, const struct hadb_owner *owner, const char *name,
                        const char *address)
{
    struct hadb_node *node = db->node;
    if (db->peer && memcmp(&db->peer->owner, owner, sizeof *owner) == 0) {
        hadb__link_tell(db->peer, db);
        tell_db(db->peer, db);
        return;
    }
    unassign(db);
    db->owner_gave_up = db->unwatched = false;
    if (hadb_id_is_zero(&owner->incarnation) || node->peers.stopped) {
        return;
    }
    hadb__peers_remember(node, &owner->node, name, address);
    struct hadb_peer *peer = peer_of(node, owner);
    if (!peer) { /* without a watch nothing would ever be heard of this owner */
        hadb_log(node->env, HADB_LOG_WARN, "peers", db->name, "out of memory: trying again");
        db->unwatched = node->peers.unwatched = true;
        return;
    }
    const struct hadb_known *known = hadb__peers_known(node, &owner->node);
    if (!peer->name[0] && known) {
        snprintf(peer->name, sizeof peer->name, "%s", known->name);
    }
    if (!peer->address[0]) {
        snprintf(peer->address, sizeof peer->address, "%s",
                 address[0] ? address
                 : known    ? known->address
                            : "");
    }
    db->peer = peer;
    db->peer_next = peer->dbs;
    peer->dbs = db;
    peer->dbs_len++;
    hadb__link_update(peer);
    hadb__link_tell(peer, db);
    if (peer->told != HADB_LIVE_ALIVE || peer->given_up_len > 0) {
        tell_db(peer, db);
    }
    hadb__peer_step(peer);
}

void hadb__peers_seen(struct hadb_db *db, const struct hadb_owner *owner)
{
    if (db->peer && memcmp(&db->peer->owner, owner, sizeof *owner) == 0) {
        hadb_watch_alive(&db->peer->watch, hadb__now(db->node));
        hadb__peer_step(db->peer);
    }
}

/* ---- looking a node up by name ---- */

static void lookup_run(void *arg)
{
    struct hadb_lookup *lookup = arg;
    struct hadb_node *node = lookup->node;
    struct hadb_call call = hadb_call_within(node->env, node->peers.hint.config.request_max_ms);
    struct hadb_buf bytes HADB_CLEANUP(hadb_buf_deinit) = {0};
    char key[HADB_LEASE_KEY_BYTES_MAX];
    struct hadb_tag tag;
    key_of(lookup->name, key);
    HADB_COUNT(&node->counters, lease_reads);
    lookup->r = hadb_lease_read(&node->lease, &call, key, &bytes, &tag, &lookup->err);
    if (lookup->r == 0) {
        lookup->r = hadb_node_record_decode(hadb_buf_slice(&bytes), &lookup->record, &lookup->err);
    }
}

static void lookup_done(void *arg, int r)
{
    struct hadb_lookup *lookup = arg;
    if (r < 0) {
        lookup->r = hadb_fail(&lookup->err, HADB_EUNAVAIL, "the node is closing");
    }
    if (lookup->r == 0) {
        hadb__peers_remember(lookup->node, &lookup->record.owner.node, lookup->record.name,
                             lookup->record.address);
    }
    lookup->done(lookup);
}

void hadb__peers_lookup(struct hadb_lookup *lookup)
{
    lookup->job = (struct hadb_job){.run = lookup_run, .done = lookup_done, .arg = lookup};
    if (hadb_pool_submit(lookup->node->lease_pool, NULL, &lookup->job, &lookup->err) < 0) {
        lookup_done(lookup, HADB_ECANCELED);
    }
}

/* ---- life ---- */

int hadb__peers_start(struct hadb_node *node, struct hadb_error *err)
{
    struct hadb_peers *peers = &node->peers;
    struct hadb_hint_config config = {.ttl_ms = node->ttl_ms, .tells = peers->await_pool != NULL};
    if (!hadb_hint_config_fix(&config)) {
        return hadb_fail(err, HADB_EINVAL, "a ttl of %u ms is too short to be renewed in time",
                         node->ttl_ms);
    }
    int r = hadb_timer_init(&peers->hint_timer, node->loop, on_hint_timer, node, err);
    if (r == 0) {
        hadb_hint_init(&peers->hint, &config);
        hint_step(node);
    }
    return r;
}

void hadb__peers_stop(struct hadb_node *node)
{
    struct hadb_peers *peers = &node->peers;
    peers->stopped = true;
    peers->on_free = NULL;
    hadb_timer_deinit(&peers->hint_timer);
    for (struct hadb_peer *peer = peers->list; peer; peer = peer->next) {
        hadb__link_close(peer);
        hadb_timer_stop(&peer->timer);
        await_end(peer);
    }
}

void hadb__peers_deinit(struct hadb_node *node)
{
    struct hadb_peers *peers = &node->peers;
    hadb_buf_deinit(&peers->hint_record);
    while (peers->known) {
        struct hadb_known *known = peers->known;
        peers->known = known->next;
        hadb_free(known);
    }
    HADB_ASSERT(!peers->list);
}
