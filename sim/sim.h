/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulator: what its files share.
 *
 * One struct sim is one seed's cluster on virtual time: nodes that run the production machines of
 * core/, a store, a lease store and a network that fail on purpose, clients, and oracles that know
 * everything. Whatever happens is an event in one queue; ties are broken by the seed.
 *
 * Thread: one. Invariant: everything follows from the seed and the options; nothing else is read.
 */
#ifndef HADB_SIM_SIM_H
#define HADB_SIM_SIM_H

#include "core/core.h"
#include "core/hint.h"
#include "sim/linear.h"
#include "sim/sim_names.h"

#include <stdio.h>

#define SIM_NODES_MAX 7u
#define SIM_CLIENTS_MAX 6u
#define SIM_KEYS 6u /* the last SIM_LOCAL_KEYS of them take LOCAL writes */
#define SIM_LOCAL_KEYS 2u
#define SIM_REQS_MAX 2000u
#define SIM_WAITS_MAX 64u /* requests that wait at one node */
#define SIM_HANDLES_MAX 64u
#define SIM_JOURNAL_MAX 256u
#define SIM_NOBODY 255u
#define SIM_MS 1000u /* virtual time is counted in microseconds */
#define SIM_NEVER UINT64_MAX

/* ---- the queue ---- */
enum sim_kind {
    SIM_EV_TIMER,  /* a deadline of node (gen a) may have passed */
    SIM_EV_ANSWER, /* an action of node's core is answered (op, result, a, b) */
    SIM_EV_STORE,  /* a request reaches the store */
    SIM_EV_LEASE,  /* a request reaches the lease store (op: enum sim_lease_op) */
    SIM_EV_LEASE_REPLY,
    SIM_EV_CONNECT,   /* a connection attempt reaches the host of node (from a, purpose b) */
    SIM_EV_LINK,      /* how that ended, back at node (from a; purpose b; result) */
    SIM_EV_STREAM,    /* something arrives on a stream (op: enum sim_stream_op) */
    SIM_EV_NODE_MSG,  /* ask ready, ready, notify (op: enum sim_msg_op) */
    SIM_EV_REQUEST,   /* a client's request reaches node (req a, attempt b, through x) */
    SIM_EV_REPLY,     /* its answer reaches the client, or the node that forwarded it */
    SIM_EV_CLIENT,    /* client a: next request */
    SIM_EV_TIMEOUT,   /* client's patience with attempt b of req a is over */
    SIM_EV_NEMESIS,   /* trouble */
    SIM_EV_START,     /* node's process starts */
    SIM_EV_RESUME,    /* node's process goes on */
    SIM_EV_HEARTBEAT, /* node: beat on its streams, sync the disk now and then */
    SIM_EV_PHASE,     /* healing, and the steps after it */
    SIM_EV_TURN,      /* node's turn to seal */
};

struct sim_event {
    uint64_t at, tie;
    uint8_t kind, node, op, flag;
    uint32_t life; /* of node's process; 0 = whichever */
    uint32_t result;
    uint32_t a, b;
    uint64_t x, y;
    uint64_t own_term, own_slot; /* SIM_EV_STORE, a survey: place of the own object */
};

/* ---- facts: written once, named by number from 1 ---- */
struct sim_list { /* transactions: numbers of requests */
    uint32_t at, len;
};
struct sim_entry {
    struct hadb_entry_info info;
    struct sim_list txs;
    uint64_t durable_slot; /* of its header */
    bool was_stored, was_deleted;
};
struct sim_snapshot {
    struct hadb_pos pos;
    struct hadb_owner owner;
    struct sim_list txs;
};
struct sim_manifest {
    struct hadb_manifest_info info;
    uint32_t snapshot;
};
struct sim_place { /* of the store, and of the known history: (term, slot) -> number */
    uint64_t term, slot;
    uint32_t value;
};
struct sim_map {
    struct sim_place *places; /* open addressing; term = slot = 0 never occurs */
    size_t len, cap;
};

/* ---- clients ---- */
struct sim_req {
    uint8_t kind, key, client, outcome;
    bool local;         /* acknowledged after the local fsync */
    bool tainted;       /* an attempt ended without a definite answer */
    bool acked;         /* some node promised that it is durable */
    bool fenced;        /* an attempt was answered: fenced, surely not committed */
    uint8_t first_node; /* that committed it */
    uint32_t attempts;
    uint64_t value, expect;
    uint64_t call, ret;
    uint64_t txid;       /* of the answer; a read: of the state that it saw */
    uint64_t bookmark;   /* bookmark reads: what they ask for */
    uint32_t max_lag_ms; /* bounded reads */
};
struct sim_client {
    uint8_t node; /* asked last */
    uint32_t req; /* under way; 0 = none */
    uint64_t bookmark;
};

/* ---- one node ---- */
struct sim_handle {
    uint32_t id;    /* entry or snapshot; 0 = free */
    uint32_t count; /* of uses: part of the handle, so that a stale one is noticed */
    struct sim_list view;
    uint8_t kind; /* enum sim_handle_kind */
};
enum sim_handle_kind { SIM_H_ENTRY = 1, SIM_H_VIEW, SIM_H_SNAPSHOT };

enum sim_wait_kind { SIM_W_NONE, SIM_W_DURABLE, SIM_W_ROUND, SIM_W_APPLIED };
struct sim_wait { /* a request that waits at a node */
    uint64_t at;  /* bounded read: when it came to this node */
    uint8_t kind, outcome;
    uint32_t req, attempt, via; /* via: node that forwarded it, or SIM_NOBODY */
    uint64_t txid, round, value;
    bool committed; /* this attempt put it into the engine */
};

struct sim_undo { /* state before a local change that is not on disk yet */
    uint32_t txs_len;
    uint64_t tail_term;
    struct hadb_pos mark;
    struct hadb_owner owner;
};
struct sim_engine {
    uint32_t *txs; /* numbers of requests */
    uint32_t len, cap;
    uint64_t tail_term;
    struct hadb_pos mark;
    struct hadb_owner owner; /* of mark.term */
    struct sim_undo journal[SIM_JOURNAL_MAX];
    uint32_t journal_len;
    uint32_t lied_len; /* transactions that an fsync which did nothing has promised */
    uint64_t kv[SIM_KEYS];
    uint32_t *txid_of; /* by request; 0 = not here */
};

struct sim_op { /* an unanswered action */
    bool busy;
    enum hadb_action_type type;
    enum hadb_gate gate;
    bool flag;
    uint64_t term, slot, handle, txid;
    struct hadb_hash prev;
    struct hadb_pos pos;
    uint32_t id;
};

struct sim_stream {
    uint32_t conn; /* number of the connection; 0 = none */
    bool up;       /* client side: the server said hello */
    bool broken;   /* something was lost on it: nothing more arrives */
    uint8_t server;
    uint64_t last_at; /* messages arrive in order */
    uint64_t retry_at;
    struct hadb_owner owner;
};

struct sim_node {
    bool up, paused, stopping;
    bool poisoned; /* its engine takes no more writes */
    uint32_t life;
    uint64_t paused_until;
    struct sim_event *deferred; /* what arrived while it stood still */
    uint32_t deferred_len, deferred_cap;
    uint32_t unheard;                 /* as a new leader: bit per node that it has to tell so */
    uint64_t clock_base_us, clock_us; /* at global time clock_base_us it showed clock_us */
    uint32_t rate_permille;
    uint64_t last_ms;
    uint32_t timer_gen;
    uint64_t timer_at; /* when it is set for */

    struct hadb_core core;
    struct hadb_hint hint;
    struct hadb_watch watch;
    uint32_t seen_tag; /* of the record of the node that is watched, as read last */
    bool watching;
    uint8_t told;            /* liveness that the core was told last */
    uint64_t alarm_until;    /* a wrong verdict stands until then */
    struct hadb_owner owner; /* of the current term, as the core sees it */
    struct sim_op ops[HADB_OP_END];
    struct sim_handle handles[SIM_HANDLES_MAX];
    struct sim_engine engine;
    uint8_t gate;
    uint64_t gate_term;
    struct sim_wait waits[SIM_WAITS_MAX];
    struct sim_wait joining;       /* the read whose EV_READ is being handled */
    struct sim_stream stream;      /* as a follower */
    uint32_t conns[SIM_NODES_MAX]; /* as a leader: connection number of each follower */
    uint64_t conn_last[SIM_NODES_MAX];
    uint32_t snap_manifest; /* manifest read last on op SNAP */
    uint32_t lease_tag;
    bool given_up, create_unknown[HADB_OP_END], cas_unknown;
    bool restarted_with_tail;
    bool damaged; /* an answer of the store was, in this life */
    uint64_t store_cut_until, store_clog_until;
};

struct sim_lease {
    bool exists;
    uint32_t tag;
    struct hadb_id incarnation;
    uint64_t counter;
    uint8_t state;
    bool given_up;
};

/* What a seed drew. */
struct sim_draw {
    uint64_t faults;
    uint32_t per_mille[SIM_F_BITS]; /* rate of those that are per request */
    uint64_t ttl_ms, store_us, net_us, disk_us, think_us, nemesis_us, safety_us;
    uint32_t keys;                     /* for DURABLE writes */
    uint32_t nodes, clients, replicas; /* replicas: of nodes, how many never lead */
    uint32_t lag_ms;                   /* shortest bound of a bounded read; 0 = there are none */
    struct hadb_core_config core;
    struct hadb_hint_config hint;
};

struct sim_options {
    uint32_t nodes; /* 0 = 3 */
    uint64_t steps_max;
    uint32_t rules;
    uint64_t faults; /* those allowed */
    bool verbose;    /* tell everything on out */
    bool keep_lines; /* keep the last lines in tail */
    FILE *out;
};

struct sim_ring;
struct sim {
    struct sim_options opt;
    struct sim_draw draw;
    uint64_t seed, rng, now, steps, hash;
    struct sim_event *heap;
    size_t heap_len, heap_cap;
    struct sim_node node[SIM_NODES_MAX];
    struct sim_client client[SIM_CLIENTS_MAX];
    struct sim_req *reqs; /* from 1 */
    uint32_t reqs_len;

    struct sim_entry *entries;
    struct sim_manifest *manifests;
    struct sim_snapshot *snapshots;
    uint32_t *lists;
    uint32_t entries_len, entries_cap, manifests_len, manifests_cap, snapshots_len, snapshots_cap;
    uint32_t lists_len, lists_cap;

    struct sim_map store;
    uint32_t manifest;
    uint64_t outage_until;
    uint64_t store_requests;
    struct sim_lease lease[SIM_NODES_MAX], lease_past[SIM_NODES_MAX];
    uint64_t lease_frozen_until;
    uint64_t link_cut_until[SIM_NODES_MAX][SIM_NODES_MAX];
    uint32_t conns_len;

    /* oracles */
    struct sim_map truth; /* position (term, slot) -> entry, once durable or applied anywhere */
    uint32_t *truth_tx;   /* transaction -> request */
    uint64_t *truth_at;   /* transaction -> when it was seen durable first */
    uint32_t truth_len;
    struct sim_map owners; /* term -> node and life that opened its gate */

    uint8_t phase; /* enum sim_phase */
    uint64_t healed_at, idle_requests;
    uint32_t heal_req, waited;
    bool was_behind;
    uint8_t damage;         /* enum sim_damage */
    uint32_t kept_down;     /* bit per node that does not start again after it */
    uint32_t damaged_truth; /* truth_len when it happened */
    uint32_t damaged_life[SIM_NODES_MAX];
    bool over;
    char violation[240];
    uint64_t *sometimes; /* SIM_S_LEN counters */
    struct sim_ring *ring;
};
enum sim_phase { SIM_PH_SAFETY, SIM_PH_HEALED, SIM_PH_QUIET, SIM_PH_IDLE, SIM_PH_DAMAGED };
enum sim_damage { SIM_DAMAGE_NONE, SIM_DAMAGE_HOLE, SIM_DAMAGE_ROLLBACK };

#include "sim/sim_private.h"
#endif
