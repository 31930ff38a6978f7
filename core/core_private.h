/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of core/ share. Each function is the entry point of the file named in its comment. */
#ifndef HADB_CORE_PRIVATE_H
#define HADB_CORE_PRIVATE_H

#include <string.h>

#include "base/util.h"
#include "core/core.h"

#define HADB_NEVER UINT64_MAX

/* One step being made: the machine, the time, and the actions so far. */
struct hadb_step {
    struct hadb_core *core;
    uint64_t now_ms;
    struct hadb_actions *out;
};

static inline bool hadb__rule(const struct hadb_core *core, enum hadb_rule rule)
{
    return (core->config.rules & (uint32_t)rule) != 0;
}
static inline bool hadb__has_tail(const struct hadb_core *core)
{
    return core->local_txid > core->view.txid;
}
static inline bool hadb__same_hash(const struct hadb_hash *a, const struct hadb_hash *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}
static inline bool hadb__same_id(const struct hadb_id *a, const struct hadb_id *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}
static inline bool hadb__same_owner(const struct hadb_owner *a, const struct hadb_owner *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}
bool hadb__no_owner(const struct hadb_owner *owner);

/* core.c: building blocks */
struct hadb_action *hadb__act(struct hadb_step *s, enum hadb_action_type type);
void hadb__release(struct hadb_step *s, uint64_t handle, uint64_t view);
void hadb__set_role(struct hadb_step *s, enum hadb_core_role role);
void hadb__halt(struct hadb_step *s, enum hadb_halt reason);
void hadb__set_owner(struct hadb_step *s, const struct hadb_owner *owner);
void hadb__close_gate(struct hadb_step *s, enum hadb_gate gate);
uint64_t hadb__random_up_to(struct hadb_core *core, uint64_t max);
/* Full jitter: a random wait up to min*2^attempts, capped. */
uint64_t hadb__backoff_ms(struct hadb_core *core, unsigned attempts);
/* Takes note of a manifest. False (and halted) if the store went back in time. */
bool hadb__manifest_seen(struct hadb_step *s, const struct hadb_manifest_info *manifest);

/* follower.c: tailing, applying, rewinding, restoring */
void hadb__follow(struct hadb_step *s); /* start what is due, if op MAIN is free */
uint64_t hadb__follow_deadline(const struct hadb_core *core);
void hadb__main_start(struct hadb_step *s, enum hadb_core_phase phase); /* enter and ask */
void hadb__main_later(struct hadb_step *s); /* no definite answer: same phase, later */
void hadb__follow_entry(struct hadb_step *s, const struct hadb_event *ev);
void hadb__follow_manifest(struct hadb_step *s, const struct hadb_event *ev);
void hadb__follow_applied(struct hadb_step *s, const struct hadb_event *ev);
void hadb__follow_rewound(struct hadb_step *s, const struct hadb_event *ev);
void hadb__follow_restored(struct hadb_step *s, const struct hadb_event *ev);
void hadb__drop_pending(struct hadb_step *s);
enum hadb_source {
    HADB_FROM_STORAGE,
    HADB_FROM_BOTH,   /* read from storage; the stream had brought it before */
    HADB_FROM_STREAM, /* under the owner's durable mark */
};
void hadb__accept_stored(struct hadb_step *s, const struct hadb_entry_info *entry, uint64_t handle);
void hadb__accept_entry(struct hadb_step *s, const struct hadb_entry_info *entry, uint64_t handle,
                        enum hadb_source source);
void hadb__apply_pending(struct hadb_step *s);

void hadb__doubt(struct hadb_step *s, enum hadb_doubt why);
void hadb__at_tip(struct hadb_step *s);

/* survey.c: a hole is not the end */
/* The engine's position comes from the object at that place (0, 0: none). */
void hadb__survey_start(struct hadb_core *core, uint64_t term, uint64_t slot);
void hadb__survey_restart(struct hadb_core *core);
void hadb__survey_moved(struct hadb_core *core); /* the view moved on by an entry */
/* The next object is absent. True: that is being looked into. */
bool hadb__survey_absent(struct hadb_step *s);
void hadb__surveyed(struct hadb_step *s, const struct hadb_event *ev);

/* stream.c: the owner's stream as an accelerator */
void hadb__stream_entry(struct hadb_step *s, const struct hadb_event *ev);
void hadb__stream_mark(struct hadb_step *s, const struct hadb_event *ev);
void hadb__stream_state(struct hadb_step *s, const struct hadb_event *ev);
bool hadb__stream_ready(const struct hadb_core *core); /* next entry is here and may be applied */
bool hadb__stream_behind(
    const struct hadb_core *core);              /* the mark is ahead and the entry is not here */
void hadb__stream_advance(struct hadb_step *s); /* view moved on by one slot */
/* The next entry was read from storage. True: the stream had brought the same. */
bool hadb__stream_overtaken(struct hadb_step *s, const struct hadb_entry_info *entry);
/* … was not read. */
void hadb__stream_missed(struct hadb_step *s);
void hadb__stream_clear(struct hadb_step *s);

/* election.c */
void hadb__liveness(struct hadb_step *s, const struct hadb_event *ev);
void hadb__arm_seal(struct hadb_step *s, uint32_t wait_max_ms);
void hadb__arm_seal_by_lag(struct hadb_step *s, uint32_t wait_max_ms); /* … later if behind */
void hadb__seal_lag_over(struct hadb_step *s); /* the view moved on: behind no more? */
bool hadb__seal_due(const struct hadb_core *core, uint64_t now_ms);
void hadb__seal_pump(struct hadb_step *s);
void hadb__seal_turn(struct hadb_step *s, const struct hadb_event *ev);
uint64_t hadb__seal_deadline(const struct hadb_core *core);
void hadb__seal_start(struct hadb_step *s);
void hadb__seal_framed(struct hadb_step *s, const struct hadb_event *ev);
void hadb__seal_created(struct hadb_step *s, const struct hadb_event *ev);
void hadb__seal_compared(struct hadb_step *s, const struct hadb_event *ev);
void hadb__named_owner(struct hadb_step *s); /* a seal that names this process was applied */
void hadb__boundary_checked(struct hadb_step *s, const struct hadb_event *ev);

/* owner.c: framing, window, acknowledgement, fencing */
void hadb__own(struct hadb_step *s);
void hadb__pump(struct hadb_step *s);
void hadb__committed(struct hadb_step *s, const struct hadb_event *ev);
void hadb__mark_later(struct hadb_step *s);
void hadb__data_framed(struct hadb_step *s, const struct hadb_event *ev);
void hadb__slot_created(struct hadb_step *s, const struct hadb_event *ev);
void hadb__slot_compared(struct hadb_step *s, const struct hadb_event *ev);
void hadb__slots_tick(struct hadb_step *s);
void hadb__slots_drop(struct hadb_step *s);
void hadb__slot_durable(struct hadb_step *s, struct hadb_slot *slot);
void hadb__slot_guarded(struct hadb_step *s, const struct hadb_event *ev);
bool hadb__clone_guard(const struct hadb_core *core);
struct hadb_slot *hadb__slot_find(struct hadb_core *core, uint64_t slot);
bool hadb__window_empty(const struct hadb_core *core);
bool hadb__window_room(const struct hadb_core *core);
void hadb__fence(struct hadb_step *s);
void hadb__give_up(struct hadb_step *s, bool flag);
uint64_t hadb__owner_deadline(const struct hadb_core *core);

/* read.c: rounds of linearizable reads */
void hadb__read(struct hadb_step *s, const struct hadb_event *ev);
void hadb__fresh(struct hadb_step *s, uint64_t sent_ms); /* proven by a request sent then */
void hadb__read_look(struct hadb_step *s);               /* an owner proves its term to itself */
void hadb__read_own(struct hadb_step *s); /* a follower's reads now wait for an owner's proof */
void hadb__read_pump(struct hadb_step *s);
void hadb__read_tick(struct hadb_step *s);
void hadb__read_entry(struct hadb_step *s, const struct hadb_event *ev);
void hadb__read_manifest(struct hadb_step *s, const struct hadb_event *ev);
void hadb__read_proven(struct hadb_step *s, uint64_t round);
void hadb__read_fail(struct hadb_step *s);
uint64_t hadb__read_deadline(const struct hadb_core *core);

/* handoff.c */
void hadb__handoff(struct hadb_step *s, const struct hadb_event *ev);
void hadb__handoff_ready(struct hadb_step *s, const struct hadb_event *ev);
void hadb__handoff_pump(struct hadb_step *s);
void hadb__handoff_tick(struct hadb_step *s);
void hadb__handoff_call_off(struct hadb_step *s);
void hadb__probed(struct hadb_step *s, const struct hadb_event *ev);
void hadb__barred_pump(struct hadb_step *s);
uint64_t hadb__barred_deadline(const struct hadb_core *core);
void hadb__handoff_fail(struct hadb_step *s); /* leadership is lost before it was handed over */
void hadb__handed_over(struct hadb_step *s);

/* snapshot.c */
bool hadb__snap_wants_view(const struct hadb_core *core);
void hadb__snap_pump(struct hadb_step *s);
void hadb__snap_view(struct hadb_step *s, const struct hadb_event *ev);
void hadb__snap_framed(struct hadb_step *s, uint64_t view, const struct hadb_pos *pos);
void hadb__snap_uploaded(struct hadb_step *s, const struct hadb_event *ev);
void hadb__snap_manifest(struct hadb_step *s, const struct hadb_event *ev);
void hadb__snap_cas(struct hadb_step *s, const struct hadb_event *ev);
void hadb__snap_deleted(struct hadb_step *s, const struct hadb_event *ev);
void hadb__snap_drop(struct hadb_step *s); /* the view belongs to a lost term */
void hadb__snap_halt(struct hadb_step *s);
void hadb__snap_sweep(struct hadb_step *s); /* new owner: finish an interrupted clean-up */
uint64_t hadb__snap_deadline(const struct hadb_core *core);
#endif
