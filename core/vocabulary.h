/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 5 and 7 of 8: the vocabulary of the protocol machine: rules, events, actions. core/core.h has the contract.
 * Rule numbers in comments (4.3, 4.4.4 …) are those of the safety protocol.
 */
#ifndef HADB_CORE_VOCABULARY_H
#define HADB_CORE_VOCABULARY_H

#include "hadb/types.h"

#define HADB_WINDOW_MAX 8u /* slots in flight, at most */
#define HADB_ROUND_NOW \
    UINT64_MAX               /* READ_JOIN: the state here is fresh enough, no proof is needed */
#define HADB_ACTIONS_MAX 48u /* actions of one step, at most */

/* ---- safety rules: a const mask given at init; node/ asserts that all are on; checkers may clear one ---- */
/* X(name, bit, what goes wrong without it) */
#define HADB_RULES(X)                                                                          \
    X(BOUNDARY_CHECK, 0,                                                                       \
      "a seal made with a stale view of a collected slot would own a term (4.4.4, 4.10)")      \
    X(KEEP_SEALS, 1, "a paused owner could create a slot behind a deleted seal (4.7)")         \
    X(PREFIX_ACK, 2, "a write could be acknowledged while an earlier slot is lost (4.3.2)")    \
    X(COMPARE_CONTENT, 3, "somebody else's object would be taken for one's own (4.5)")         \
    X(RESEND_UNKNOWN, 4, "a write of unknown outcome would be acknowledged (4.5)")             \
    X(CHAIN, 5, "an entry of another history would be applied (4.8)")                          \
    X(SNAPSHOT_DURABLE, 6, "a snapshot would hold transactions that may yet be rewound (4.7)") \
    X(READ_PROOF, 7, "a sealed owner would serve a stale linearizable read (4.9)")             \
    X(READ_AFTER, 8, "a follower's proof asked for before the read began would count (4.9)")   \
    X(READ_BOUNDARY, 9, "a collected slot would look like a follower's tip of the log (4.9)")  \
    X(REPLY_DURABLE, 10, "a reply would rest on state that can be rewound (4.3.4)")            \
    X(REWIND_FOREIGN, 11, "a fenced tail would stay in the database (4.3.6)")                  \
    X(REFRAME_OWN_SEAL, 12, "a tail ended by another's seal would be shipped again (4.3.7)")   \
    X(NEW_TERM_AT_START, 13,                                                                   \
      "a restarted process would write in the term of its predecessor (4.2)")                  \
    X(DRAIN_BEFORE_SEAL, 14, "a planned hand-off would lose writes (4.10)")                    \
    X(STREAM_MARK, 15, "a follower would apply entries that are not durable (4.8)")            \
    X(FENCED_DEFINITE, 16, "a write reported as fenced could be found committed (4.14 I10)")   \
    X(DELETE_LAST, 17, "slots would be deleted before a manifest covers them (4.7)")           \
    X(CAS_REREAD, 18, "a manifest write of unknown outcome would be taken for done (4.7)")     \
    X(CLONE_GUARD, 19, "a clone of this process could write into a collected slot (4.5)")      \
    X(READ_OWNER_AFTER, 20, "an owner's GET sent before the read began would prove it (4.9)")  \
    X(READ_OWNER_BOUNDARY, 21, "an owner would take its own collected slot for absent (4.9)")  \
    X(READ_SLOT_AFTER, 22, "a slot first sent before the read began would prove it (4.9)")     \
    X(GAP_CHECK, 23, "a hole would pass as the end of the log and be sealed over (4.4.1)")     \
    X(OWN_OBJECT, 24, "a node would lead on what a rolled-back store has forgotten (4.8)")     \
    X(FRESH_FROM_SENDING, 25, "a bounded read would count the age of a proof from its answer (4.9)")

enum hadb_rule {
#define HADB_X(name, bit, text) HADB_RULE_##name = 1u << (bit),
    HADB_RULES(HADB_X)
#undef HADB_X
#define HADB_X(name, bit, text) | 1u << (bit)
        HADB_RULES_ALL = 0u HADB_RULES(HADB_X)
#undef HADB_X
};

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
    HADB_HALT_ROLLBACK,    /* the store shows an older state than this node has seen */
    HADB_HALT_GAP, /* an object of the log is missing although later ones prove that it was there */
    HADB_HALT_LOCAL,   /* the local engine failed: poisoned or corrupt */
    HADB_HALT_RETIRED, /* a terminal seal ended the database */
    HADB_HALT_STOPPED, /* orderly stop */
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
    HADB_R_LATER,    /* local: no memory or no space just now; nothing has changed, ask again */
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
    hadb_txid last_txid;    /* DATA: its last transaction; SEAL: the last one of the term */
    struct hadb_hash prev;  /* link to the entry before */
    struct hadb_hash hash;  /* of the entry itself */
    struct hadb_owner next; /* SEAL: owner of term+1 */
};

/* What the machine knows of the manifest. */
struct hadb_manifest_info {
    uint64_t version;
    struct hadb_id nonce;   /* of the last writer */
    uint64_t boundary_slot; /* DATA slots <= it are covered by the snapshot; 0 = none */
    uint64_t boundary_term; /* term at boundary_slot + 1 */
    uint64_t swept_slot;    /* DATA slots <= it have been deleted */
    bool has_snapshot;
};

/* ---- ops: who is asking; at most one unanswered action each ---- */
enum hadb_core_op {
    HADB_OP_NONE,
    HADB_OP_MAIN,  /* tailing, election, hand-off, rewind, restore */
    HADB_OP_FRAME, /* framing the next entry */
    HADB_OP_READ,  /* owner's proof for linearizable reads */
    HADB_OP_SNAP,  /* snapshot, manifest, deletion */
    HADB_OP_GATE,  /* closing the write gate */
    HADB_OP_SLOT0, /* window entry i is HADB_OP_SLOT0 + i */
    HADB_OP_END = HADB_OP_SLOT0 + HADB_WINDOW_MAX,
};

/* ---- events ---- */
enum hadb_event_type {
    HADB_EV_TICK,  /* a deadline may have passed */
    HADB_EV_START, /* start.*: what the engine holds; term, slot: place of the object whose hash pos
                              carries (0, 0: none); once, first */
    HADB_EV_ENTRY, /* answers GET: OK entry+handle | ABSENT | CORRUPT | UNKNOWN */
    HADB_EV_MANIFEST, /* answers GET_MANIFEST: OK manifest | ABSENT | CORRUPT | UNKNOWN */
    HADB_EV_SURVEYED, /* answers SURVEY: OK | UNKNOWN. entry.term, entry.slot: of the last object behind the
                              missing one that is at its slot or a later one (0, 0: none); if it lies in the
                              same window also entry.kind (SEAL if any object of that window behind the
                              missing one is one) and durable_slot, the greatest that their headers say.
                              own, entry.prev: what a GET of the own object said, and its hash */
    HADB_EV_FRAMED, /* answers FRAME_*: OK entry+handle (view = handle of a view, if asked) | LATER | FAILED;
                              answers VIEW (op SNAP): OK view, pos = the engine's mark, txid = last in the view */
    HADB_EV_CREATED, /* answers CREATE: OK | EXISTS | UNKNOWN */
    HADB_EV_APPLIED, /* answers APPLY: OK | DIVERGED | LATER | FAILED | CORRUPT */
    HADB_EV_REWOUND, /* answers REWIND: OK (tail saved and undone) | LATER | FAILED */
    HADB_EV_RESTORED, /* answers RESTORE: OK pos+owner | ABSENT (no snapshot) | CORRUPT | UNKNOWN | LATER |
                              FAILED */
    HADB_EV_GATED,     /* answers GATE drain/closed: no commit will follow; txid = last commit */
    HADB_EV_COMMITTED, /* txid: last local commit (owner) */
    HADB_EV_READ,      /* a linearizable read begins */
    HADB_EV_OWNER,     /* liveness of the current owner: enum hadb_liveness in .liveness, .owner */
    HADB_EV_POKE, /* somebody says that there is news in storage; an owner looks whether it still is one */
    HADB_EV_STREAM, /* the owner's stream: result OK = up, else down; .owner = the streaming process */
    HADB_EV_STREAM_ENTRY, /* entry+handle from the owner's stream; .owner = the streaming process */
    HADB_EV_STREAM_MARK,  /* term, slot: durable on the owner; .owner = the streaming process */
    HADB_EV_HANDOFF,      /* .owner: to whom (node; zero = to nobody, resign) */
    HADB_EV_READY, /* answers ASK_READY: OK owner (with incarnation) + pos of the target | FAILED */
    HADB_EV_SNAPSHOT, /* please publish a snapshot */
    HADB_EV_UPLOADED, /* answers UPLOAD: OK handle of a snapshot reference | FAILED */
    HADB_EV_CAS,      /* answers CAS_MANIFEST: OK | LOST | UNKNOWN | FAILED */
    HADB_EV_DELETED,  /* answers DELETE: OK | UNKNOWN */
    HADB_EV_LOCAL, /* the local engine failed at a write, or is damaged: it takes no more of them. In place of START: the copy
                         (result CORRUPT: an object that leads to it) cannot be used. Result LATER: only the engine's mark could not be written just now */
    HADB_EV_PROBE, /* result OK | FAILED: the storage keeps, or breaks, what leading rests on (4.13); may
                         come before START; OK until then */
    HADB_EV_STOP,      /* orderly stop: answer what is known, then halt */
    HADB_EV_SEAL_TURN, /* SEAL_TURN was asked, and now it is this database's turn */
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
    uint64_t durable_slot; /* SURVEYED */
    enum hadb_result own;  /* SURVEYED: OK | ABSENT | CORRUPT */
    hadb_txid txid;
    struct hadb_owner owner;
    struct hadb_entry_info entry;
    struct hadb_manifest_info manifest;
    struct hadb_pos pos;
    uint64_t max_lag_ms; /* READ: a bounded one, that may run on a state so old; 0 = linearizable */
    hadb_txid last_txid; /* START: last local transaction (tail above pos.txid); READY: unused */
    uint64_t last_term;  /* START: term of the tail */
};

/* ---- actions ---- */
enum hadb_action_type {
    HADB_ACT_ROLE, /* role, halt, term: changed */
    HADB_ACT_OWNER, /* owner, term: the current term's owner changed; answer with EV_OWNER when known */
    HADB_ACT_OWNER_SEEN,   /* owner: a new log entry counts as a renewal */
    HADB_ACT_GET,          /* op, term, slot */
    HADB_ACT_GET_MANIFEST, /* op */
    HADB_ACT_SURVEY, /* op; term, slot: an object that is missing: list what is behind it. pos.term, pos.slot:
                              own object to be read, too (0, 0: none) */
    HADB_ACT_FRAME_DATA, /* op; term, slot, prev, durable_slot, after txid (commits above it); want_view: also open a view
                              at exactly the last transaction that is framed (optional: view = 0) */
    HADB_ACT_FRAME_SEAL, /* op; term, slot, prev, txid, owner (next), reason */
    HADB_ACT_CREATE,     /* op; handle (stays the machine's), term, slot; the same bytes each time.
                              first: first time it is sent (stream it to followers too) */
    HADB_ACT_RELEASE,    /* handle and/or view (each 0 = none) is not needed any more */
    HADB_ACT_APPLY, /* op; handle (stays the machine's), entry, pos = position afterwards. The host compares
                              an entry that lies in the local tail with it, and answers DIVERGED if they differ
                              (nothing changed); a SEAL only ends the term in the term table and moves the mark */
    HADB_ACT_REWIND, /* op; pos: save the tail above pos.txid in lost/, undo it; definite: every request
                              still waiting is surely not committed (else: unknown) */
    HADB_ACT_RESTORE, /* op: replace the local state by the newest snapshot of the manifest; save a tail first;
                              every request still waiting is unknown */
    HADB_ACT_GATE, /* gate (enum hadb_gate), term; drain and closed are answered on op GATE */
    HADB_ACT_DURABLE, /* pos: everything up to it is in the history: answer what waited for it; unless .flag
                              (an APPLY marked it already) also mark it in the engine and tell the stream */
    HADB_ACT_READ_JOIN, /* round: the read of this event belongs to it; 0 = unavailable here and now */
    HADB_ACT_READ_OK, /* round, txid: reads of rounds <= it may run on a state that covers txid; their replies
                              wait until all they saw is durable */
    HADB_ACT_READ_FAIL,    /* all reads that wait in a round: unavailable */
    HADB_ACT_ASK_READY,    /* op; owner.node */
    HADB_ACT_NOTIFY,       /* owner: it was named, or replaced, by a seal; poke it */
    HADB_ACT_HANDOFF_DONE, /* result OK or FAILED (nothing changed, still owner) */
    HADB_ACT_VIEW,         /* op: open a view of the newest local state; answered by EV_FRAMED */
    HADB_ACT_UPLOAD, /* op; view (passed on), pos: upload as a snapshot, read back, answer EV_UPLOADED */
    HADB_ACT_CAS_MANIFEST, /* op; handle (snapshot reference, stays), slot = boundary, term = boundary term,
                              nonce, swept_slot: write on top of the manifest read last on this op */
    HADB_ACT_DELETE, /* op; slot: delete DATA (never seals, unless .seals_too) <= slot and condemned names */
    HADB_ACT_GIVE_UP,   /* flag: this node cannot make progress with this database (or can again) */
    HADB_ACT_SEAL_TURN, /* wants to seal: EV_SEAL_TURN when it may, once (config.seal_turns) */
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
    bool
        flag; /* CREATE: first time; FRAME_DATA: want a view; REWIND: definite; DURABLE: marked already;
                  DELETE: seals too; GIVE_UP: given up */
    uint64_t handle;
    uint64_t view;
    uint64_t term, slot;
    hadb_txid txid;
    uint64_t round;
    uint64_t swept_slot;
    uint64_t durable_slot; /* FRAME_DATA: goes into the entry's header */
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

#endif
