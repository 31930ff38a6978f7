/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns the trace events of this hop and the request counters of a stack of wrappers.
 *
 * Thread: any; constant after it was made.
 * Invariants: one finished request is one count; one create that was done is one hop 6 event. Nothing
 * else emits hop 6, so wrappers may be nested freely.
 * Happy path: take the time, pass the request on, report. No failure modes of its own.
 */
#include <inttypes.h>

#include "base/env.h"
#include "base/error.h"
#include "storage/wrap.h"
#include "storage/wrapper_private.h"

struct trace {
    struct hadb__wrapper w;
    struct hadb_storage_counters *counters; /* atomic; may be NULL */
};

static void report(const struct trace *t, const struct hadb__request *request, int r,
                   uint64_t took_us)
{
    const struct hadb_call *call = request->call;
    uint64_t bytes = r == 0 ? hadb__request_bytes(request) : 0;
    if (t->counters) {
        hadb_storage_counters_add(t->counters, request->op, r, bytes, took_us);
    }
    if (request->op == HADB_STORAGE_OP_CREATE && r == 0) {
        struct hadb_trace_event event = {
            .hop = 6,
            .what = "create",
            .database = call ? call->database : NULL,
            .txid = call ? call->txid : 0,
            .bytes = bytes,
            .took_us = took_us,
        };
        hadb_trace(t->w.env, &event);
    }
    hadb_log(t->w.env, HADB_LOG_TRACE, "storage", call ? call->database : NULL,
             "%s %s: %d, %" PRIu64 " bytes, %" PRIu64 " us", hadb_storage_op_name(request->op),
             request->key ? request->key : "", r, bytes, took_us);
}

static int trace_before(struct hadb__frame *f)
{
    f->began_ns = hadb_now_ns(f->w->env);
    return 0;
}

/* What goes elsewhere is counted there. */
static bool trace_after(struct hadb__frame *f)
{
    uint64_t end_ns = hadb_now_ns(f->w->env);
    if (!f->elsewhere) {
        report((const struct trace *)f->w, &f->request, f->r,
               end_ns > f->began_ns ? (end_ns - f->began_ns) / 1000 : 0);
    }
    return false;
}

static const struct hadb__steps trace_steps = {.before = trace_before, .after = trace_after};

static const struct hadb_storage_ops trace_ops = {
    HADB__WRAPPER_METHODS,
    .scheme = "with_trace",
};

int hadb_storage_with_trace(struct hadb_storage *take_inner, struct hadb_storage_counters *counters,
                            const struct hadb_env *env, struct hadb_storage *out,
                            struct hadb_error *err)
{
    int r = hadb_storage_check(take_inner, err);
    if (r) {
        return r;
    }
    struct trace *self =
        hadb__wrapper_new(sizeof(*self), take_inner, env, &trace_ops, &trace_steps, out);
    if (!self) {
        return hadb_fail_nomem(err);
    }
    self->counters = counters;
    return 0;
}
