/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 1 of 8: a request on its way, from the application's thread or an HTTP exchange to its answer.
 *
 * The caller owns the memory, fills in the inputs, and hands the request over with hadb__req_start() (loop)
 * or hadb__req_post() (any thread); done() is called exactly once, on the loop, and gets it back.
 */
#ifndef HADB_NODE_REQ_H
#define HADB_NODE_REQ_H

#include "hadb/executor.h"
#include "node/http_client.h"
#include "node/loop.h"
#include "node/pool.h"

#define HADB_REQUESTS_MAX 65536u             /* under way on one node */
#define HADB_REQUESTS_BYTES_MAX (1ull << 30) /* keys and values in them */

struct hadb_db;
struct hadb_box;
struct hadb_req;

struct hadb_reqs {
    struct hadb_req *first, *last;
    size_t len;
};

enum hadb_req_kind {
    HADB_REQ_WRITE,
    HADB_REQ_READ,
    HADB_REQ_READY,   /* hadb_db_wait_ready(); with a bookmark: and that state is here */
    HADB_REQ_HANDOFF, /* on the leader; to_node zero = resign */
};

struct hadb_req {
    /* in: const after start */
    enum hadb_req_kind kind;
    struct hadb_db *db;
    struct hadb_request request; /* borrows from the caller */
    enum hadb_ack_mode ack;      /* not DEFAULT any more */
    enum hadb_read_level read;
    struct hadb_version bookmark; /* BOOKMARK */
    uint32_t max_lag_ms;          /* BOUNDED; else 0 */
    uint64_t deadline_ms;         /* absolute */
    bool forwarded;               /* came from another node: not forwarded again */
    uint64_t forwarded_term;      /* … which believes that this node leads that term */
    struct hadb_id to_node;       /* HANDOFF */
    void (*done)(struct hadb_req *req);
    void *arg;

    /* out, valid in done() */
    int r;
    struct hadb_response response; /* the receiver frees it */
    struct hadb_error err;
    struct hadb_version position; /* durable state that covers the answer; txid 0 = none */

    /* loop */
    struct hadb_loop_task task;
    struct hadb_reqs *list; /* where it waits */
    struct hadb_req *prev, *next;
    struct hadb_timer timer;
    struct hadb_job job;  /* reads */
    struct hadb_box *box; /* reads: counted */
    bool started;
    bool in_job;     /* a worker has it: it cannot be answered now */
    bool maybe_done; /* an earlier attempt may have committed */
    bool own_id;     /* the id was made here, not chosen by the caller */
    uint8_t new_ids; /* how often it was made again */
    bool finished;
    bool expired; /* the deadline passed while it could not be answered */
    size_t bytes;
    uint64_t round;              /* linearizable reads */
    hadb_txid need_txid;         /* answer when this is durable, or synced, or both */
    struct hadb_http_call *call; /* forwarding */
    struct hadb_buf wire;        /* … what is sent */
    uint64_t sent_term;          /* … to the leader of that term */
    unsigned attempts;           /* failed ones since it was routed last: wait before the next */
    unsigned retries;            /* … in all */
};

/* Loop: starts the deadline and routes. */
void hadb__req_start(struct hadb_req *req);
/* Any thread. HADB_EUNAVAIL when the node is closing; done() is not called then. */
int hadb__req_post(struct hadb_req *req, struct hadb_error *err);
/* Loop: answers. The request must be in no job. */
void hadb__req_finish(struct hadb_req *req, int r, const struct hadb_error *err);
/* Loop: answers with a failure made here. */
void hadb__req_fail(struct hadb_req *req, int code, const char *text);
/* Bytes that a request holds. */
size_t hadb__req_bytes(const struct hadb_request *request);

/* May another copy of this request be on its way, or have run? */
bool hadb__req_repeated(const struct hadb_req *req);
/*
 * Loop: the leader refused the id for its age (.response is that answer). True: the request goes on with a new id,
 * since no other copy of it exists, or it has ended, unknown: one may have run before. False: the refusal counts.
 */
bool hadb__req_id_expired(struct hadb_req *req);

void hadb__reqs_add(struct hadb_reqs *list, struct hadb_req *req);
void hadb__reqs_remove(struct hadb_req *req); /* from whichever it is in */

/* Requests and answers between nodes (wire.c has the byte tables). */
int hadb__wire_encode_request(const struct hadb_req *req, uint32_t left_ms, struct hadb_buf *out,
                              struct hadb_error *err);
/* Fills in request, ack, forwarded, forwarded_term; slices point into @bytes; *ops (batches only) is allocated.
 * HADB_EPROTO, HADB_ENOMEM. */
int hadb__wire_decode_request(struct hadb_slice bytes, struct hadb_req *req,
                              struct hadb_kv_op **ops, uint32_t *left_ms, struct hadb_error *err);
int hadb__wire_encode_answer(const struct hadb_req *req, struct hadb_buf *out,
                             struct hadb_error *err);
/* Fills in r, response (all but its value), err and position. HADB_EPROTO. */
int hadb__wire_decode_answer(struct hadb_slice bytes, struct hadb_req *req, struct hadb_error *err);
#endif
