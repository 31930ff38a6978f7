/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model checker: what its files share.
 *
 * A world is a few processes (each the production machine of core/ with a toy engine) and one shared
 * part: the store, the network that keeps every PUT for ever, and the ghost state of the oracles.
 * mc_world.c lists and makes the moves of a world, mc_host.c carries out what the machines ask for,
 * mc_check.c says what must hold, mc_search.c walks through all worlds, mc_pool.c stores them.
 *
 * Thread: one; hadb-mc forks one process per configuration.
 */
#ifndef HADB_SIM_MC_H
#define HADB_SIM_MC_H

#include "core/core.h"

#include <stdio.h>

#define MC_PROCS_MAX 3
#define MC_TERMS_MAX 10 /* terms of the store, with room for those of healing */
#define MC_SLOTS_MAX 9  /* the same for slots; index 0 is unused */
#define MC_TXS_MAX 8    /* transactions of one engine, at most */
#define MC_READS_MAX 3  /* linearizable reads of one process that are under way */
#define MC_NET_MAX 40   /* different objects that were ever sent */
#define MC_CAS_MAX 6    /* manifest writes that may still land */
#define MC_MOVES_MAX 256
#define MC_NOW 1000 /* the clock stands still: deadlines are "now" or "never" */

/* ---- configuration of one exploration ---- */
struct mc_config {
    const char *name;
    const char *about;
    uint8_t procs, terms, slots, window;
    uint8_t writes, crashes, lost, reads, handoffs, resigns, snapshots;
    uint8_t suspects; /* wrong or right suspicions of an owner */
    uint8_t disk_losses;
    uint8_t streams;    /* stream deliveries (entries and marks) */
    uint8_t clones;     /* a process is copied as it stands over another one; clone_guard is on */
    uint8_t overwrites; /* times that the store breaks S1: a create replaces what is there */
    bool genesis;       /* start from an empty store; else process 0 owns term 1 */
    bool lazy;          /* local operations take time too: other moves may come in between */
    bool heal;       /* from every world healing must lead to an owner and an acknowledged write */
    bool deaf;       /* the host forgets timers while healing: for the test of that check */
    bool verdicts;   /* suspicions of every kind, and their being taken back; else silence only */
    bool batch;      /* one entry takes all waiting transactions, not one */
    uint32_t depth;  /* moves, at most; 0 = no bound */
    uint32_t states; /* worlds, at most, in the default run; 0 = that of the command line */
};
extern const struct mc_config mc_configs[];
extern const size_t mc_configs_len;

struct mc_rule {
    uint32_t bit;
    const char *name, *text;
};
extern const struct mc_rule mc_rules[];
extern const size_t mc_rules_len;
const struct mc_rule *mc_rule_find(const char *name);
/* The configuration that shows quickly what goes wrong without it; NULL = none does (see README). */
const char *mc_rule_config(const struct mc_rule *rule);
const struct mc_config *mc_config_find(const char *name);

/* ---- facts that are written once and named by number (not part of a world) ---- */
struct mc_content { /* a log object */
    struct hadb_entry_info info;
    uint16_t txs;              /* DATA: its transactions, an mc_txs */
    uint8_t proc, incarnation; /* who framed it */
    uint8_t copy;              /* framed again with another put id */
};
struct mc_txs { /* a list of transactions; also the content of a view */
    uint8_t len;
    uint8_t id[MC_TXS_MAX]; /* of the client's write, from 1 */
};
struct mc_snapshot {
    struct hadb_pos pos;
    struct hadb_owner owner; /* of pos.term */
    uint16_t txs;
};
struct mc_manifest {
    struct hadb_manifest_info info;
    uint16_t snapshot; /* 0 = none */
};
uint16_t mc_content_put(const struct mc_content *content);
const struct mc_content *mc_content_get(uint16_t id);
uint16_t mc_txs_put(const struct mc_txs *txs);
const struct mc_txs *mc_txs_get(uint16_t id);
uint16_t mc_snapshot_put(const struct mc_snapshot *snapshot);
const struct mc_snapshot *mc_snapshot_get(uint16_t id);
uint16_t mc_manifest_put(const struct mc_manifest *manifest);
const struct mc_manifest *mc_manifest_get(uint16_t id);

/* ---- a world ---- */
enum mc_reply { MC_REPLY_NONE, MC_REPLY_OK }; /* a definite reply is on its way */

struct mc_op {     /* an unanswered action */
    uint8_t wait;  /* enum hadb_action_type + 1; 0 = none */
    uint8_t reply; /* enum mc_reply */
    uint8_t flag;
    uint8_t term, slot;
    uint8_t owner; /* ASK_READY: whom */
    uint16_t what; /* GET, CREATE: content; GET_MANIFEST, CAS: manifest; at the time of sending */
    uint16_t txs;  /* VIEW and the like */
    uint32_t unused;
    struct hadb_pos pos; /* APPLY, REWIND, UPLOAD */
};

struct mc_read {   /* a linearizable read that waits */
    uint8_t round; /* 0 = none */
    uint8_t need;  /* transactions that it must see */
};

struct mc_proc {
    struct hadb_core core;
    struct mc_op ops[HADB_OP_END];
    struct hadb_pos mark;    /* the engine's durable position */
    struct hadb_owner owner; /* of mark.term, as the engine's term table says */
    uint64_t tail_term;
    uint16_t waiting;       /* bit i: the client of transaction i + 1 waits for an answer */
    uint16_t snap_manifest; /* manifest read last on op SNAP */
    uint8_t incarnation;
    uint8_t gate;
    uint8_t gate_term;
    uint8_t stream; /* incarnation code of the streaming process; 0 = down */
    uint8_t txs_len;
    uint8_t tx[MC_TXS_MAX];
    struct mc_read reads[MC_READS_MAX];
    uint8_t pad[1];
};
_Static_assert(sizeof(struct mc_proc) % 8 == 0, "interned in words");

struct mc_cas {
    uint16_t expect, next; /* manifests */
};

struct mc_shared {
    uint16_t store[MC_TERMS_MAX][MC_SLOTS_MAX];
    uint16_t net[MC_NET_MAX]; /* contents that were sent, ascending */
    struct mc_cas cas[MC_CAS_MAX];
    uint16_t manifest;
    uint16_t net_len;
    uint8_t cas_len;
    uint8_t delete_upto, delete_seals; /* deletions that may happen at any time */
    uint8_t writes;                    /* client writes so far: their ids */
    /* budgets left */
    uint8_t crashes, lost, reads, handoffs, resigns, snapshots, suspects, disk_losses, streams,
        overwrites, clones;
    /* ghost state */
    uint8_t acked_len;                /* transactions 1..acked_len are acknowledged */
    uint8_t acked[MC_TXS_MAX];        /* id of each */
    uint8_t shown_len;                /* a read has returned a state with so many transactions */
    uint8_t shown[MC_TXS_MAX];        /* id of each */
    uint8_t term_owner[MC_TERMS_MAX]; /* incarnation code of the process that opened its gate */
    uint8_t term_mark[MC_TERMS_MAX];  /* durable mark that it announced */
    uint8_t pad[4];
    uint32_t refused; /* bit i: write i + 1 was reported as surely not committed */
};
_Static_assert(sizeof(struct mc_shared) % 8 == 0, "interned in words");

struct mc_world {
    struct mc_shared shared;
    struct mc_proc proc[MC_PROCS_MAX];
};

/* ---- one step of the exploration ---- */
enum mc_outcome {
    MC_DONE,
    MC_PRUNED,    /* leaves the bounds of the configuration */
    MC_VIOLATION, /* run.violation says which */
};

enum mc_move_kind {
    MC_M_REPLY,     /* a: process, b: op: the true answer */
    MC_M_REPLY_OLD, /* … as it was when the request was sent */
    MC_M_LOSE,      /* … is lost: unknown */
    MC_M_ANSWER,    /* a local operation is done (lazy) */
    MC_M_ANSWER_NO, /* … the peer is not ready */
    MC_M_LAND,      /* a: content: a PUT reaches the store */
    MC_M_LAND_CAS,  /* a: index */
    MC_M_DELETE,    /* a: term, b: slot */
    MC_M_TICK,      /* a: process */
    MC_M_POKE,
    MC_M_SUSPECT, /* b: enum hadb_liveness */
    MC_M_WRITE,
    MC_M_READ,
    MC_M_CRASH,   /* b: transactions that survive above the mark; 255 = not even the disk */
    MC_M_HANDOFF, /* b: target process; 255 = to nobody */
    MC_M_SNAPSHOT,
    MC_M_STREAM,       /* b: 1 = up, 0 = down */
    MC_M_STREAM_ENTRY, /* b: content, low byte; c: high */
    MC_M_STREAM_MARK,  /* b: slot */
    MC_M_CLONE,        /* b: the process that it replaces */
};
struct mc_move {
    uint8_t kind, a, b, c;
};

/* What the run of one configuration needs everywhere; set by mc_search(). */
struct mc_run {
    const struct mc_config *config;
    struct hadb_core_config core;
    uint32_t rules;
    FILE *trace;         /* NULL = silent */
    char violation[200]; /* empty = none */
    bool healing;        /* bounds and budgets do not count */
    uint32_t dirty;      /* bit p: process p changed; bit 31: the shared part */
};
extern struct mc_run mc_run;
#define MC_DIRTY_SHARED (1u << 31)

void mc_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Notes the first violation. */
void mc_violate(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* mc_host.c */
struct hadb_owner mc_owner(uint8_t proc, uint8_t incarnation);
struct hadb_entry_info mc_info(uint16_t content); /* as the machine sees it, with its hash */
bool mc_is_local(uint8_t wait);                   /* answered without the network */
uint8_t
mc_owner_code(const struct hadb_owner *owner); /* process * 16 + incarnation + 1; 0 = nobody */
enum mc_outcome mc_step(struct mc_world *world, uint8_t proc, const struct hadb_event *event);
enum mc_outcome mc_answer(struct mc_world *world, uint8_t proc, uint8_t op, bool yes);
void mc_proc_start(struct mc_world *world, uint8_t proc, struct hadb_event *start);

/* mc_world.c */
enum mc_outcome mc_world_init(struct mc_world *world);
size_t mc_moves(const struct mc_world *world, struct mc_move *moves);
enum mc_outcome mc_apply(struct mc_world *world, struct mc_move move);
/* Lets everything that is under way arrive; false = no owner and no acknowledged write at the end. */
bool mc_heal(struct mc_world *world);

/* mc_print.c */
void mc_move_print(const struct mc_world *world, struct mc_move move, char *out, size_t size);
void mc_trace_action(uint8_t proc, const struct hadb_action *action);
void mc_describe(uint16_t content, char *out, size_t size);
void mc_owner_name(const struct hadb_owner *owner, char *out, size_t size);

/* mc_check.c */
/* The transactions of the history as the store tells it now; also checks links and seals. */
bool mc_history(const struct mc_shared *shared, struct mc_txs *out);
enum mc_outcome mc_check(const struct mc_world *world);

/* mc_search.c */
struct mc_result {
    uint64_t states, transitions, healed, pruned;
    uint32_t depth;
    double seconds;
    uint64_t bytes;
    bool exhausted, violated;
};
int mc_search(const struct mc_config *config, uint32_t rules, uint64_t states_max,
              double seconds_max, struct mc_result *result);

/* mc_pool.c: every different blob once; numbered from 0. The pool's memory is never given back. */
struct mc_pool;
struct mc_pool *mc_pool_new(size_t bytes); /* of one blob; a multiple of 4 */
uint32_t mc_pool_put(struct mc_pool *pool, const void *blob, bool *fresh);
void mc_pool_get(const struct mc_pool *pool, uint32_t id, void *blob);
uint64_t mc_pool_len(const struct mc_pool *pool);
uint64_t mc_pool_bytes(const struct mc_pool *pool);
#endif
