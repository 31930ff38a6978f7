/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One database on one node: the driver of one protocol machine (core/core.h), and the requests that wait for
 * what it decides. Nothing here decides about role, term or retry: actions become jobs, answers become
 * events.
 *
 * Everything is loop thread only, unless marked.
 */
#ifndef HADB_NODE_DB_H
#define HADB_NODE_DB_H

#include "core/core.h"
#include "hadb/executor.h"
#include "node/callbacks.h"
#include "node/counters.h"
#include "node/folder.h"
#include "node/loop.h"
#include "node/objs.h"
#include "node/pool.h"
#include "node/req.h"
#include "node/terms.h"

struct hadb_node;
struct hadb_peer;
struct hadb_local;

/* An event that the machine has not seen yet. */
struct hadb_db_event {
    struct hadb_event ev;
    struct hadb_req *read; /* EV_READ: who begins to read */
    struct hadb_db_event *next;
    bool on_heap;
};

/* The one job that an op of the machine may have under way. It never needs memory to be started. */
struct hadb_db_job {
    struct hadb_job job;
    struct hadb_db *db;          /* const */
    bool busy;                   /* loop */
    struct hadb_action act;      /* what was asked; const while busy */
    struct hadb_obj *obj;        /* what it works on; counted while busy */
    struct hadb_box *box;        /* counted while busy; may be NULL */
    struct hadb_db_event answer; /* its ev is filled in by the job */
    struct hadb_db_io *io;  /* loop: the request that is under way without a worker; may be NULL */
    struct hadb_buf stored; /* GET, GET_MANIFEST: what storage gave */
    uint64_t began_ns;      /* … when it was asked */
    /* out: */
    struct hadb_obj *made; /* new object; goes into the table */
    struct hadb_obj *made_view;
    struct hadb_manifest manifest; /* GET_MANIFEST, CAS_MANIFEST, RESTORE */
    struct hadb_manifest swept;    /* CAS_MANIFEST: a copy */
    struct hadb_tag tag;
    struct hadb_box *new_box; /* RESTORE */
    struct hadb_terms terms; /* APPLY of a seal, REWIND, RESTORE, CAS_MANIFEST: a copy to work on */
    char next_name[HADB_NAME_BYTES_MAX + 1]; /* FRAME_SEAL: of the owner that is named */
    char next_address[HADB_ADDRESS_BYTES_MAX + 1];
    uint64_t saved; /* REWIND, RESTORE: transactions that went to lost/ */
    bool local;     /* VIEW, UPLOAD: it was this copy that failed, not storage */
    struct hadb_error err;
};

/* A group commit under way. */
struct hadb_db_batch {
    struct hadb_job job;
    bool busy;
    uint64_t term; /* the gate must be open for it */
    struct hadb_box *box;
    struct hadb_req *first; /* in order, linked by next */
    size_t len;
    const struct hadb_request **requests;
    struct hadb_response *responses;
    size_t cap;
    struct hadb_execute_context context;
    bool ran;              /* out: the gate was open */
    hadb_txid last_txid;   /* out */
    int r;                 /* out */
    struct hadb_error err; /* out */
};

struct hadb_db_sync {
    struct hadb_job job;
    bool busy;
    struct hadb_box *box;
    hadb_txid txid;
    int r;
    struct hadb_error err;
};

/* Moves the engine's mark behind what became durable; many at once. */
struct hadb_db_mark {
    struct hadb_job job;
    bool busy, wanted;
    struct hadb_box *box;
    struct hadb_pos pos;        /* of the job */
    struct hadb_pos wanted_pos; /* newest */
    uint64_t marked_slot;       /* of the last mark that was asked for, here or by an apply */
    int r;
    struct hadb_error err;
};

enum hadb_db_state {
    HADB_DB_OPENING, /* the machine has not started: storage has not said yet which database this is */
    HADB_DB_OPEN,
    HADB_DB_STOPPING,
    HADB_DB_STOPPED,
};

/* What is left to do of an opening once hadb_db_open() has returned (opening.c). */
struct hadb_opening {
    struct hadb_timer timer; /* loop */
    struct hadb_job job;
    bool busy;
    bool copy;             /* the job opens the local copy; else it asks storage for the name */
    unsigned attempts;     /* without an answer */
    struct hadb_id uuid;   /* out */
    int r;                 /* out */
    struct hadb_error err; /* out */
};

struct hadb_db {
    /* const after open */
    struct hadb_node *node;   /* NULL: a local database */
    struct hadb_local *local; /* kv_local.c; NULL: a database of a node */
    char name[HADB_NAME_BYTES_MAX + 1];
    char engine_name[HADB_NAME_BYTES_MAX + 1];
    struct hadb_id uuid;        /* zero while OPENING without a name in storage */
    struct hadb_db_paths paths; /* … nothing then, as box and terms */
    enum hadb_ack_mode ack;
    struct hadb_engine_options engine_options;
    uint32_t snapshots_keep;   /* references kept in the manifest */
    struct hadb_cancel cancel; /* atomic: stops blocking calls at close */
    int64_t frame_unix_ms;     /* framing job: time of the last entry, for a clamped clock */

    uint64_t gate; /* atomic: term in which commits may run, 0 = closed; read inside queue jobs */
    int role;      /* atomic: enum hadb_role, for hadb_db_role() */
    uint64_t behind_term, behind_slot; /* loop: the last log object that a look around found */

    /* loop thread from here on */
    struct hadb_db *next;         /* node's list */
    struct hadb_db *hash_next[2]; /* by name, by uuid */
    enum hadb_db_state state;
    enum hadb_result broken;      /* not OK: it cannot start, for the reason in trouble */
    struct hadb_opening *opening; /* NULL: done */
    struct hadb_error trouble;    /* what halts, or holds up, this database; code 0 = nothing */
    struct hadb_error why;        /* the same for people: with what to do about it */
    struct hadb_core core;
    struct hadb_timer timer;
    struct hadb_db_event *events_first, *events_last;
    bool stepping;
    struct hadb_queue queue;
    struct hadb_db_job jobs[HADB_OP_END];
    struct hadb_objs objs;
    struct hadb_box *box;
    struct hadb_terms terms;
    struct hadb_manifest
        swept; /* what it condemns is gone from storage: the next one may forget it */
    struct hadb_manifest snap_manifest; /* read last on op SNAP */
    struct hadb_tag snap_tag;
    struct hadb_cancel upload_cancel; /* atomic */
    unsigned snap_failures;           /* attempts at a snapshot that failed since … */
    uint64_t snap_boundary;           /* … the one that was published up to this slot */
    struct hadb_error snap_why;       /* the last of them */
    struct hadb_db_job *swap;         /* a restore that waits for readers of the old engine */
    bool swapping;                    /* … and is at it: no job may touch the engine */
    unsigned jobs_running;            /* of any kind: close waits for 0 */

    struct hadb_pos durable; /* from ACT_DURABLE */
    uint64_t written_ms;     /* when something was last committed or applied here; 0 = not yet */
    hadb_txid txid;          /* last local commit */
    hadb_txid synced_txid;   /* fsynced here */
    bool caught_up;          /* has been at the tip since it was opened or restored */
    bool given_up;
    uint64_t events_seen; /* role changes reported */

    struct hadb_db_batch batch;
    struct hadb_db_sync sync;
    struct hadb_db_mark mark;
    struct hadb_reqs writes;    /* to run here */
    struct hadb_reqs waiting;   /* for a leader */
    struct hadb_reqs undurable; /* done, but for durability */
    struct hadb_reqs forwards;  /* on their way to the leader */
    struct hadb_reqs rounds;    /* linearizable reads that wait for a proof */
    struct hadb_reqs covers;    /* bookmark reads and hadb_db_wait_ready() */
    struct hadb_reqs reading;   /* in a job */
    struct hadb_reqs parked;    /* reads that wait for the end of a restore */
    struct hadb_reqs handoffs;  /* hand-offs under way */
    struct hadb_timer route_timer;
    bool unproven;        /* the lease ran out: does this node still lead? … */
    uint64_t proof_round; /* … this round tells; 0 = not asked yet */

    struct hadb_owner owner; /* of the present term, from ACT_OWNER */
    uint64_t owner_term;
    struct hadb_peer *peer; /* the owner, when it is another process */
    bool owner_gave_up;     /* … as it said on its stream */
    bool unwatched;         /* … but there was no memory for .peer yet */
    struct hadb_db *peer_next;
    uint64_t mark_term, mark_slot; /* heard last on the stream, from mark_owner */
    struct hadb_owner mark_owner;
    void (*on_stopped)(struct hadb_db *db, void *arg);
    void *on_stopped_arg;
    struct hadb_loop_task stop_task;
    bool stop_posted;
};

/* db.c: life, and the step loop */
int hadb__db_start(struct hadb_db *db, const struct hadb_db_options *options,
                   struct hadb_error *err); /* loop */
void hadb__db_begin(struct hadb_db *db);    /* loop: the machine starts, or halts at once */
void hadb__db_probed(struct hadb_db *db);   /* loop: there is a verdict on the storage */
void hadb__db_stop(struct hadb_db *db, void (*on_stopped)(struct hadb_db *db, void *arg),
                   void *arg);          /* loop */
void hadb__db_free(struct hadb_db *db); /* any thread, once stopped */
/* One event, at once or behind the step that is being made. False (and lost) when memory ran out. */
bool hadb__db_event(struct hadb_db *db, const struct hadb_event *ev, struct hadb_req *read);
void hadb__db_event_answer(struct hadb_db *db, struct hadb_db_event *event); /* never lost */
bool hadb__db_ready(const struct hadb_db *db);
void hadb__db_info(struct hadb_db *db, struct hadb_db_info *out);
void hadb__db_check_stopped(struct hadb_db *db);

/* opening.c; loop */
void hadb__opening_step(struct hadb_db *db);

/* db_halt.c: why a database does not go on here; loop */
/* What a failure of this node's own is to the machine: FAILED, CORRUPT, LATER (memory, space). Any thread. */
enum hadb_result hadb__local_result(int r);
bool hadb__local_failure(int r); /* … of reads and writes: disk or copy are bad. Any thread. */
void hadb__db_local_failed(struct hadb_db *db, const struct hadb_error *err);
void hadb__db_unusable(struct hadb_db *db, enum hadb_result result, const struct hadb_error *err);
/* It halted: makes what people are told out of the reason and the trouble. */
void hadb__db_explain(struct hadb_db *db, enum hadb_halt halt);
/* Answers a request that this database cannot serve here. */
void hadb__db_refuse(struct hadb_db *db, struct hadb_req *req);
void hadb__snap_answered(struct hadb_db *db, const struct hadb_db_job *job); /* on op SNAP */
/* What is wrong with it in one line: it halted or waits to be opened, makes no progress, cannot be snapshot. */
bool hadb__db_troubled(const struct hadb_db *db, char *out, size_t cap);

/* db_box.c: engine, replicator and executor as one; blocks; any thread */
int hadb__box_open(const struct hadb_db *db, const char *path, struct hadb_box **out,
                   struct hadb_error *err);
void hadb__box_close(struct hadb_box *box);
/* Loop: a job on the engine begins, a job of any kind ends. */
struct hadb_box *hadb__job_begins(struct hadb_db *db);
void hadb__job_ends(struct hadb_db *db, struct hadb_box *box); /* @box may be NULL */

/* db_actions.c: one action of the machine */
void hadb__db_act(struct hadb_db *db, const struct hadb_action *act, struct hadb_req *read);
/* Gives the answer of a job's op, which is free again from here on. */
void hadb__job_answer(struct hadb_db_job *job);
void hadb__swap_try(struct hadb_db *db);

/* … of one whose part that blocks, or takes long, is over; r as hadb_job.done. */
void hadb__job_done(void *arg, int r);

/* db_write.c */
void hadb__write_route(struct hadb_req *req);
void hadb__writes_kick(struct hadb_db *db);
void hadb__writes_gated(struct hadb_db *db);    /* what has not begun goes elsewhere */
void hadb__writes_reroute(struct hadb_db *db);  /* leader or gate changed */
void hadb__undurable_check(struct hadb_db *db); /* durable or synced moved */
void hadb__lease_back(struct hadb_db *db);      /* … and may be relied on again */
void hadb__undurable_lost(struct hadb_db *db, bool definite); /* the tail is gone */
void hadb__mark_durable(struct hadb_db *db, const struct hadb_pos *pos);

/* db_read.c */
void hadb__read_route(struct hadb_req *req);
void hadb__read_joined(struct hadb_db *db, struct hadb_req *req, uint64_t round);
void hadb__reads_proven(struct hadb_db *db, uint64_t round);
void hadb__reads_failed(struct hadb_db *db);
/* Nothing is acknowledged on the lease alone before a proof that begins now. */
void hadb__prove(struct hadb_db *db);
void hadb__reads_unpark(struct hadb_db *db);
void hadb__covers_check(struct hadb_db *db);

/* db_roles.c: what users and other modules are told */
void hadb__db_role(struct hadb_db *db, const struct hadb_action *act);
void hadb__db_watch_again(struct hadb_db *db); /* there was no memory to watch its owner */
void hadb__db_owner(struct hadb_db *db, const struct hadb_owner *owner, uint64_t term);
void hadb__db_handoff_done(struct hadb_db *db, enum hadb_result result);

/* forward.c */
void hadb__forward(struct hadb_req *req);
void hadb__forwards_cancel(struct hadb_db *db); /* the leader changed: try the new one */
void hadb__ask_ready(struct hadb_db_job *job);  /* over HTTP; then hadb__job_answer() */
void hadb__notify(struct hadb_db *db, const struct hadb_owner *owner);
#endif
