/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 6 and 7 of 8: one request to storage for one action of the machine, without a worker.
 *
 * Thread: the loop.
 * Invariants: the job owns the request, which the storage leaves alone once done was called; what takes long (opening
 * what was read) or may block (blobs) is a worker's. Nothing is decided here: the answer is what the blocking form of
 * the job would have said, by the same functions.
 * Happy path: submit -> done on the loop -> answer; for what was read: -> worker opens it -> answer.
 * Failure modes: no asynchronous path, no memory, a body that is long to sign, or credentials that must be asked for:
 * the blocking form runs on a worker.
 */
#include "changeset/keys.h"
#include "node/node_private.h"

struct hadb_db_io {
    struct hadb_storage_io io;
    struct hadb_call call;
    char key[HADB_OBJECT_KEY_BYTES];
};

static void on_worker(struct hadb_db_job *job, struct hadb_pool *pool)
{
    if (hadb_pool_submit(pool, NULL, &job->job, &job->err) < 0) {
        hadb__job_answer(job); /* as answer_init() has it: no answer */
    }
}

/* Opening needs no storage, unless there are blobs to be fetched. */
static struct hadb_pool *pool_to_open(const struct hadb_db_job *job)
{
    struct hadb_node *node = job->db->node;
    struct hadb_entry entry;
    bool plain = hadb_entry_peek(hadb_buf_slice(&job->stored), &entry, NULL, NULL) == 0 &&
                 !(entry.flags & HADB_ENTRY_FLAG_BLOB);
    return plain ? node->engine_pool : node->store_pool;
}

static void open_it(struct hadb_db_job *job, void (*run)(void *arg))
{
    job->job.run = run;
    on_worker(job, pool_to_open(job));
}

static void answered(struct hadb_db_job *job, int r)
{
    switch (job->act.type) {
    case HADB_ACT_GET:
        if (r == 0) {
            open_it(job, hadb__job_open);
            return;
        }
        hadb__job_not_got(job, r);
        break;
    case HADB_ACT_GET_MANIFEST:
        if (r == 0) {
            open_it(job, hadb__job_open_manifest);
            return;
        }
        hadb__job_no_manifest(job, r);
        break;
    default:
        hadb__job_created(job, r);
        break;
    }
    hadb__job_done(job, 0);
}

static bool needs_worker(int r)
{
    return r == HADB_EBUSY || r == HADB_ENOTSUP || r == HADB_ENOMEM;
}

static void on_done(struct hadb_storage_io *io)
{
    struct hadb_db_job *job = io->arg;
    int r = io->result;
    job->err = io->err;
    hadb_free(job->io);
    job->io = NULL;
    if (needs_worker(r)) { /* nothing was sent */
        on_worker(job, job->db->node->store_pool);
    } else {
        answered(job, r);
    }
}

static bool may_submit(const struct hadb_db_job *job)
{
    const struct hadb_framed *framed = job->obj ? &job->obj->framed : NULL;
    return job->db->node->store_watch &&
           (!framed || (framed->blobs_len == 0 && framed->entry.len <= HADB_SUBMIT_BYTES_MAX));
}

static void fill(struct hadb_db_job *job, struct hadb_db_io *one)
{
    struct hadb_db *db = job->db;
    bool creates = job->act.type == HADB_ACT_CREATE;
    one->call = hadb__db_call(db, creates ? HADB_STORE_WRITE_MS : HADB_STORE_READ_MS);
    one->io = (struct hadb_storage_io){.type = creates ? HADB_IO_CREATE : HADB_IO_GET,
                                       .call = &one->call,
                                       .key = one->key,
                                       .done = on_done,
                                       .arg = job};
    if (creates) {
        one->io.body = hadb_buf_slice(&job->obj->framed.entry);
    } else {
        one->io.out = &job->stored;
    }
    if (job->act.type == HADB_ACT_GET_MANIFEST) {
        one->io.tag = &job->tag;
        hadb_key_manifest(&db->uuid, one->key);
    } else {
        hadb_key_log(&db->uuid, job->act.term, job->act.slot, one->key);
    }
}

void hadb__io_start(struct hadb_db_job *job)
{
    struct hadb_node *node = job->db->node;
    HADB_ASSERT(!job->io);
    job->io = may_submit(job) ? hadb_calloc(1, sizeof *job->io) : NULL;
    if (!job->io) {
        on_worker(job, node->store_pool);
        return;
    }
    fill(job, job->io);
    int r = hadb__store_submit(node, &job->io->io, &job->err);
    if (r == 0) {
        return;
    }
    hadb_free(job->io);
    job->io = NULL;
    if (needs_worker(r)) {
        job->err = (struct hadb_error){0};
        on_worker(job, node->store_pool);
    } else {
        answered(job, r);
    }
}
