/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 3 and 8 of 8: dispatch over struct hadb_replicator and the factory of replicators.
 *
 * This is the only file that calls ops->x. It refuses what callers owe with HADB_EINVAL, and asserts that a method answers with a
 * result that the contract allows.
 *
 * Thread: those of the method. Invariants: a bound replicator has a complete table (checked when it is
 *   added). Failure modes: those of the method.
 */
#include <string.h>

#include "base/error.h"
#include "replicators/journal.h"

static const struct hadb_replicator_ops *const replicators[] = {&hadb__journal_ops};

static bool is_open(const struct hadb_replicator *replicator)
{
    return replicator && replicator->ops;
}

static bool complete(const struct hadb_replicator_ops *ops)
{
    return ops->abi >= 1 && ops->name && ops->add && ops->remove && ops->capture && ops->apply &&
           ops->mark && ops->tail_save && ops->snapshot && ops->restore && ops->sync &&
           ops->view_close;
}

int hadb_replicator_add(const char *name, const struct hadb_engine *engine,
                        const struct hadb_replicator_options *options, struct hadb_replicator *out,
                        struct hadb_error *err)
{
    if (!name || !engine || !engine->ops || !options || !out) {
        return hadb_fail_misuse(err, __func__);
    }
    for (size_t i = 0; i < HADB_LEN(replicators); i++) {
        if (strcmp(replicators[i]->name, name) != 0) {
            continue;
        }
        HADB_ASSERT(complete(replicators[i]));
        void *self = NULL;
        int r = replicators[i]->add(engine, options, &self, err);
        HADB_ASSERT(r <= 0);
        if (r == 0) {
            *out = (struct hadb_replicator){.ops = replicators[i], .self = self};
        }
        return r;
    }
    return hadb_fail(err, HADB_ENOTSUP, "unknown replicator \"%.64s\"; this build has journal",
                     name);
}

void hadb_replicator_remove(struct hadb_replicator *replicator)
{
    if (!replicator) {
        return;
    }
    if (replicator->ops) {
        replicator->ops->remove(replicator->self);
    }
    *replicator = (struct hadb_replicator){0};
}

int hadb_replicator_capture(const struct hadb_replicator *replicator, hadb_txid after,
                            size_t bytes_max, bool want_view, struct hadb_capture *out,
                            struct hadb_error *err)
{
    if (!is_open(replicator) || !out) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = replicator->ops->capture(replicator->self, after, bytes_max, want_view, out, err);
    HADB_ASSERT(r <= 0 || r == HADB_END);
    HADB_ASSERT(r != 0 || (out->first_txid == after + 1 && out->last_txid >= out->first_txid));
    return r;
}

void hadb_replicator_view_close(const struct hadb_replicator *replicator, void *view)
{
    if (view && is_open(replicator)) {
        replicator->ops->view_close(replicator->self, view);
    }
}

void hadb_replicator_capture_deinit(const struct hadb_replicator *replicator,
                                    struct hadb_capture *capture)
{
    if (!capture) {
        return;
    }
    hadb_replicator_view_close(replicator, capture->view);
    hadb_buf_deinit(&capture->body);
    *capture = (struct hadb_capture){0};
}

int hadb_replicator_apply(const struct hadb_replicator *replicator, struct hadb_slice body,
                          const struct hadb_pos *pos, struct hadb_error *err)
{
    if (!is_open(replicator) || !pos || (!body.data && body.len > 0)) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = replicator->ops->apply(replicator->self, body, pos, err);
    HADB_ASSERT(r <= 0 || r == HADB_DIVERGED);
    return r;
}

int hadb_replicator_mark(const struct hadb_replicator *replicator, const struct hadb_pos *pos,
                         struct hadb_error *err)
{
    if (!is_open(replicator) || !pos) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = replicator->ops->mark(replicator->self, pos, err);
    HADB_ASSERT(r <= 0);
    return r;
}

int hadb_replicator_tail_save(const struct hadb_replicator *replicator,
                              const struct hadb_tail_save *save, struct hadb_tail_saved *out,
                              struct hadb_error *err)
{
    if (!is_open(replicator) || !save || !save->dir || !save->reason) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = replicator->ops->tail_save(replicator->self, save, out, err);
    HADB_ASSERT(r <= 0);
    return r;
}

int hadb_replicator_snapshot(const struct hadb_replicator *replicator, void *view,
                             const struct hadb_pos *pos, const struct hadb_snapshot_io *io,
                             struct hadb_snapshot_ref *out, struct hadb_error *err)
{
    if (!is_open(replicator) || !view || !pos || !io || !io->put || !io->get || !out) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = replicator->ops->snapshot(replicator->self, view, pos, io, out, err);
    HADB_ASSERT(r <= 0);
    return r;
}

int hadb_replicator_restore(const struct hadb_replicator *replicator,
                            const struct hadb_snapshot_ref *ref, const struct hadb_snapshot_io *io,
                            struct hadb_error *err)
{
    if (!is_open(replicator) || !ref || !io || !io->get) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = replicator->ops->restore(replicator->self, ref, io, err);
    HADB_ASSERT(r <= 0);
    return r;
}

int hadb_replicator_sync(const struct hadb_replicator *replicator, struct hadb_error *err)
{
    if (!is_open(replicator)) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = replicator->ops->sync(replicator->self, err);
    HADB_ASSERT(r <= 0);
    return r;
}
