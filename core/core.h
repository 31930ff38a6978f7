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

#include "core/vocabulary.h"

#define HADB_STREAM_BUFFER_MAX 8u /* entries of the stream waiting for the durable mark */

/* ---- configuration: const after init ---- */
struct hadb_core_config {
    uint32_t rules;       /* HADB_RULES_ALL */
    uint32_t window;      /* slots in flight, 1..HADB_WINDOW_MAX */
    uint32_t poll_min_ms; /* follower without a stream: first and longest wait between GETs */
    uint32_t poll_max_ms;
    uint32_t backoff_min_ms; /* full jitter between 0 and min, doubled up to max */
    uint32_t backoff_max_ms;
    uint32_t suspect_wait_ms; /* random wait before sealing on LIVE_GONE / LIVE_FREE, at most */
    uint32_t silent_wait_ms;  /* the same on LIVE_SILENT */
    uint32_t drain_max_ms;    /* a hand-off that has not flushed by then is called off */
    uint32_t give_up_ms;      /* dirty without durable progress for longer: give the database up */
    uint32_t
        snapshot_slots; /* owner publishes a snapshot after so many slots; 0 = only on request */
    uint32_t
        tip_polls_max; /* at the tip, compare with the boundary again after so many polls; 0 = at each */
    uint32_t grace_ms;    /* between publishing a boundary and deleting below it */
    uint32_t rho_percent; /* clock rate error that bounded reads allow for */
    uint32_t lag_wait_ms; /* … and so much longer for each durable slot that this node lacks, */
    uint32_t lag_wait_max_ms; /* … up to this: the most advanced follower goes first */
    bool fast_suspicion;      /* act on LIVE_GONE (off: only after the TTL) */
    bool seal_turns;          /* many databases: ask for a turn (core/pace.h) before sealing */
    bool clone_guard;         /* this process may be a clone: read the manifest after each create */
    bool never_lead;          /* read replica */
    bool jitter;              /* off in the model checker: no random draws, no growing back-off */
};

/* ---- state ---- */
enum hadb_core_phase {                 /* what op MAIN is doing */
                       HADB_PH_IDLE,   /* nothing outstanding; next_at says when to look again */
                       HADB_PH_GET,    /* GET of the next entry */
                       HADB_PH_SURVEY, /* first 404: is it the tip, or a hole? */
                       HADB_PH_TIP_MANIFEST, /* 404: am I behind the boundary? */
                       HADB_PH_APPLY,
                       HADB_PH_FENCE_MANIFEST, /* foreign seal and a tail: is the seal real? */
                       HADB_PH_ENTRY_MANIFEST, /* was the slot of what was found collected before? */
                       HADB_PH_REWIND,
                       HADB_PH_RESTORE,
                       HADB_PH_SEAL_FRAME, /* election: framing (op FRAME), sending, comparing the seal */
                       HADB_PH_SEAL_CREATE,
                       HADB_PH_SEAL_COMPARE,
                       HADB_PH_BOUNDARY,  /* own term by a seal: manifest read before owning it */
                       HADB_PH_LEAD,      /* owner: op MAIN is free */
                       HADB_PH_ASK_READY, /* hand-off: asking the target */
                       HADB_PH_DRAIN,     /* hand-off: flushing */
};

enum hadb_doubt {
    HADB_DOUBT_NONE,    /* the next entry is absent: tip, or collected? */
    HADB_DOUBT_EMPTY,   /* nothing is here: a snapshot is less to read than the log */
    HADB_DOUBT_CORRUPT, /* it fails its hash */
    HADB_DOUBT_FORK,    /* it does not link to the view */
    HADB_DOUBT_GAP,     /* it is absent, but was there once */
    /* The object that the view comes from: */
    HADB_DOUBT_OWN_ABSENT,
    HADB_DOUBT_OWN_CORRUPT,
    HADB_DOUBT_OWN_FORK, /* another one stands in its place */
};

enum hadb_own {                  /* the object that the view comes from */
                HADB_OWN_PROVEN, /* or none, or not known */
                HADB_OWN_DATA,   /* at view.term, view.slot; not looked at yet */
                HADB_OWN_SEAL,   /* at view.term - 1, view.slot + 1; not looked at yet */
};

enum hadb_survey {
    HADB_SURVEY_DUE,  /* at the next 404 */
    HADB_SURVEY_LOST, /* what comes next was durable once; if it is absent now, it is lost */
    HADB_SURVEY_HELD, /* something is behind it that need not mean a loss */
    HADB_SURVEY_DONE,
};

enum hadb_turn { /* to seal (4.12) */
                 HADB_TURN_NONE,
                 HADB_TURN_ASKED,
                 HADB_TURN_HAVE,
};

enum hadb_slot_state {
    HADB_SLOT_FREE,
    HADB_SLOT_SENT,    /* create outstanding */
    HADB_SLOT_WAIT,    /* unknown: send again at resend_at */
    HADB_SLOT_COMPARE, /* something is there: reading it */
    HADB_SLOT_GUARD,   /* ours is there: was the slot collected before? (clone_guard) */
    HADB_SLOT_DURABLE, /* there, waiting for earlier ones */
    HADB_SLOT_DEAD,    /* not needed any more; waits for its last answer */
};

struct hadb_slot {
    uint8_t state; /* enum hadb_slot_state */
    uint8_t attempts;
    bool busy;   /* its op is unanswered */
    bool sealed; /* this is the hand-off seal, not data */
    uint64_t slot;
    hadb_txid last_txid;
    uint64_t handle;
    uint64_t at_ms; /* SENT: when, first; WAIT: when again */
    uint64_t round; /* reads of rounds <= it began before this slot was first sent */
    struct hadb_hash hash;
};

struct hadb_stream_entry { /* always DATA of view.term; its slot follows from its place */
    uint64_t handle;       /* 0 = empty */
    hadb_txid last_txid;
    struct hadb_hash prev, hash;
};

struct hadb_core {
    struct hadb_core_config config; /* const after init */
    struct hadb_owner self;         /* const after init */
    uint64_t rng;                   /* seed given at init */

    uint8_t role;      /* enum hadb_core_role */
    uint8_t phase;     /* enum hadb_core_phase */
    uint8_t halt;      /* enum hadb_halt */
    uint8_t backoff;   /* doublings so far */
    uint8_t doubt;     /* enum hadb_doubt: what TIP_MANIFEST has to explain */
    uint8_t survey;    /* enum hadb_survey */
    uint8_t own;       /* enum hadb_own */
    uint8_t tip_polls; /* polls at the tip since the boundary was compared */

    struct hadb_pos view;      /* verified and applied (follower) or prefix-durable (owner) */
    struct hadb_owner owner;   /* of view.term; zero before genesis */
    hadb_txid local_txid;      /* last local commit; above view.txid = tail */
    uint64_t tail_term;        /* term in which the tail was committed; 0 = no tail */
    uint64_t boundary_slot;    /* newest boundary seen, never decreases */
    uint64_t manifest_version; /* newest seen, never decreases */
    uint64_t manifest_floor;   /* … when op MAIN asked for it: an answer below it is a rollback */
    uint64_t swept_slot;

    /* follower */
    uint64_t next_at_ms;  /* next poll, resend or seal */
    uint64_t retry_at_ms; /* storage did not answer: no GET before */
    uint64_t seal_at_ms;  /* when to seal; 0 = owner is believed alive */
    uint64_t heard_slot;  /* highest durable slot that any owner's stream told of */
    uint32_t seal_lag_ms; /* part of seal_at_ms that ends as soon as that slot is reached */
    uint8_t seal_turn;    /* enum hadb_turn */
    bool start_reseal;    /* just started: may seal the term of its own predecessor at once */
    bool tip_checked;     /* the boundary was compared at this position */
    bool poke;            /* look again as soon as op MAIN is free */
    bool next_absent;     /* a GET met nothing at the next slot, since the view moved and the owner
                           fell silent */
    bool stream_up;
    bool stream_ahead; /* the buffer begins one slot later: the entry before is being read */
    uint8_t liveness;  /* enum hadb_liveness of owner */
    bool
        main_busy; /* op MAIN is unanswered; if not, a phase that needs an answer is tried again at next_at_ms */
    uint64_t mark_term, mark_slot;                           /* durable mark heard on the stream */
    struct hadb_stream_entry stream[HADB_STREAM_BUFFER_MAX]; /* consecutive, from view.slot + 1 */
    struct hadb_entry_info pending; /* entry being applied, seal being created */
    uint64_t pending_handle;
    bool pending_known; /* the owner's stream had brought it before: no new sign of life */

    /* owner */
    bool gate_closing; /* a GATE action is unanswered */
    bool gate_open;
    bool framing;         /* op FRAME is busy */
    bool frame_dead;      /* … for a term that is lost: release the answer */
    uint64_t framed_slot; /* last slot framed */
    hadb_txid framed_txid;
    struct hadb_hash framed_hash;
    uint64_t frame_at_ms; /* there was no memory to frame: not before; 0 = at once */
    uint64_t mark_at_ms;  /* there was no room for the engine's mark: again then; 0 = it is there */
    uint64_t progress_at_ms; /* last durable progress, or when it became dirty */
    bool given_up;
    uint32_t create_ms_x8; /* how long a create takes lately, times 8 */
    struct hadb_slot window[HADB_WINDOW_MAX];

    /* hand-off */
    struct hadb_owner target;
    uint64_t drain_until_ms;
    uint64_t resign_at_ms; /* barred owner: not before, after a hand-off that was called off */
    bool handoff_resign;
    bool resigning; /* the hand-off under way was not asked for */
    bool barred;    /* the storage failed its probe: neither seals nor keeps a term */

    /* linearizable reads: rounds */
    bool read_waiting;     /* the open round has members */
    uint8_t read_phase;    /* owner: enum in core/read.c */
    uint8_t read_attempts; /* owner: doublings of the wait so far */
    uint64_t read_open;    /* round that new reads join, from 1 */
    uint64_t read_proven;  /* rounds <= it are proven, or failed */
    uint64_t
        read_sent; /* round whose proof is outstanding on MAIN (follower) or READ (owner); 0 = none */
    uint64_t read_slot;  /* owner: slot that was asked for */
    uint64_t read_at_ms; /* owner: ask, or ask again */

    /* bounded reads: the state here covers all that was durable at fresh_at_ms; 0 = not known */
    uint64_t fresh_at_ms;
    uint64_t get_sent_ms; /* the GET of op MAIN (follower) or READ (owner) */

    /* snapshot */
    uint8_t snap_phase; /* core/snapshot.c */
    bool snap_wanted;
    uint8_t snap_attempts; /* doublings of the wait so far */
    uint64_t snap_view, snap_handle;
    struct hadb_pos snap_pos;
    uint64_t snap_at_ms;       /* next try, or end of the grace period */
    uint64_t snap_nonce;       /* counts attempts: tells own manifest writes from others' */
    uint64_t snap_last_slot;   /* boundary of the last snapshot that this process knows of */
    uint64_t snap_delete_slot; /* what is deleted once snap_at_ms has come */
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

/* Place of the object that the view comes from, unless something links to it; else 0, 0. */
void hadb_core_own_place(const struct hadb_core *core, uint64_t *term, uint64_t *slot);
bool hadb_core_leads(const struct hadb_core *core); /* OWNER or DRAINING */
bool hadb_core_may_lead(
    const struct hadb_core *core); /* by configuration and the storage's probe */
const char *hadb_core_role_name(enum hadb_core_role role);
const char *hadb_core_halt_name(enum hadb_halt halt);
#endif
