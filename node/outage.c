/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: what a person is told while storage or the lease store fails (outage.h).
 *
 * Thread: the loop; the question itself on a worker.
 * Invariants: an outage ends with an answer and never by time; one that a write met ends with a write, since a store that
 *   is full still reads. One line in the log for each kind of failure in an outage, and one at its end.
 * Happy path: a request fails -> told; others go on trying -> one is answered -> over.
 * Failure modes: nobody tries any more (no write is waiting, the last reader gave up): asked from here with growing
 *   pauses, by reading the kept verdict of the probe and, after a write had failed, writing it once more.
 */
#include "node/outage.h"

#include "node/node_private.h"
#include "storage/probe.h"

#include <inttypes.h>
#include <stdio.h>

/* It is there, whatever it says. */
static bool is_answer(int r)
{
    return r >= 0 || r == HADB_ECORRUPT || r == HADB_EVERSION || r == HADB_ETOOBIG;
}

/* Of this process, not of the store. */
static bool says_nothing(int r)
{
    return r == HADB_ENOMEM || r == HADB_EBUSY || r == HADB_ECANCELED;
}

static void begin_or_go_on(struct hadb_node *node, struct hadb_outage *outage, const char *what,
                           int r, const struct hadb_error *err)
{
    uint64_t bit = UINT64_C(1) << (unsigned)-r;
    if (outage->why.code == 0) {
        outage->since_ms = hadb__now(node);
        outage->told = 0;
        outage->writes = false;
    }
    outage->why = *err;
    outage->why.code = r;
    if (!(outage->told & bit)) {
        outage->told |= bit;
        hadb_log(node->env, HADB_LOG_WARN, what, NULL, "%s (%s): trying again", err->message,
                 hadb_code_name(r));
    }
}

static void end(struct hadb_node *node, struct hadb_outage *outage, const char *what)
{
    uint64_t for_ms = hadb__now(node) - outage->since_ms;
    *outage = (struct hadb_outage){0};
    hadb_log(node->env, HADB_LOG_INFO, what, NULL, "works again after %" PRIu64 " ms", for_ms);
}

static void ask_later(struct hadb_node *node)
{
    struct hadb_outages *outages = &node->outages;
    if (outages->timer.loop && !outages->busy) {
        hadb_timer_start(&outages->timer, hadb__now(node) + outages->wait_ms);
    }
}

void hadb__storage_said(struct hadb_node *node, bool write, int r, const struct hadb_error *err)
{
    struct hadb_outages *outages = &node->outages;
    struct hadb_outage *storage = &outages->storage;
    if (says_nothing(r)) {
        return;
    }
    if (!is_answer(r)) {
        if (storage->why.code == 0) {
            outages->wait_ms = HADB_OUTAGE_ASK_MS_MIN;
        }
        begin_or_go_on(node, storage, "storage", r, err);
        storage->writes = storage->writes || write;
        ask_later(node);
    } else if (storage->why.code != 0 && (write || !storage->writes)) {
        end(node, storage, "storage");
        hadb_timer_stop(&outages->timer);
    }
}

void hadb__lease_said(struct hadb_node *node, int r, const struct hadb_error *err)
{
    struct hadb_outage *lease = &node->outages.lease;
    if (!is_answer(r) && !says_nothing(r)) {
        begin_or_go_on(node, lease, "lease", r, err);
    } else if (is_answer(r) && lease->why.code != 0) {
        end(node, lease, "lease");
    }
}

static bool fails(struct hadb_node *node, const struct hadb_outage *outage, const char *what,
                  char *out, size_t cap)
{
    if (outage->why.code == 0) {
        return false;
    }
    snprintf(out, cap, "%s fails for %" PRIu64 " s: %s", what,
             (hadb__now(node) - outage->since_ms) / 1000, outage->why.message);
    return true;
}

bool hadb__storage_fails(struct hadb_node *node, char *out, size_t cap)
{
    return fails(node, &node->outages.storage, "storage", out, cap);
}

bool hadb__lease_fails(struct hadb_node *node, char *out, size_t cap)
{
    return fails(node, &node->outages.lease, "the lease store", out, cap);
}

/* ---- asking ---- */

static void ask(void *arg)
{
    struct hadb_node *node = arg;
    struct hadb_outages *outages = &node->outages;
    struct hadb_call call = hadb_call_within(node->env, HADB_STORE_READ_MS);
    call.cancel = &outages->cancel;
    outages->job_err = (struct hadb_error){0};
    outages->job_wrote = false;
    struct hadb_probe_result *kept = hadb_calloc(1, sizeof *kept);
    if (!kept) {
        outages->job_r = HADB_ENOMEM;
        return;
    }
    outages->job_r = hadb__probe_kept(node, &call, kept, &outages->job_err);
    if (outages->job_r == 0 && outages->job_writes) {
        outages->job_r = hadb__probe_keep(node, &call, kept, &outages->job_err);
        outages->job_wrote = true;
    } else if (outages->job_r == HADB_ABSENT) {
        outages->job_wrote =
            true; /* nothing there that could be written again: its absence has to do */
    }
    hadb_free(kept);
}

static void asked(void *arg, int r)
{
    struct hadb_node *node = arg;
    struct hadb_outages *outages = &node->outages;
    outages->busy = false;
    if (r < 0 || !outages->timer.loop || outages->storage.why.code == 0) {
        return; /* closing, or somebody else had an answer */
    }
    outages->wait_ms = HADB_MIN(2 * outages->wait_ms, HADB_OUTAGE_ASK_MS_MAX);
    hadb__storage_said(node, outages->job_wrote, outages->job_r, &outages->job_err);
    if (outages->storage.why.code != 0) {
        ask_later(node);
    }
}

static void on_timer(void *arg)
{
    struct hadb_node *node = arg;
    struct hadb_outages *outages = &node->outages;
    if (outages->busy || outages->storage.why.code == 0) {
        return;
    }
    outages->job = (struct hadb_job){.run = ask, .done = asked, .arg = node};
    outages->job_writes = outages->storage.writes && !node->never_lead;
    if (hadb_pool_submit(node->store_pool, NULL, &outages->job, NULL) == 0) {
        outages->busy = true;
    } else {
        ask_later(node);
    }
}

int hadb__outages_start(struct hadb_node *node, struct hadb_error *err)
{
    node->outages.wait_ms = HADB_OUTAGE_ASK_MS_MIN;
    return hadb_timer_init(&node->outages.timer, node->loop, on_timer, node, err);
}

void hadb__outages_stop(struct hadb_node *node)
{
    __atomic_store_n(&node->outages.cancel.flag, 1, __ATOMIC_RELEASE);
    hadb_timer_deinit(&node->outages.timer);
}
