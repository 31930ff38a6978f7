/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the measurement of single requests: what a create, a get, … takes when nobody else asks.
 *
 * Thread: the caller's.
 * Invariants: keys carry a random run id; the body of every write is its own, so that no two tags are equal.
 * Happy path: @rounds times create, refused create, get, head, absent get, replace; every tenth round a list and
 * a delete of what the ten wrote. Failure modes: the first failure ends it, but a list or delete that is not
 * allowed, which is noted once.
 */
#include "storage/probe_measure.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "storage/probe_private.h"

#define BATCH_LEN 10u
#define CLEAN_MS 10000u
#define REQUEST_MS 30000u /* that the last round may take over the limit */

struct measure {
    struct hadb__probe p;
    struct hadb_probe_measure_options options;
    struct hadb_probe_latencies *out;
    uint8_t *body;
    uint64_t until_ms; /* the limit */
};

const char *hadb_probe_timed_name(enum hadb_probe_timed timed)
{
    static const char *const names[HADB_PROBE_TIMED_LEN] = {
        [HADB_PROBE_TIMED_GET] = "get",
        [HADB_PROBE_TIMED_ABSENT] = "get_absent",
        [HADB_PROBE_TIMED_HEAD] = "head",
        [HADB_PROBE_TIMED_CREATE] = "create",
        [HADB_PROBE_TIMED_REFUSED] = "create_refused",
        [HADB_PROBE_TIMED_REPLACE] = "replace",
        [HADB_PROBE_TIMED_LIST] = "list",
        [HADB_PROBE_TIMED_DELETE] = "delete",
    };
    HADB_ASSERT(timed < HADB_PROBE_TIMED_LEN);
    return names[timed];
}

/* Notes what a request took that began at @begin_ns and ended with @r, unless it failed. */
static int took(struct measure *m, enum hadb_probe_timed timed, uint64_t begin_ns, int r,
                struct hadb_error *err)
{
    uint64_t us = (hadb_now_ns(m->p.env) - begin_ns) / 1000;
    if (r >= 0 && hadb_samples_add(&m->out->of[timed], us)) {
        return hadb_fail_nomem(err);
    }
    return HADB_MIN(r, 0);
}

static struct hadb_slice fresh_body(struct measure *m)
{
    hadb_random(m->p.env, m->body, HADB_MIN(m->options.body_bytes, 32u));
    return hadb_slice(m->body, m->options.body_bytes);
}

static int one_write(struct measure *m, const char *key, struct hadb_error *err)
{
    struct hadb__probe *p = &m->p;
    struct hadb_tag tag = {0};
    uint64_t begin = hadb_now_ns(p->env);
    int r = hadb_storage_create(p->storage, &p->call, key, fresh_body(m), &tag, err);
    r = took(m, HADB_PROBE_TIMED_CREATE, begin, r, err);
    if (r == 0) {
        begin = hadb_now_ns(p->env);
        r = hadb_storage_create(p->storage, &p->call, key, fresh_body(m), NULL, err);
        r = took(m, HADB_PROBE_TIMED_REFUSED, begin, r, err);
    }
    if (r == 0 && tag.s[0] && (hadb_storage_caps(p->storage) & HADB_STORAGE_CAP_REPLACE)) {
        begin = hadb_now_ns(p->env);
        r = hadb_storage_replace(p->storage, &p->call, key, fresh_body(m), &tag, NULL, err);
        r = took(m, HADB_PROBE_TIMED_REPLACE, begin, r, err);
    }
    return r;
}

static int one_read(struct measure *m, const char *key, const char *absent, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    struct hadb__probe *p = &m->p;
    struct hadb_object_meta meta = {0};
    uint64_t begin = hadb_now_ns(p->env);
    int r = hadb_storage_get(p->storage, &p->call, key, &bytes, NULL, err);
    r = took(m, HADB_PROBE_TIMED_GET, begin, r, err);
    if (r == 0) {
        begin = hadb_now_ns(p->env);
        r = hadb_storage_head(p->storage, &p->call, key, &meta, err);
        r = took(m, HADB_PROBE_TIMED_HEAD, begin, r, err);
    }
    if (r == 0) {
        begin = hadb_now_ns(p->env);
        r = hadb_storage_get(p->storage, &p->call, absent, &bytes, NULL, err);
        r = took(m, HADB_PROBE_TIMED_ABSENT, begin, r, err);
    }
    return r;
}

/* What is not allowed is said once and left; @r as it goes on. */
static int excused(struct measure *m, enum hadb_probe_timed timed, int r,
                   const struct hadb_error *err)
{
    if (r != HADB_EAUTH && r != HADB_ENOTSUP) {
        return r;
    }
    struct hadb_error *note = &m->out->refused[timed];
    hadb_fail(note, r, "%s", err->message[0] ? err->message : hadb_code_text(r));
    return 0;
}

static int one_list(struct measure *m, struct hadb_error *err)
{
    struct hadb__probe *p = &m->p;
    struct hadb_object_list list = {0};
    if (m->out->refused[HADB_PROBE_TIMED_LIST].code) {
        return 0;
    }
    uint64_t begin = hadb_now_ns(p->env);
    int r = hadb_storage_list(p->storage, &p->call, p->base, "", BATCH_LEN, &list, err);
    r = took(m, HADB_PROBE_TIMED_LIST, begin, r, err);
    hadb_object_list_deinit(&list);
    return excused(m, HADB_PROBE_TIMED_LIST, r, err);
}

/* Removes the objects of the rounds that end with @last; never cut off by the limit of the measurement. */
static int remove_batch(struct measure *m, unsigned last, struct hadb_error *err)
{
    struct hadb__probe *p = &m->p;
    char keys[BATCH_LEN][PROBE_KEY_BYTES];
    const char *names[BATCH_LEN];
    struct hadb_call call = hadb_call_within(p->env, CLEAN_MS);
    size_t len = last % BATCH_LEN + 1;
    if (m->out->refused[HADB_PROBE_TIMED_DELETE].code) {
        return 0;
    }
    for (size_t i = 0; i < len; i++) {
        hadb__probe_key(p, "time", last - (unsigned)i, keys[i]);
        names[i] = keys[i];
    }
    uint64_t begin = hadb_now_ns(p->env);
    int r = hadb_storage_delete_many(p->storage, &call, names, len, err);
    r = took(m, HADB_PROBE_TIMED_DELETE, begin, r, err);
    if (r) {
        snprintf(m->out->left, sizeof(m->out->left), "%s-", p->base);
    }
    return excused(m, HADB_PROBE_TIMED_DELETE, r, err);
}

static int run_rounds(struct measure *m, struct hadb_error *err)
{
    char key[PROBE_KEY_BYTES], absent[PROBE_KEY_BYTES];
    int r = 0;
    for (unsigned i = 0; i < m->options.rounds && r == 0; i++) {
        hadb__probe_key(&m->p, "time", i, key);
        hadb__probe_key(&m->p, "none", i, absent);
        struct hadb_error cleaning = {0};
        r = one_write(m, key, err);
        r = r ? r : one_read(m, key, absent, err);
        bool late = hadb_now_ms(m->p.env) >= m->until_ms;
        bool batch = late || i + 1 == m->options.rounds || i % BATCH_LEN + 1 == BATCH_LEN;
        r = r == 0 && batch ? one_list(m, err) : r;
        int removed = batch || r ? remove_batch(m, i, r ? &cleaning : err) : 0;
        r = r ? r : removed;
        if (late) {
            break;
        }
    }
    return r;
}

int hadb_probe_measure(struct hadb_storage *storage, const char *prefix,
                       const struct hadb_probe_measure_options *options, const struct hadb_env *env,
                       struct hadb_probe_latencies *out, struct hadb_error *err)
{
    struct hadb_error own = {0};
    struct measure m = {.p = {.storage = storage, .env = hadb_env_or_host(env)}, .out = out};
    err = err ? err : &own;
    *out = (struct hadb_probe_latencies){0};
    m.options = options ? *options : (struct hadb_probe_measure_options){0};
    m.options.rounds = m.options.rounds ? m.options.rounds : 100;
    m.options.body_bytes = m.options.body_bytes ? m.options.body_bytes : 4096;
    m.options.limit_ms = m.options.limit_ms ? m.options.limit_ms : 60000;
    if (m.options.rounds > HADB_PROBE_ROUNDS_MAX || m.options.body_bytes > HADB_OBJECT_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "measure options are over their limits");
    }
    int r = hadb__probe_begin(&m.p, prefix, err);
    if (r) {
        return r;
    }
    m.until_ms = hadb_now_ms(m.p.env) + m.options.limit_ms;
    m.p.call = hadb_call_within(m.p.env, m.options.limit_ms + REQUEST_MS);
    m.p.call.cancel = m.options.cancel;
    m.body = hadb_calloc(1, m.options.body_bytes);
    r = m.body ? run_rounds(&m, err) : hadb_fail_nomem(err);
    hadb_free(m.body);
    return r;
}

void hadb_probe_latencies_deinit(struct hadb_probe_latencies *latencies)
{
    for (size_t i = 0; i < HADB_LEN(latencies->of); i++) {
        hadb_samples_deinit(&latencies->of[i]);
    }
    *latencies = (struct hadb_probe_latencies){0};
}
