/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What carries out an action of the machine that takes time: the bodies of jobs, and what stands in for them when
 * storage can be asked without a worker. They fill job->answer.ev and what is marked "out" in struct hadb_db_job.
 *
 * Bodies run on a worker, unless marked.
 */
#ifndef HADB_NODE_DB_JOBS_H
#define HADB_NODE_DB_JOBS_H
#include "node/db.h"

/* db_io.c: requests that go on without a worker; loop */
void hadb__io_start(struct hadb_db_job *job); /* else job->job.run, on a worker of the stores */

/* db_jobs.c, db_snapshot.c: bodies of jobs (workers); they fill job->answer.ev and what is marked "out" */
void hadb__job_get(void *arg);
void hadb__job_get_manifest(void *arg);
/* The same, once storage has answered 0 and the object is in job->stored. */
void hadb__job_open(void *arg);
void hadb__job_open_manifest(void *arg);
void hadb__job_survey(void *arg); /* db_survey.c */
void hadb__job_frame_data(void *arg);
void hadb__job_frame_seal(void *arg);
void hadb__job_create(void *arg);
/* What another answer of storage means; loop, or the worker that asked. */
void hadb__job_not_got(struct hadb_db_job *job, int r);
void hadb__job_no_manifest(struct hadb_db_job *job, int r);
void hadb__job_created(struct hadb_db_job *job, int r);
struct hadb_call hadb__db_call(const struct hadb_db *db, uint32_t ms); /* any thread */
void hadb__job_apply(void *arg);
void hadb__job_rewind(void *arg);
void hadb__job_gate(void *arg);
void hadb__job_view(void *arg);
void hadb__job_upload(void *arg);
void hadb__job_cas(void *arg);
void hadb__job_delete(void *arg);
void hadb__job_restore(void *arg); /* download into tmp/ */
void hadb__job_swap(void *arg);    /* … and put in place */

/* db_survey.c: place of the object whose hash a position carries */
void hadb__db_place(const struct hadb_db *db, const struct hadb_pos *pos, uint64_t *term,
                    uint64_t *slot);
#endif
