/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small calls of hadb/node.h: names, status, waiting, hand-off on request.
 *
 * Thread: the application's; what they ask is answered on the loop.
 */
#include "node/kv_private.h"

#include <inttypes.h>
#include <stdio.h>

const char *hadb_node_address(const struct hadb_node *node)
{
    return node ? node->address : "";
}

const char *hadb_node_name(const struct hadb_node *node)
{
    return node ? node->name : "";
}

static int check_process(int64_t process, struct hadb_error *err)
{
    int64_t now = hadb_process_id();
    return now == process ? 0
                          : hadb_fail(err, HADB_ESTATE,
                                      "opened by process %" PRId64 ", used in its child %" PRId64
                                      ": fork first, then open",
                                      process, now);
}

int hadb__node_usable(const struct hadb_node *node, struct hadb_error *err)
{
    return node ? check_process(node->process, err)
                : hadb_fail(err, HADB_EINVAL, "the node is NULL");
}

int hadb__db_usable(const struct hadb_db *db, struct hadb_error *err)
{
    return db ? check_process(db->local ? db->local->process : db->node->process, err)
              : hadb_fail(err, HADB_EINVAL, "the database is NULL");
}

int hadb__may_wait(const struct hadb_node *node, struct hadb_error *err)
{
    if (hadb_callbacks_on(&node->callbacks)) {
        return hadb_fail(err, HADB_ESTATE,
                         "this call waits, and a callback must not: use an asynchronous call, or "
                         "another thread");
    }
    return node->loop && hadb_loop_on(node->loop)
               ? hadb_fail(
                     err, HADB_ESTATE,
                     "this call waits, and the node's event loop must not: use another thread")
               : 0;
}

struct question {
    struct hadb_node *node;
    struct hadb_db *db;
    struct hadb_buf *out;
    struct hadb_db_info *info;
    bool flag;
    int r;
};

static void ask_status(void *arg)
{
    struct question *q = arg;
    q->r = hadb__status_json(q->node, q->out);
}

static void ask_metrics(void *arg)
{
    struct question *q = arg;
    q->r = hadb__metrics_text(q->node, q->out);
}

static void ask_info(void *arg)
{
    struct question *q = arg;
    hadb__db_info(q->db, q->info);
}

static void ask_snapshot(void *arg)
{
    struct question *q = arg;
    q->flag = hadb_core_leads(&q->db->core) &&
              hadb__db_event(q->db, &(struct hadb_event){.type = HADB_EV_SNAPSHOT}, NULL);
}

static int ask(struct hadb_node *node, struct hadb_buf *out, hadb_loop_fn fn,
               struct hadb_error *err)
{
    struct question q = {.node = node, .out = out};
    int r = hadb__node_usable(node, err);
    if (r == 0 && !out) {
        r = hadb_fail(err, HADB_EINVAL, "there is no place for the text");
    }
    if (r < 0) {
        return r;
    }
    r = hadb_loop_call(node->loop, fn, &q);
    r = r < 0 ? r : q.r;
    return r < 0 ? hadb_fail(err, r, "%s", hadb_code_text(r)) : 0;
}

int hadb_node_status(struct hadb_node *node, struct hadb_buf *out, struct hadb_error *err)
{
    return ask(node, out, ask_status, err);
}

int hadb_node_metrics(struct hadb_node *node, struct hadb_buf *out, struct hadb_error *err)
{
    return ask(node, out, ask_metrics, err);
}

enum hadb_role hadb_db_role(const struct hadb_db *db)
{
    if (!db) {
        return HADB_ROLE_HALTED;
    }
    return db->local ? HADB_ROLE_LEADER
                     : (enum hadb_role)__atomic_load_n(&db->role, __ATOMIC_RELAXED);
}

static void local_info(const struct hadb_db *db, struct hadb_db_info *out)
{
    struct hadb_engine_position at;
    hadb_engine_position(&db->local->box.engine, &at);
    *out = (struct hadb_db_info){.role = HADB_ROLE_LEADER,
                                 .term = at.last_term,
                                 .txid = at.last_txid,
                                 .durable_txid = at.mark.txid,
                                 .applied_txid = at.last_txid,
                                 .ready = true};
}

void hadb_db_info(const struct hadb_db *db, struct hadb_db_info *out)
{
    struct hadb_error err;
    if (!out) {
        return;
    }
    *out = (struct hadb_db_info){.role = HADB_ROLE_HALTED};
    if (hadb__db_usable(db, &err) < 0) {
        snprintf(out->reason, sizeof out->reason, "%s", err.message);
        return;
    }
    if (db->local) {
        local_info(db, out);
        return;
    }
    struct question q = {.db = (struct hadb_db *)db, .info = out};
    hadb_loop_call(db->node->loop, ask_info, &q);
}

int hadb_db_snapshot(struct hadb_db *db, struct hadb_error *err)
{
    int r = hadb__db_usable(db, err);
    if (r < 0) {
        return r;
    }
    if (db->local) {
        return hadb_fail(err, HADB_EUNAVAIL, "a local database has no storage");
    }
    struct question q = {.db = db};
    if (hadb_loop_call(db->node->loop, ask_snapshot, &q) < 0 || !q.flag) {
        return hadb_fail(err, HADB_EUNAVAIL, "this node does not lead the database");
    }
    return 0;
}

int hadb_db_wait_ready(struct hadb_db *db, uint32_t deadline_ms, struct hadb_error *err)
{
    int r = hadb__db_usable(db, err);
    if (r < 0 || db->local) {
        return r;
    }
    struct hadb_req req = {
        .kind = HADB_REQ_READY, .db = db, .deadline_ms = hadb_now_ms(db->node->env) + deadline_ms};
    return hadb__req_wait(&req, err);
}

/* ---- hand-off by name ---- */

struct by_name {
    struct hadb_lookup lookup;
    struct hadb_mutex mu;
    struct hadb_cond cond;
    bool done; /* mu */
};

static void found(struct hadb_lookup *lookup)
{
    struct by_name *by = lookup->arg;
    hadb_mutex_lock(&by->mu);
    by->done = true;
    hadb_cond_signal(&by->cond);
    hadb_mutex_unlock(&by->mu);
}

static void look_up(void *arg)
{
    hadb__peers_lookup(arg);
}

static int resolve(struct hadb_node *node, const char *name, struct hadb_id *out,
                   struct hadb_error *err)
{
    struct by_name by = {.lookup = {.node = node, .done = found}};
    by.lookup.arg = &by;
    snprintf(by.lookup.name, sizeof by.lookup.name, "%s", name);
    hadb_mutex_init(&by.mu, 0);
    hadb_cond_init(&by.cond);
    int r = hadb_loop_call(node->loop, look_up, &by.lookup);
    if (r == 0) {
        hadb_mutex_lock(&by.mu);
        while (!by.done) {
            hadb_cond_wait(&by.cond, &by.mu);
        }
        hadb_mutex_unlock(&by.mu);
        r = by.lookup.r;
    }
    hadb_cond_deinit(&by.cond);
    hadb_mutex_deinit(&by.mu);
    if (r == 0) {
        *out = by.lookup.record.owner.node;
    } else if (r == HADB_ABSENT) {
        r = hadb_fail(err, HADB_EINVAL, "there is no node %s", name);
    } else if (err) {
        *err = by.lookup.err;
    }
    hadb_node_record_deinit(&by.lookup.record);
    return r;
}

int hadb_db_handoff(struct hadb_db *db, const char *to, uint32_t deadline_ms,
                    struct hadb_error *err)
{
    int r = hadb__db_usable(db, err);
    if (r == 0 && !db->local) {
        r = hadb__may_wait(db->node, err);
    }
    if (r < 0) {
        return r;
    }
    if (db->local || deadline_ms > HADB_DEADLINE_MS_MAX) {
        return hadb_fail(err, db->local ? HADB_EUNAVAIL : HADB_EINVAL,
                         db->local ? "a local database has one node" : "the deadline is too long");
    }
    struct hadb_req req = {.kind = HADB_REQ_HANDOFF,
                           .db = db,
                           .deadline_ms = hadb_now_ms(db->node->env) + deadline_ms};
    if (to) {
        if (!hadb_name_valid(to)) {
            return hadb_fail(err, HADB_EINVAL, "that is not the name of a node");
        }
        bool self = strcmp(to, db->node->name) == 0;
        r = self ? 0 : resolve(db->node, to, &req.to_node, err);
        if (r < 0) {
            return r;
        }
        if (self) {
            req.to_node = db->node->self.node;
        }
    }
    return hadb__req_wait(&req, err);
}

/* ---- names ---- */

const char *hadb_role_name(enum hadb_role role)
{
    if (role == HADB_ROLE_OPENING) {
        return "opening";
    }
    return (unsigned)role <= HADB_ROLE_HALTED ? hadb_core_role_name((enum hadb_core_role)role)
                                              : "unknown";
}

static const char *const ack_names[] = {"default", "async", "local", "durable", "both"};

const char *hadb_ack_name(enum hadb_ack_mode ack)
{
    return (unsigned)ack < HADB_LEN(ack_names) ? ack_names[ack] : "unknown";
}

int hadb_ack_parse(const char *name, enum hadb_ack_mode *out, struct hadb_error *err)
{
    if (!name || !out) {
        return hadb_fail_misuse(err, __func__);
    }
    for (size_t i = HADB_ACK_ASYNC; i < HADB_LEN(ack_names); i++) {
        if (strcmp(name, ack_names[i]) == 0) {
            *out = (enum hadb_ack_mode)i;
            return 0;
        }
    }
    return hadb_fail(err, HADB_EINVAL,
                     "unknown acknowledgement mode '%s': async, local, durable or both", name);
}
