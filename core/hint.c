/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: this node's one record in the LeaseStore, renewed every ttl/3 (4.6, 4.12).
 *
 * Owns       when to renew, what a reply means, and how long LOCAL writes may be acknowledged.
 * Invariants deadlines count from the moment a request was sent, never from its reply; a record is only
 *            written on top of a tag that was read or returned, so never unconditionally.
 * Happy path READ (tag) -> WRITE every ttl/3 … -> close: WRITE state FREE.
 *            Two processes under one name: whoever was there first keeps the record; if both have written it,
 *            the higher incarnation. The other one only reads, until the record falls silent.
 * Failure    lost or unknown: read again, write again. Storage silent for longer than the ttl: stop renewing,
 *            so that a node that can reach its storage takes over.
 */
#include "core/hint.h"

#include <string.h>

#include "base/util.h"

#define MARGIN_DEFAULT_MS 50u
#define RHO_DEFAULT_PERCENT 2u
#define MISSED_RENEWALS 1u /* tolerated before the record looks silent */

uint32_t hadb_hint_renew_every_ms(const struct hadb_hint_config *config)
{
    return (config->ttl_ms + 2) / 3; /* never more often than that */
}

static uint64_t local_ms(const struct hadb_hint_config *config)
{
    return (uint64_t)config->ttl_ms * (100 - config->rho_percent) / 100;
}

bool hadb_hint_config_fix(struct hadb_hint_config *config)
{
    config->request_max_ms = config->request_max_ms ? config->request_max_ms : config->ttl_ms / 5;
    config->margin_ms = config->margin_ms ? config->margin_ms : MARGIN_DEFAULT_MS;
    config->rho_percent = config->rho_percent ? config->rho_percent : RHO_DEFAULT_PERCENT;
    if (config->ttl_ms == 0 || config->rho_percent >= 100) {
        return false;
    }
    uint64_t worst =
        (uint64_t)hadb_hint_renew_every_ms(config) * (MISSED_RENEWALS + 1) + config->request_max_ms;
    return worst < local_ms(config);
}

void hadb_hint_init(struct hadb_hint *hint, const struct hadb_hint_config *config)
{
    memset(hint, 0, sizeof *hint);
    hint->config = *config;
    hint->state = HADB_HINT_LIVE;
    hint->reread = true;
}

enum hadb_hint_do hadb_hint_step(struct hadb_hint *hint, uint64_t now_ms)
{
    if (hint->busy || now_ms < hint->next_at_ms ||
        (hint->closing && hint->state == HADB_HINT_FREE)) {
        return HADB_HINT_NOTHING;
    }
    if (hint->closing && hint->yields) {
        hint->state = HADB_HINT_FREE; /* the record is not this node's to free */
        return HADB_HINT_NOTHING;
    }
    if (!hint->closing && !hadb_hint_heartbeat_ok(hint, now_ms)) {
        hint->next_at_ms = now_ms + hadb_hint_renew_every_ms(&hint->config);
        return HADB_HINT_NOTHING;
    }
    hint->busy = true;
    if (hint->reread) {
        return HADB_HINT_READ;
    }
    hint->counter++;
    hint->sent_at_ms = now_ms;
    if (hint->closing) {
        hint->state = HADB_HINT_FREE;
    }
    return HADB_HINT_WRITE;
}

static void again_soon(struct hadb_hint *hint, uint64_t now_ms)
{
    hint->next_at_ms = now_ms + HADB_MAX(hadb_hint_renew_every_ms(&hint->config) / 8, 1u);
}

static void no_rival(struct hadb_hint *hint)
{
    hint->yields = false;
    memset(&hint->rival, 0, sizeof hint->rival);
}

void hadb_hint_found(struct hadb_hint *hint, const struct hadb_hint_found *found, uint64_t now_ms)
{
    const struct hadb_id *other = &found->owner.incarnation, *self = &found->self.incarnation;
    int order = memcmp(other, self, sizeof *self);
    bool same_node = memcmp(&found->owner.node, &found->self.node, sizeof found->self.node) == 0;
    if (order == 0 || found->state != HADB_HINT_LIVE) {
        no_rival(hint);
        return;
    }
    uint64_t wait_ms = (uint64_t)HADB_MIN(found->ttl_ms, 4 * hint->config.ttl_ms) * 2 / 3;
    bool first = hint->renewed_at_ms == 0;
    if (memcmp(other, &hint->rival, sizeof *other) != 0) {
        /* Seen once: alive, or a record that a dead process left? One's own former life is dead. */
        hint->rival = *other;
        hint->yields = first && !same_node;
        hint->rival_until_ms = now_ms + wait_ms;
    } else if (found->counter != hint->rival_counter) {
        hint->yields = (first && !same_node) || order > 0;
        hint->rival_until_ms = now_ms + wait_ms;
    } else if (now_ms >= hint->rival_until_ms) {
        no_rival(hint);
    }
    hint->rival_counter = found->counter;
}

void hadb_hint_read_done(struct hadb_hint *hint, enum hadb_result result, uint64_t now_ms)
{
    HADB_ASSERT(hint->busy && hint->reread);
    hint->busy = false;
    if (result == HADB_R_ABSENT) {
        no_rival(hint);
    }
    if (hint->yields) {
        hint->next_at_ms = now_ms + hadb_hint_renew_every_ms(&hint->config);
    } else if (result == HADB_R_OK || result == HADB_R_ABSENT) {
        hint->reread = false;
        hint->next_at_ms = now_ms;
    } else {
        again_soon(hint, now_ms);
    }
}

void hadb_hint_write_done(struct hadb_hint *hint, enum hadb_result result, uint64_t now_ms)
{
    HADB_ASSERT(hint->busy && !hint->reread);
    hint->busy = false;
    if (result == HADB_R_OK) {
        hint->lost = false;
        hint->renewed_at_ms = hint->sent_at_ms;
        hint->next_at_ms = hint->closing /* meanwhile: FREE is still to be written, at once */
                               ? now_ms
                               : hint->sent_at_ms + hadb_hint_renew_every_ms(&hint->config);
        return;
    }
    /* Lost to another writer, or perhaps written: either way the tag is not known any more. */
    hint->reread = true;
    if (hint->closing) {
        hint->state = HADB_HINT_LIVE; /* FREE has not been seen written: write it again */
    }
    bool once = result == HADB_R_LOST && !hint->lost;
    hint->lost = result == HADB_R_LOST;
    if (once) {
        hint->next_at_ms = now_ms;
    } else {
        again_soon(hint, now_ms);
    }
}

void hadb_hint_storage(struct hadb_hint *hint, bool ok, uint64_t now_ms)
{
    if (ok) {
        hint->store_dirty_at_ms = 0;
    } else if (hint->store_dirty_at_ms == 0) {
        hint->store_dirty_at_ms = HADB_MAX(now_ms, 1u);
    }
}

void hadb_hint_close(struct hadb_hint *hint, uint64_t now_ms)
{
    if (!hint->closing) {
        hint->closing = true;
        hint->next_at_ms = now_ms;
    }
}

uint64_t hadb_hint_deadline(const struct hadb_hint *hint)
{
    bool done = hint->closing && hint->state == HADB_HINT_FREE;
    return hint->busy || done ? UINT64_MAX : hint->next_at_ms;
}

bool hadb_hint_local_ok(const struct hadb_hint *hint, uint64_t now_ms)
{
    return hint->renewed_at_ms != 0 && now_ms < hint->renewed_at_ms + local_ms(&hint->config);
}

bool hadb_hint_heartbeat_ok(const struct hadb_hint *hint, uint64_t now_ms)
{
    return hint->store_dirty_at_ms == 0 || now_ms < hint->store_dirty_at_ms + hint->config.ttl_ms;
}
