/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model checker: words for moves, actions and objects, so that a counterexample can be read.
 *
 * Thread: one. Prints nothing unless mc_run.trace is set.
 */
#include "base/util.h"
#include "sim/mc.h"

#include <inttypes.h>

#define WORDS_MAX 160

void mc_owner_name(const struct hadb_owner *owner, char *out, size_t size)
{
    uint8_t code = mc_owner_code(owner);
    if (code == 0) {
        snprintf(out, size, "nobody");
    } else {
        snprintf(out, size, "p%d.%d", (code - 1) / 16, (code - 1) % 16);
    }
}

void mc_describe(uint16_t content, char *out, size_t size)
{
    if (content == 0) {
        snprintf(out, size, "nothing");
        return;
    }
    const struct mc_content *c = mc_content_get(content);
    char next[16] = "";
    char list[4 * MC_TXS_MAX + 1] = "";
    if (c->info.kind == HADB_CORE_SEAL) {
        mc_owner_name(&c->info.next, next, sizeof next);
        snprintf(out, size, "SEAL #%u by p%d.%d of term %" PRIu64 " at slot %" PRIu64 " naming %s",
                 content, c->proc, c->incarnation, c->info.term, c->info.slot, next);
        return;
    }
    const struct mc_txs *txs = mc_txs_get(c->txs);
    for (size_t i = 0, at = 0; i < txs->len; i++) {
        at += (size_t)snprintf(list + at, sizeof list - at, "%sw%d", i ? "," : "", txs->id[i]);
    }
    snprintf(out, size, "DATA #%u by p%d.%d term %" PRIu64 " slot %" PRIu64 " {%s}", content,
             c->proc, c->incarnation, c->info.term, c->info.slot, list);
}

static const char *op_name(uint8_t op)
{
    static const char *const names[] = {"-", "main", "frame", "read", "snapshot", "gate"};
    return op < HADB_OP_SLOT0 ? names[op] : "slot";
}

static const char *local_name(uint8_t wait)
{
    switch ((int)wait - 1) {
    case HADB_ACT_REWIND:
        return "rewinding";
    case HADB_ACT_RESTORE:
        return "restoring";
    case HADB_ACT_GATE:
        return "closing the gate";
    case HADB_ACT_VIEW:
        return "opening a view";
    case HADB_ACT_UPLOAD:
        return "uploading a snapshot";
    case HADB_ACT_SURVEY:
        return "looking around";
    default:
        return "an action";
    }
}

/* What an unanswered action is about. */
static void op_words(const struct mc_op *op, char *out, size_t size)
{
    char object[WORDS_MAX];
    switch ((int)op->wait - 1) {
    case HADB_ACT_GET:
        snprintf(out, size, "GET %d/%d", op->term, op->slot);
        break;
    case HADB_ACT_GET_MANIFEST:
        snprintf(out, size, "GET manifest");
        break;
    case HADB_ACT_CREATE:
        mc_describe(op->what, object, sizeof object);
        snprintf(out, size, "PUT %s", object);
        break;
    case HADB_ACT_CAS_MANIFEST:
        snprintf(out, size, "write of manifest #%u", op->what);
        break;
    case HADB_ACT_DELETE:
        snprintf(out, size, "deletion up to slot %d", op->slot);
        break;
    case HADB_ACT_ASK_READY:
        snprintf(out, size, "question whether p%d is ready", op->owner - 1);
        break;
    case HADB_ACT_APPLY:
        mc_describe(op->what, object, sizeof object);
        snprintf(out, size, "applying %s", object);
        break;
    case HADB_ACT_FRAME_DATA:
    case HADB_ACT_FRAME_SEAL:
        mc_describe(op->what, object, sizeof object);
        snprintf(out, size, "framing %s", object);
        break;
    default:
        snprintf(out, size, "%s", local_name(op->wait));
        break;
    }
}

static void reply_words(const struct mc_world *world, struct mc_move move, char *out, size_t size)
{
    char asked[WORDS_MAX + 16];
    char object[WORDS_MAX];
    const struct mc_op *op = &world->proc[move.a].ops[move.b];
    op_words(op, asked, sizeof asked);
    int n = snprintf(out, size, "p%d (%s): %s ", move.a, op_name(move.b), asked);
    size_t at = HADB_MIN((size_t)n, size - 1);
    bool old = move.kind == MC_M_REPLY_OLD;
    if (move.kind == MC_M_LOSE) {
        snprintf(out + at, size - at, "-> reply lost, outcome unknown");
    } else if (move.kind == MC_M_ANSWER || move.kind == MC_M_ANSWER_NO) {
        snprintf(out + at, size - at, "-> %s", move.kind == MC_M_ANSWER ? "done" : "no");
    } else if (op->wait == HADB_ACT_GET + 1) {
        uint16_t id = old ? op->what : world->shared.store[op->term][op->slot];
        mc_describe(id, object, sizeof object);
        snprintf(out + at, size - at, "-> %s%s", object, old ? " (as it was when asked)" : "");
    } else if (op->wait == HADB_ACT_GET_MANIFEST + 1) {
        const struct mc_manifest *m = mc_manifest_get(old ? op->what : world->shared.manifest);
        snprintf(out + at, size - at, "-> version %" PRIu64 ", boundary %" PRIu64 "%s",
                 m->info.version, m->info.boundary_slot, old ? " (as it was when asked)" : "");
    } else if (op->wait == HADB_ACT_CREATE + 1) {
        snprintf(out + at, size - at, "-> %s", op->reply == MC_REPLY_OK ? "created" : "exists");
    } else if (op->wait == HADB_ACT_CAS_MANIFEST + 1) {
        snprintf(out + at, size - at, "-> %s", op->reply == MC_REPLY_OK ? "written" : "lost");
    } else {
        snprintf(out + at, size - at, "-> answered");
    }
}

static void process_words(const struct mc_world *world, struct mc_move move, char *out, size_t size)
{
    char object[WORDS_MAX];
    switch ((enum mc_move_kind)move.kind) {
    case MC_M_TICK:
        snprintf(out, size, "p%d: a deadline passes", move.a);
        break;
    case MC_M_POKE:
        snprintf(out, size, "p%d looks for news", move.a);
        break;
    case MC_M_SUSPECT:
        snprintf(out, size, "p%d loses patience with the owner", move.a);
        break;
    case MC_M_WRITE:
        snprintf(out, size, "p%d commits w%d locally", move.a, world->shared.writes + 1);
        break;
    case MC_M_READ:
        snprintf(out, size, "p%d: a linearizable read begins", move.a);
        break;
    case MC_M_CRASH:
        snprintf(out, size, "p%d crashes and restarts%s, keeping %d transactions above its mark",
                 move.a, move.b == 255 ? " with an empty disk" : "", move.b == 255 ? 0 : move.b);
        break;
    case MC_M_HANDOFF:
        snprintf(out, size, "p%d is asked to hand over to %s%d", move.a,
                 move.b == 255 ? "nobody, p" : "p", move.b == 255 ? move.a : move.b);
        break;
    case MC_M_SNAPSHOT:
        snprintf(out, size, "p%d is asked for a snapshot", move.a);
        break;
    case MC_M_STREAM:
        snprintf(out, size, "p%d: stream %s", move.a, move.b ? "up" : "down");
        break;
    case MC_M_STREAM_ENTRY:
        mc_describe((uint16_t)(move.b | move.c << 8), object, sizeof object);
        snprintf(out, size, "p%d hears on the stream: %s", move.a, object);
        break;
    case MC_M_STREAM_MARK:
        snprintf(out, size, "p%d hears on the stream: durable up to slot %d", move.a, move.b);
        break;
    case MC_M_CLONE:
        snprintf(out, size, "p%d is replaced by a copy of p%d as it stands, memory and disk",
                 move.b, move.a);
        break;
    default:
        reply_words(world, move, out, size);
        break;
    }
}

void mc_move_print(const struct mc_world *world, struct mc_move move, char *out, size_t size)
{
    char object[WORDS_MAX];
    switch ((enum mc_move_kind)move.kind) {
    case MC_M_LAND:
        mc_describe((uint16_t)(move.a | move.b << 8), object, sizeof object);
        snprintf(out, size, "store: %s created%s", object,
                 move.c == 1   ? " by an older copy of the request"
                 : move.c == 2 ? " over what was there (the store breaks S1)"
                               : "");
        break;
    case MC_M_LAND_CAS:
        snprintf(out, size, "store: manifest #%u written", world->shared.cas[move.a].next);
        break;
    case MC_M_DELETE:
        mc_describe(world->shared.store[move.a][move.b], object, sizeof object);
        snprintf(out, size, "store: %s deleted", object);
        break;
    default:
        process_words(world, move, out, size);
        break;
    }
}

void mc_trace_action(uint8_t p, const struct hadb_action *action)
{
    char name[16];
    char object[WORDS_MAX];
    switch (action->type) {
    case HADB_ACT_ROLE:
        mc_trace("p%d is %s in term %" PRIu64 " (%s)", p, hadb_core_role_name(action->role),
                 action->term, hadb_core_halt_name(action->halt));
        break;
    case HADB_ACT_OWNER:
        mc_owner_name(&action->owner, name, sizeof name);
        mc_trace("p%d sees %s as owner of term %" PRIu64, p, name, action->term);
        break;
    case HADB_ACT_GET:
        mc_trace("p%d (%s) sends GET %" PRIu64 "/%" PRIu64, p, op_name((uint8_t)action->op),
                 action->term, action->slot);
        break;
    case HADB_ACT_CREATE:
        mc_describe((uint16_t)action->handle, object, sizeof object);
        mc_trace("p%d sends PUT %s", p, object);
        break;
    case HADB_ACT_APPLY:
        mc_describe((uint16_t)action->handle, object, sizeof object);
        mc_trace("p%d applies %s", p, object);
        break;
    case HADB_ACT_DURABLE:
        mc_trace("p%d: durable up to term %" PRIu64 " slot %" PRIu64 " transaction %" PRIu64, p,
                 action->pos.term, action->pos.slot, action->pos.txid);
        break;
    case HADB_ACT_REWIND:
        mc_trace("p%d rewinds to transaction %" PRIu64 " (%s)", p, action->pos.txid,
                 action->flag ? "its tail is surely not committed" : "outcome of its tail unknown");
        break;
    case HADB_ACT_SURVEY:
        mc_trace("p%d lists the log behind %" PRIu64 "/%" PRIu64, p, action->term, action->slot);
        break;
    case HADB_ACT_RESTORE:
        mc_trace("p%d restores the newest snapshot", p);
        break;
    case HADB_ACT_GATE:
        mc_trace("p%d: write gate %s", p,
                 action->gate == HADB_GATE_OPEN     ? "opens"
                 : action->gate == HADB_GATE_CLOSED ? "closes"
                                                    : "drains");
        break;
    case HADB_ACT_UPLOAD:
        mc_trace("p%d uploads a snapshot of slot %" PRIu64 ", transaction %" PRIu64, p,
                 action->pos.slot, action->pos.txid);
        break;
    case HADB_ACT_CAS_MANIFEST:
        mc_trace("p%d sends a manifest with boundary %" PRIu64, p, action->slot);
        break;
    case HADB_ACT_DELETE:
        mc_trace("p%d deletes DATA%s up to slot %" PRIu64, p, action->flag ? " and seals" : "",
                 action->slot);
        break;
    default:
        break;
    }
}
