/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: why a database does not go on at this node, or goes on with a log that only grows, and what
 * a person can do about it.
 *
 * Thread: the loop. Invariant: one database halts alone; the text names the file or object and the next step.
 * Happy path: trouble noted with the failed job -> the machine halts -> explained once -> status, 503, log.
 */
#include "changeset/keys.h"
#include "node/node_private.h"

#include <inttypes.h>
#include <stdio.h>

enum hadb_result hadb__local_result(int r)
{
    switch (r) {
    case HADB_ENOMEM:
    case HADB_ENOSPC:
    case HADB_EBUSY: /* too many jobs wait for a worker */
        return HADB_R_LATER;
    case HADB_ECORRUPT:
    case HADB_EVERSION:
    case HADB_ENOTSUP:
    case HADB_EPROTO:
        return HADB_R_CORRUPT;
    default:
        return HADB_R_FAILED;
    }
}

bool hadb__local_failure(int r)
{
    return r == HADB_EIO || r == HADB_EPOISONED || r == HADB_ECORRUPT;
}

void hadb__db_local_failed(struct hadb_db *db, const struct hadb_error *err)
{
    hadb__db_unusable(db, HADB_R_FAILED, err);
}

void hadb__db_unusable(struct hadb_db *db, enum hadb_result result, const struct hadb_error *err)
{
    if (db->core.role == HADB_CORE_HALTED || db->state > HADB_DB_OPEN) {
        return;
    }
    db->trouble = *err;
    if (db->state == HADB_DB_OPENING) {
        db->broken = result;
        hadb__db_begin(db);
        return;
    }
    hadb__db_event(db, &(struct hadb_event){.type = HADB_EV_LOCAL, .result = result}, NULL);
}

static void advice(const struct hadb_db *db, enum hadb_halt halt, char *out, size_t cap)
{
    char id[HADB_ID_TEXT_BYTES];
    const char *text = "";
    hadb_id_format(&db->uuid, id);
    out[0] = '\0';
    if (db->trouble.code == HADB_EINVAL) {
        return; /* a mistake of the set-up: the text says what to do */
    }
    switch (halt) {
    case HADB_HALT_NO_MANIFEST:
        text = "check the store's address or put the object back, then start this node again";
        break;
    case HADB_HALT_GAP:
        text = "put it back, or run hadb verify and restore elsewhere";
        break;
    case HADB_HALT_CORRUPT:
    case HADB_HALT_NO_SNAPSHOT:
        text = "put the object back from a copy of the storage, then start this node again";
        break;
    case HADB_HALT_LOCAL:
        if (db->trouble.code == HADB_ECORRUPT || db->trouble.code == HADB_EVERSION) {
            snprintf(out, cap, "move db/%s away and start again: it is rebuilt from storage", id);
            return;
        }
        text = db->trouble.code == HADB_ENOMEM
                   ? "start this node again once there is memory"
                   : "free space or repair the disk, then start this node again";
        break;
    case HADB_HALT_FORK:
    case HADB_HALT_ROLLBACK:
        snprintf(out, cap, "check the storage; if it is right, move db/%s away and start again",
                 id);
        return;
    case HADB_HALT_NONE:
    case HADB_HALT_RETIRED:
    case HADB_HALT_STOPPED:
        break;
    }
    snprintf(out, cap, "%s", text);
}

/* The object of the log whose absence, or other content, made the machine halt. */
static void name_object(struct hadb_db *db, enum hadb_halt halt)
{
    const struct hadb_core *core = &db->core;
    char key[HADB_OBJECT_KEY_BYTES];
    uint64_t term;
    uint64_t slot;
    hadb_core_own_place(core, &term, &slot);
    hadb_key_log(&db->uuid, term, slot, key);
    if (halt == HADB_HALT_GAP) {
        hadb_key_log(&db->uuid, core->view.term, core->view.slot + 1, key);
        hadb_fail(&db->trouble, HADB_EGAP,
                  "%s is missing, slot %" PRIu64 " of term %" PRIu64 " behind it is there", key,
                  db->behind_slot, db->behind_term);
    } else if (halt == HADB_HALT_ROLLBACK && core->doubt == HADB_DOUBT_OWN_ABSENT) {
        hadb_fail(&db->trouble, HADB_EGAP, "%s is gone, which this node has seen", key);
    } else if (halt == HADB_HALT_FORK && core->doubt == HADB_DOUBT_OWN_FORK) {
        hadb_fail(&db->trouble, HADB_EFORKED, "%s is not what this node has seen there", key);
    } else if (halt == HADB_HALT_CORRUPT && core->doubt == HADB_DOUBT_OWN_CORRUPT) {
        hadb_fail(&db->trouble, HADB_ECORRUPT, "%s is damaged", key);
    }
}

/* The engine's own next step is for those who have no node. */
static void drop_restore_advice(char *text)
{
    char *found = strstr(text, "; " HADB_RESTORE_ADVICE);
    if (found) {
        *found = '\0';
    }
}

/* Makes what is wrong so short that the database's name, which answers put first, and the next step fit beside it. */
static void leave_room(struct hadb_db *db, const char *next)
{
    char *text = db->why.message;
    size_t room = sizeof db->why.message - 1;
    size_t others = strlen("database : ") + strlen(db->name) + strlen(next) + strlen(": ");
    size_t keep = room - HADB_MIN(others, room - 3);
    if (strlen(text) > keep) {
        memcpy(text + keep - 3, "...", sizeof "...");
    }
}

void hadb__db_explain(struct hadb_db *db, enum hadb_halt halt)
{
    char next[160];
    const char *name = hadb_core_halt_name(halt);
    name_object(db, halt);
    if (halt == HADB_HALT_FORK && db->trouble.code == 0) {
        char key[HADB_OBJECT_KEY_BYTES];
        hadb_key_log(&db->uuid, db->core.view.term, db->core.view.slot + 1, key);
        hadb_fail(&db->trouble, HADB_ECORRUPT, "%s does not follow what this node has", key);
    }
    db->why = db->trouble;
    if (db->why.code == 0) {
        hadb_fail(&db->why, HADB_EUNAVAIL, "%s", name);
    } else {
        hadb_wrap(&db->why, db->why.code, "%s", name);
    }
    advice(db, halt, next, sizeof next);
    if (next[0]) {
        drop_restore_advice(db->why.message);
        leave_room(db, next);
        hadb_advise(&db->why, db->why.code, next);
    }
}

void hadb__db_refuse(struct hadb_db *db, struct hadb_req *req)
{
    hadb__req_fail(req, req->maybe_done ? HADB_EUNKNOWN : HADB_EUNAVAIL,
                   db->why.message[0] ? db->why.message : "the database has stopped on this node");
}

/* ---- snapshots that fail: nothing stops, but nothing is deleted either ---- */

void hadb__snap_answered(struct hadb_db *db, const struct hadb_db_job *job)
{
    const struct hadb_event *ev = &job->answer.ev;
    bool another_first = job->act.type == HADB_ACT_CAS_MANIFEST && ev->result == HADB_R_LOST;
    if (ev->result == HADB_R_OK || another_first || job->act.type == HADB_ACT_DELETE ||
        job->err.code == HADB_ECANCELED) {
        return;
    }
    HADB_COUNT(&db->node->counters, snapshots_failed);
    if (db->core.boundary_slot !=
        db->snap_boundary) { /* one was published since the last failure */
        db->snap_boundary = db->core.boundary_slot;
        db->snap_failures = 0;
    }
    db->snap_failures++;
    db->snap_why = job->err;
}

static bool snapshots_fail(const struct hadb_db *db, char *out, size_t cap)
{
    if (!hadb_core_leads(&db->core) || db->snap_failures < HADB_SNAPSHOT_FAILURES_MAX ||
        db->core.boundary_slot != db->snap_boundary) {
        return false;
    }
    snprintf(out, cap, "%u snapshots in a row failed and its log only grows: %s", db->snap_failures,
             db->snap_why.message[0] ? db->snap_why.message : "storage does not answer");
    return true;
}

bool hadb__db_troubled(const struct hadb_db *db, char *out, size_t cap)
{
    if (db->why.message[0]) {
        snprintf(out, cap, "%s", db->why.message);
        return true;
    }
    if (db->given_up) {
        char why[sizeof db->why.message] = "storage does not answer";
        hadb__storage_fails(db->node, why, sizeof why);
        snprintf(out, cap, "no durable progress: %s", why);
        return true;
    }
    return snapshots_fail(db, out, cap);
}
