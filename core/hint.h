/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: who seems to be alive. Two machines per process, of the same kind as core.h.
 *
 * struct hadb_hint renews this node's one record in the LeaseStore (protocol 4.6, 4.12).
 * struct hadb_watch judges one other node by its heartbeats, its record and refused connections.
 * Both only ever cost or save time: no safety rests on them.
 */
#ifndef HADB_HINT_H
#define HADB_HINT_H

#include "core/core.h"

struct hadb_hint_config {
    uint32_t ttl_ms;         /* a node silent for longer than ttl*(1+rho)+margin may be replaced */
    uint32_t request_max_ms; /* deadline of one lease request; 0 = ttl/5 */
    uint32_t margin_ms;      /* 0 = 50 */
    uint32_t rho_percent;    /* clock rate error that is tolerated; 0 = 2 */
    bool tells;              /* the lease store says when a record changes: HADB_WATCH_AWAIT */
};
/* Fills defaults; false when renew_every*(1 missed + 1) + request_max < ttl*(1-rho) cannot hold. */
bool hadb_hint_config_fix(struct hadb_hint_config *config);

/* ---- own record ---- */
enum hadb_hint_do {
    HADB_HINT_NOTHING,
    HADB_HINT_READ, /* read the own record: answer with hadb_hint_read_done */
    HADB_HINT_WRITE, /* write the record (counter, state) on top of the last tag: answer with hadb_hint_write_done */
};
enum hadb_hint_state { HADB_HINT_LIVE = 1, HADB_HINT_FREE = 2 };

struct hadb_hint {
    struct hadb_hint_config config;
    uint64_t counter;       /* goes into the record; counts renewals of this incarnation */
    uint64_t next_at_ms;    /* when to renew */
    uint64_t sent_at_ms;    /* when the request that is under way was sent */
    uint64_t renewed_at_ms; /* send time of the last renewal that succeeded; 0 = never */
    uint64_t
        store_dirty_at_ms; /* first moment at which storage stopped answering; 0 = it answers */
    uint8_t state;         /* enum hadb_hint_state */
    bool busy;             /* a request is under way */
    bool reread;           /* tag unknown: read before the next write */
    bool lost;             /* the last write was lost to another writer */
    bool closing;          /* FREE is to be written, then nothing more */
    /* another process under this node's name */
    bool yields;             /* the record is left to it */
    struct hadb_id rival;    /* its incarnation; zero = none */
    uint64_t rival_counter;  /* as read last */
    uint64_t rival_until_ms; /* silent until then: it is gone */
};
void hadb_hint_init(struct hadb_hint *hint, const struct hadb_hint_config *config);
/* What to do now. The host calls it after every event and at hadb_hint_deadline(). */
enum hadb_hint_do hadb_hint_step(struct hadb_hint *hint, uint64_t now_ms);
/* OK: record found or absent, the host keeps its tag. UNKNOWN: try again. */
void hadb_hint_read_done(struct hadb_hint *hint, enum hadb_result result, uint64_t now_ms);
/* Before hadb_hint_read_done(OK): whose record it is, and how it looks. */
struct hadb_hint_found {
    struct hadb_owner self, owner;
    uint64_t counter;
    uint32_t ttl_ms;
    enum hadb_hint_state state;
};
void hadb_hint_found(struct hadb_hint *hint, const struct hadb_hint_found *found, uint64_t now_ms);
/* OK, LOST (somebody uses this node's name, or an own write of unknown outcome landed), UNKNOWN. */
void hadb_hint_write_done(struct hadb_hint *hint, enum hadb_result result, uint64_t now_ms);
/* Storage answered (ok) or has been failing while there is something to write. */
void hadb_hint_storage(struct hadb_hint *hint, bool ok, uint64_t now_ms);
/* Orderly stop: write FREE next. */
void hadb_hint_close(struct hadb_hint *hint, uint64_t now_ms);
uint64_t hadb_hint_deadline(const struct hadb_hint *hint);
uint32_t hadb_hint_renew_every_ms(const struct hadb_hint_config *config); /* ttl/3 */
/* May LOCAL and ASYNC writes be acknowledged? Measured from the sending of the last renewal (4.6). */
bool hadb_hint_local_ok(const struct hadb_hint *hint, uint64_t now_ms);
/* Should heartbeats go out on streams? Not while storage fails for longer than the ttl. */
bool hadb_hint_heartbeat_ok(const struct hadb_hint *hint, uint64_t now_ms);

/* ---- another node ---- */
enum hadb_watch_do {
    HADB_WATCH_NOTHING,
    HADB_WATCH_READ,    /* read the node's record: answer with hadb_watch_record */
    HADB_WATCH_CONNECT, /* try a new connection to its address: answer with hadb_watch_connect */
    HADB_WATCH_AWAIT, /* beside those: wait until its record is not the one read last any more, half a ttl at most:
                           answer with hadb_watch_changed */
};
enum hadb_watch_link { HADB_LINK_CONNECTED, HADB_LINK_REFUSED, HADB_LINK_NO_ANSWER };

struct hadb_watch {
    struct hadb_hint_config config;
    struct hadb_id incarnation; /* whose life is being judged */
    uint64_t counter;           /* last counter read; 0 = none yet */
    uint64_t alive_at_ms;       /* last proof of life on this node's own clock */
    uint64_t next_at_ms;        /* next read or connection check */
    uint8_t liveness;           /* enum hadb_liveness */
    uint8_t refused;            /* consecutive refusals after the stream broke */
    bool stream_up;
    bool counter_known;   /* the counter was read after the last proof of life by other means */
    bool broken;          /* the stream broke by itself: fast suspicion is on */
    bool busy;            /* a read or check is under way */
    uint8_t false_alarms; /* refusals from an owner that turned out alive: back off */
    /* being told of changes, while no stream tells */
    bool record_known;    /* read since the last heartbeat: there is something to compare with */
    bool awaiting;        /* HADB_WATCH_AWAIT is unanswered */
    uint8_t deaf;         /* consecutive AWAITs that failed: reading goes on as without them */
    uint64_t await_at_ms; /* when the last AWAIT began; then: not before */
    uint64_t read_at_ms;  /* last READ */
};
void hadb_watch_init(struct hadb_watch *watch, const struct hadb_hint_config *config,
                     const struct hadb_id *incarnation, uint64_t now_ms);
/* One thing at a time; the host calls it until it says NOTHING. */
enum hadb_watch_do hadb_watch_step(struct hadb_watch *watch, uint64_t now_ms);
/* A heartbeat, a stream that came up, a new log entry of that incarnation. */
void hadb_watch_alive(struct hadb_watch *watch, uint64_t now_ms);
void hadb_watch_stream(struct hadb_watch *watch, bool up, uint64_t now_ms);
/* Its record as read: incarnation, counter, state; ABSENT or UNKNOWN change nothing. */
void hadb_watch_record(struct hadb_watch *watch, enum hadb_result result,
                       const struct hadb_id *incarnation, uint64_t counter,
                       enum hadb_hint_state state, uint64_t now_ms);
/* OK: its record may have changed; ABSENT: nothing happened in that time; UNKNOWN: the store cannot tell just now. */
void hadb_watch_changed(struct hadb_watch *watch, enum hadb_result result, uint64_t now_ms);
void hadb_watch_connect(struct hadb_watch *watch, enum hadb_watch_link link, uint64_t now_ms);
uint64_t hadb_watch_deadline(const struct hadb_watch *watch);
/* The verdict; the host passes every change to the databases that this node owns. */
enum hadb_liveness hadb_watch_liveness(const struct hadb_watch *watch);
#endif
