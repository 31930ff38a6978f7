/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 7 of 8, the short cut: entries that the owner streams ahead of storage.
 *
 * Owns       the buffer of consecutive entries after the view, and the durable mark.
 * Invariant  an entry is applied only if the owner of this very term said that its slot is durable (4.8),
 *            or when it was read from storage; so a follower never holds what may be rewound.
 * Happy path entry -> buffer; mark -> hadb__follow applies from the buffer, no storage request at all.
 * Failure    gaps, overflows and strangers are dropped: storage has everything. While a lost entry is read from
 *            there those behind it are kept, else each would be lost to the reading of the one before.
 */
#include "core/core_private.h"

static bool from_owner(const struct hadb_core *core, const struct hadb_event *ev)
{
    return core->stream_up && hadb__same_owner(&ev->owner, &core->owner);
}

static unsigned buffered(const struct hadb_core *core)
{
    unsigned len = 0;
    while (len < HADB_STREAM_BUFFER_MAX && core->stream[len].handle != 0) {
        len++;
    }
    return len;
}

/* The mark stays: it tells what storage has. */
static void drop_entries(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    for (unsigned i = 0; i < HADB_STREAM_BUFFER_MAX; i++) {
        hadb__release(s, core->stream[i].handle, 0);
    }
    memset(core->stream, 0, sizeof core->stream);
    core->stream_ahead = false;
}

void hadb__stream_clear(struct hadb_step *s)
{
    drop_entries(s);
    s->core->mark_term = s->core->mark_slot = 0;
}

void hadb__stream_advance(struct hadb_step *s)
{
    struct hadb_core *core = s->core;
    hadb__release(s, core->stream[0].handle, 0);
    memmove(&core->stream[0], &core->stream[1],
            sizeof core->stream[0] * (HADB_STREAM_BUFFER_MAX - 1));
    memset(&core->stream[HADB_STREAM_BUFFER_MAX - 1], 0, sizeof core->stream[0]);
}

bool hadb__stream_overtaken(struct hadb_step *s, const struct hadb_entry_info *entry)
{
    struct hadb_core *core = s->core;
    if (core->stream_ahead) { /* from now on consecutive, if they link to it */
        core->stream_ahead = false;
        if (!hadb__same_hash(&core->stream[0].prev, &entry->hash)) {
            drop_entries(s);
        }
        return false;
    }
    if (core->stream[0].handle == 0) {
        return false;
    }
    if (!hadb__same_hash(&core->stream[0].hash, &entry->hash)) {
        hadb__stream_clear(s); /* nothing behind it links any more */
        return false;
    }
    hadb__stream_advance(s);
    return true;
}

void hadb__stream_missed(struct hadb_step *s)
{
    if (s->core->stream_ahead) {
        drop_entries(s);
    }
}

/* The owner has lost this term and won a later one: only storage tells what was in between. */
static void later_term(struct hadb_core *core, const struct hadb_event *ev, uint64_t term)
{
    core->poke = core->poke || (from_owner(core, ev) && term > core->view.term);
}

void hadb__stream_entry(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    unsigned len = buffered(core);
    /* The buffer starts behind the view, or behind the entry that is being applied. */
    bool applying = core->pending.kind == HADB_CORE_DATA;
    bool reading = core->main_busy && core->phase == HADB_PH_GET;
    bool ahead =
        core->stream_ahead || (reading && len == 0 && ev->entry.slot == core->view.slot + 2);
    uint64_t base = core->view.slot + (applying || ahead ? 2 : 1);
    const struct hadb_hash *prev = len > 0    ? &core->stream[len - 1].hash
                                   : ahead    ? &ev->entry.prev /* not known yet: see overtaken */
                                   : applying ? &core->pending.hash
                                              : &core->view.hash;
    bool fits = from_owner(core, ev) && ev->entry.kind == HADB_CORE_DATA &&
                ev->entry.term == core->view.term && len < HADB_STREAM_BUFFER_MAX &&
                ev->entry.slot == base + len && hadb__same_hash(&ev->entry.prev, prev);
    if (!fits) {
        later_term(core, ev, ev->entry.term);
        hadb__release(s, ev->handle, 0);
        return;
    }
    core->stream_ahead = ahead;
    core->stream[len] = (struct hadb_stream_entry){.handle = ev->handle,
                                                   .last_txid = ev->entry.last_txid,
                                                   .prev = ev->entry.prev,
                                                   .hash = ev->entry.hash};
}

void hadb__stream_mark(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    later_term(core, ev, ev->term);
    if (!from_owner(core, ev) || ev->term < core->view.term || ev->term < core->mark_term) {
        return;
    }
    core->mark_slot = ev->term > core->mark_term ? ev->slot : HADB_MAX(core->mark_slot, ev->slot);
    core->mark_term = ev->term;
    if (core->config.lag_wait_ms != 0) {
        core->heard_slot = HADB_MAX(core->heard_slot, core->mark_slot);
    }
}

void hadb__stream_state(struct hadb_step *s, const struct hadb_event *ev)
{
    struct hadb_core *core = s->core;
    if (!hadb__same_owner(&ev->owner, &core->owner)) {
        return;
    }
    bool up = ev->result == HADB_R_OK;
    if (core->stream_up && !up) {
        hadb__stream_clear(s);
        core->backoff = 0;
        core->next_at_ms = HADB_MIN(core->next_at_ms, s->now_ms);
    }
    core->stream_up = up;
}

bool hadb__stream_ready(const struct hadb_core *core)
{
    if (core->stream[0].handle == 0 || core->stream_ahead) {
        return false;
    }
    if (!hadb__rule(core, HADB_RULE_STREAM_MARK)) {
        return true;
    }
    return core->mark_term == core->view.term && core->mark_slot > core->view.slot;
}

bool hadb__stream_behind(const struct hadb_core *core)
{
    if (!core->stream_up || core->stream[0].handle != 0) {
        return false;
    }
    /* A later term's mark: the seals in between are in storage only. */
    return core->mark_term > core->view.term ||
           (core->mark_term == core->view.term && core->mark_slot > core->view.slot);
}
