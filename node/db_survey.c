/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 7 of 8: the blocking half of the look around that core/survey.c asks for at the first missing object.
 *
 * Thread: a worker. Invariants: reports what storage shows and judges
 * nothing. Failure modes: any answer that is not definite leaves the result at unknown; the machine asks again.
 */
#include "changeset/keys.h"
#include "node/node_private.h"
#include "replicators/behind.h"

static_assert(HADB_WINDOW_MAX == HADB_LOG_WINDOW_MAX,
              "readers know how many slots may be in flight");

static bool is_corrupt(int r)
{
    return r == HADB_ECORRUPT || r == HADB_EVERSION || r == HADB_ENOTSUP;
}

/* The object that this node's own position comes from. */
static int own_object(struct hadb_db_job *job, const struct hadb_call *call)
{
    struct hadb_db *db = job->db;
    struct hadb_event *ev = &job->answer.ev;
    struct hadb_buf stored HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_entry entry;
    char key[HADB_OBJECT_KEY_BYTES];
    hadb_key_log(&db->uuid, job->act.pos.term, job->act.pos.slot, key);
    int r = hadb_storage_get(&db->node->storage, call, key, &stored, NULL, &job->err);
    if (r == 0) {
        r = hadb_entry_peek(hadb_buf_slice(&stored), &entry, &ev->entry.prev, &job->err);
    }
    ev->own = r == 0 ? HADB_R_OK : r == HADB_ABSENT ? HADB_R_ABSENT : HADB_R_CORRUPT;
    return r == HADB_ABSENT || is_corrupt(r) ? 0 : hadb_wrap(&job->err, r, "%s", key);
}

void hadb__job_survey(void *arg)
{
    struct hadb_db_job *job = arg;
    struct hadb_db *db = job->db;
    struct hadb_event *ev = &job->answer.ev;
    struct hadb__behind behind;
    struct hadb_call call = hadb_call_within(db->node->env, HADB_STORE_WRITE_MS);
    call.cancel = &db->cancel;
    call.database = db->name;
    int r = hadb__behind_find(&db->node->storage, &call, &db->uuid, job->act.term, job->act.slot,
                              &behind, &job->err);
    if (r == 0 && job->act.pos.slot != 0) {
        r = own_object(job, &call);
    }
    if (r != 0) {
        hadb_log(db->node->env, HADB_LOG_WARN, "node", db->name,
                 "the log cannot be listed, which a node has to do once when it starts: %s",
                 job->err.message);
        return;
    }
    ev->result = HADB_R_OK;
    ev->entry.term = behind.term;
    ev->entry.slot = behind.slot;
    ev->entry.kind = (enum hadb_core_entry)behind.kind;
    ev->durable_slot = behind.durable_slot;
}

void hadb__db_place(const struct hadb_db *db, const struct hadb_pos *pos, uint64_t *term,
                    uint64_t *slot)
{
    const struct hadb_term *ended =
        pos->term > 0 ? hadb_terms_find(&db->terms, pos->term - 1) : NULL;
    bool is_seal = ended && hadb_hash_eq(&ended->seal_hash, &pos->hash);
    *term = is_seal ? ended->term : pos->term;
    *slot = is_seal ? ended->last_slot + 1 : pos->slot;
}
