/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 5 and 7 of 8: the life of one database on this node, and the loop that feeds its machine.
 *
 * Thread: free blocks, on the caller's; everything else on the loop.
 * Invariants: one step at a time; events that arise during a step wait behind it; answers are never lost,
 * because the memory for them belongs to the job.
 * Happy path: opening.c (catalogue, folders, engine, terms) -> start (EV_START) -> … -> stop (EV_STOP) -> free.
 * Failure modes: what makes a database unusable here halts it alone (db_halt.c), never the process.
 */
#include "node/node_private.h"

#include <inttypes.h>
#include <stdio.h>

#define POLL_MIN_MS 25u
#define POLL_MAX_MS 1000u
#define BACKOFF_MIN_MS 5u
#define BACKOFF_MAX_MS 2000u
#define SUSPECT_WAIT_MS 15u
#define SILENT_WAIT_MS 40u /* a refused seal costs less than waiting until none is refused */
#define LAG_WAIT_MS 2u /* for each slot behind: about what reading and applying it takes */
#define LAG_WAIT_MS_MAX 250u
#define DRAIN_MAX_MS 5000u
#define TIP_POLLS_MAX 20u
#define GRACE_DEFAULT_MS 60000u
#define SNAPSHOT_SLOTS_DEFAULT 4096u
#define SNAPSHOTS_KEEP 2u
#define SYNC_DEFAULT_MS 1000u

/* ---- starting ---- */

static void core_config(const struct hadb_db *db, const struct hadb_db_options *options,
                        struct hadb_core_config *out)
{
    const struct hadb_node *node = db->node;
    bool replicated_acks = db->ack == HADB_ACK_DURABLE || db->ack == HADB_ACK_BOTH;
    uint32_t slots = options->snapshot_slots ? options->snapshot_slots : SNAPSHOT_SLOTS_DEFAULT;
    *out = (struct hadb_core_config){
        .rules = HADB_RULES_ALL,
        .window = node->window,
        .poll_min_ms = POLL_MIN_MS,
        .poll_max_ms = POLL_MAX_MS,
        .backoff_min_ms = BACKOFF_MIN_MS,
        .backoff_max_ms = BACKOFF_MAX_MS,
        .suspect_wait_ms = SUSPECT_WAIT_MS,
        .silent_wait_ms = SILENT_WAIT_MS,
        .lag_wait_ms = LAG_WAIT_MS,
        .lag_wait_max_ms = LAG_WAIT_MS_MAX,
        .drain_max_ms = DRAIN_MAX_MS,
        .give_up_ms = node->ttl_ms,
        .snapshot_slots = options->no_snapshots ? 0 : slots,
        .tip_polls_max = TIP_POLLS_MAX,
        .grace_ms = options->grace_ms ? options->grace_ms : GRACE_DEFAULT_MS,
        .fast_suspicion = replicated_acks && !options->no_fast_suspicion,
        .clone_guard = options->clone_guard,
        .seal_turns = true,
        .rho_percent = node->peers.hint.config.rho_percent,
        .never_lead = node->never_lead || options->never_lead,
        .jitter = true,
    };
}

/* ---- the step loop ---- */

/* The names of the eight hops that this machine is about to take are traced where they happen. */
static void one_step(struct hadb_db *db, const struct hadb_event *ev, struct hadb_req *read)
{
    struct hadb_actions actions;
    HADB_ASSERT(db->core.config.rules == HADB_RULES_ALL);
    hadb_core_step(&db->core, ev, hadb__now(db->node), &actions);
    for (uint32_t i = 0; i < actions.len; i++) {
        hadb__db_act(db, &actions.items[i], read);
    }
}

/* At the head, as far as this node has been told: by a 404, by leading, by the owner's durable mark. */
static bool at_head(const struct hadb_core *core)
{
    bool marked =
        core->stream_up && core->mark_term == core->view.term && core->view.slot >= core->mark_slot;
    return core->tip_checked || marked || hadb_core_leads(core);
}

static void after_steps(struct hadb_db *db)
{
    if (at_head(&db->core)) {
        if (!db->caught_up) {
            db->caught_up = true;
            hadb__covers_check(db);
        }
    }
    if (db->state != HADB_DB_OPEN) {
        hadb__db_check_stopped(db);
        return;
    }
    uint64_t at = hadb_core_deadline(&db->core);
    if (at == UINT64_MAX) {
        hadb_timer_stop(&db->timer);
    } else {
        hadb_timer_start(&db->timer, at);
    }
}

static void drain(struct hadb_db *db)
{
    while (db->events_first) {
        struct hadb_db_event *event = db->events_first;
        struct hadb_event ev = event->ev;
        struct hadb_req *read = event->read;
        db->events_first = event->next;
        if (!db->events_first) {
            db->events_last = NULL;
        }
        if (event->on_heap) {
            hadb_free(event);
        }
        one_step(db, &ev, read);
    }
    db->stepping = false;
    after_steps(db);
}

static void enqueue(struct hadb_db *db, struct hadb_db_event *event)
{
    event->next = NULL;
    if (db->events_last) {
        db->events_last->next = event;
    } else {
        db->events_first = event;
    }
    db->events_last = event;
}

void hadb__db_event_answer(struct hadb_db *db, struct hadb_db_event *event)
{
    HADB_ASSERT(db->state != HADB_DB_STOPPED);
    enqueue(db, event);
    if (!db->stepping) {
        db->stepping = true;
        drain(db);
    }
}

bool hadb__db_event(struct hadb_db *db, const struct hadb_event *ev, struct hadb_req *read)
{
    if (db->state == HADB_DB_STOPPED || db->state == HADB_DB_OPENING) {
        return false;
    }
    if (!db->stepping) {
        db->stepping = true;
        one_step(db, ev, read);
        drain(db);
        return true;
    }
    struct hadb_db_event *event = hadb_calloc(1, sizeof *event);
    if (!event) {
        hadb_log(db->node->env, HADB_LOG_ERROR, "node", db->name, "out of memory: event lost");
        return false;
    }
    event->ev = *ev;
    event->read = read;
    event->on_heap = true;
    enqueue(db, event);
    return true;
}

static void on_timer(void *arg)
{
    hadb__db_event(arg, &(struct hadb_event){.type = HADB_EV_TICK}, NULL);
}

static void on_route_timer(void *arg)
{
    hadb__writes_reroute(arg);
}

static void on_open_timer(void *arg)
{
    hadb__opening_step(arg);
}

static int timers_init(struct hadb_db *db, struct hadb_error *err)
{
    struct hadb_node *node = db->node;
    int r = hadb_timer_init(&db->timer, node->loop, on_timer, db, err);
    if (r == 0) {
        r = hadb_timer_init(&db->route_timer, node->loop, on_route_timer, db, err);
    }
    if (r == 0 && db->opening) {
        r = hadb_timer_init(&db->opening->timer, node->loop, on_open_timer, db, err);
    }
    return r;
}

static void timers_deinit(struct hadb_db *db)
{
    if (db->opening) {
        hadb_timer_deinit(&db->opening->timer);
    }
    hadb_timer_deinit(&db->route_timer);
    hadb_timer_deinit(&db->timer);
}

int hadb__db_start(struct hadb_db *db, const struct hadb_db_options *options,
                   struct hadb_error *err)
{
    struct hadb_node *node = db->node;
    bool named = !hadb_id_is_zero(&db->uuid);
    if (named && hadb__node_find_uuid(node, &db->uuid)) {
        return hadb_fail(err, HADB_EBUSY, "database %s is open on this node under another name",
                         db->name);
    }
    int r = timers_init(db, err);
    if (r == 0) {
        r = hadb__node_add_db(node, db, err);
    }
    if (r < 0) {
        timers_deinit(db);
        return r;
    }
    hadb_queue_init(&db->queue, node->engine_pool);
    for (int op = 0; op < HADB_OP_END; op++) {
        db->jobs[op].db = db;
    }
    struct hadb_core_config config;
    uint64_t seed = 0;
    core_config(db, options, &config);
    hadb_random(node->env, &seed, sizeof seed);
    hadb_core_init(&db->core, &config, &node->self, seed);
    db->state = HADB_DB_OPENING;
    if (named || db->broken != HADB_R_OK) {
        hadb__db_begin(db);
    } else {
        __atomic_store_n(&db->role, HADB_ROLE_OPENING, __ATOMIC_RELAXED);
    }
    if (db->opening) {
        hadb__opening_step(db);
    }
    return 0;
}

void hadb__db_begin(struct hadb_db *db)
{
    struct hadb_node *node = db->node;
    HADB_ASSERT(db->state == HADB_DB_OPENING);
    db->state = HADB_DB_OPEN;
    if (!hadb_id_is_zero(&db->uuid)) {
        hadb__node_add_uuid(node, db);
    }
    if (!node->probe.may_lead) {
        hadb__db_probed(db);
    }
    if (db->broken != HADB_R_OK) {
        struct hadb_event broken = {.type = HADB_EV_LOCAL, .result = db->broken};
        hadb__db_event(db, &broken, NULL);
        return;
    }
    struct hadb_engine_position at;
    hadb_engine_position(&db->box->engine, &at);
    db->durable = at.mark;
    db->txid = at.last_txid;
    db->mark.marked_slot = at.mark.slot;
    struct hadb_event ev = {.type = HADB_EV_START,
                            .pos = at.mark,
                            .owner = hadb_terms_owner(&db->terms, at.mark.term),
                            .last_txid = at.last_txid,
                            .last_term = at.last_term};
    hadb__db_place(db, &at.mark, &ev.term, &ev.slot);
    hadb__db_event(db, &ev, NULL);
}

void hadb__db_probed(struct hadb_db *db)
{
    struct hadb_event ev = {.type = HADB_EV_PROBE,
                            .result = db->node->probe.may_lead ? HADB_R_OK : HADB_R_FAILED};
    hadb__db_event(db, &ev, NULL);
}

/* ---- jobs begin and end ---- */

struct hadb_box *hadb__job_begins(struct hadb_db *db)
{
    db->jobs_running++;
    if (db->box) { /* NULL: a restore failed half-way and the database halted */
        db->box->refs++;
    }
    return db->box;
}

void hadb__job_ends(struct hadb_db *db, struct hadb_box *box)
{
    HADB_ASSERT(db->jobs_running > 0);
    db->jobs_running--;
    if (box) {
        HADB_ASSERT(box->refs > 1);
        box->refs--;
        hadb__swap_try(db);
    }
}

/* ---- stopping ---- */

static void fail_all(struct hadb_reqs *list)
{
    while (list->first) {
        struct hadb_req *req = list->first;
        if (req->maybe_done || list == &req->db->undurable) {
            hadb__req_fail(req, HADB_EUNKNOWN, "the node is closing, the outcome is open");
        } else {
            hadb__req_fail(req, HADB_EUNAVAIL, "the node is closing");
        }
    }
}

void hadb__db_stop(struct hadb_db *db, void (*on_stopped)(struct hadb_db *db, void *arg), void *arg)
{
    HADB_ASSERT(db->state <= HADB_DB_OPEN);
    db->state = HADB_DB_STOPPING;
    db->on_stopped = on_stopped;
    db->on_stopped_arg = arg;
    __atomic_store_n(&db->cancel.flag, 1, __ATOMIC_RELEASE);
    __atomic_store_n(&db->upload_cancel.flag, 1, __ATOMIC_RELEASE);
    timers_deinit(db);
    hadb__forwards_cancel(db);
    hadb__db_event(db, &(struct hadb_event){.type = HADB_EV_STOP}, NULL);
    hadb__peers_assign(db, &(struct hadb_owner){0}, "", "");
    hadb__db_check_stopped(db);
}

static bool idle(const struct hadb_db *db)
{
    return db->jobs_running == 0 && db->forwards.len == 0 && db->reading.len == 0 &&
           db->peer == NULL;
}

/* In a turn of its own: whoever was on the stack has left the database alone by now. */
static void stopped(void *arg)
{
    struct hadb_db *db = arg;
    db->stop_posted = false;
    if (!idle(db)) {
        return;
    }
    hadb_objs_clear(&db->objs);
    hadb_queue_deinit(&db->queue);
    hadb__node_remove_db(db->node, db);
    db->state = HADB_DB_STOPPED;
    db->on_stopped(db, db->on_stopped_arg);
}

void hadb__db_check_stopped(struct hadb_db *db)
{
    if (db->state != HADB_DB_STOPPING || db->stepping) {
        return;
    }
    fail_all(&db->writes);
    fail_all(&db->waiting);
    fail_all(&db->undurable);
    fail_all(&db->rounds);
    fail_all(&db->covers);
    fail_all(&db->handoffs);
    fail_all(&db->parked);
    if (db->swap && !db->swapping) {
        struct hadb_db_job *job = db->swap;
        db->swap = NULL;
        hadb__box_close(job->new_box);
        job->new_box = NULL;
        job->answer.ev.result = HADB_R_UNKNOWN;
        hadb__job_answer(job);
        return; /* comes back here */
    }
    if (idle(db) && !db->stop_posted) {
        db->stop_posted = true;
        db->stop_task = (struct hadb_loop_task){.fn = stopped, .arg = db};
        int r = hadb_loop_post_task(db->node->loop, &db->stop_task);
        HADB_ASSERT(r == 0); /* the node keeps its loop until all databases have stopped */
    }
}

void hadb__db_free(struct hadb_db *db)
{
    if (!db) {
        return;
    }
    HADB_ASSERT(db->state == HADB_DB_STOPPED);
    hadb__box_close(db->box);
    hadb_db_paths_deinit(&db->paths);
    hadb_terms_deinit(&db->terms);
    hadb_manifest_deinit(&db->snap_manifest);
    hadb_manifest_deinit(&db->swept);
    hadb_free(db->opening);
    hadb_free(db->batch.requests);
    hadb_free(db->batch.responses);
    hadb_free(db);
}

/* ---- questions ---- */

bool hadb__db_ready(const struct hadb_db *db)
{
    bool leads = hadb_core_leads(&db->core) && __atomic_load_n(&db->gate, __ATOMIC_RELAXED) != 0;
    bool follows = db->core.role == HADB_CORE_FOLLOWER && db->caught_up && db->peer != NULL;
    return db->state == HADB_DB_OPEN && (leads || follows);
}

static void leader_of(struct hadb_db *db, struct hadb_db_info *out)
{
    struct hadb_node *node = db->node;
    if (hadb_core_leads(&db->core)) {
        snprintf(out->leader, sizeof out->leader, "%s", node->name);
        snprintf(out->leader_address, sizeof out->leader_address, "%s", node->address);
    } else if (db->peer) {
        snprintf(out->leader, sizeof out->leader, "%s", db->peer->name);
        snprintf(out->leader_address, sizeof out->leader_address, "%s", db->peer->address);
    }
}

void hadb__db_info(struct hadb_db *db, struct hadb_db_info *out)
{
    *out =
        (struct hadb_db_info){.uuid = db->uuid,
                              .role = (enum hadb_role)__atomic_load_n(&db->role, __ATOMIC_RELAXED),
                              .term = db->core.view.term,
                              .txid = HADB_MAX(db->txid, db->durable.txid),
                              .durable_txid = db->durable.txid,
                              .applied_txid = HADB_MAX(db->txid, db->durable.txid),
                              .slot = db->durable.slot,
                              .chain_hash = db->durable.hash,
                              .ready = hadb__db_ready(db)};
    snprintf(out->name, sizeof out->name, "%s", db->name);
    hadb__db_troubled(db, out->reason, sizeof out->reason);
    leader_of(db, out);
}
