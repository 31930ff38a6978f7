/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the current credentials of a store: shared, refreshed before they expire, asked for again when refused.
 *
 * Thread: any. One caller at a time asks the source, without the mutex; the others go on with the old
 * credentials while these are good, or wait until their own deadline.
 * Invariants: credentials are constant once made and wiped with their last reference; no text of a secret
 * reaches a log or an error.
 * Failure modes: as hadb__s3_provider_get; a source that fails is not asked again for HOLD_MS while the old
 * credentials are good, nor when it gives the same again that were refused, nor when what it gives has expired
 * by our clock, which may be wrong: the server decides.
 *
 * Atomics: the reference count of credentials (release on unref, acquire before they are wiped).
 */
#include "storage/s3_creds.h"

#include <openssl/crypto.h>
#include <string.h>

#include "base/alloc.h"
#include "base/env.h"
#include "base/error.h"
#include "base/thread.h"
#include "storage/s3_creds_private.h"

#define EARLY_MS 300000 /* refresh so long before they expire */
#define HOLD_MS 10000u  /* between two requests to a source that did not help */
#define WAIT_STEP_MS 50u

struct hadb__s3_provider {
    struct hadb__s3_sources sources; /* const after init */
    struct hadb_mutex mu;
    struct hadb_cond done;
    struct hadb__s3_creds *current; /* mu */
    bool asking;                    /* mu: somebody asks the source */
    bool rejected;                  /* mu: the server refused the current ones */
    bool latest;                    /* mu: the source, when asked last, gave the current ones */
    uint64_t hold_until_ms;         /* mu */
};

static void wipe(char *text)
{
    if (text) {
        OPENSSL_cleanse(text, strlen(text));
        hadb_free(text);
    }
}

static void creds_free(struct hadb__s3_creds *creds)
{
    wipe(creds->key_id);
    wipe(creds->secret);
    wipe(creds->token);
    hadb_free(creds);
}

struct hadb__s3_creds *hadb__s3_creds_new(const char *key_id, const char *secret, const char *token,
                                          int64_t expires_unix_ms, const char *source)
{
    struct hadb__s3_creds *creds = hadb_calloc(1, sizeof(*creds));
    if (!creds) {
        return NULL;
    }
    bool has_token = token && token[0];
    creds->refs = 1;
    creds->expires_unix_ms = expires_unix_ms;
    creds->source = source;
    creds->key_id = hadb_strdup(key_id);
    creds->secret = hadb_strdup(secret);
    creds->token = has_token ? hadb_strdup(token) : NULL;
    if (!creds->key_id || !creds->secret || (has_token && !creds->token)) {
        creds_free(creds);
        return NULL;
    }
    return creds;
}

struct hadb__s3_creds *hadb__s3_creds_ref(struct hadb__s3_creds *creds)
{
    __atomic_add_fetch(&creds->refs, 1, __ATOMIC_RELAXED);
    return creds;
}

void hadb__s3_creds_unref(struct hadb__s3_creds *creds)
{
    if (creds && __atomic_sub_fetch(&creds->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        creds_free(creds);
    }
}

bool hadb__s3_creds_eq(const struct hadb__s3_creds *a, const struct hadb__s3_creds *b)
{
    const char *token_a = a->token ? a->token : "", *token_b = b->token ? b->token : "";
    return strcmp(a->key_id, b->key_id) == 0 && strcmp(a->secret, b->secret) == 0 &&
           strcmp(token_a, token_b) == 0;
}

static int copy_optional(char **out, const char *text)
{
    *out = text ? hadb_strdup(text) : NULL;
    return text && !*out ? HADB_ENOMEM : 0;
}

int hadb__s3_provider_open(const struct hadb__s3_provider_options *options,
                           struct hadb__s3_provider **out, struct hadb_error *err)
{
    struct hadb__s3_provider *p = hadb_calloc(1, sizeof(*p));
    if (!p) {
        return hadb_fail_nomem(err);
    }
    hadb_mutex_init(&p->mu, 0);
    hadb_cond_init(&p->done);
    p->sources.env = options->env;
    p->sources.getvar = options->getvar;
    int r = hadb__http_open(options->env, &p->sources.http, err);
    if (r == 0 && (copy_optional(&p->sources.profile, options->profile) ||
                   copy_optional(&p->sources.region, options->region) ||
                   copy_optional(&p->sources.ca, options->ca))) {
        r = hadb_fail_nomem(err);
    }
    if (r) {
        hadb__s3_provider_close(p);
        return r;
    }
    *out = p;
    return 0;
}

void hadb__s3_provider_close(struct hadb__s3_provider *p)
{
    if (!p) {
        return;
    }
    hadb__s3_creds_unref(p->current);
    hadb__http_close(p->sources.http);
    hadb_free(p->sources.profile);
    hadb_free(p->sources.region);
    hadb_free(p->sources.ca);
    hadb_cond_deinit(&p->done);
    hadb_mutex_deinit(&p->mu);
    hadb_free(p);
}

/* mu: may the current ones still be used? */
static bool usable(const struct hadb__s3_provider *p)
{
    const struct hadb__s3_creds *c = p->current;
    return c && !p->rejected &&
           (c->expires_unix_ms == 0 || hadb_now_unix_ms(p->sources.env) < c->expires_unix_ms);
}

/* Do they expire soon, or have they, by our clock? */
static bool is_late(const struct hadb__s3_provider *p, const struct hadb__s3_creds *c)
{
    return c->expires_unix_ms != 0 &&
           hadb_now_unix_ms(p->sources.env) >= c->expires_unix_ms - EARLY_MS;
}

/* mu: is it time for others? */
static bool due(const struct hadb__s3_provider *p)
{
    const struct hadb__s3_creds *c = p->current;
    bool held = hadb_now_ms(p->sources.env) < p->hold_until_ms;
    if (!c || p->rejected) {
        return true;
    }
    if (held && p->latest) {
        return false; /* whatever our clock says of them: the source has no others */
    }
    return !usable(p) || (is_late(p, c) && !held);
}

/* mu: takes over what the source gave, or goes on with the old ones. */
static int settle(struct hadb__s3_provider *p, int r, struct hadb__s3_creds *fresh,
                  struct hadb_error *err)
{
    uint64_t hold = hadb_now_ms(p->sources.env) + HOLD_MS;
    if (r == 0) {
        bool same = p->current && hadb__s3_creds_eq(p->current, fresh);
        p->hold_until_ms = same || is_late(p, fresh) ? hold : 0;
        p->rejected = false;
        p->latest = true;
        hadb__s3_creds_unref(p->current);
        p->current = fresh;
        return 0;
    }
    p->latest = false;
    if (!usable(p)) {
        return r;
    }
    p->hold_until_ms = hold;
    hadb_log(p->sources.env, HADB_LOG_WARN, "storage", NULL,
             "new credentials for s3 cannot be had, the old ones expire soon: %s", err->message);
    return 0;
}

/* mu: asks the source without it. */
static int ask(struct hadb__s3_provider *p, const struct hadb_call *call, struct hadb_error *err)
{
    struct hadb__s3_creds *fresh = NULL;
    struct hadb_error why = {0};
    p->asking = true;
    hadb_mutex_unlock(&p->mu);
    int r = hadb__s3_sources_ask(&p->sources, call, &fresh, &why);
    hadb_mutex_lock(&p->mu);
    p->asking = false;
    hadb_cond_broadcast(&p->done);
    r = settle(p, r, fresh, &why);
    if (r && err) {
        *err = why;
    }
    return r;
}

int hadb__s3_provider_get(struct hadb__s3_provider *p, const struct hadb_call *call,
                          struct hadb__s3_creds **out, struct hadb_error *err)
{
    int r = 0;
    hadb_mutex_lock(&p->mu);
    while (r == 0 && due(p) && !(p->asking && usable(p))) {
        if (p->asking) {
            hadb_cond_wait_ms(&p->done, &p->mu, WAIT_STEP_MS);
            r = hadb_call_check(p->sources.env, call, err);
            continue;
        }
        r = ask(p, call, err);
        break;
    }
    if (r == 0) {
        *out = hadb__s3_creds_ref(p->current);
    }
    hadb_mutex_unlock(&p->mu);
    return r == HADB_ETIMEDOUT ? hadb_fail(err, HADB_EUNAVAIL, "no credentials within the deadline")
                               : r;
}

int hadb__s3_provider_try(struct hadb__s3_provider *p, struct hadb__s3_creds **out,
                          struct hadb_error *err)
{
    hadb_mutex_lock(&p->mu);
    bool ready = !due(p) || (p->asking && usable(p));
    *out = ready ? hadb__s3_creds_ref(p->current) : NULL;
    hadb_mutex_unlock(&p->mu);
    return ready ? 0
                 : hadb_fail(err, HADB_EBUSY, "credentials for s3 must be asked for, which blocks");
}

void hadb__s3_provider_reject(struct hadb__s3_provider *p, const struct hadb__s3_creds *refused)
{
    hadb_mutex_lock(&p->mu);
    if (p->current && hadb__s3_creds_eq(p->current, refused) &&
        hadb_now_ms(p->sources.env) >= p->hold_until_ms) {
        p->rejected = true;
    }
    hadb_mutex_unlock(&p->mu);
}
