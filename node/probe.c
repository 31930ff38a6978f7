/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: the conformance probe of 4.13, at open and once a day on a node that leads.
 *
 * Thread: the loop; the probe itself on a worker, or on the opener's thread.
 * Invariants: until there is a verdict this node leads nothing; a verdict of "no" is never kept in place of
 * asking again, but replaces a kept "yes", so that no other node starts to lead on the strength of it.
 * Happy path: kept verdict for this kind of store -> may lead; every_ms later: run it in full, keep it.
 * Failure modes: no answer: asked again with backoff, the last verdict stands. A "no": resign, not ready.
 */
#include "storage/probe.h"

#include "node/node_private.h"

#include <stdio.h>

#define PROBE_PREFIX "probe"
#define RETRY_MIN_MS 100u
#define RETRY_MAX_MS 10000u

int hadb__probe_kept(struct hadb_node *node, const struct hadb_call *call,
                     struct hadb_probe_result *result, struct hadb_error *err)
{
    return hadb_probe_load(&node->storage, call, PROBE_PREFIX, node->store_scheme, result, err);
}

int hadb__probe_keep(struct hadb_node *node, const struct hadb_call *call,
                     const struct hadb_probe_result *result, struct hadb_error *err)
{
    return hadb_probe_store(&node->storage, call, PROBE_PREFIX, node->store_scheme, result, err);
}

static void keep(struct hadb_node *node, const struct hadb_probe_result *result)
{
    struct hadb_error err;
    struct hadb_call call = hadb_call_within(node->env, HADB_STORE_READ_MS);
    call.cancel = &node->probe.cancel;
    if (hadb__probe_keep(node, &call, result, &err) < 0) {
        hadb_log(node->env, HADB_LOG_WARN, "probe", NULL, "%s", err.message);
    }
}

/* The first check that failed speaks for all; the log has every one. */
static void explain(struct hadb_node *node, const struct hadb_probe_result *result)
{
    struct hadb_error *text = &node->probe.text;
    bool news = node->probe.may_lead || !node->probe.known;
    *text = (struct hadb_error){0};
    for (int i = 0; i < HADB_PROBE_LEN; i++) {
        if (result->checks[i].status != HADB_PROBE_FAILED) {
            continue;
        }
        const char *check = hadb_probe_check_name((enum hadb_probe_check)i);
        hadb_log(node->env, news ? HADB_LOG_ERROR : HADB_LOG_DEBUG, "probe", NULL,
                 "storage %s fails check %s: %s", node->store_url, check, result->checks[i].text);
        if (text->code == 0) {
            hadb_fail(text, HADB_ENOTSUP, "storage %s fails check %s: %s", node->store_url, check,
                      result->checks[i].text);
            hadb_advise(text, text->code,
                        "this node follows but does not lead; hadb doctor says what to change");
        }
    }
}

static int run_anew(struct hadb_node *node, struct hadb_probe_result *result)
{
    struct hadb_prober *probe = &node->probe;
    struct hadb_probe_options full = HADB_PROBE_OPTIONS_FULL, light = {0};
    struct hadb_probe_options *options = probe->anew ? &full : &light;
    options->cancel = &probe->cancel;
    int r = hadb_probe_run(&node->storage, PROBE_PREFIX, options, node->env, result, &probe->text);
    if (r == 0 && (result->may_lead || probe->anew)) {
        keep(node, result);
    }
    return r;
}

/* What was kept may be from a time when this node could write: writes it once more. */
static int check_writable(struct hadb_node *node, const struct hadb_probe_result *result)
{
    struct hadb_call call = hadb_call_within(node->env, HADB_STORE_READ_MS);
    call.cancel = &node->probe.cancel;
    return hadb__probe_keep(node, &call, result, &node->probe.text);
}

static void run(void *arg)
{
    struct hadb_node *node = arg;
    struct hadb_prober *probe = &node->probe;
    struct hadb_probe_result *result = hadb_calloc(1, sizeof *result);
    if (!result) {
        probe->r = hadb_fail_nomem(&probe->text);
        return;
    }
    struct hadb_call call = hadb_call_within(node->env, HADB_STORE_READ_MS);
    call.cancel = &probe->cancel;
    int r = probe->anew ? HADB_ABSENT : hadb__probe_kept(node, &call, result, &probe->text);
    if (r == HADB_ABSENT || r == HADB_ECORRUPT || (r == 0 && !result->may_lead)) {
        r = run_anew(node, result);
    } else if (r == 0 && !node->never_lead) {
        r = check_writable(node, result);
    }
    if (r == 0) {
        probe->verdict = result->may_lead;
        explain(node, result);
    }
    probe->r = hadb_wrap(&probe->text, r, "storage %s", node->store_url);
    hadb_free(result);
}

static void learn(struct hadb_node *node)
{
    struct hadb_prober *probe = &node->probe;
    if (probe->r < 0) {
        probe->failures++;
        if (!probe->known) {
            probe->why = probe->text;
        }
        return;
    }
    probe->failures = 0;
    probe->known = true;
    probe->may_lead = probe->verdict;
    probe->why = probe->verdict ? (struct hadb_error){0} : probe->text;
    __atomic_store_n(&node->store_silent, 0, __ATOMIC_RELEASE);
}

int hadb__probe_at_open(struct hadb_node *node, struct hadb_error *err)
{
    struct hadb_prober *probe = &node->probe;
    run(node);
    if (probe->r < 0 && !probe->text.retryable) {
        *err = probe->text;
        return probe->r;
    }
    learn(node);
    if (probe->r < 0) {
        __atomic_store_n(&node->store_silent, 1, __ATOMIC_RELEASE);
        hadb_log(node->env, HADB_LOG_WARN, "probe", NULL,
                 "%s: starting with what this node has; asking again", probe->text.message);
    }
    return 0;
}

/* ---- later ---- */

static void wait_for_next(struct hadb_node *node)
{
    struct hadb_prober *probe = &node->probe;
    uint64_t wait = probe->every_ms;
    if (probe->failures > 0) {
        wait = (uint64_t)RETRY_MIN_MS << HADB_MIN(probe->failures - 1, 10u);
        wait = HADB_MIN(wait, RETRY_MAX_MS);
    }
    hadb_timer_start(&probe->timer, hadb__now(node) + wait);
}

static void done(void *arg, int r)
{
    struct hadb_node *node = arg;
    struct hadb_prober *probe = &node->probe;
    probe->busy = false;
    if (r < 0 || !probe->timer.loop) {
        return; /* closing */
    }
    bool before = probe->may_lead;
    learn(node);
    hadb__storage_said(node, false, probe->r, &probe->text);
    if (probe->r < 0) {
        hadb_log(node->env, probe->failures == 1 ? HADB_LOG_WARN : HADB_LOG_DEBUG, "probe", NULL,
                 "%s: asking again", probe->text.message);
    } else if (before != probe->may_lead) {
        hadb_log(node->env, HADB_LOG_INFO, "probe", NULL, "storage %s: this node %s",
                 node->store_url, probe->may_lead ? "may lead" : "does not lead any more");
    }
    wait_for_next(node);
    for (struct hadb_db *db = node->dbs, *next; db && probe->r == 0; db = next) {
        next = db->next;
        hadb__db_probed(db);
    }
}

static bool leads_any(const struct hadb_node *node)
{
    const struct hadb_db *db = node->dbs;
    while (db && !hadb_core_leads(&db->core)) {
        db = db->next;
    }
    return db != NULL;
}

static void on_timer(void *arg)
{
    struct hadb_node *node = arg;
    struct hadb_prober *probe = &node->probe;
    bool due = !probe->known || !probe->may_lead || leads_any(node);
    if (probe->busy || !due) {
        wait_for_next(node);
        return;
    }
    probe->busy = true;
    probe->anew = probe->known;
    probe->job = (struct hadb_job){.run = run, .done = done, .arg = node};
    if (hadb_pool_submit(node->store_pool, NULL, &probe->job, NULL) < 0) {
        probe->busy = false;
        wait_for_next(node);
    }
}

int hadb__probe_start(struct hadb_node *node, struct hadb_error *err)
{
    int r = hadb_timer_init(&node->probe.timer, node->loop, on_timer, node, err);
    if (r == 0) {
        hadb__storage_said(node, false, node->probe.r, &node->probe.text);
        wait_for_next(node);
    }
    return r;
}

void hadb__probe_stop(struct hadb_node *node)
{
    __atomic_store_n(&node->probe.cancel.flag, 1, __ATOMIC_RELEASE);
    hadb_timer_deinit(&node->probe.timer);
}
