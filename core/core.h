/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 5 and 7 of 8: the safety protocol of one database as a state machine.
 *
 *     step(state, event, now) -> actions
 *
 * The same object code runs in node/, in sim/ and in the model checker. The state is flat, holds
 * no pointers and may be copied with memcpy. Payloads (entry bytes, views, manifests) stay outside:
 * they travel as handles (chosen by the host, 0 = none) and hashes. No clock, no I/O, no allocation.
 *
 * The contract between the machine and its host:
 *  - Every action that names an @op is answered by exactly one event with that op, sooner or later;
 *    the machine never has two unanswered actions on one op. A crash drops all of them.
 *  - Handles given to the machine in an event belong to it until it releases them (HADB_ACT_RELEASE)
 *    or passes them on in an action that says so.
 *  - The host calls hadb_core_step() with HADB_EV_TICK when hadb_core_deadline() has passed.
 *  - Actions are carried out in order. The host adds no decision of its own about role, term or retry.
 *
 * Rule numbers in comments (4.3, 4.4.4 …) are those of the safety protocol.
 */
#ifndef HADB_CORE_H
#define HADB_CORE_H

#include "hadb/types.h"

#define HADB_WINDOW_MAX 8u         /* slots in flight, at most */
#define HADB_STREAM_BUFFER_MAX 8u  /* entries of the stream waiting for the durable mark */
#define HADB_ACTIONS_MAX 48u       /* actions of one step, at most */

/* ---- safety rules: a const mask given at init; node/ asserts that all are on; checkers may clear one ---- */
/* X(name, bit, what goes wrong without it) */
#define HADB_RULES(X)                                                                              \
    X(BOUNDARY_CHECK, 0, "a seal made with a stale view of a collected slot would own a term (4.4.4)")         \
    X(KEEP_SEALS, 1, "a paused owner could create a slot behind a deleted seal (4.7)")             \
    X(PREFIX_ACK, 2, "a write could be acknowledged while an earlier slot is lost (4.3.2)")        \
    X(COMPARE_CONTENT, 3, "somebody else's object would be taken for one's own (4.5)")             \
    X(RESEND_UNKNOWN, 4, "a write of unknown outcome would be acknowledged (4.5)")                 \
    X(CHAIN, 5, "an entry of another history would be applied (4.8)")                              \
    X(SNAPSHOT_DURABLE, 6, "a snapshot would hold transactions that may yet be rewound (4.7)")     \
    X(READ_PROOF, 7, "a sealed owner would serve a stale linearizable read (4.9)")                 \
    X(READ_AFTER, 8, "a proof asked for before the read began would count (4.9)")                  \
    X(READ_BOUNDARY, 9, "a collected slot would look like the tip of the log (4.9)")               \
    X(REPLY_DURABLE, 10, "a reply would rest on state that can be rewound (4.3.4)")                \
    X(REWIND_FOREIGN, 11, "a fenced tail would stay in the database (4.3.6)")                      \
    X(REFRAME_OWN_SEAL, 12, "a tail ended by another's seal would be shipped again (4.3.7)")       \
    X(NEW_TERM_AT_START, 13, "a restarted process would write in the term of its predecessor (4.2)")  \
    X(DRAIN_BEFORE_SEAL, 14, "a planned hand-off would lose writes (4.10)")                        \
    X(STREAM_MARK, 15, "a follower would apply entries that are not durable (4.8)")                \
    X(FENCED_DEFINITE, 16, "a write reported as fenced could be found committed (4.14 I10)")       \
    X(DELETE_LAST, 17, "slots would be deleted before a manifest covers them (4.7)")               \
    X(CAS_REREAD, 18, "a manifest write of unknown outcome would be taken for done (4.7)")         \
    X(HANDOFF_CHECK, 19, "a successor named by a stray seal would own a term (4.10)")

enum hadb_rule {
#define HADB_X(name, bit, text) HADB_RULE_##name = 1u << (bit),
    HADB_RULES(HADB_X)
#undef HADB_X
};
#define HADB_RULES_ALL ((1u << 20) - 1u)

/* ---- vocabulary ---- */
enum hadb_core_role {
    HADB_CORE_FOLLOWER,
    HADB_CORE_CANDIDATE, /* patience is over: wants to seal the current term */
    HADB_CORE_OWNER,
    HADB_CORE_DRAINING, /* owner that is handing over: no new commits, flushing */
    HADB_CORE_FENCED,   /* was owner; another ended its term; resolving what was in flight */
    HADB_CORE_HALTED,   /* cannot go on; see enum hadb_halt */
};

enum hadb_halt {
    HADB_HALT_NONE,
    HADB_HALT_CORRUPT,     /* an object of the history fails its hash */
    HADB_HALT_FORK,        /* an object does not link to the history this node holds */
    HADB_HALT_NO_MANIFEST, /* the manifest is missing although the database exists */
    HADB_HALT_NO_SNAPSHOT, /* behind the boundary and no snapshot can be restored */
    HADB_HALT_ROLLBACK,    /* the store shows an older manifest than seen before */
    HADB_HALT_LOCAL,       /* the local engine failed: poisoned or corrupt */
    HADB_HALT_RETIRED,     /* a terminal seal ended the database */
    HADB_HALT_STOPPED,     /* orderly stop */
};

enum hadb_result {
    HADB_R_OK,
    HADB_R_ABSENT,   /* get: not there */
    HADB_R_EXISTS,   /* create: something is there */
    HADB_R_LOST,     /* compare-and-swap lost */
    HADB_R_UNKNOWN,  /* no definite answer: may or may not have happened */
    HADB_R_CORRUPT,  /* there, but its hash or format is wrong */
    HADB_R_DIVERGED, /* apply: the local tail differs from the entry */
    HADB_R_FAILED,   /* local failure (engine, snapshot, peer not ready) */
};

struct hadb_owner {
    struct hadb_id node;        /* who, stable over restarts */
    struct hadb_id incarnation; /* one process life; zero = nobody */
};

enum hadb_core_entry { HADB_CORE_DATA = 1, HADB_CORE_SEAL = 2 }; /* as enum hadb_entry_kind */

enum hadb_seal_reason {
    HADB_SEAL_GENESIS = 1,
    HADB_SEAL_FAILOVER = 2,
    HADB_SEAL_HANDOFF = 3,
    HADB_SEAL_RESIGN = 4,
    HADB_SEAL_RETIRED = 5,
};

/* What the machine knows of a log entry. */
struct hadb_entry_info {
    enum hadb_core_entry kind;
    enum hadb_seal_reason reason; /* SEAL */
    uint64_t term, slot;
    hadb_txid last_txid;       /* DATA: its last transaction; SEAL: the last one of the term */
    struct hadb_hash prev;     /* link to the entry before */
    struct hadb_hash hash;     /* of the entry itself */
    struct hadb_owner next;    /* SEAL: owner of term+1 */
};

/* What the machine knows of the manifest. */
struct hadb_manifest_info {
    uint64_t version;
    struct hadb_id nonce;      /* of the last writer */
    uint64_t boundary_slot;    /* DATA slots <= it are covered by the snapshot; 0 = none */
    uint64_t boundary_term;    /* term at boundary_slot + 1 */
    uint64_t swept_slot;       /* DATA slots <= it have been deleted */
    bool has_snapshot;
};

/* ---- ops: who is asking; at most one unanswered action each ---- */
enum hadb_core_op {
    HADB_OP_NONE,
    HADB_OP_MAIN,     /* tailing, election, hand-off, rewind, restore */
    HADB_OP_FRAME,    /* framing the next entry */
    HADB_OP_READ,     /* owner's proof for linearizable reads */
    HADB_OP_SNAP,     /* snapshot, manifest, deletion */
    HADB_OP_GATE,     /* closing the write gate */
    HADB_OP_SLOT0,    /* window entry i is HADB_OP_SLOT0 + i */
    HADB_OP_END = HADB_OP_SLOT0 + HADB_WINDOW_MAX,
};

/* ---- events ---- */
enum hadb_event_type {
    HADB_EV_TICK,          /* a deadline may have passed */
    HADB_EV_START,         /* start.*: what the engine holds; once, first */
    HADB_EV_ENTRY,         /* answers GET: OK entry+handle | ABSENT | CORRUPT | UNKNOWN */
    HADB_EV_MANIFEST,      /* answers GET_MANIFEST: OK manifest | ABSENT | CORRUPT | UNKNOWN */
    HADB_EV_FRAMED,        /* answers FRAME_*: OK entry+handle (view = handle of a view, if asked) | FAILED;
                              answers VIEW (op SNAP): OK view, pos = the engine's mark, txid = last in the view */
    HADB_EV_CREATED,       /* answers CREATE: OK | EXISTS | UNKNOWN */
    HADB_EV_APPLIED,       /* answers APPLY: OK | DIVERGED | FAILED | CORRUPT */
    HADB_EV_REWOUND,       /* answers REWIND: OK (tail saved and undone) | FAILED */
    HADB_EV_RESTORED,      /* answers RESTORE: OK pos+owner | ABSENT (no snapshot) | CORRUPT | UNKNOWN | FAILED */
    HADB_EV_GATED,         /* answers GATE drain/closed: no commit will follow; txid = last commit */
    HADB_EV_COMMITTED,     /* txid: last local commit (owner) */
    HADB_EV_READ,          /* a linearizable read begins */
    HADB_EV_OWNER,         /* liveness of the current owner: enum hadb_liveness in .liveness, .owner */
    HADB_EV_POKE,          /* somebody says that there is news in storage */
    HADB_EV_STREAM,        /* the owner's stream: result OK = up, else down; .owner = the streaming process */
    HADB_EV_STREAM_ENTRY,  /* entry+handle from the owner's stream; .owner = the streaming process */
    HADB_EV_STREAM_MARK,   /* term, slot: durable on the owner; .owner = the streaming process */
    HADB_EV_HANDOFF,       /* .owner: to whom (node; zero = to nobody, resign) */
    HADB_EV_READY,         /* answers ASK_READY: OK owner (with incarnation) + pos of the target | FAILED */
    HADB_EV_SNAPSHOT,      /* please publish a snapshot */
    HADB_EV_UPLOADED,      /* answers UPLOAD: OK handle of a snapshot reference | FAILED */
    HADB_EV_CAS,           /* answers CAS_MANIFEST: OK | LOST | UNKNOWN | FAILED */
    HADB_EV_DELETED,       /* answers DELETE: OK | UNKNOWN */
    HADB_EV_STOP,          /* orderly stop: answer what is known, then halt */
};

enum hadb_liveness {
    HADB_LIVE_ALIVE,  /* renewed lately */
    HADB_LIVE_SILENT, /* no renewal for ttl*(1+rho)+margin */
    HADB_LIVE_GONE,   /* process surely gone: stream broken and new connections refused, twice */
    HADB_LIVE_FREE,   /* its hint says FREE, or lists this database as given up */
};

struct hadb_event {
    enum hadb_event_type type;
    enum hadb_result result;
    enum hadb_core_op op;
    enum hadb_liveness liveness;
    uint64_t handle;
    uint64_t view;
    uint64_t term, slot;
    hadb_txid txid;
    struct hadb_owner owner;
    struct hadb_entry_info entry;
    struct hadb_manifest_info manifest;
    struct hadb_pos pos;
    hadb_txid last_txid; /* START: last local transaction (tail above pos.txid); READY: unused */
    uint64_t last_term;  /* START: term of the tail */
};

/* ---- actions ---- */
enum hadb_action_type {
    HADB_ACT_ROLE,         /* role, halt, term: changed */
    HADB_ACT_OWNER,        /* owner, term: the current term's owner changed; answer with EV_OWNER when known */
    HADB_ACT_OWNER_SEEN,   /* owner: a new log entry counts as a renewal */
    HADB_ACT_GET,          /* op, term, slot */
    HADB_ACT_GET_MANIFEST, /* op */
    HADB_ACT_FRAME_DATA,   /* op; term, slot, prev, after txid (commits above it); want_view: also open a view
                              at exactly the last transaction that is framed (optional: view = 0) */
    HADB_ACT_FRAME_SEAL,   /* op; term, slot, prev, txid, owner (next), reason */
    HADB_ACT_CREATE,       /* op; handle (stays the machine's), term, slot; the same bytes each time.
                              first: first time it is sent (stream it to followers too) */
    HADB_ACT_RELEASE,      /* handle and/or view (each 0 = none) is not needed any more */
    HADB_ACT_APPLY,        /* op; handle (stays the machine's), entry, pos = position afterwards. The host compares
                              an entry that lies in the local tail with it, and answers DIVERGED if they differ
                              (nothing changed); a SEAL only ends the term in the term table and moves the mark */
    HADB_ACT_REWIND,       /* op; pos: save the tail above pos.txid in lost/, undo it; definite: every request
                              still waiting is surely not committed (else: unknown) */
    HADB_ACT_RESTORE,      /* op: replace the local state by the newest snapshot of the manifest; save a tail first;
                              every request still waiting is unknown */
    HADB_ACT_GATE,         /* gate (enum hadb_gate), term; drain and closed are answered on op GATE */
    HADB_ACT_DURABLE,      /* pos: everything up to it is in the history: answer what waited for it; unless .flag
                              (an APPLY marked it already) also mark it in the engine and tell the stream */
    HADB_ACT_READ_JOIN,    /* round: the read of this event belongs to it; 0 = unavailable here and now */
    HADB_ACT_READ_OK,      /* round, txid: reads of rounds <= it may run on a state that covers txid; their replies
                              wait until all they saw is durable */
    HADB_ACT_READ_FAIL,    /* all reads that wait in a round: unavailable */
    HADB_ACT_ASK_READY,    /* op; owner.node */
    HADB_ACT_NOTIFY,       /* owner: it was named by a seal; poke it */
    HADB_ACT_HANDOFF_DONE, /* result OK or FAILED (nothing changed, still owner) */
    HADB_ACT_VIEW,         /* op: open a view of the newest local state; answered by EV_FRAMED */
    HADB_ACT_UPLOAD,       /* op; view (passed on), pos: upload as a snapshot, read back, answer EV_UPLOADED */
    HADB_ACT_CAS_MANIFEST, /* op; handle (snapshot reference, stays), slot = boundary, term = boundary term,
                              nonce, swept_slot: write on top of the manifest read last on this op */
    HADB_ACT_DELETE,       /* op; slot: delete DATA (never seals, unless .seals_too) <= slot and condemned names */
    HADB_ACT_GIVE_UP,      /* flag: this node cannot make progress with this database (or can again) */
};

enum hadb_gate { HADB_GATE_CLOSED, HADB_GATE_OPEN, HADB_GATE_DRAIN };

struct hadb_action {
    enum hadb_action_type type;
    enum hadb_core_op op;
    enum hadb_core_role role;
    enum hadb_halt halt;
    enum hadb_gate gate;
    enum hadb_result result;
    enum hadb_seal_reason reason;
    bool flag; /* CREATE: first time; FRAME_DATA: want a view; REWIND: definite; DURABLE: marked already;
                  DELETE: seals too; GIVE_UP: given up */
    uint64_t handle;
    uint64_t view;
    uint64_t term, slot;
    hadb_txid txid;
    uint64_t round;
    uint64_t swept_slot;
    struct hadb_id nonce;
    struct hadb_hash prev;
    struct hadb_owner owner;
    struct hadb_entry_info entry;
    struct hadb_pos pos;
};

struct hadb_actions {
    uint32_t len;
    struct hadb_action items[HADB_ACTIONS_MAX];
};

/* ---- configuration: const after init ---- */
struct hadb_core_config {
    uint32_t rules;             /* HADB_RULES_ALL */
    uint32_t window;            /* slots in flight, 1..HADB_WINDOW_MAX */
    uint32_t poll_min_ms;       /* follower without a stream: first and longest wait between GETs */
    uint32_t poll_max_ms;
    uint32_t backoff_min_ms;    /* full jitter between 0 and min, doubled up to max */
    uint32_t backoff_max_ms;
    uint32_t suspect_wait_ms;   /* random wait before sealing on LIVE_GONE / LIVE_FREE, at most */
    uint32_t silent_wait_ms;    /* the same on LIVE_SILENT */
    uint32_t drain_max_ms;      /* a hand-off that has not flushed by then is called off */
    uint32_t give_up_ms;        /* dirty without durable progress for longer: give the database up */
    uint32_t snapshot_slots;    /* owner publishes a snapshot after so many slots; 0 = only on request */
    uint32_t tip_polls_max;     /* at the tip, compare with the boundary again after so many polls; 0 = at each */
    uint32_t grace_ms;          /* between publishing a boundary and deleting below it */
    bool fast_suspicion;        /* act on LIVE_GONE (off: only after the TTL) */
    bool never_lead;            /* read replica */
    bool jitter;                /* off in the model checker: no random draws, no growing back-off */
};

/* ---- state ---- */
enum hadb_core_phase { /* what op MAIN is doing */
    HADB_PH_IDLE,          /* nothing outstanding; next_at says when to look again */
    HADB_PH_GET,           /* GET of the next entry */
    HADB_PH_TIP_MANIFEST,  /* 404: am I behind the boundary? */
    HADB_PH_APPLY,
    HADB_PH_FENCE_MANIFEST,/* foreign seal and a tail: is the seal real? */
    HADB_PH_REWIND,
    HADB_PH_RESTORE,
    HADB_PH_SEAL_FRAME,    /* election: framing (op FRAME), sending, comparing the seal */
    HADB_PH_SEAL_CREATE,
    HADB_PH_SEAL_COMPARE,
    HADB_PH_BOUNDARY,      /* own term by a seal: manifest read before owning it */
    HADB_PH_LEAD,          /* owner: op MAIN is free */
    HADB_PH_ASK_READY,     /* hand-off: asking the target */
    HADB_PH_DRAIN,         /* hand-off: flushing */
};

enum hadb_doubt {
    HADB_DOUBT_NONE,    /* the next entry is absent: tip, or collected? */
    HADB_DOUBT_CORRUPT, /* it fails its hash */
    HADB_DOUBT_FORK,    /* it does not link to the view */
};

enum hadb_slot_state {
    HADB_SLOT_FREE,
    HADB_SLOT_SENT,     /* create outstanding */
    HADB_SLOT_WAIT,     /* unknown: send again at resend_at */
    HADB_SLOT_COMPARE,  /* something is there: reading it */
    HADB_SLOT_DURABLE,  /* there, waiting for earlier ones */
    HADB_SLOT_DEAD,     /* not needed any more; waits for its last answer */
};

struct hadb_slot {
    uint8_t state; /* enum hadb_slot_state */
    uint8_t attempts;
    bool busy;        /* its op is unanswered */
    bool sealed;      /* this is the hand-off seal, not data */
    uint64_t slot;
    hadb_txid last_txid;
    uint64_t handle;
    uint64_t resend_at_ms;
    uint64_t round;   /* reads of rounds <= it began before this slot was first sent */
    struct hadb_hash hash;
};

struct hadb_stream_entry { /* always DATA of view.term; its slot follows from its place */
    uint64_t handle; /* 0 = empty */
    hadb_txid last_txid;
    struct hadb_hash prev, hash;
};

struct hadb_core {
    struct hadb_core_config config; /* const after init */
    struct hadb_owner self;         /* const after init */
    uint64_t rng;                   /* seed given at init */

    uint8_t role;  /* enum hadb_core_role */
    uint8_t phase; /* enum hadb_core_phase */
    uint8_t halt;  /* enum hadb_halt */
    uint8_t backoff; /* doublings so far */
    uint8_t doubt;   /* enum hadb_doubt: what TIP_MANIFEST has to explain */
    uint8_t tip_polls;  /* polls at the tip since the boundary was compared */
    bool main_busy;  /* op MAIN is unanswered; if not, a phase that needs an answer is tried again at next_at_ms */

    struct hadb_pos view;    /* verified and applied (follower) or prefix-durable (owner) */
    struct hadb_owner owner; /* of view.term; zero before genesis */
    hadb_txid local_txid;    /* last local commit; above view.txid = tail */
    uint64_t tail_term;      /* term in which the tail was committed; 0 = no tail */
    uint64_t boundary_slot;  /* newest boundary seen, never decreases */
    uint64_t manifest_version; /* newest seen, never decreases */
    uint64_t manifest_floor;   /* … when op MAIN asked for it: an answer below it is a rollback */
    uint64_t swept_slot;

    /* follower */
    uint64_t next_at_ms;     /* next poll, resend or seal */
    uint64_t retry_at_ms;    /* storage did not answer: no GET before */
    uint64_t seal_at_ms;     /* when to seal; 0 = owner is believed alive */
    bool start_reseal;       /* just started: may seal the term of its own predecessor at once */
    bool tip_checked;        /* the boundary was compared at this position */
    bool poke;               /* look again as soon as op MAIN is free */
    bool stream_up;
    uint8_t liveness;        /* enum hadb_liveness of owner */
    uint64_t mark_term, mark_slot; /* durable mark heard on the stream */
    struct hadb_stream_entry stream[HADB_STREAM_BUFFER_MAX]; /* consecutive, from view.slot + 1 */
    struct hadb_entry_info pending; /* entry being applied, seal being created */
    uint64_t pending_handle;

    /* owner */
    bool gate_closing;       /* a GATE action is unanswered */
    bool gate_open;
    bool framing;            /* op FRAME is busy */
    bool frame_dead;         /* … for a term that is lost: release the answer */
    bool stopping;
    uint64_t framed_slot;    /* last slot framed */
    hadb_txid framed_txid;
    struct hadb_hash framed_hash;
    uint64_t progress_at_ms; /* last durable progress, or when it became dirty */
    bool given_up;
    struct hadb_slot window[HADB_WINDOW_MAX];

    /* hand-off */
    struct hadb_owner target;
    uint64_t drain_until_ms;
    bool handoff_resign;

    /* linearizable reads: rounds */
    uint64_t read_open;      /* round that new reads join, from 1 */
    bool read_waiting;       /* the open round has members */
    uint64_t read_sent;      /* round whose proof is outstanding on MAIN (follower) or READ (owner); 0 = none */
    uint8_t read_phase;      /* owner: enum in core/read.c */
    uint64_t read_slot;      /* owner: slot that was asked for */
    uint64_t read_at_ms;     /* owner: ask again */

    /* snapshot */
    uint8_t snap_phase;      /* core/snapshot.c */
    bool snap_wanted;
    uint64_t snap_view, snap_handle;
    struct hadb_pos snap_pos;
    uint64_t snap_at_ms;     /* next try, or end of the grace period */
    uint64_t snap_nonce;     /* counts attempts: tells own manifest writes from others' */
    uint64_t snap_last_slot; /* boundary of the last snapshot that this process knows of */
};
_Static_assert(sizeof(struct hadb_core) <= 2048, "one database's machine stays small");

/* Puts the machine into its initial state. @seed feeds jitter only. */
void hadb_core_init(struct hadb_core *core, const struct hadb_core_config *config,
                    const struct hadb_owner *self, uint64_t seed);
/* One event. @actions is overwritten. @now_ms never decreases. */
void hadb_core_step(struct hadb_core *core, const struct hadb_event *event, uint64_t now_ms,
                    struct hadb_actions *actions);
/* When the next TICK is due; UINT64_MAX = never. */
uint64_t hadb_core_deadline(const struct hadb_core *core);

/* Nonce of the manifest write number @seed by process @self: how own writes are recognised. */
void hadb_core_nonce(const struct hadb_owner *self, uint64_t seed, struct hadb_id *out);
/* Asserts what must hold between steps. */
void hadb_core_check(const struct hadb_core *core);

bool hadb_core_leads(const struct hadb_core *core); /* OWNER or DRAINING */
const char *hadb_core_role_name(enum hadb_core_role role);
const char *hadb_core_halt_name(enum hadb_halt halt);
#endif
